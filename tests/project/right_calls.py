"""Calls that the type checker accepts: every kind of argument that the documentation shows.

`test_types.py` runs the checker on this file, and calls the functions with these arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from gradtx import adam, adamw, chain, identity, masked, muon, partition, scale


def numbers(array: jax.Array, host: np.ndarray) -> None:
    adamw(1e-3, 0.9, 0.999, eps=1e-8, eps_root=None, weight_decay=0.1)
    adamw(1)
    adamw(array, b1=host, b2=np.float32(0.99), eps=np.float64(1e-8))
    adamw(jnp.logspace(-4, 0, 16), schedule=jnp.asarray(0.5))
    gradtx.second_moment(0.9, initial=jnp.ones(3))


class Cosine:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: Any) -> jax.Array:
        return jnp.cos(step / self.steps)


def plain(step):
    return 0.1 / (1 + step)


def typed(step: jax.Array) -> jax.Array:
    return 0.1 / (1 + step)


def counted(step: int) -> float:
    return 0.1 if step < 3 else 0.01


def schedules(schedule: optax.Schedule, function: Callable[[Any], float]) -> None:
    adamw(lambda step: 0.1 / (1 + step), weight_decay=lambda step: 1e-4 * (step >= 10))
    adamw(optax.cosine_decay_schedule(0.1, 1000), b1=optax.constant_schedule(0.9))
    adamw(plain, typed, counted, schedule=schedule, eps_root=function)
    adamw(Cosine(100), gradtx.inverse_time(0.1), gradtx.static(plain))
    gradtx.scale_by_schedule(plain)
    warm = gradtx.warmup_cosine_decay_schedule(0, jnp.asarray(0.1), 10, 100, exponent=np.float32(1))
    adamw(2 * warm - 1e-5, b1=(1 - warm).min(0.9).max(plain), weight_decay=-(warm / 2).shift(3))
    gradtx.join_schedules([warm, 0.1, plain], boundaries=[10, 20])
    gradtx.sgdr_schedule(
        [warm, {"init_value": 0.0, "peak_value": 1, "warmup_steps": 0, "decay_steps": 9}]
    )
    gradtx.piecewise_constant_schedule(0.1, {10: 0.5})
    chain(identity() * warm + warm)
    gradtx.exponential_decay(0.1, 10, 0.9, staircase=True, end_value=None)
    gradtx.clip_by_global_norm(lambda step: jnp.where(step < 10, 1.0, 0.1))


def words(triples: list[list[float]], table: np.ndarray) -> None:
    muon(0.1, form="gram", scaling="original", coefficients="jordan", steps=3)
    muon(0.1, coefficients=(3.4445, -4.775, 2.0315))
    muon(0.1, coefficients=gradtx.polar_express(5, safety=0.0))
    muon(0.1, coefficients=triples)
    muon(0.1, coefficients=table)
    adamw(0.1, decay_mode="schedule", schedule=plain, convention="paper")
    adam(1e-3, convention="keras")
    gradtx.scale_by_momentum(0.9, "heavy_ball", nesterov=True)
    gradtx.newton_schulz(jnp.eye(2), form="standard", norm="schatten", batching="map")


def dtypes() -> None:
    adamw(0.1, mu_dtype="bfloat16", nu_dtype=None)
    adamw(0.1, mu_dtype=jnp.bfloat16, nu_dtype=np.float32)
    muon(0.1, ns_dtype=jnp.dtype("bfloat16"))
    gradtx.accumulator(jnp.ones(2), "float32", real=True, fill=0.1)
    gradtx.newton_schulz(jnp.eye(2), dtype=jnp.float32, precision="highest")


def optax_parts() -> None:
    chain(optax.clip_by_block_rms(1.0), adamw(1e-3))
    optax.chain(gradtx.clip_by_global_norm(1.0), optax.lion(1e-4), adamw(1e-3))
    masked(optax.lion(1e-4), gradtx.by_rank(2))
    partition({"a": optax.sgd(0.1), "b": adamw(0.1)}, gradtx.by_path({"x": "a"}, otherwise="b"))
    muon(0.1, auxiliary=optax.adamw(1e-3))
    muon(0.1, auxiliary=gradtx.sgd(0.1))
    gradtx.cautious(optax.scale_by_adam())
    gradtx.root(optax.scale(2.0))
    gradtx.fanout("add", optax.scale(2.0), 1.0)
    gradtx.foreign(optax.adam(0.1))
    optax.apply_if_finite(adamw(0.1), 3)
    optax.MultiSteps(adamw(0.1), 4)
    optax.masked(adamw(0.1), {"kernel": True})


def masks(tree: dict[str, Any], module: Any) -> None:
    masked(identity(), gradtx.by_path({"kernel": True}, otherwise=False))
    masked(identity(), True)
    masked(identity(), {"kernel": True, "bias": False})
    masked(identity(), [True, np.bool_(False)])
    masked(identity(), tree)
    masked(identity(), module)
    masked(identity(), lambda path, leaf: leaf.ndim >= 2)
    adamw(0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim >= 2, params))
    adamw(0.1, mask=gradtx.by_rank(2))
    gradtx.freeze({"kernel": False})
    partition({True: adam(0.1), False: gradtx.freeze()}, gradtx.by_rank(2))
    partition({"slow": adam(0.1), "fast": adam(1.0)}, {"kernel": "fast", "bias": "slow"})
    partition({"all": adam(0.1)}, lambda path, leaf: "all")


def groups(given: dict[str, adamw], mixed: dict[str, gradtx.Transform]) -> None:
    partition(given, lambda path, leaf: "all")
    partition(mixed, lambda path, leaf: "all")


class rows(NamedTuple):
    def axes(self, path: str, leaf: Any) -> gradtx.MatrixAxes:
        return gradtx.MatrixAxes((0,), (1,))


def rules() -> None:
    muon(0.1, axes=gradtx.hidden_matrices(blocks={"qkv": 3}))
    muon(0.1, axes=gradtx.hidden_matrices(blocks={"qkv": (4, 1, 1), "up": 2}, exclude="fc"))
    rule = gradtx.by_rank(2) & ~gradtx.by_path("qkv", whole_names=True) | (lambda path, leaf: True)
    adamw(0.1, mask=rule & gradtx.by_shape((None, 3)) | gradtx.by_fan_in(3, at_most=9))
    adamw(0.1, mask=gradtx.decay_mask(embeddings=False))
    gradtx.layerwise(optax.sgd(0.1), jnp.asarray(0.5), stacked="")
    chain(gradtx.scale_by_path({"qkv": 0.1, "w": lambda step: 1.0}, optional=True))
    params = {"w": jnp.ones((2, 2))}
    wide = gradtx.mup(adamw(0.1), jax.eval_shape(lambda: params), output_multiplier=True)
    gradtx.migrate(adamw(0.1).init(params), wide, params, report=print)
    muon(0.1, axes=rows())
    gradtx.hidden_matrices(head=gradtx.hidden_matrices().head + "|^fc3/")
    gradtx.MatrixAxes(inputs=(1,), outputs=(2,), blocks=3).split(jnp.ones((12, 64, 192)))
    gradtx.by_path({"embed|head": "adamw"}, "muon")("layers/0/kernel", None)


def compositions(links: list[gradtx.Transform], count: int) -> None:
    m = gradtx.bias_correction(gradtx.scale_by_momentum(0.9))
    v = gradtx.bias_correction(gradtx.second_moment(0.999))
    chain(m / (gradtx.root(v) + 1e-8), gradtx.scale_by_learning_rate(1e-3))
    chain(*links, links[0] if count else identity())
    chain(*[identity()] * count)
    gradtx.bias_correction(gradtx.running_max(gradtx.second_moment()))
    gradtx.fanout("divide", identity(), gradtx.rms() + 1e-8)
    gradtx.fanout(jnp.maximum, identity(), 1.0)
    gradtx.fanout(lambda a, b, c: a * b + c, m, v, plain)
    gradtx.clip_by_global_norm(1.0, axis_name=("data", "model"))
    gradtx.adaptive_grad_clip(0.1, axis=(0, 1))


def operators(tx: gradtx.Transform, other: optax.GradientTransformation) -> None:
    _ = 2.0 * tx - 1 / tx + jnp.ones(()) * tx
    _ = tx / np.float32(2.0) + np.float64(1.0) * tx
    _ = (tx + plain) / (tx - (lambda step: 0.1))
    _ = tx / other + other / tx
    _ = (tx * tx + tx / tx - tx).branches[0].branches
    init, update = tx
    _ = update(1.0, init(1.0), 1.0)


def use(tx: gradtx.Transform, params: Any, grads: Any, value: jax.Array) -> Any:
    state = tx.init(params)
    updates, state = tx.update(grads, state)
    updates, state = tx.update(grads, state, params)
    updates, state = tx.update(grads, state, params, value=value, max_logits={"0": value})
    params = gradtx.apply_updates(params, updates)
    state = gradtx.set(state, mu=grads, **{"0.count": 0})
    state = gradtx.from_optax(tx, optax.adam(0.1).init(params), params)
    target = gradtx.from_optax(tx, params=params)
    rate = gradtx.get(state, "last_learning_rate") + gradtx.global_norm(updates)
    shown = tx._repr_latex_(), gradtx.summarize(tx, params).state_bytes
    routes = {route.path: route.label for route in gradtx.routing(muon(2e-3), params)}
    mean = gradtx.eval_params(tx, params, state), gradtx.lookahead_params(tx, params, state)
    swa = gradtx.averaged(
        optax.adam(0.1), gradtx.mean_weight(), start=3, every=2, mask=gradtx.by_rank(2)
    )
    mean += (gradtx.eval_params(swa, params, swa.init(params), dtype="float32"),)
    step = gradtx.make_step(lambda p, x: x * p, has_aux=True, extra_args=lambda aux: {"a": aux})
    params, state, metrics = step(tx, params, state, value)
    mean += (gradtx.averaged(tx, lambda n: 1 / (n + 1)), metrics["loss"])
    return target, rate, shown, routes, mean, gradtx.parse(repr(tx), names={"plain": plain})


def values(tx: adamw, composition: chain) -> Any:
    edited: adamw = gradtx.replace(tx, learning_rate=1e-4, **{"adamw.b1": plain})
    sweep: adamw = gradtx.stack([gradtx.replace(tx, learning_rate=b, b1=b) for b in (0.8, 0.9)])
    in_axes: adamw = gradtx.axes(sweep, learning_rate=0, b1=None)
    shape = sweep.learning_rate.shape, sweep.b1[0], 1 - tx.b1, float(tx.b1)
    inside = composition.links[0].b2, masked(tx, True).inner.learning_rate
    group = partition({"all": tx}, {"w": "all"}).transforms["all"].learning_rate
    return edited == tx, {tx: in_axes}, shape, inside, group, jax.tree.map(jnp.asarray, tx).b1


def taps(tx: gradtx.Transform, params: Any, grads: Any) -> Any:
    watched = chain(
        gradtx.tap("grads"),
        gradtx.clip_by_global_norm(1.0),
        gradtx.tap("clipped", gradtx.update_rms(per="leaf"), active=True),
        tx,
        gradtx.tap("updates", (gradtx.norm(per="layer"), gradtx.gradient_cosine(per=2))),
    )
    observed = gradtx.observe(watched, gradtx.norm())
    _, state = observed.update(grads, observed.init(params), params)
    shown: dict[str, jax.Array] = gradtx.readings(state)
    off: gradtx.observe = gradtx.replace(observed, active=False)
    return shown, off.inner, gradtx.observe(tx, (gradtx.norm(), gradtx.orthogonality_error()))


def wrappers(tx: gradtx.Transform) -> Any:
    around = [
        gradtx.every(3, tx),
        gradtx.accumulate(tx, 4),
        gradtx.skip_nonfinite(tx, max_consecutive=5),
        gradtx.skip_spikes(tx, z=6.0, of="value"),
        gradtx.master_weights(tx),
        gradtx.stored(tx, "int8"),
        gradtx.tunable(tx, ("learning_rate",)),
        gradtx.ema_nesterov(tx, 0.99, plain),
        gradtx.schedule_free(tx, 0.1, state_dtype=jnp.bfloat16),
        gradtx.lookahead(tx, 5, 0.5),
        gradtx.cautious(gradtx.scale_by_momentum(0.9)),
        gradtx.layerwise(tx, 0.9),
        gradtx.zero1(tx, "data"),
    ]
    rate = (
        gradtx.averaged(tx, gradtx.ema_weight(0.99)).inner,
        gradtx.outer(tx, scale(-0.5), 2).every,
    )
    return around, rate


class MuState(NamedTuple):
    mu: Any


class own_lion(gradtx.Elementwise):
    b1: gradtx.Hyper = 0.9
    b2: gradtx.Hyper = 0.99
    floor: gradtx.Hyper | None = None
    limits = {"b1": "[0, 1)", "b2": "[0, 1)"}

    def init_leaf(self, param):
        return MuState(mu=gradtx.accumulator(param))

    def update_leaf(self, update, state, param):
        mixed = self.b1 * state.mu + (1 - self.b1) * update
        return jnp.sign(mixed), MuState(self.b2 * state.mu + (1 - self.b2) * update)


class whiten(gradtx.Matrixwise):
    power: gradtx.Hyper = 0.5
    linear = True

    def update_matrix(self, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        size = jnp.sqrt(jnp.sum(x * x, axis=-2, keepdims=True)) ** self.power
        return x / (self.power * size), state


class smooth(gradtx.Wrapper, gradtx.Elementwise):
    decay: gradtx.Hyper = 0.9

    def init_leaf(self, param, inner):
        return MuState(mu=(gradtx.accumulator(param), inner))

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: jax.Array) -> Any:
        return self.decay * update + (1 - self.decay) * given, state


class lion(gradtx.Recipe):
    learning_rate: gradtx.Hyper
    b1: gradtx.Hyper = 0.9
    state = MuState

    def expand(self) -> gradtx.Transform:
        return chain(own_lion(self.b1), gradtx.scale_by_learning_rate(self.learning_rate))


class counted_lion(gradtx.Recipe):
    b1: gradtx.Hyper = 0.9

    def state(self) -> Any:
        return MuState if callable(self.b1) else None

    def expand(self) -> gradtx.Transform:
        return lion(self.b1)


class normalize(gradtx.Transform):
    first: gradtx.Transform | optax.GradientTransformation = identity()

    def update_tree(self, updates, state, params, extra):
        norm = gradtx.global_norm(updates)
        return jax.tree.map(lambda u: u / norm, updates), state


def own_classes() -> None:
    chain(own_lion(b2=0.98), whiten(axes=gradtx.hidden_matrices()), lion(plain, 0.9))
    own_lion(plain, jnp.full(3, 0.9), floor=0.1)
    _ = smooth(optax.scale(2.0), 0.9).inner
    _ = smooth(own_lion(), decay=jnp.full(2, 0.9)).inner.b1
    normalize(optax.scale(2.0)).update(jnp.ones(2), ())
    _ = scale(2.0) / counted_lion(0.1)


ARGUMENTS = {
    numbers: (jnp.full(3, 0.5), np.full(3, 0.5)),
    schedules: (optax.constant_schedule(0.1), lambda step: 0.1),
    words: ([[1.5, -0.5, 0.0]], np.ones((2, 3))),
    dtypes: (),
    optax_parts: (),
    masks: ({"kernel": True}, {"bias": False}),
    groups: ({"all": adamw(0.1)}, {"all": adam(0.1)}),
    rules: (),
    compositions: ([identity()], 2),
    operators: (identity(), optax.scale(2.0)),
    values: (adamw(0.1), chain(adamw(0.1))),
    taps: (adamw(0.1), {"w": jnp.ones((2, 2))}, {"w": jnp.ones((2, 2))}),
    wrappers: (adamw(0.1),),
    own_classes: (),
}
