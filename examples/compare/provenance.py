"""By which code results were made: the date and the commit, and a fingerprint of what was trained."""

import ast
import datetime
import hashlib
import inspect
import subprocess
from pathlib import Path
from typing import Any

from .problem import Problem

HERE = Path(__file__).parent


def code_of(problem: Problem) -> str:
    """A fingerprint of the code of a problem and of its training, which comments do not change."""
    files = {inspect.getsourcefile(_function(f)) for f in problem if callable(_function(f))}
    files |= {str(HERE / name) for name in ("problem.py", "trial.py", "study.py")}
    trees = (ast.parse(Path(str(file)).read_text()) for file in sorted(map(str, files)))
    return hashlib.sha256("".join(map(_without_docstrings, trees)).encode()).hexdigest()[:16]


def _function(x: Any) -> Any:
    return getattr(x, "func", x)  # of a `functools.partial`


def _without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def made() -> str:
    """The date, and the commit if there is one."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short=10", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    return f"{datetime.date.today()} {commit}".strip()
