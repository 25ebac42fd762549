"""What a user installs: the built wheel, in an environment where nothing else of the repository is.

The wheel is built from the source distribution, as an installer builds it where there is no wheel. The
environment is empty but for the wheel; JAX and Optax are lent to it by a path file, so that they are not
installed again. A path file does not carry over editable installations, so `import gradtx` can find only
the wheel.
"""

import ast
import datetime
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import gradtx

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# CPU seconds that `import gradtx` may take after `import jax, optax`.
IMPORT_SECONDS = 0.25


def run(*command, cwd, env=None):
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-d", folder, "-t")
    run(*build, "sdist", cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    run(*build, "wheel", cwd=folder / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment that has the wheel, and sees JAX and Optax elsewhere."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    interpreter = str(scripts / Path(sys.executable).name)
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=home)
    packages = Path(run(interpreter, "-c", _PRINT_PACKAGES, cwd=home).strip())
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "lent.pth").write_text("".join(f"{path}\n" for path in lent))
    return interpreter


_PRINT_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"

_IMPORT = """
import gc, json, sys, time
import jax, optax
gc.freeze()
before, start = set(sys.modules), time.process_time()
import gradtx
gradtx.adamw
seconds = time.process_time() - start
assert "gradtx._optimizers.muon" not in sys.modules  # the module of a name that is not used
modules = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps([seconds, gradtx.__file__, sorted(modules - sys.stdlib_module_names)]))
"""

_USE = """
import importlib.metadata, jax, jax.numpy as jnp, pathlib
import gradtx
# Refused if the import had already started a backend, whose devices the user wants to choose.
jax.config.update("jax_num_cpu_devices", 3)
assert jax.device_count("cpu") == 3
folder = pathlib.Path(gradtx.__file__).parent
assert (folder / "py.typed").is_file()
assert importlib.metadata.version("gradtx") == gradtx.__version__
params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
tx = gradtx.parse("adamw(0.1)")
updates, state = tx.update(params, tx.init(params), params)
new = gradtx.apply_updates(params, updates)
assert all(bool((new[name] < 0.95).all()) for name in params)
print(folder)
"""


def in_clean(python, code):
    """What a program prints there, without what this process's environment says about Python and XLA."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return run(python, "-I", "-c", code, cwd=Path(python).parent, env=env)


def test_the_wheel_holds_the_package_and_its_license_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(x for x in names if x.endswith("METADATA"))).decode()
    info = f"gradtx-{gradtx.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"gradtx", info}
    assert f"{info}/licenses/LICENSE" in names
    # Everything that git knows of the package, `py.typed` included, and nothing that it does not.
    ignored = {"__pycache__"}
    package = (p for p in (ROOT / "gradtx").rglob("*") if p.is_file())
    here = {p.relative_to(ROOT).as_posix() for p in package if not ignored & set(p.parts)}
    assert {name for name in names if name.startswith("gradtx/")} == here
    assert "gradtx/py.typed" in here
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(needed) == ["jax", "optax"]
    assert f"\nVersion: {gradtx.__version__}\n" in metadata


def test_the_installed_wheel_trains(python):
    """Also: importing it starts no backend, so that a program may still choose its devices."""
    home = Path(python).parents[1]
    assert Path(in_clean(python, _USE).strip()).is_relative_to(home)


def test_the_import_is_quick_and_loads_nothing_but_the_package(python):
    """The time includes what is imported when an optimizer is used for the first time.

    It is the least of several CPU times: load on the machine adds to a time and never takes away.

    What JAX has made is frozen first. A full garbage collection of it takes as long as the import of
    gradtx, and falls by chance into whatever is imported next.
    """
    times = []
    for _ in range(7):
        seconds, file, modules = json.loads(in_clean(python, _IMPORT))
        assert Path(file).is_relative_to(Path(python).parents[1])
        assert modules == ["gradtx"]
        times.append(seconds)
        if seconds <= IMPORT_SECONDS:
            return
    raise AssertionError(f"`import gradtx` took {sorted(times)} s; find out why: -X importtime.")


# --- Versions -------------------------------------------------------------------------------------

SECTION = re.compile(r"^## \[(.+?)\](?: - (.+))?$", re.MULTILINE)
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def sections():
    """The version, date and text of each section of the changelog, from the newest to the oldest."""
    parts = SECTION.split(CHANGELOG)[1:]
    return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


def test_the_changelog_has_dated_versions_in_order():
    (name, date, _), *released = sections()
    assert (name, date) == ("Unreleased", None)
    versions = [tuple(map(int, version.split("."))) for version, _, _ in released]
    dates = [datetime.date.fromisoformat(date) for _, date, _ in released]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)
    assert re.findall(r"^## .*", CHANGELOG, re.MULTILINE) == [
        m.group() for m in SECTION.finditer(CHANGELOG)
    ]


def test_the_version_is_that_of_the_changelog_or_of_the_work_towards_the_next_one():
    (_, _, unreleased), (last, _, _) = sections()[:2]
    assert PROJECT["version"] == gradtx.__version__
    if not unreleased.strip():
        assert gradtx.__version__ == last
    else:  # what is made with it, such as a table, must not pass for the release before
        version, dev, _ = re.split(r"(\.dev\d+)$", gradtx.__version__)
        assert dev and [*map(int, version.split("."))] > [*map(int, last.split("."))]


def test_entries_of_the_changelog_are_grouped_and_whole_sentences():
    for version, _, text in sections():
        kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds], version
        before, *groups = re.split(r"^### .+$", text, flags=re.MULTILINE)
        entries = [e for group in groups for e in re.split(r"^- ", group, flags=re.MULTILINE)[1:]]
        assert "\n- " not in before and entries
        for entry in entries:
            text = " ".join(entry.split())
            assert text.endswith(".") and (text[0].isupper() or text[0] in "`*"), text


def imported(tree):
    """The packages that a source imports: when it is imported itself, and inside its functions."""
    found = [], []
    functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.Lambda)]
    inside = {id(x) for function in functions for x in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        else:
            continue
        found[id(node) in inside].extend(name.partition(".")[0] for name in names)
    return found


def test_only_what_is_declared_is_imported():
    """A dependency that comes along with another one may stay away with its next version.

    What only an extra brings is imported inside the function that needs it.
    """
    always, inside = set(), set()
    for path in (ROOT / "gradtx").rglob("*.py"):
        for found, names in zip(
            (always, inside), imported(ast.parse(path.read_text())), strict=True
        ):
            found.update(set(names) - sys.stdlib_module_names - {"gradtx"})
    declared = {re.match(r"[\w-]+", line).group() for line in PROJECT["dependencies"]}
    extras = [x for extra in PROJECT["optional-dependencies"].values() for x in extra]
    optional = {re.match(r"[\w-]+", line).group() for line in extras}
    # NumPy's arrays are JAX's on the host: JAX cannot do without it.
    assert any(re.match(r"numpy\b", line) for line in importlib.metadata.requires("jax"))
    assert always == declared | {"numpy"}
    assert inside - always and inside - always <= optional
