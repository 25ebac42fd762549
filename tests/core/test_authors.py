"""A user's own classes: what works without further effort, and what each mistake says.

The classes are those of docs/write_your_own.md, with a few more numbers to sweep. Each has its
recurrence beside it, in NumPy float64, with a bound on what float32 may differ from it: a number of
roundings, each of at most `U`.
"""

import ast
import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from authors import (
    CountState,
    InnerState,
    LeftRightState,
    MuState,
    NuState,
    SizeAdamState,
    agreeing,
    alternating,
    mean_of_all,
    mean_size,
    own_lion,
    polyak,
    scale_by_neuron,
    scale_by_shampoo,
    size_adam,
    smoothed,
    unit_norm,
)

import gradtx
from gradtx import Elementwise, Hyper, Matrixwise, Moment, Recipe, Transform, Wrapper

U = 2.0**-24  # the largest relative error of one rounding to float32
ARRAYS = {"layers": [{"kernel": (3, 2)}], "gain": ()}
MATRICES = {"layers": [{"kernel": (3, 2)}], "stack": (2, 2, 3)}
STACK = {"stack": (2, 3, 2)}
STEPS = 4


# --- Their recurrences ----------------------------------------------------------------------------


def at(hyper: Any, t: int) -> float:
    """The value of a number or a schedule at the step `t`, which counts from 1."""
    return float(hyper(t - 1) if callable(hyper) else hyper)


def lion(gs, b1=0.9, b2=0.99):
    m = 0.0
    for t, g in enumerate(gs, 1):
        yield np.sign(at(b1, t) * m + (1 - at(b1, t)) * g), 0.0
        m = at(b2, t) * m + (1 - at(b2, t)) * g


def mean(gs, least=0.0):
    m, largest = 0.0, 0.0
    for t, g in enumerate(gs, 1):
        m = m + max(1 / t, at(least, t)) * (g - m)
        largest = np.maximum(largest, np.abs(g))
        yield m, 2 * t * U * largest


def size_of(gs, decay):
    """Average and corrected average of the absolute value, and the product of the decays."""
    v, kept = 0.0, 1.0
    for t, g in enumerate(gs, 1):
        v = at(decay, t) * v + (1 - at(decay, t)) * np.abs(g)
        kept *= at(decay, t)
        yield v, v / (1 - kept)


def over_size(gs, decay=0.9):
    for t, (g, (_, v)) in enumerate(zip(gs, size_of(gs, decay), strict=True), 1):
        # Four roundings a step in the average, and the gain is right within eight.
        yield g / v, (4 * t + 12) * U * np.abs(g / v)


def size_adam_of(gs, b1=0.9, b2=0.99):
    m, kept = 0.0, 1.0
    for t, (g, (_, a), (_, v)) in enumerate(
        zip(gs, size_of(gs, b1), size_of(gs, b2), strict=True), 1
    ):
        m = at(b1, t) * m + (1 - at(b1, t)) * g
        kept *= at(b1, t)
        yield m / (1 - kept) / v, 2 * (4 * t + 12) * U * a / v


def neuron(gs, decay=0.95, eps=1e-8):
    v = 0.0
    for t, g in enumerate(gs, 1):
        v = at(decay, t) * v + (1 - at(decay, t)) * np.mean(g**2, -2, keepdims=True)
        want = g / (np.sqrt(v) + at(eps, t))
        yield want, (2 * t + g.shape[-2] + 4) * U * np.abs(want)


def shampoo(gs, eps=1e-6):
    def root(a, eps):
        values, vectors = np.linalg.eigh(a)
        powers = (np.maximum(values, 0) + eps) ** -0.25
        return (vectors * powers[..., None, :]) @ np.swapaxes(vectors, -1, -2)

    left, right = 0.0, 0.0
    for t, g in enumerate(gs, 1):
        transposed = np.swapaxes(g, -1, -2)
        left, right = left + g @ transposed, right + transposed @ g
        a, b = (root(s, at(eps, t)) for s in (left, right))
        want = a @ g @ b
        # An eigenvalue is off by some roundings of the largest one; relative to the smallest that is
        # the condition number.
        conditions = [np.linalg.norm(s, 2, (-2, -1), keepdims=True) ** 4 for s in (a, b)]
        sizes = [np.linalg.norm(s, 2, (-2, -1), keepdims=True) for s in (left, right)]
        condition = sum(c * s for c, s in zip(conditions, sizes, strict=True))
        scale = np.linalg.norm(want, 2, (-2, -1), keepdims=True)
        yield want, (t + 8) * U * condition * scale


def smooth_lion(gs, decay=0.9):
    m = 0.0
    for t, (u, _) in enumerate(lion(gs), 1):
        m = at(decay, t) * m + (1 - at(decay, t)) * u
        yield m, 4 * t * U


def agreeing_mean(gs, kept=0.0):
    for t, (g, (u, bound)) in enumerate(zip(gs, mean(gs), strict=True), 1):
        yield np.where(u * g <= 0, at(kept, t) * u, u), 2 * bound


def every_other_mean(gs, factor=1.0):
    means = iter(mean(gs[::2]))
    for t in range(1, len(gs) + 1):
        u, bound = next(means) if t % 2 else (0.0 * gs[0], 0.0)
        yield at(factor, t) * u, 2 * at(factor, t) * bound


def leaf_by_leaf(recurrence):
    """A recurrence of one array as one of a list of them."""

    def system(steps, **hyper):
        leaves = [recurrence(list(gs), **hyper) for gs in zip(*steps, strict=True)]
        return [list(step) for step in zip(*leaves, strict=True)]

    return system


def by_norm(factor):
    """The system of what multiplies all gradients by `factor(norm, hyper)`."""

    def system(steps, hyper=1.0):
        rows = []
        for t, gs in enumerate(steps, 1):
            norm = np.sqrt(sum(np.sum(g**2) for g in gs))
            size = sum(g.size for g in gs)
            wants = [factor(norm, at(hyper, t)) * g for g in gs]
            rows.append([(want, (size + 6) * U * np.abs(want)) for want in wants])
        return rows

    return system


def normalized(steps, size=1.0):
    return by_norm(lambda norm, size: size / norm)(steps, size)


def polyak_of(steps, max_step=1.0):
    return by_norm(lambda norm, largest: -min(1 / norm**2, largest))(steps, max_step)


@dataclasses.dataclass(frozen=True)
class Case:
    """A class, the system of its updates, and the number that is swept and scheduled."""

    make: Callable[..., Any]
    system: Callable[..., Any]
    hyper: str
    values: tuple[float, float]
    shapes: Any = dataclasses.field(default_factory=lambda: ARRAYS)


CASES = {
    "lion": Case(own_lion, leaf_by_leaf(lion), "b1", (0.5, 0.75)),
    "norm": Case(unit_norm, normalized, "size", (0.5, 2.0)),
    "mean": Case(mean_of_all, leaf_by_leaf(mean), "least", (0.25, 0.5)),
    "neuron": Case(scale_by_neuron, leaf_by_leaf(neuron), "decay", (0.5, 0.75), MATRICES),
    "shampoo": Case(scale_by_shampoo, leaf_by_leaf(shampoo), "eps", (0.5, 0.25), STACK),
    "wrapper": Case(
        lambda **hyper: agreeing(mean_of_all(), **hyper),
        leaf_by_leaf(agreeing_mean),
        "kept",
        (0.5, 0.25),
    ),
    "wrapper with a state": Case(
        lambda **hyper: smoothed(own_lion(), **hyper),
        leaf_by_leaf(smooth_lion),
        "decay",
        (0.5, 0.75),
    ),
    "wrapper of the call": Case(
        lambda **hyper: alternating(mean_of_all(), **hyper),
        leaf_by_leaf(every_other_mean),
        "factor",
        (0.5, 2.0),
    ),
    "moment": Case(
        lambda **hyper: gradtx.identity() / gradtx.bias_correction(mean_size(**hyper)),
        leaf_by_leaf(over_size),
        "decay",
        (0.5, 0.75),
    ),
    "recipe": Case(size_adam, leaf_by_leaf(size_adam_of), "b2", (0.5, 0.75)),
    "tree": Case(polyak, polyak_of, "max_step", (0.125, 0.0625)),
}


def fading(step):
    """A schedule in (0, 1), exact in float32 at the steps that are taken here."""
    return 0.5 ** (1.0 + step)


def is_shape(x):
    return isinstance(x, tuple)


def draw(shapes: Any, steps: int = STEPS) -> list[Any]:
    """Trees of gradients that bfloat16 holds exactly, with entries away from zero."""
    rng = np.random.default_rng(7)

    def one(shape):
        x = rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)
        return np.float32(np.round(x * 64) / 64)

    return [jax.tree.map(one, shapes, is_leaf=is_shape) for _ in range(steps)]


def zeros(shapes: Any, dtype: Any = "float32") -> Any:
    return jax.tree.map(lambda shape: jnp.zeros(shape, dtype), shapes, is_leaf=is_shape)


@jax.jit
def scanned(tx, params, gradients):
    """All updates, stacked along a first axis, and the last state."""

    def body(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    stacked = jax.tree.map(lambda *gs: jnp.stack(gs), *gradients)
    state, updates = jax.lax.scan(body, tx.init(params), stacked)
    return updates, state


def check(updates: list[Any], case: Case, gradients: list[Any], extra: float = 0.0, **hyper: Any):
    """Hold trees of updates, one per step, against the case's system.

    `extra` is a relative error that is allowed on top, for a result that was rounded to less.
    """
    steps = [[np.float64(g) for g in jax.tree.leaves(tree)] for tree in gradients]
    wanted = case.system(steps, **hyper)
    assert len(updates) == len(wanted)
    for t, (tree, row) in enumerate(zip(updates, wanted, strict=True), 1):
        for got, (want, bound) in zip(jax.tree.leaves(tree), row, strict=True):
            error = np.abs(np.float64(got) - want)
            assert np.all(error <= bound + extra * np.abs(want)), (t, got, want, error / U)


def unstacked(tree: Any, steps: int = STEPS) -> list[Any]:
    return [jax.tree.map(lambda x, t=t: x[t], tree) for t in range(steps)]


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request):
    """Of module scope, so that pytest runs all tests of one class together."""
    return request.param


# --- What works without further effort ------------------------------------------------------------


def test_the_numbers_are_those_of_the_recurrence_eagerly_and_in_a_scan(case):
    tx, params, gradients = case.make(), zeros(case.shapes), draw(case.shapes)
    state, eager = tx.init(params), []
    for g in gradients:
        updates, state = tx.update(jax.tree.map(jnp.asarray, g), state, params)
        eager.append(updates)
    check(eager, case, gradients)
    # A scan raises a TypeError where the state changes a shape or a dtype.
    updates, last = scanned(tx, params, gradients)
    check(unstacked(updates), case, gradients)
    assert jax.tree.structure(last) == jax.tree.structure(state)


def test_numbers_are_swept_by_vmap(case):
    txs = [case.make(**{case.hyper: value}) for value in case.values]
    batch, gradients = gradtx.stack(txs), draw(case.shapes)
    over = (gradtx.axes(batch), None, None)
    updates, _ = jax.vmap(scanned, in_axes=over)(batch, zeros(case.shapes), gradients)
    for i, value in enumerate(case.values):
        mine = unstacked(jax.tree.map(lambda x, i=i: x[i], updates))
        check(mine, case, gradients, **{case.hyper: value})


def test_it_takes_a_schedule_inside_a_chain_masked_and_partition(case):
    shapes = {"mine": case.shapes, "outside": (2, 3), "other": (2, 3)}
    scheduled = {case.hyper: fading}
    masked = gradtx.masked(case.make(**scheduled), gradtx.by_path({"^mine": True}, otherwise=False))
    # Powers of two, which round nothing.
    inside = gradtx.chain(gradtx.scale(2.0), masked, gradtx.scale(-0.5))
    rule = gradtx.by_path({"other": "other"}, otherwise="inside")
    tx = gradtx.partition({"inside": inside, "other": gradtx.identity()}, rule)
    gradients = draw(shapes)
    updates, _ = scanned(tx, zeros(shapes), gradients)
    np.testing.assert_array_equal(updates["outside"], [-g["outside"] for g in gradients])
    np.testing.assert_array_equal(updates["other"], [g["other"] for g in gradients])
    doubled = [jax.tree.map(lambda g: 2 * g, g["mine"]) for g in gradients]
    halved = [jax.tree.map(lambda u: -2 * u, u) for u in unstacked(updates["mine"])]
    check(halved, case, doubled, **scheduled)


def test_the_state_of_bfloat16_parameters_is_float32_and_updates_are_rounded_once(case):
    tx, gradients = case.make(), draw(case.shapes)
    narrow = [jax.tree.map(lambda g: jnp.asarray(g, "bfloat16"), g) for g in gradients]
    updates, state = scanned(tx, zeros(case.shapes, "bfloat16"), narrow)
    assert {x.dtype.name for x in jax.tree.leaves(updates)} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves(state)} <= {"float32", "int32"}
    check(unstacked(updates), case, gradients, extra=2.0**-8)


NAMES = {name: getattr(gradtx, name) for name in dir(gradtx)} | globals()


def test_it_is_a_value(case):
    tx = case.make()
    other = gradtx.replace(tx, **{case.hyper: case.values[0]})
    assert other != tx and other == case.make(**{case.hyper: case.values[0]})
    for x in (tx, other):
        assert eval(repr(x), NAMES) == x and repr(eval(repr(x), NAMES)) == repr(x)
        classes = {k: v for k, v in NAMES.items() if isinstance(v, type)}
        assert gradtx.parse(repr(x), names=classes) == x
        for same in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), dataclasses.replace(x)):
            assert type(same) is type(x) and same == x and hash(same) == hash(x)
        leaves, structure = jax.tree.flatten(x)
        assert structure.unflatten(leaves) == x and all(type(leaf) is float for leaf in leaves)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)


def test_a_recipe_names_its_state_and_keeps_counts_that_agree_once():
    tx, gradients = size_adam(), draw(ARRAYS)
    _, state = scanned(tx, zeros(ARRAYS), gradients)
    assert type(state) is SizeAdamState and state.count == STEPS
    m, v = gradtx.expanded_state(tx, state, zeros(ARRAYS))
    assert m.count == v.count == STEPS
    np.testing.assert_array_equal(v.inner.nu["gain"], state.nu["gain"])


def test_at_leaf_decides_by_name_and_shape():
    class by_width(Elementwise):
        def at_leaf(self, path, leaf):
            return gradtx.scale(1 / leaf.shape[0] if path.endswith("kernel") else 1.0)

    g = {"layers": [{"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}]}
    layer = by_width().update(g, by_width().init(g))[0]["layers"][0]
    assert (layer["kernel"] == 0.25).all() and (layer["bias"] == 1).all()


def test_tex_is_the_equation_of_a_class():
    class shown(own_lion):
        def tex(self, g, page):
            m = page.average("m", self.b2, g)
            return m._replace(text=rf"\operatorname{{sign}}({m.text})")

    text = gradtx.chain(shown(b2=0.9), gradtx.scale(0.5))._repr_latex_()
    assert r"u_t &= 0.5\, \operatorname{sign}(m_t)" in text
    assert r"m_t &= 0.9\, m_{t-1} + 0.1\, g_t" in text


def test_every_class_of_the_page_is_short():
    page = (Path(__file__).parents[2] / "docs" / "write_your_own.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }
    assert len(lengths) > 15 and max(lengths.values()) <= 12, lengths


# --- Gradients of any size ------------------------------------------------------------------------


class rms_of_arrays(Elementwise):
    def init_leaf(self, param):
        return NuState(nu=gradtx.accumulator(param, real=True))

    def update_leaf(self, update, state, param):
        nu = 0.9 * state.nu + 0.1 * update**2
        return update / jnp.sqrt(nu), NuState(nu)


class rms_of_tree(Transform):
    def init_tree(self, params):
        return NuState(jax.tree.map(gradtx.accumulator, params))

    def update_tree(self, updates, state, params, extra):
        nu = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g**2, state.nu, updates)
        return jax.tree.map(lambda v, g: g / jnp.sqrt(v), nu, updates), NuState(nu)


class rms_around(Wrapper, Elementwise):
    def init_leaf(self, param, inner):
        return InnerState(gradtx.accumulator(param, real=True), inner)

    def update_leaf(self, update, state, param, given):
        nu = 0.9 * state.mean + 0.1 * given**2
        return update / jnp.sqrt(nu), state._replace(mean=nu)


class rms_around_the_call(Wrapper):
    def init_tree(self, params):
        nu = jax.tree.map(gradtx.accumulator, params)
        return InnerState(nu, self.inner.init_tree(params))

    def update_tree(self, updates, state, params, extra):
        nu = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g**2, state.mean, updates)
        new, inner = self.inner.update_tree(updates, state.inner, params, extra)
        return jax.tree.map(lambda v, u: u / jnp.sqrt(v), nu, new), InnerState(nu, inner)


SQUARING = {
    "arrays": rms_of_arrays(),
    "tree": rms_of_tree(),
    "wrapper": rms_around(gradtx.identity()),
    "wrapper of what squares": rms_around(rms_of_arrays()),
    "wrapper of the call": rms_around_the_call(gradtx.identity()),
    "matrices": scale_by_neuron(),
    "two statistics": scale_by_shampoo(),
}


@pytest.mark.parametrize("tx", SQUARING.values(), ids=SQUARING)
def test_one_huge_gradient_leaves_a_finite_state_and_finite_updates(tx):
    w = jnp.zeros((4, 6))
    state = tx.init(w)
    for size in (1.0, 1e30, 1.0, 1.0):
        update, state = tx.update(jnp.full((4, 6), size), state, w)
        assert np.isfinite(update).all(), size
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state)), size


@pytest.mark.parametrize("tx", SQUARING.values(), ids=SQUARING)
def test_an_infinite_gradient_shows_in_the_update(tx):
    w = jnp.zeros((4, 6))
    _, state = tx.update(jnp.ones((4, 6)), tx.init(w), w)
    update, _ = tx.update(jnp.full((4, 6), np.inf), state, w)
    assert not np.isfinite(update).any()


@pytest.mark.parametrize("base", ["update_leaf", "update_matrix", "update_tree"])
def test_what_declares_itself_linear_gets_gradients_of_any_size(base):
    bases = {"update_leaf": Elementwise, "update_matrix": Matrixwise, "update_tree": Transform}
    hook = lambda self, update, state, *more: (update, state)
    bounded, linear = (
        type("passing", (bases[base],), {base: hook, "__module__": __name__, **more})()
        for more in ({}, {"linear": True})
    )
    g = jnp.full((2, 2), 1e30)
    assert (linear.update(g, linear.init(g))[0] == g).all()
    brought_down = bounded.update(g, bounded.init(g))[0]
    assert np.all(brought_down < 1e20) and np.all(brought_down > 1)
    assert gradtx.chain(linear, linear).linear and not gradtx.chain(linear, bounded).linear


# --- States ---------------------------------------------------------------------------------------


def test_a_state_shares_no_buffer_with_the_parameters_or_with_itself():
    class remembers(Elementwise):
        def init_leaf(self, param):
            zero = gradtx.accumulator(param)
            return LeftRightState(param, CountState(zero, zero))

        def update_leaf(self, update, state, param):
            return update - state.left, state

    params = zeros(ARRAYS)
    arrays = jax.tree.leaves((params, remembers().init(params)))
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)


def test_a_tree_gets_float32_and_its_state_keeps_its_types():
    seen = []

    class tree_average(Transform):
        linear = True

        def init_tree(self, params):
            return CountState(0, jax.tree.map(lambda p: jnp.zeros(p.shape, "bfloat16"), params))

        def update_tree(self, updates, state, params, extra):
            seen.extend(x.dtype.name for x in jax.tree.leaves((updates, params)))
            average = jax.tree.map(
                lambda m, g: 0.5 * m.astype("float32") + 0.5 * g.astype("float32"),
                state.mean,
                updates,
            )
            return average, CountState(state.count + 1, average)

    w = jnp.ones(3, "bfloat16")
    for tx in (tree_average(), smoothed(tree_average())):
        state = tx.init(w)
        _, new = tx.update(w, state, w)
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
        types = [
            [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(s)] for s in (state, new)
        ]
        assert types[0] == types[1]
    assert set(seen) == {"float32"}


# --- What each mistake says -----------------------------------------------------------------------

TREE = {"layers": [{"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}]}
KERNEL = {"layers": [{"kernel": jnp.ones((2, 3))}]}
AT_BIAS, AT_KERNEL = "`layers/0/bias`", "`layers/0/kernel`"


def odd(*bases, **body):
    """A class with this body, whose name is `odd`."""
    return type("odd", bases, {**body, "__module__": __name__})


def step(tx, tree=TREE, *, params=True):
    return tx.update(tree, tx.init(tree), tree if params else None)


def leaf(update_leaf, **more):
    """A step of an `Elementwise` with this `update_leaf`."""
    step(odd(Elementwise, update_leaf=update_leaf, **more)())


def matrix(update_matrix, **more):
    step(odd(Matrixwise, update_matrix=update_matrix, **more)(), KERNEL)


def whole(update_tree, tree=TREE, **more):
    step(odd(Transform, update_tree=update_tree, **more)(), tree)


def passing(self, update, state, *more):
    return update, state


def zero_mu(self, param):
    return MuState(gradtx.accumulator(param))


def zero_row(self, x):
    return NuState(gradtx.accumulator(x[:, :1]))


def zero_tree(self, params):
    return MuState(jax.tree.map(gradtx.accumulator, params))


class counting(Elementwise):
    def init_leaf(self, param):
        return CountState(gradtx.shared(0), gradtx.accumulator(param))

    update_leaf = passing


class scheduled(Elementwise):
    rate: Hyper = 0.1

    def update_leaf(self, update, state, param):
        return self.rate * update, state


# For each mistake: what makes it, and what the message says: whose mistake it is, what is wrong and
# what to write instead, and where it happened, which may stand below the sentence.
MISTAKES: dict[str, tuple[Any, ...]] = {
    # An update of another shape
    "a leaf of another shape": (
        lambda: leaf(lambda self, u, s, p: (jnp.sum(u), s)),
        r"`update_leaf` of `odd`.*shape \(\).*gradient of shape \(3,\).*Return",
        AT_BIAS,
    ),
    "no update of a leaf": (
        lambda: leaf(lambda self, u, s, p: (None, s)),
        "`update_leaf` of `odd`.*None",
        AT_BIAS,
    ),
    "a matrix of another shape": (
        lambda: matrix(lambda self, x, s: (x.mT, s)),
        r"`update_matrix` of `odd`.*\(1, 3, 2\).*\(1, 2, 3\).*\[batch, in, out\]",
        AT_KERNEL,
    ),
    "a tree with a leaf of another shape": (
        lambda: whole(lambda self, u, s, p, e: (jax.tree.map(jnp.sum, u), s)),
        r"`update_tree` of `odd`.*shape \(\).*gradient of shape \(3,\)",
        AT_BIAS,
    ),
    "a tree without a leaf": (
        lambda: whole(lambda self, u, s, p, e: (jax.tree.map(lambda x: None, u), s)),
        "`update_tree` of `odd`.*None",
        AT_BIAS,
    ),
    "a tree of another structure": (
        lambda: whole(lambda self, u, s, p, e: (jax.tree.leaves(u), s)),
        "`update_tree` of `odd`.*structure",
    ),
    "a state that is None for some leaves": (
        lambda: leaf(
            passing,
            init_leaf=lambda self, p: MuState(gradtx.accumulator(p) if p.ndim == 2 else None),
        ),
        r"`init_leaf` of `odd`.*one structure.*return an array without elements, `jnp.zeros\(0\)`",
    ),
    # A forgotten state
    "a leaf without its state": (
        lambda: leaf(lambda self, u, s, p: u),
        "`update_leaf` of `odd`.*Write `return update, state`",
        AT_BIAS,
    ),
    "a leaf without its state, given any empty state": (
        lambda: odd(Elementwise, update_leaf=lambda self, u, s, p: u)().update(jnp.ones(2), ()),
        "`update_leaf` of `odd`.*Write `return update, state`",
    ),
    "a matrix without its state": (
        lambda: matrix(lambda self, x, s: x),
        "`update_matrix` of `odd`.*Write `return x, state`",
        AT_KERNEL,
    ),
    "a tree without its state": (
        lambda: whole(lambda self, u, s, p, e: u),
        "`update_tree` of `odd`.*Write `return updates, state`",
    ),
    "a tree that is a pair, without its state": (
        lambda: whole(lambda self, u, s, p, e: u, (jnp.ones(2), jnp.ones(3))),
        "`update_tree` of `odd`.*`return updates, state`",
    ),
    # Another state than the class describes
    "an array for a state": (
        lambda: leaf(lambda self, u, s, p: (u, u), init_leaf=zero_mu),
        "`update_leaf` of `odd`.*MuState.*`init_leaf`",
        AT_BIAS,
    ),
    "a state of another class": (
        lambda: leaf(lambda self, u, s, p: (u, NuState(u)), init_leaf=zero_mu),
        "`update_leaf` of `odd`.*NuState.*MuState.*`init_leaf`",
        AT_BIAS,
    ),
    "a state of another shape": (
        lambda: leaf(lambda self, u, s, p: (u, MuState(jnp.sum(u))), init_leaf=zero_mu),
        r"`update_leaf` of `odd`.*shape \(\).*\bmu\b.*\(3,\)",
        AT_BIAS,
    ),
    "a state that is dropped": (
        lambda: leaf(lambda self, u, s, p: (u, MuState(None)), init_leaf=zero_mu),
        "`update_leaf` of `odd`.*None",
        AT_BIAS,
    ),
    "a state without `init_leaf`": (
        lambda: leaf(lambda self, u, s, p: (u, MuState(u))),
        "`update_leaf` of `odd`.*MuState.*`init_leaf`",
        AT_BIAS,
    ),
    "a state of a matrix of another shape": (
        lambda: matrix(lambda self, x, s: (x, NuState(x)), init_matrix=zero_row),
        r"`update_matrix` of `odd`.*\(1, 2, 3\).*\bnu\b.*\(1, 1, 3\)",
        AT_KERNEL,
    ),
    "an array for a state of a matrix": (
        lambda: matrix(lambda self, x, s: (x, x), init_matrix=zero_row),
        "`update_matrix` of `odd`.*NuState.*`init_matrix`",
        AT_KERNEL,
    ),
    "a state of a tree of another structure": (
        lambda: whole(lambda self, u, s, p, e: (u, s.mu), init_tree=zero_tree),
        "`update_tree` of `odd`.*state.*`init_tree`",
    ),
    "a state of a tree of another shape": (
        lambda: whole(
            lambda self, u, s, p, e: (u, MuState(jax.tree.map(jnp.sum, u))), init_tree=zero_tree
        ),
        r"`update_tree` of `odd`.*shape \(\).*\(3,\)",
    ),
    "a word in a state": (
        lambda: leaf(passing, init_leaf=lambda self, p: MuState("zero")),
        "`init_leaf` of `odd`.*'zero'",
    ),
    "no place for the state of an inner one": (
        lambda: step(
            odd(
                Wrapper,
                Elementwise,
                init_leaf=lambda self, p, inner: MuState(gradtx.accumulator(p)),
                update_leaf=passing,
            )(gradtx.scale_by_momentum())
        ),
        "`init_leaf` of `odd`.*`inner`",
    ),
    # Fields
    "a number annotated `float`": (
        lambda: odd(Elementwise, __annotations__={"rate": float}, rate=0.1),
        "`odd.rate` is annotated .*float.*Annotate the field with `gradtx.Hyper`",
    ),
    "a number annotated `float | None`": (
        lambda: odd(Elementwise, __annotations__={"rate": float | None}, rate=None),
        "`odd.rate` is annotated .*float.*Annotate the field with `gradtx.Hyper`",
    ),
    "a number outside its limits": (
        lambda: own_lion(1.0),
        r"`own_lion\(b1=1.0\)` must lie in \[0, 1\)\.",
    ),
    "a word for a number": (
        lambda: own_lion("a"),
        r"`own_lion\(b1=...\)` must be a number, an array or a schedule.*'a'",
    ),
    "limits of a field that is not there": (
        lambda: leaf(passing, limits={"rat": "[0, 1)"}),
        "`odd`.*rat",
    ),
    "a sweep that is not mapped over": (
        lambda: step(own_lion(jnp.array([0.8, 0.9]))),
        r"`own_lion\(b1=...\)` is an array where a step needs one number.*jax\.vmap",
    ),
    # Parameters that were not passed
    "parameters in a wrapper": (
        lambda: odd(Wrapper, Elementwise, update_leaf=lambda self, u, s, p, given: (u + p, s))(
            gradtx.scale(1.0)
        ).update(jnp.ones(2), ()),
        r"`odd` needs the parameters: call `update\(updates, state, params\)`",
    ),
    "parameters in a tree": (
        lambda: step(
            odd(
                Transform,
                update_tree=lambda self, u, s, p, e: (jax.tree.map(jnp.add, u, p), s),
            )(),
            params=False,
        ),
        r"`odd`.*parameters.*`update\(updates, state, params\)`",
    ),
    "parameters that are measured": (
        lambda: step(
            odd(
                Elementwise,
                measure=lambda self, u, p, e: gradtx.global_norm(p),
                update_leaf=lambda self, u, s, p, norm: (norm * u, s),
            )(),
            params=False,
        ),
        r"`odd`.*parameters.*`update\(updates, state, params\)`",
    ),
    # What all arrays share
    "a shared number that becomes an array": (
        lambda: step(
            odd(counting, begin=lambda self, s, measured: (s._replace(count=jnp.zeros(2)), 1.0))()
        ),
        r"`begin` of `odd`.*\(2,\).*\(\)",
    ),
    "a shared number that is dropped": (
        lambda: step(
            odd(counting, begin=lambda self, s, measured: (s._replace(count=None), 1.0))()
        ),
        "`begin` of `odd`.*None",
    ),
    "a word for all arrays": (
        lambda: step(odd(counting, begin=lambda self, s, measured: (s, "word"))()),
        "`begin` of `odd`.*'word'",
    ),
    "a shared number that is advanced in a leaf": (
        lambda: step(
            odd(
                counting,
                update_leaf=lambda self, u, s, p: (u, s._replace(count=s.count + 1)),
            )()
        ),
        "`odd`.*shared.*`begin`",
        AT_BIAS,
    ),
    "a shared number in a tree": (
        lambda: whole(passing, init_tree=lambda self, p: MuState(gradtx.shared(0))),
        "`init_tree` of `odd`.*shared",
    ),
    # Others
    "the bases of a wrapper in the other order": (
        lambda: odd(Elementwise, Wrapper, update_leaf=passing),
        "`odd`.*Wrapper, .*Elementwise",
    ),
    "two arrays of one name in the state of a recipe": (
        lambda: step(
            odd(Recipe, state=MuState, expand=lambda self: gradtx.chain(*2 * [own_lion()]))()
        ),
        "Two arrays in the state of `odd` are called `mu`.*Rename one of them",
    ),
    "a state of a recipe that names what is not there": (
        lambda: step(odd(Recipe, state=NuState, expand=lambda self: own_lion())()),
        "`odd` names its state `NuState.*mu.*Name exactly these",
    ),
    "a vector where a matrix is needed": (
        lambda: step(scale_by_neuron()),
        r"`scale_by_neuron`.*shape \(3,\).*matri",
        AT_BIAS,
    ),
    "`at_leaf` that returns nothing": (
        lambda: leaf(passing, at_leaf=lambda self, path, leaf: None),
        "`at_leaf` of `odd`.*None",
        AT_BIAS,
    ),
}

# Each way to use parameters that were not passed
for _use, _f in {
    "added": lambda u, p: u + p,
    "subtracted from": lambda u, p: p - u,
    "multiplied": lambda u, p: 0.1 * p,
    "compared": lambda u, p: jnp.where(p > 0, u, -u),
    "compared to zero": lambda u, p: jnp.where(p == 0, u, -u),
    "asked for their shape": lambda u, p: u * p.shape[0],
    "given to a function": lambda u, p: u + jnp.sign(p),
    "given to a norm": lambda u, p: u * jnp.linalg.norm(p),
    "given to where": lambda u, p: jnp.where(u > 0, u, p),
}.items():
    MISTAKES[f"parameters that are {_use}"] = (
        lambda f=_f: step(
            odd(Elementwise, update_leaf=lambda self, u, s, p: (f(u, p), s))(), params=False
        ),
        r"`odd` needs the parameters: call `update\(updates, state, params\)`",
        AT_BIAS,
    )

for _start in ("a", None, 1j, {}, max):
    MISTAKES[f"shared {_start!r}"] = (
        lambda start=_start: leaf(passing, init_leaf=lambda self, p: MuState(gradtx.shared(start))),
        r"`shared\(.*\)` must be a number",
    )

for _what, _begin in {
    "the state alone": lambda self, state, measured: state._replace(count=state.count + 1),
    "the count alone": lambda self, state, measured: state.count + 1,
    "nothing": lambda self, state, measured: None,
    "three things": lambda self, state, measured: (state, 1.0, 2.0),
    "the two in the other order": lambda self, state, measured: (1.0, state),
}.items():
    MISTAKES[f"`begin` that returns {_what}"] = (
        lambda begin=_begin: step(odd(counting, begin=begin)()),
        r"`begin` of `odd` must return.*state.*Return `state\._replace\(count=",
    )

# Hooks that nothing would call, and the class to derive from instead
for _bases, _hook, _remedy in [
    ((Elementwise,), "update_tree", "Transform"),
    ((Elementwise,), "update_matrix", "Matrixwise"),
    ((Elementwise,), "expand", "Recipe"),
    ((Matrixwise,), "update_leaf", "Elementwise"),
    ((Matrixwise,), "update_tree", "Transform"),
    ((Transform,), "update_leaf", "Elementwise"),
    ((Transform,), "begin", "Elementwise"),
    ((Transform,), "measure", "Elementwise"),
    ((Recipe,), "update_leaf", "Elementwise"),
    ((Recipe,), "update_tree", "Transform"),
    ((Moment,), "update_tree", "Transform"),
    ((Wrapper,), "update_leaf", "Wrapper.*Elementwise"),
    ((Wrapper,), "update_matrix", "Wrapper.*Matrixwise"),
    ((Wrapper, Elementwise), "update_tree", "Wrapper"),
    ((Wrapper, Matrixwise), "update_leaf", "Wrapper.*Elementwise"),
]:
    _names = " and ".join(base.__name__ for base in _bases)
    MISTAKES[f"`{_hook}` in {_names}"] = (
        lambda bases=_bases, hook=_hook: odd(*bases, **{hook: passing}),
        rf"`odd\.{_hook}` would never be called: .*Derive it from .*{_remedy}",
    )

# What version 0.1 called or read
for _name, _remedy in {"init_shared": "begin", "looks": "measure", "marked": "at_leaf"}.items():
    MISTAKES[f"`{_name}` of version 0.1"] = (
        lambda name=_name: odd(Elementwise, **{name: passing}),
        rf"`odd\.{_name}` belongs to version 0\.1.*`{_remedy}`",
    )

# The public methods, which compositions do not call
for _base in (Elementwise, Transform):
    for _hook in ("init", "update"):
        MISTAKES[f"`{_hook}` in {_base.__name__}"] = (
            lambda base=_base, hook=_hook: odd(base, **{hook: passing}),
            rf"`odd\.{_hook}`",
        )

for _what, (_inner, _words) in {
    "None": (None, "None"),
    "a class": (own_lion, r"`own_lion` itself; call it, `own_lion\(...\)`"),
    "a function": (fading, "fading"),
    "a function of Optax": (optax.adam, "adam"),
    "a number": (3.0, "3.0"),
    "text": ("adam(0.1)", r"'adam\(0.1\)'"),
    "a list": ([gradtx.scale(1.0)], r"scale\(1.0\)"),
}.items():
    MISTAKES[f"`inner` that is {_what}"] = (
        lambda inner=_inner: agreeing(inner),
        rf"`agreeing\(inner=...\)` must be a gradient transformation.*{_words}",
    )

# Classes that lack what they have to provide
_one = gradtx.scale(1.0)
for _what, (_make, _words) in {
    "Elementwise": (lambda: step(odd(Elementwise)()), r"`update_leaf`.*\(update, state, param\)"),
    "Matrixwise": (lambda: step(odd(Matrixwise)(), KERNEL), r"`update_matrix`.*\(x, state\)"),
    "Transform": (
        lambda: step(odd(Transform)()),
        r"`update_tree`.*\(updates, state, params, extra\)",
    ),
    "Wrapper": (lambda: step(odd(Wrapper)(_one)), "`update_tree`"),
    "Wrapper and Elementwise": (
        lambda: step(odd(Wrapper, Elementwise)(_one)),
        r"`update_leaf`.*\(update, state, param, given\)",
    ),
    "Moment": (lambda: step(odd(Moment)()), r"`update_leaf`.*\(update, state, param\)"),
    "corrected Moment": (
        lambda: step(gradtx.bias_correction(odd(Moment, update_leaf=passing)())),
        r"`gain`.*gain\(log_kept, decay\)",
    ),
    "Recipe": (lambda: odd(Recipe)(), r"`expand`.*expand\(\)"),
}.items():
    MISTAKES[f"an empty {_what}"] = (_make, f"`odd` does not define {_words}")

for _what, (_made, _words) in {
    "None": (None, "None"),
    "a class": (gradtx.scale, r"`scale` itself; call it"),
    "a tuple": ((_one, _one), r"scale\(1.0\)"),
}.items():
    MISTAKES[f"`expand` that returns {_what}"] = (
        lambda made=_made: step(odd(Recipe, expand=lambda self: made)()),
        f"expand.*`?odd.*{_words}|odd.*expand.*{_words}",
    )

for _what, (_schedule, _words) in {
    "a vector": (lambda step: jnp.ones(2) * step, r"one.*number for a step.*shape \(2,\)"),
    "a list": (lambda step: [0.1], r"one.*number for a step.*shape \(1,\)"),
    "None": (lambda step: None, "one real number for a step.*None"),
    "text": (lambda step: "0.1", "one real number for a step.*'0.1'"),
    "a complex number": (lambda step: 1j * step, "one real number for a step"),
}.items():
    MISTAKES[f"a schedule that returns {_what}"] = (
        lambda schedule=_schedule: step(scheduled(schedule)),
        rf"schedule in `scheduled\(rate=...\)` must return {_words}",
    )

# What no message shows: tracers, addresses, and the names of what the library is made of.
INTERNALS = r"Tracer| at 0x|gradtx/_|\b_(?!replace)[a-z]\w+|traced for jit|unpack|pytree structure"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence_that_names_the_class_the_leaf_and_the_remedy(name):
    made, words, *places = MISTAKES[name]
    # pytest looks into the notes of an exception too, where the path of the leaf may stand.
    with pytest.raises((TypeError, ValueError), match=f"(?s){words}") as caught:
        made()
    for place in places:
        assert caught.match(place)
    text = str(caught.value)
    assert text.rstrip().endswith(".") and not re.search(INTERNALS, text), text


@pytest.mark.parametrize(
    "schedule",
    [
        lambda step: 0.1 if step < 5 else 0.01,
        lambda step: 0.1 * float(step),
        lambda step: np.sqrt(step),
    ],
    ids=["if", "float", "numpy"],
)
def test_a_schedule_that_asks_for_a_known_step_is_named_with_its_remedy(schedule):
    for tx, name in (
        (scheduled(schedule), "scheduled(rate=...)"),
        (scale_by_neuron(schedule), "scale_by_neuron(decay=...)"),
        (polyak(schedule), "polyak(max_step=...)"),
    ):
        with pytest.raises(jax.errors.JAXTypeError) as caught:  # JAX's own message comes first
            jax.jit(lambda g, state, tx=tx: tx.update(g, state))(KERNEL, tx.init(KERNEL))
        notes = " ".join(caught.value.__notes__)
        assert f"the schedule in `{name}`" in notes and "jnp." in notes, notes


def test_a_recipe_may_expand_to_a_transformation_of_optax():
    tx = odd(Recipe, expand=lambda self: optax.scale(0.5))()
    assert (step(tx)[0]["layers"][0]["bias"] == 0.5).all()
