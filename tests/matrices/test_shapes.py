"""The shapes that annotations state, held against the arrays that come and go while optimizers run.

`gradtx/_core/shapes.py` says how a shape is written. Every function and method of `gradtx._matrices` and
`gradtx._bases`, and of the numerics below them, whose annotations
state a shape is wrapped for the time of the test.
"""

import functools
import importlib
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
import gradtx._bases
import gradtx._matrices
from gradtx._bases import linear_algebra
from gradtx._core.fields import Fixed, Hyper
from gradtx._core.shapes import Alike, Matrices

Sizes = dict[str, Any]


def fits(shape: tuple[int, ...], stated: str, sizes: Sizes) -> bool:
    """Whether a shape is the stated one, where `sizes` holds what names already stand for."""
    words, own = stated.split(), list(shape)
    many = [i for i, word in enumerate(words) if word[0] in ".*"]
    if many:  # the axes in the middle count as one word
        after = len(words) - many[0] - 1
        own[many[0] : len(own) - after] = [tuple(own[many[0] : len(own) - after])]
    if len(own) != len(words) or len(many) > 1:
        return False
    for word, size in zip(words, own, strict=True):
        known = int(word) if word.isdigit() else sizes.setdefault(word, size)
        if word not in ("_", "...") and known != size:
            return False
    return True


def is_shape(hint: Any) -> bool:
    """Whether an annotation states a shape, of an array or of its description."""
    given = typing.get_origin(hint) is Annotated
    return given and hint.__origin__ in (jax.Array, Any) and hint not in (Hyper, Fixed)


def states_a_shape(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return is_shape(hint)
    return any(map(states_a_shape, [*typing.get_args(hint), *fields(hint).values()]))


def fields(hint: Any) -> dict[str, Any]:
    """The annotations of a NamedTuple."""
    named = isinstance(hint, type) and hasattr(hint, "_fields") and hint is not gradtx.MatrixAxes
    return typing.get_type_hints(hint, include_extras=True) if named else {}


def compare(value: Any, hint: Any, sizes: Sizes, where: str) -> None:
    """Raise `AssertionError` for an array in `value` whose shape is not the one stated in `hint`."""
    if typing.get_origin(hint) is Annotated:
        for stated in hint.__metadata__ if is_shape(hint) else ():
            shape = np.shape(value) if isinstance(value, float | int) else value.shape
            assert fits(shape, stated, sizes), f"{where}: {shape} is not [{stated}], {sizes}"
        return
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (tuple, list):
        parts = parts[:1] * len(value) if len(parts) == 1 or parts[1] is ... else parts
        for x, part in zip(value, parts, strict=True):
            compare(x, part, sizes, where)
    for name, part in fields(hint).items():
        if isinstance(value, hint):
            compare(getattr(value, name), part, sizes, f"{where}.{name}")


def checked(function: Callable[..., Any], name: str, called: set[str]) -> Callable[..., Any]:
    """`function`, whose arguments and result must have the shapes that its annotations state."""
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        called.add(name)
        sizes: Sizes = {}
        for parameter, value in signature.bind(*args, **kwargs).arguments.items():
            several = signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL
            for x in value if several else (value,):
                compare(x, hints.get(parameter), sizes, f"{name}({parameter})")
        result = function(*args, **kwargs)
        compare(result, hints.get("return"), sizes, f"{name}(...)")
        return result

    return wrapped


def modules() -> list[Any]:
    rooms = gradtx._matrices, gradtx._bases
    names = [m.name for p in rooms for m in pkgutil.iter_modules(p.__path__, f"{p.__name__}.")]
    return [importlib.import_module(name) for name in ("gradtx._core.numerics", *names)]


def functions(holder: Any) -> list[tuple[str, Any]]:
    """The functions of a module, or the methods of a class, that come from the library."""
    own = [(n, x) for n, x in vars(holder).items() if callable(x) and not inspect.isclass(x)]
    own = [(n, x) for n, x in own if getattr(x, "__module__", "").startswith("gradtx")]
    return [(n, x) for n, x in own if hasattr(x, "__annotations__")]


def hints_of(function: Any) -> list[Any]:
    return list(typing.get_type_hints(function, include_extras=True).values())


def check_all(monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], set[str]]:
    """Wrap every function and method that states a shape: the names of all, and of those called."""
    every: set[str] = set()
    called: set[str] = set()

    def stating(holder: Any) -> list[tuple[str, Any]]:
        return [(name, x) for name, x in functions(holder) if any(map(states_a_shape, hints_of(x)))]

    every_module = modules()
    for name in gradtx.__all__:
        getattr(gradtx, name)  # the module of a name is imported when the name is first used
    users = [m for name, m in sys.modules.items() if name.split(".")[0] == "gradtx"]
    for module in every_module:
        for name, x in stating(module):
            if x.__module__ == module.__name__:
                every.add(name)
                new = checked(x, name, called)
                for user in users:
                    if vars(user).get(name) is x:
                        monkeypatch.setattr(user, name, new)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                for name, x in stating(kind):
                    full = f"{kind.__name__}.{name}"
                    every.add(full)
                    monkeypatch.setattr(kind, name, checked(x, full, called))
    return every, called


def step(tx: Any, params: Any, **extra: Any) -> None:
    """One step of `tx`, traced and not compiled."""
    make = lambda p: tx.update(p, tx.init(p), p, **extra)
    updates, _ = jax.eval_shape(make, params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)


def on_meshes() -> None:
    """Steps on meshes, traced, that reach every exchange."""
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind,) * 2)

        def lies(*shape: int, spec: Any, mesh: Any = mesh) -> jax.ShapeDtypeStruct:
            sharding = jax.NamedSharding(mesh, jax.P(*spec))
            return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

        replicas = {name: lies(6, 8, spec=(None, "x")) for name in "ab"}
        step(gradtx.normuon(0.1), replicas)
        step(gradtx.adamuon(0.1), replicas | {"stack": lies(3, 8, 4, spec=(None, "x", "y"))})
        step(gradtx.muon(0.1), {"both": lies(8, 4, spec=("x", "y"))})
        step(gradtx.muon(0.1), {name: lies(12, 10, spec=("x", "y")) for name in "abcdefgh"})
        step(gradtx.normuon(0.1), {"long": lies(8, 64, spec=(None, "x"))})
        step(gradtx.in_basis(gradtx.fitted_whitening(), gradtx.scale_by_adam()), replicas)
    mesh = jax.make_mesh((8,), ("x",))
    sharding = jax.NamedSharding(mesh, jax.P("x"))
    params = {"stack": jax.ShapeDtypeStruct((8, 4, 8), jnp.float32, sharding=sharding)}
    params["tall"] = jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=sharding)
    tx = gradtx.place(gradtx.normuon(0.1), params)
    inside = lambda p: tx.update(p, tx.init(p), p)[0]
    specs = jax.P("x")
    jax.eval_shape(jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=specs), params)


def in_bases(params: Any) -> None:
    """Steps in every basis, traced, in which the basis is learned and refreshed."""
    shorter = gradtx.low_rank(2, every=1, side="shorter")
    bases = [
        gradtx.eigenbasis(every=1),
        gradtx.eigenbasis(every=1, method="eigh", side="shorter"),
        gradtx.whitening(every=1),
        gradtx.fitted_whitening(max_size=5),
        gradtx.blocked(gradtx.eigenbasis(every=1), 2),
        gradtx.blocked(gradtx.whitening(), 4),
        shorter,
        gradtx.fixed_basis(jnp.eye(4), jnp.eye(4)),
    ]
    for basis in bases:
        fixed = isinstance(basis, gradtx.fixed_basis)
        on_refresh = "keep" if basis is shorter else "carry"
        tx = gradtx.in_basis(basis, gradtx.scale_by_adam(), on_refresh=on_refresh)
        step(tx, {"square": jnp.ones((4, 4))} if fixed else params)
    step(gradtx.scale_in_basis(shorter, gradtx.scale_by_adam(), on_refresh="keep"), params)
    step(gradtx.orthogonalize_low_rank(rank=2), params)
    for optimizer in (gradtx.soap(0.1), gradtx.kl_soap(0.1), gradtx.shampoo(0.1, block_size=2)):
        step(optimizer, params)
    # A state of a whole tree is carried into a new basis, too.
    whole = gradtx.accumulate(gradtx.scale_by_momentum(), 2)
    step(gradtx.in_basis(gradtx.eigenbasis(every=1), whole), params)
    jax.eval_shape(jax.grad(lambda x: jnp.sum(linear_algebra.eigh(x)[0])), jnp.eye(3)[None])


def test_arrays_have_the_shapes_that_annotations_state(monkeypatch):
    jax.clear_caches()  # what is traced already would not call the wrapped functions
    every, called = check_all(monkeypatch)
    params = {
        "wide": jnp.ones((3, 7)),
        "tall": jnp.ones((7, 3)),
        "layers": [jnp.ones((2, 4, 5)), jnp.ones((6, 5))],
        "conv": {"kernel": jnp.ones((3, 3, 2, 4))},
        "attention": {"query": {"kernel": jnp.ones((6, 2, 3))}},
        "big": jnp.ones((64, 96)),
        "nothing": jnp.ones((4, 0)),
        "bias": jnp.ones(5),
        "gain": jnp.ones(()),
    }
    step(gradtx.muon(0.1, equilibrate=True, cautious_update=True), params)
    step(gradtx.muon(0.1, form="gram"), {"w": jnp.ones((2, 200, 300), jnp.bfloat16)})
    step(gradtx.normuon(lambda step: 0.1), params)
    step(gradtx.adamuon(0.1), params)
    step(gradtx.scion(0.1), params)
    step(gradtx.adam(0.1, b1=lambda step: 0.9), params)
    clip = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.scale_by_adadelta())
    step(clip, {"w": jnp.ones((2, 3), jnp.complex64)})
    step(gradtx.scale_by_stddev(), params)
    step(gradtx.adam_mini(0.1), params)
    two = {"wide": jnp.ones((3, 7)), "tall": jnp.ones((7, 3))}
    step(gradtx.scale_by_dual_norm(gradtx.scale_by_sign()), two)
    step(gradtx.floor_update_ratio(0.1), two)
    step(gradtx.hyperball(0.1), two)
    step(gradtx.chain(gradtx.brake_radial(), gradtx.radial_step(0.1)), two)
    for tx in ("matrix_norm", "scale_to_operator_norm", "orthogonalize_balanced"):
        step(getattr(gradtx, tx)(), two)
    step(gradtx.scale_by_full_matrix_adagrad(), {"w": jnp.ones((2, 3))})
    logits = {"attention": jnp.ones(2)}
    step(gradtx.qk_clip(), params, max_logits=logits)
    jax.eval_shape(
        functools.partial(
            gradtx.newton_schulz, norm="schatten", symmetric=True, batching="batched"
        ),
        jnp.ones((2, 5, 9, 4)),
    )
    in_bases(two)
    on_meshes()
    assert gradtx.global_norm(params) > 0
    # The methods of the base classes only raise an error, and arrays that are traced need no program.
    bases = {"Matrixwise.update_matrix", "Basis.into", "Basis.back"}
    assert every - called == {*bases, "_compiled", "spread_padded", "collected_padded"}
    assert len(every) > 110


def test_no_array_of_the_matrices_and_bases_is_without_a_shape():
    def bare(hint: Any) -> bool:
        inside = typing.get_args(hint) if typing.get_origin(hint) in (tuple, list) else ()
        return hint is jax.Array or any(map(bare, inside))

    for module in modules()[1:]:
        classes = [x for x in vars(module).values() if inspect.isclass(x)]
        for holder in [module, *(x for x in classes if x.__module__ == module.__name__)]:
            for name, x in functions(holder):
                if x.__module__ == module.__name__:
                    assert not any(map(bare, hints_of(x))), (module.__name__, name)


def test_a_wrong_statement_fails(monkeypatch):
    """The check itself: each of these statements is wrong for arrays of these shapes."""

    class State(NamedTuple):
        nu: Annotated[jax.Array, "batch 1 out"]

    def transposed(x: Matrices) -> Matrices:
        return x.mT

    def norms(x: Matrices) -> Annotated[jax.Array, "batch 1 1"]:
        return jnp.sum(x, -1, keepdims=True)

    def total(x: Alike) -> Alike:
        return jnp.sum(x)

    def start(x: Matrices) -> State:
        return State(x[:, :, :1])

    def pair(x: Matrices) -> tuple[Matrices, Any]:
        return x[:1], None

    def first(xs: list[Matrices]) -> Any:
        return xs[0]

    def square(*xs: Annotated[jax.Array, "n n"]) -> Any:
        return xs

    x = jnp.ones((2, 3, 4))
    wrong = [(transposed, x), (norms, x), (total, x), (start, x), (pair, x), (square, x[0])]
    for function, value in [*wrong, (first, [x, x.mT]), (transposed, x[0])]:
        with pytest.raises(AssertionError, match=re.escape(f"{function.__name__}(")):
            checked(function, function.__name__, set())(value)
    checked(transposed, "transposed", set())(jnp.ones((2, 3, 3)))
    checked(first, "first", set())([x, x])

    # And in the library: the rows of a matrix stated as its columns.
    nu = gradtx.scale_by_neuron_rms.init_matrix.__annotations__["return"]
    monkeypatch.setitem(nu.__annotations__, "nu", Annotated[jax.Array, "batch in 1"])
    check_all(monkeypatch)
    jax.clear_caches()
    with pytest.raises(AssertionError, match=r"nu: .* is not"):
        step(gradtx.scale_by_neuron_rms(), jnp.ones((3, 5)))
