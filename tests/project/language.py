"""What a machine can check of the language: patterns that cost a reader a second reading, and the
shape of public docstrings.

    .venv/bin/python tests/project/language.py gradtx/_optimizers docs/how_to.md

prints one line for each finding in these files and folders; without arguments, in all of them.
"""

import ast
import dataclasses
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
# What people read: the package, the documentation, the examples and the benchmarks.
READ = ("gradtx", "docs", "examples", "notebooks", "benchmarks")
READ += ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


class Pattern(NamedTuple):
    """A pattern that is refused everywhere, and what to write instead."""

    regex: str  # every space stands for any white space
    remedy: str
    bad: str
    good: str


# Words without a content of their own: a sentence of nothing but these is a riddle.
_EMPTY = (
    "a able again all already also always an and another any anything are as at back be been "
    "behind being both but by can case do does each else everything first for from had has have "
    "here how if in inside into is it its itself kind last least less many more most much must "
    "never no nor not nothing now of off on once one ones only onto or other others out outside "
    "over own same second should so some something still such than that the their theirs them "
    "themselves then there these they thing things this those through to too under up very was "
    "way were what when where which who whom whose why will with within without would yet"
).replace(" ", "|")

PATTERNS = (
    Pattern(
        r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b|\w+er than\b)",
        'write "is not a ..." or "are not ..."',
        "This is no number.",
        "There is no state, and the count is no longer needed.",
    ),
    Pattern(
        r"\banother (?:mode|form|word|spelling|option)\b",
        'write "an unknown mode" (form, word) for a value that is not accepted',
        "Raises `ValueError` for another mode.",
        "Raises `ValueError` for an unknown mode.",
    ),
    Pattern(
        r"\ba (?:leaf|step|matrix|unit)(?:,| and| or) a (?:leaf|step|matrix|unit)\b",
        'write "per leaf and per step"',
        "It takes one reduction a leaf, a step.",
        "It takes one reduction per leaf and per step.",
    ),
    Pattern(
        r"\b(?:(?:an?|one|two|three|four|five|six|eight|ten|\d+|few|many|several|some)"
        r" (?!(?:for|of|in|on|at|to|from|with|by|per|is|as|than|or|and)\b)[\w-]+"
        r"|calls|lines|numbers|once|twice|times|reductions|gathers|products|bytes|entries)"
        r" a (?:leaf|step|matrix|unit|layer|array|tensor|run|parameter)\b",
        'write "per leaf", "per step", "per matrix"',
        "The norm costs a reduction a step.",
        "The norm costs a reduction per step, and the error is 6 for a matrix.",
    ),
    Pattern(
        rf"(?:\A|\n\n|[.?!] )(?i:(?:(?:{_EMPTY}),? ){{2,}}(?:{_EMPTY}))(?:[.?!:](?=\s|\Z)|\Z|\n\n)",
        "name the things: no word of this sentence says what it is about",
        "An average is kept. What is not its own is as it was.",
        "What is a mask for? It is for everything that squares a gradient.",
    ),
    Pattern(
        r"\b(?:what|that|which|those) (?:is|are|was|were) (?:not )?(?:its|their|one's) own\b(?! \w)",
        "say what belongs to whom: a noun is missing after `own`",
        "Every group gets the leaves that are its own.",
        "Every group gets its own leaves.",
    ),
    Pattern(
        r"\bof ones? own\b|\bof one's own\b",
        "say whose it is",
        "It takes a class of ones own.",
        "It takes a class that you write.",
    ),
    Pattern(
        r"\btheirs\b",
        "repeat the noun",
        "Arrays inside it as theirs.",
        "The inner transformations keep their own arrays.",
    ),
    Pattern(
        r"\b(?:that|those) of\b[^.;:]*\b(?:that|those) of\b",
        'repeat the noun instead of a second "that of"',
        "The state is that of the inner one, whose shape is that of the leaf.",
        "The dtype of the state is that of the leaf.",
    ),
    Pattern(
        r"\bas (?:it is|it was|they are|they were)(?=[.,;:)]|\Z|\n\n)",
        'write "unchanged"',
        "A function is kept as it is.",
        "A function is kept unchanged, and the name is kept as it is written.",
    ),
    Pattern(
        r"(?:\A|\n\n|[.!] )(?:Is|Are|Was|Were|Has|Had)\b(?![^.?!]*\?)",
        "give the sentence a subject",
        "The rate is a field. Is a number or a schedule.",
        "Is it a schedule? It is a field, and has an entry.",
    ),
    Pattern(
        r"\bunits? of work\b",
        'write "leaf", "array" or "matrix": an update works on one of these',
        "A state for each unit of work.",
        "A state for each array or matrix.",
    ),
    Pattern(
        r"\b(?:what|which) (?:the |all )?(?:leaves|units|arrays|matrices) are told\b",
        "write: the values that `begin` hands to every leaf",
        "It describes what leaves are told.",
        "It describes the values that `begin` hands to every leaf.",
    ),
    Pattern(
        r"(?i)\b(?:un)?(?:colour|behaviour|neighbour|favour|honour|centre|fibre|label(?=l(?:ed|ing))"
        r"|cancel(?=l(?:ed|ing))|model(?=l(?:ed|ing))|travel(?=l(?:ed|ing|er))"
        r"|(?:normal|optim|initial|general|special|serial|parallel|vector|minim|maxim|regular"
        r"|synchron|real|organ|recogn|summar|orthogonal)is(?=e[ds]?\b|ing\b|ation))\w*",
        "use the American spelling (behavior, labeled, normalize)",
        "Neighbours share a pass, and labelled leaves are normalised.",
        "Neighbors share a pass, a label leads to its leaves, and optimistic is a word.",
    ),
)
_COMPILED = [(re.compile(p.regex.replace(" ", r"\s")), p.remedy) for p in PATTERNS]


class Finding(NamedTuple):
    path: str
    line: int
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: {self.remedy}"


# Texts: pieces of prose with the line on which each begins.


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The pieces of prose in a file, and the line on which each begins."""
    source = path.read_text()
    if path.suffix == ".py":
        yield from _python(source, 1)
    else:
        yield from _markdown(source)


def _python(source: str, first: int) -> Iterator[tuple[int, str]]:
    """Comments, and string literals with what is formatted into them as code."""
    comment: list[str] = []
    begin = previous = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, alone = token.start[0], token.line.strip().startswith("#")
        if comment and not (alone and line == previous + 1):
            yield first + begin - 1, "\n".join(comment)
            comment = []
        begin = begin if comment else line
        text = token.string.lstrip("#").strip()
        comment.append(re.sub(r"^(?:noqa|type|pyright)\b\S*( \S+)?|^%%.*", "", text))
        previous = line if alone else 0
    if comment:
        yield first + begin - 1, "\n".join(comment)

    formatted: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [x.value if isinstance(x, ast.Constant) else "`x`" for x in node.values]
            formatted.update(map(id, node.values))
            yield first + node.lineno - 1, "".join(map(str, parts))
        elif isinstance(getattr(node, "value", 0), str) and id(node) not in formatted:
            yield first + node.lineno - 1, node.value


def _markdown(source: str) -> Iterator[tuple[int, str]]:
    fence = re.compile(r"^ *(`{3,}|:{3,})(\{?[\w-]*\}?)[^\n]*\n(.*?)^ *\1 *$", re.DOTALL | re.M)
    for block in fence.finditer(source):
        if block[2] == "python":
            yield from _python(block[3], source.count("\n", 0, block.start(3)) + 1)
    prose = fence.sub(lambda block: "\n" * block[0].count("\n"), source)
    # A heading, an entry of a list and a row of a table are read by themselves.
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    for number, line in enumerate(prose.split("\n")):
        if line.startswith("#"):
            yield number + 1, line.lstrip("# ")
        elif line.startswith("|"):
            yield number + 1, line
    yield 1, re.sub(r"^[#|].*$", "", re.sub(r"^ *[-*] ", "", prose, flags=re.M), flags=re.M)


def plain(text: str) -> str:
    """`text` without doctests, with code and formulas as one word, and single spaces.

    The number of line breaks before each word stays the same.
    """

    def word(match: re.Match[str]) -> str:
        return "CODE" + "\n" * match[0].count("\n")

    text = re.sub(
        r"^ *>>>.*?(?=^ *$|\Z)", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL | re.M
    )
    text = re.sub(r"``[^`]+``|`[^`]*`|\$\$.+?\$\$|\$[^$]+\$", word, text, flags=re.DOTALL)
    text = re.sub(r"[*_]{1,2}(\w[^*_\n]*\w)[*_]{1,2}", r"\1", text)
    return re.sub(r"[^\S\n]*\n[^\S\n]*", "\n", re.sub(r"[^\S\n]+", " ", text)).rstrip(" ")


def findings(text: str, path: str = "", first: int = 1) -> Iterator[Finding]:
    """The refused patterns in a piece of prose."""
    cleaned = plain(text)
    for regex, remedy in _COMPILED:
        for match in regex.finditer(cleaned):
            shown = match[0]
            start = match.start() + len(shown) - len(shown.lstrip(" \n.?!"))
            line = first + cleaned.count("\n", 0, start)
            yield Finding(path, line, " ".join(shown.strip(" \n.?!").split()), remedy)


def files(*roots: str) -> list[Path]:
    """The files that people read, below the given folders."""
    found: list[Path] = []
    for root in map(ROOT.joinpath, roots or READ):
        inside = [root] if root.is_file() else sorted(root.rglob("*"))
        found += [x for x in inside if x.suffix in (".py", ".md")]
    return [x for x in found if not {"_build", "__pycache__"} & {*x.parts}]


def patterns_in(*roots: str) -> list[Finding]:
    found: list[Finding] = []
    for path in files(*roots):
        name = str(path.relative_to(ROOT))
        for line, text in texts(path):
            found += findings(text, name, line)
    return sorted({*found})


# Docstrings


def parameters(x: Any) -> list[str]:
    """The arguments of a function or a class that its docstring has to describe, in order."""
    if inspect.isclass(x) and x.__init__ is object.__init__ and x.__new__ is object.__new__:
        return []
    known = inspect.signature(x).parameters
    if dataclasses.is_dataclass(x) and any(p.kind is p.VAR_POSITIONAL for p in known.values()):
        # `chain(*links)`: the last field can also be passed by its name.
        return [field.name for field in dataclasses.fields(x)]
    return [name for name in known if name != "self"]


def sections(doc: str) -> dict[str, list[tuple[str, str]]]:
    """The heads and the texts of the entries in each section of a docstring."""
    found: dict[str, list[tuple[str, str]]] = {}
    entries: list[tuple[str, str]] | None = None
    indent = 0
    for line in inspect.cleandoc(doc).split("\n"):
        depth = len(line) - len(line.lstrip())
        if head := re.fullmatch(r"([A-Z]\w+):", line):
            entries, indent = found.setdefault(head[1], []), 0
        elif line.strip() and depth == 0:
            entries = None
        elif entries is not None and line.strip():
            indent = indent or depth
            if depth == indent:
                name, colon, text = line.strip().partition(":")
                entries.append((name.strip("`*") if colon else "", text))
            elif entries:
                entries[-1] = entries[-1][0], entries[-1][1] + line
    return found


def first_sentence(doc: str) -> str:
    """What is wrong with the first paragraph of a docstring, or an empty string."""
    paragraph = inspect.cleandoc(doc).split("\n\n")[0]
    flat = " ".join(plain(paragraph).split())
    flat = re.sub(r"\b(?:et al|eq|e\.g|i\.e|vs|cf)\.", "", flat)
    if not flat.endswith("."):
        return "end the first sentence of the docstring with a period"
    if re.search(r"[.?!]\s", flat):
        return "put one sentence into the first paragraph, and a blank line after it"
    if paragraph.count("\n") > 1:
        return "shorten the first sentence to one line, or two at most"
    return ""


def in_docstring(doc: str | None, arguments: list[str]) -> Iterator[str]:
    """What is wrong with the shape of a public docstring."""
    if not doc:
        yield "write a docstring"
        return
    if wrong := first_sentence(doc):
        yield wrong
    found = sections(doc)
    if "Arguments" in found:
        yield "call the section `Args:`"
    entries = [name for name, _ in found.get("Args", found.get("Arguments", []))]
    if entries != arguments:
        given = ", ".join(entries) or "nothing"
        yield (
            f"`Args:` describes {given}; write one entry `name: text` for each of "
            f"{', '.join(arguments) or 'no argument'}, in this order"
        )
    kinds = [name for name, _ in found.get("Raises", [])]
    if len(kinds) != len({*kinds}) or not all(re.fullmatch(r"\w+", kind) for kind in kinds):
        yield "write one entry `SomeError: when` in `Raises:` for each kind of error"
    if re.search(r"(?<!\w)Raises\s+`", doc):
        yield "write the errors as a section `Raises:` with an entry `SomeError: when` for each kind"
    if re.search(r"\S[ ]+Sources?: ", doc):
        yield "begin a new paragraph with `Source:`"


def documented_methods() -> dict[str, list[str]]:
    """The methods that the pages of the API show, by class: `METHODS` of `docs/_ext/face.py`."""
    tree = ast.parse((ROOT / "docs" / "_ext" / "face.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHODS":
            methods = ast.literal_eval(node.value)
            return {name: listed.split(", ") for name, listed in methods.items()}
    raise LookupError("docs/_ext/face.py has no table METHODS")


def docstrings_in(*roots: str) -> list[Finding]:
    """What is wrong with the docstrings of the public face, in the files below the given folders."""
    import gradtx

    found: list[Finding] = []
    wanted = [str(path) for path in files(*roots)]
    trees: dict[str, ast.Module] = {}
    methods = documented_methods()
    public = filter(callable, (getattr(gradtx, name) for name in gradtx.__all__))
    for x in dict.fromkeys(x for x in public if inspect.isclass(x) or inspect.isfunction(x)):
        path = inspect.getsourcefile(x) or ""
        if path not in wanted:
            continue
        tree = trees.setdefault(path, ast.parse(Path(path).read_text()))
        top = next(n for n in tree.body if getattr(n, "name", "") == x.__name__)
        said: list[tuple[str, Any, str | None, int]] = [(x.__name__, x, x.__doc__, top.lineno)]
        for name, method in vars(x).items() if inspect.isclass(x) else ():
            method = getattr(method, "__func__", method)
            shown = name in methods.get(x.__name__, ())
            if (
                inspect.isfunction(method)
                and not name.startswith("_")
                and (shown or method.__doc__)
            ):
                line = method.__code__.co_firstlineno
                said.append(
                    (f"{x.__name__}.{name}", method if shown else None, method.__doc__, line)
                )
        for name, described, doc, line in said:
            names = None if described is None else parameters(described)
            wrongs = (
                in_docstring(doc, names)
                if names is not None
                else filter(None, [first_sentence(doc)])
            )
            where = str(Path(path).relative_to(ROOT))
            found += [Finding(where, line, name, wrong) for wrong in wrongs]
    return sorted(found)


if __name__ == "__main__":
    listed = patterns_in(*sys.argv[1:]) + docstrings_in(*sys.argv[1:])
    print("\n".join(map(str, sorted(listed))) or "nothing found")
    sys.exit(bool(listed))
