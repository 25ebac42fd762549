"""What the code of optimizers may hold: compositions of transformations, and no arithmetic."""

import ast
import pathlib
import statistics

import gradtx

FILES = sorted((pathlib.Path(gradtx.__file__).parent / "_optimizers").glob("*.py"))
TREES = {path.stem: ast.parse(path.read_text()) for path in FILES}
LIBRARIES = {"jnp", "jax", "np", "math", "lax"}


def is_number(x):
    """Whether an expression is a number or a hyperparameter, as far as the code shows."""
    if isinstance(x, ast.Attribute):
        return isinstance(x.value, ast.Name)
    if isinstance(x, ast.UnaryOp):
        return is_number(x.operand)
    if isinstance(x, ast.BinOp):
        return is_number(x.left) and is_number(x.right)
    return isinstance(x, ast.Constant) or (isinstance(x, ast.Call) and is_called(x, {"lifted"}))


def is_called(x, names):
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(x.func))


def test_numbers_of_recipes_are_combined_by_one_function():
    """`lifted` takes numbers, arrays and schedules, where an operator of Python fails for schedules."""
    found = []
    for name, tree in TREES.items():
        for function in ast.walk(tree):
            for x in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                sums = isinstance(x, ast.BinOp) and not isinstance(x.op, ast.BitOr) and is_number(x)
                match x:
                    case ast.UnaryOp(op=ast.USub(), operand=ast.Attribute()):
                        minus = True
                    case _:
                        minus = False
                if sums or minus or (isinstance(x, ast.Call) and is_called(x, LIBRARIES)):
                    found.append(f"{name}: {ast.unparse(x)}")
    assert found == []


def lines_of(recipe, tree):
    """The lines of `expand`, and of what it calls in its own file, without docstrings."""
    functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
    own = {f.name: f for f in recipe.body if isinstance(f, ast.FunctionDef)}
    waiting, seen = [own["expand"]], []
    while waiting:
        seen.append(waiting.pop())
        for x in ast.walk(seen[-1]):
            name = (
                x.id if isinstance(x, ast.Name) else x.attr if isinstance(x, ast.Attribute) else ""
            )
            called = own.get(name) or functions.get(name)
            if called and called not in [*seen, *waiting]:
                waiting.append(called)
    bodies = [f.body[ast.get_docstring(f) is not None :] for f in seen]
    return sum(body[-1].end_lineno - body[0].lineno + 1 for body in bodies)


def test_the_median_recipe_has_at_most_twelve_lines():
    sizes = [
        lines_of(x, tree)
        for tree in TREES.values()
        for x in tree.body
        if isinstance(x, ast.ClassDef) and any(getattr(f, "name", "") == "expand" for f in x.body)
    ]
    assert len(sizes) >= 45
    assert statistics.median(sizes) <= 12
