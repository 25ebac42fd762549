"""One table of every transformation, composition and recipe, and trees that reach every branch.

A row is the code that makes the value: it is also the test's name, and evaluating it again makes an
equal value. A new transformation is one more row; `test_every_public_transformation_is_in_the_zoo`
asks for it.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import authors
import chex
import jax
import jax.numpy as jnp
import numpy as np

import gradtx


def fading(step):
    """A schedule in (0, 1) of any callable kind: it is not a pytree, so it is structure."""
    return 0.5 / (1 + step)


def longest(a, b):
    """A combining function for `fanout`: entry by entry the one of larger absolute value."""
    return jnp.where(jnp.abs(a) >= jnp.abs(b), a, b)


def halved(updates, params):
    """A function for `stateless`, of an array or of a whole tree."""
    return jax.tree.map(lambda u: 0.5 * u, updates)


# What a user of gradtx brings along: functions and transformations.
OWN = {"fading": fading, "longest": longest, "halved": halved} | {
    name: x
    for name, x in vars(authors).items()
    if isinstance(x, type) and issubclass(x, gradtx.Transform) and x.__module__ == "authors"
}
NAMES = {name: getattr(gradtx, name) for name in dir(gradtx)} | OWN


@dataclasses.dataclass(frozen=True)
class Row:
    """The code, and what the laws cannot know from it.

    `at_zero`: the update for a zero gradient as a function of the parameter (default: zero); None where
    that update depends on the step.
    `bounded`: whether every sequence of finite gradients gives finite updates; a plain sum does not,
    nor squares in float16, nor the largest number divided by a gain that was rounded.
    `smooth`: whether the derivative at a zero gradient is finite; a user's plain square root has none.
    """

    code: str
    _: dataclasses.KW_ONLY
    at_zero: Callable[[Any], Any] | None = np.zeros_like
    bounded: bool = True
    needs_params: bool = False
    smooth: bool = True

    def make(self) -> Any:
        return evaluate(self.code)

    def __str__(self) -> str:
        return self.code


def named(x: Any) -> str:
    """The text of an argument in the name of a test, which must be the same in every process.

    A set has no order, and a function of Optax prints with its address.
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(sorted(x) if isinstance(x, set) else x))


def evaluate(code: str) -> Any:
    return eval(code, NAMES)


def decay(*factors: float) -> Callable[[Any], Any]:
    """The parameter times all factors, one after the other in its own precision."""

    def at_zero(p):
        for factor in factors:
            p = p.dtype.type(factor) * p
        return p

    return at_zero


def matrices(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda p: f(p) if p.ndim >= 2 else np.zeros_like(p)


def full_of(value: float, p: Any) -> Any:
    """A real array of one number, shaped like the parameter."""
    return np.full(np.shape(p), value, p.dtype)


def nonnegative(p: Any) -> Any:
    """The update that makes a negative parameter 0; a complex one is not negative."""
    return np.zeros_like(p) if np.iscomplexobj(p) else np.maximum(-p, 0)


ROWS = [
    Row("identity()"),
    Row("constant(2.0)", at_zero=lambda p: np.full_like(p, 2)),
    Row("freeze()"),
    Row("freeze(by_rank(2))"),
    Row("freeze(by_rank(2) & ~by_path('a', optional=True))"),
    # Multiplications
    Row("scale(0.5)"),
    Row("scale(fading)"),
    Row("stateless(halved)"),
    Row("stateless_with_tree_map(halved)"),
    Row("scale_by_learning_rate(0.1)"),
    Row("scale_by_learning_rate(fading)"),
    Row("scale_by_learning_rate(0.1, flip_sign=False)"),
    Row("scale_by_sign()"),
    # Moments
    Row("scale_by_momentum()"),
    Row("scale_by_momentum(0.99, nesterov=True)"),
    Row("scale_by_momentum(0.9, form='heavy_ball')", bounded=False),
    Row("scale_by_momentum(0.9, form='heavy_ball', nesterov=True)", bounded=False),
    Row("scale_by_momentum(fading)"),
    Row("scale_by_momentum(0.9, accumulator_dtype='bfloat16')"),
    Row("second_moment()", bounded=False),
    Row("second_moment(fading)", bounded=False),
    Row("second_moment(0.9, accumulator_dtype='bfloat16')", bounded=False),
    Row("root(second_moment(0.99))"),
    Row("rms()"),
    Row("rms(fading)"),
    Row("bias_correction(scale_by_momentum())", bounded=False),
    Row("bias_correction(scale_by_momentum(0.9, nesterov=True))"),
    Row("bias_correction(scale_by_momentum(0.9, form='heavy_ball'))", bounded=False),
    Row("bias_correction(scale_by_momentum(fading, nesterov=True))"),
    Row("bias_correction(second_moment())", bounded=False),
    Row("bias_correction(second_moment(fading))", bounded=False),
    Row("running_max(bias_correction(second_moment(0.9)))", bounded=False),
    Row("running_max(absolute() + 0.5, fading)", at_zero=None, bounded=False),
    Row("bias_correction(running_max(second_moment(fading)))", bounded=False),
    Row("delayed(scale(fading))"),
    Row("delayed(second_moment(fading))", bounded=False),
    Row("difference()", bounded=False),
    Row("difference(from_zero=True)", bounded=False),
    # Adaptive scaling
    Row("second_moment(0.9, initial=1.0)", at_zero=lambda p: full_of(0.9**3, p), bounded=False),
    Row("sum_of_squares(0.1)", at_zero=lambda p: full_of(0.1, p), bounded=False),
    Row("centered_second_moment()", bounded=False),
    Row("scale_by_rms()"),
    Row("scale_by_rms(0.9, initial_scale=0.5, eps_in_sqrt=False)"),
    Row("scale_by_rms(0.99, bias_correction=True)"),
    Row("scale_by_rms(fading, eps=fading)"),
    Row("scale_by_stddev()"),
    Row("scale_by_stddev(fading, eps_in_sqrt=False)"),
    Row("scale_by_adagrad()"),
    Row("scale_by_adagrad(0.0, eps=0.0, eps_in_sqrt=False)"),
    Row("scale_by_adadelta()"),
    Row("scale_by_adadelta(fading, 1e-05)"),
    Row("scale_by_full_matrix_adagrad()"),
    # Second moments with fewer numbers than entries
    Row("scale_by_factored_rms(min_dim_size_to_factor=2)"),
    Row("identity() / root(bias_correction(factored_second_moment(0.9, 0.0, 1, 'last', 1e-08)))"),
    Row("scale_by_sm3(b2=0.9)"),
    Row("identity() / root(axis_sums_of_squares())"),
    Row("identity() / root(bias_correction(blockwise_second_moment(0.9, transformer_blocks(2))))"),
    Row("over_residual(scale_by_momentum(), rms(0.9))"),
    Row("scale_by_adam()"),
    Row("scale_by_amsgrad()"),
    Row("scale_by_adam(0.9, eps_root=1e-08, nesterov=True, eps_hat=True)"),
    Row("scale_by_nadam_momentum()", bounded=False),
    Row("scale_by_nadam_momentum(fading, momentum_decay=0.1)", bounded=False),
    Row("trace(0.9, nesterov=True)", bounded=False),
    Row("ema(0.9)", bounded=False),
    Row("scale_by_schedule(fading)"),
    # Decay and clipping
    Row("decoupled_weight_decay(0.1)", at_zero=decay(0.1), needs_params=True),
    Row("decoupled_weight_decay(fading)", at_zero=None, needs_params=True),
    Row(
        "decoupled_weight_decay(0.1, mask=by_rank(2))",
        at_zero=matrices(decay(0.1)),
        needs_params=True,
    ),
    Row("clip(0.5)"),
    Row("clip(fading)"),
    Row("clip_by_global_norm(0.5)"),
    Row("clip_by_block_rms(0.5)"),
    Row("block_norm()", bounded=False),
    Row("block_norm(rms=True)"),
    Row("absolute()", bounded=False),
    Row("parameters()", at_zero=np.array, needs_params=True),
    Row("clip_by_block_norm(fading)"),
    Row("scale_by_trust_ratio(0.0, fading, 1e-06, max_norm=2.0)", needs_params=True),
    Row("scale_by_param_block_norm()", bounded=False, needs_params=True),
    Row("scale_by_param_block_rms(fading)", bounded=False, needs_params=True),
    Row("adaptive_grad_clip(0.1)", needs_params=True),
    Row("adaptive_grad_clip(fading, axis=())", needs_params=True),
    Row("clip_by_global_norm(fading)"),
    Row("clip_by_z_score(fading, warmup=1)"),
    Row("clip_by_percentile(50.0, 3)"),
    Row("clip_by_average_norm(0.5, warmup=1)"),
    # Matrices
    Row("masked(orthogonalize_newton_schulz(), by_rank(2))"),
    Row("masked(orthogonalize_newton_schulz('jordan', 3, norm='schatten'), by_rank(2))"),
    Row("scale_by_shape()"),
    Row("masked(equilibrate_rows(), by_rank(2))"),
    Row("masked(scale_to_rms(), by_rank(2))"),
    Row("masked(scale_by_neuron_rms(), by_rank(2))"),
    Row("masked(scale_to_rms(fading), by_rank(2))"),
    Row("masked(matrix_norm(), by_rank(2))", bounded=False),
    Row("graft(scale_by_momentum(), scale_by_sign())"),
    Row("masked(keep_norm(scale_by_sign()), by_rank(2))"),
    Row("masked(cautious(keep_norm(scale_by_neuron_rms(fading))), by_rank(2))"),
    # In another basis
    Row(
        "masked(in_basis(eigenbasis(0.8, every=1, side='shorter'), scale_by_adam(), "
        "scale_by_momentum()), by_rank(2))"
    ),
    Row("soap(0.1, precondition_frequency=1)", at_zero=decay(0.01, -0.1), needs_params=True),
    Row("kl_soap(0.1, weight_decay=0.0, precondition_frequency=2, auxiliary=scale(0.5))"),
    Row("soap_muon(0.1)"),
    Row("shampoo(0.1, b2=0.99, precondition_frequency=1, block_size=2)"),
    Row("splus(0.1, weight_decay=0.0, precondition_frequency=2)", needs_params=True),
    Row("galore(0.1, 1, update_proj_gap=1)"),
    Row("psgd_kron(0.1, max_size_triangular=2)"),
    Row(
        "masked(scale_in_basis(low_rank(1, every=1), scale_by_adam(), on_refresh='keep'), "
        "by_rank(2))"
    ),
    Row("masked(orthogonalize_low_rank(0.9, rank=1), by_rank(2))"),
    Row("apollo(0.1, 1, update_proj_gap=1)"),
    Row("dion(0.1, rank=1)"),
    Row("cautious(scale_by_momentum())"),
    # Constraints, which see the parameters
    Row("masked(hyperball(fading), by_rank(2))", needs_params=True),
    Row("masked(chain(brake_radial(0.25), radial_step(0.5)), by_rank(2))", needs_params=True),
    Row("masked(floor_update_ratio(fading, per='row'), by_rank(2))", needs_params=True),
    Row("masked(weight_norm(sgd(0.5), sgd(fading)), by_rank(2))", needs_params=True),
    # The rest of Optax's list
    Row("infinity_moment()"),
    Row("scale_by_adamax(fading)"),
    Row("scale_by_belief(0.8, fading)"),
    Row("refreshed_average(scale_by_momentum(), fading, 2)"),
    Row("yogi_moment(0.9)", at_zero=lambda p: full_of(1e-6, p), bounded=False),
    Row("scale_by_yogi(eps_root=1e-08)"),
    Row("scale_by_radam(0.9, 0.5, threshold=4.5)"),
    Row("scale_by_rprop(0.1, eta_plus=linear_schedule(2.0, 1.1, 3))"),
    Row("normalize_by_update_norm(fading)"),
    Row("normalize()"),
    Row("centralize()"),
    Row("pull_to_start(fading)", needs_params=True),
    # The norm, which it restores, is that of all entries, and may end up in one of them.
    Row("orthogonal_to_params()", bounded=False, needs_params=True),
    Row("fanout('arctan2', scale_by_momentum(0.7), rms(0.8))"),
    Row("root(sum_of_squares(weight=fading), 3)"),
    Row("zero_nans()"),
    Row("keep_params_nonnegative()", at_zero=nonnegative, needs_params=True),
    Row("add_noise(fading, 0.55)", at_zero=None),
    Row("adamax(0.1)"),
    Row("adabelief(0.1)"),
    Row("adamaxw(0.1)", at_zero=decay(1e-4, -0.1), needs_params=True),
    Row("radam(0.1)"),
    Row("yogi(0.1)"),
    Row("rprop(0.1)"),
    Row("sign_sgd(0.1)"),
    Row("adam_atan2(0.1)"),
    Row("madgrad(0.1)", bounded=False, needs_params=True),
    Row("soda(sgd(0.1))", needs_params=True),
    Row("noisy_sgd(0.1, key=1)", at_zero=None),
    # What needs a loss
    Row("given_loss(scale_by_polyak(f_min=fading, eps=fading))"),
    Row("given_loss(polyak_sgd(0.5, fading, variant='sps+'))"),
    Row("given_loss(perturbed(scale(fading), scale(0.5)))", at_zero=None, needs_params=True),
    Row("given_loss(sam(sgd(0.1), rho=fading))", at_zero=decay(-0.1), needs_params=True),
    Row("given_loss(asam(sgd(0.1), eta=fading))", at_zero=decay(-0.1), needs_params=True),
    Row("given_loss(identity() * hutchinson_estimator_diag_hessian())", needs_params=True),
    Row(
        "given_loss(sophia(0.1, weight_decay=0.01, update_interval=2))",
        at_zero=decay(0.01, -0.1),
        needs_params=True,
    ),
    # Averages of the parameters
    Row("averaged(sgd(0.1))", needs_params=True),
    Row(
        "averaged(sgd(0.1), weight=mean_weight(), start=2, every=2, mask=by_rank(2))",
        needs_params=True,
    ),
    Row(
        "chain(clip(0.5), averaged(sgd(fading), weight=power_weight(1.0), start=0))",
        needs_params=True,
    ),
    # Other parameters to evaluate with
    Row(
        "schedule_free(rms(fading), fading, fading, 1.0, r=1.0, decay_at_z=True)",
        bounded=False,
        needs_params=True,
    ),
    Row("outer(scale_by_momentum(), scale(-0.5), 2)", needs_params=True),
    Row("ema_nesterov(scale_by_momentum(), 0.9, fading)"),
    Row("schedule_free_sgd(0.1, 2, weight_decay=0.1)", at_zero=None, needs_params=True),
    Row("schedule_free_adamw(0.1, weight_decay=0.1)", at_zero=None, needs_params=True),
    Row("lookahead(sgd(0.1), 2)", needs_params=True),
    # Matrices multiplied by their size
    Row("masked(scale_by_dual_norm(scale_by_sign()), by_rank(2))", bounded=False),
    Row("masked(matrix_norm(rms=True), by_rank(2))"),
    Row("masked(matrix_norm(64), by_rank(2))", bounded=False),
    Row("masked(scale_to_operator_norm(), by_rank(2))"),
    Row("masked(orthogonalize_balanced(power=fading), by_rank(2))"),
    Row("polargrad(0.1)", bounded=False),
    Row("namo(0.1, weight_decay=0.01)", at_zero=None, needs_params=True),
    Row("contra_muon(0.1, contrast=fading)"),
    Row("aurora(0.1, weight_decay=0.01)", at_zero=decay(0.01, -0.1), needs_params=True),
    # One distance for the whole tree
    Row("scale_by_prodigy(0.5, (0.5, 0.75), estim_lr0=0.01)", needs_params=True),
    Row("scale_by_dadapt(0.5, (0.5, 0.75), bias_correction=False)", needs_params=True),
    Row("scale_by_dog(('distance', 0.1))", needs_params=True),
    Row("prodigy(fading, estim_lr0=0.01)", needs_params=True),
    Row("dadapt_adamw(fading, estim_lr0=0.01)", needs_params=True),
    Row("dog(0.5, ('learning_rate', 0.1), eps=fading)", needs_params=True),
    Row("dog(0.5, ('distance', 0.1), average=8)", needs_params=True),
    Row("scale_by_param_size(fading)", bounded=False, needs_params=True),
    # Parameters kept in another precision
    Row("master_weights(chain(rms(fading), scale_by_momentum()))", needs_params=True),
    Row("compensated(scale(fading), 'int8')", needs_params=True),
    # A state that is kept in fewer bits
    Row("stored(second_moment(0.8), 'int8', min_size=4)", bounded=False),
    Row("stored(scale_by_momentum(0.8), 'bf16+8', min_size=4)"),
    Row("stored(scale_by_momentum(0.7), 'bf16_stochastic', min_size=4)"),
    # Steps that are not taken
    Row("accumulate(scale_by_momentum(), 2)"),
    Row("skip_nonfinite(accumulate(rms(fading), 2, drop_nonfinite=True))"),
    Row("skip_spikes(every(2, scale_by_momentum()), warmup=1)"),
    Row("dynamic_loss_scale(skip_nonfinite(scale(0.5)), growth_interval=2)"),
    # On meshes; the laws of most files run it without one
    Row("zero1(rms(fading), 'data')"),
    Row("offloaded(rms(fading))"),
    # Factors per leaf
    Row("scale_by_path({'kernel': 0.5, 'bias': fading}, optional=True)"),
    Row("layerwise(scale_by_momentum(), 0.5, stacked='')"),
    # Compositions
    Row("chain()"),
    Row("chain(clip_by_global_norm(0.5), scale_by_momentum(), scale_by_learning_rate(fading))"),
    Row("chain(scale_by_momentum(), clip_by_global_norm(0.5), scale(0.1))"),
    Row("chain(scale(0.5), chain(rms(), chain()), clip(1.0))"),
    Row("named_chain(('clip', clip(1.0)), ('adam', adam(0.1)))"),
    Row("identity() / rms(0.9)"),
    Row("scale_by_momentum() / (rms(fading) + 1e-08)"),
    Row("1.0 - identity() * 0.5", at_zero=np.ones_like),
    Row("once(identity(), 'g') * chain(once(identity(), 'g'), scale(fading))", bounded=False),
    Row("fanout('add', identity(), scale_by_momentum(), clip_by_global_norm(0.5))", bounded=False),
    Row("fanout(longest, scale_by_momentum(), masked(scale(0.5), by_rank(2)))"),
    Row("masked(scale_by_momentum(), by_rank(2))"),
    Row(
        "masked(adamw(0.1, mask=by_rank(1)), by_rank(2))",
        at_zero=matrices(decay(1e-4, -0.1)),
        needs_params=True,
    ),
    Row(
        "partition({'slow': sgd(0.01), 'fast': adamw(0.1)}, "
        "by_path({'kernel': 'fast'}, 'slow', optional=True))",
        at_zero=None,
        needs_params=True,
    ),
    Row("chain(scale(0.5), partition({True: adam(0.1), False: freeze()}, by_rank(2)))"),
    # Taps: a norm of the largest finite numbers is infinite
    Row(
        "chain(tap('in', norm(per='leaf')), scale_by_momentum(), tap('out', (update_rms(per=1), "
        "gradient_cosine(), clipped_fraction(), nonfinite_count())))",
        bounded=False,
    ),
    Row("tap('step', (norm(per='layer'), update_ratio()))", bounded=False, needs_params=True),
    Row("chain(tap('off', active=False), scale_by_momentum(0.8))"),
    Row(
        "observe(chain(clip(0.5), scale(0.3)), (norm(), orthogonality_error()))",
        bounded=False,
    ),
    Row("observe(scale(0.25), active=False)"),
    # Optimizers
    Row("sgd(0.1)"),
    Row("sgd(fading)"),
    Row("sgd(0.1, momentum=0.9)", bounded=False),
    Row("sgd(0.1, momentum=0.9, nesterov=True)", bounded=False),
    Row("sgd(0.1, momentum=0.9, dampening=0.1)", bounded=False),
    Row(
        "sgd(fading, momentum=0.9, weight_decay=0.1, decoupled=True, lr_inside=True)",
        at_zero=None,
        bounded=False,
        needs_params=True,
    ),
    Row("adagrad(0.1)"),
    Row("adagrad(0.01, 0.0, 1e-10, eps_in_sqrt=False, lr_decay=0.1)"),
    Row("adagrad(0.1, weight_decay=0.01)", at_zero=None, needs_params=True),
    Row("rmsprop(0.1)"),
    Row("rmsprop(0.1, eps=0.0)"),
    Row("rmsprop(0.1, centered=True, momentum=0.9)"),
    Row("rmsprop(0.1, momentum=0.9, convention='torch')"),
    Row("rmsprop(0.1, bias_correction=True)"),
    Row("rmsprop(fading, momentum=0.9, nesterov=True, lr_inside=False)"),
    Row("adadelta()"),
    Row("adadelta(0.5, weight_decay=0.1, mask=by_rank(2))", at_zero=None, needs_params=True),
    Row("adam(0.1)"),
    Row(
        "adam(0.1, eps=1e-07, weight_decay=0.1, decoupled=True, eps_hat=True)",
        at_zero=None,
        needs_params=True,
    ),
    Row("adam(0.1, eps_root=1e-05, weight_decay=0.1)", at_zero=None, needs_params=True),
    Row("amsgrad(0.1)"),
    Row("amsgrad(0.1, b2=fading, max_of_raw=True)"),
    Row("nadam(0.1)"),
    Row("nadam(0.002, momentum_decay=0.004)"),
    Row("nadamw(0.1)", at_zero=decay(1e-4, -0.1), needs_params=True),
    Row(
        "adamw(0.1, schedule=fading, decay_mode='absolute')",
        at_zero=decay(-1e-4),
        needs_params=True,
    ),
    Row("adamw(0.1, schedule=fading, decay_mode='schedule')", at_zero=None, needs_params=True),
    Row("adam(fading)"),
    Row("adam(0.1, b1=fading, b2=0.99)"),
    Row("adam(0.1, mu_dtype='bfloat16')"),
    Row("adamw(0.1)", at_zero=decay(1e-4, -0.1), needs_params=True),
    Row("adamw(0.1, cautious_update=True)", at_zero=decay(1e-4, -0.1), needs_params=True),
    Row(
        "adamw(0.1, weight_decay=0.01, mask=by_rank(2))",
        at_zero=matrices(decay(0.01, -0.1)),
        needs_params=True,
    ),
    Row("adafactor(0.1, 2, momentum=0.9)", needs_params=True),
    Row("came(0.1, b2=0.9, b3=0.9)"),
    Row("sm3(0.1)"),
    Row("adam_mini(0.1)"),
    Row("muon(0.1, nesterov=False, scaling='spectral')"),
    Row("muon(0.1, adaptive=True)", bounded=False),
    Row("muon(0.1, weight_decay=0.01)", at_zero=decay(0.01, -0.1), needs_params=True),
    Row("normuon(0.1)"),
    Row("adamuon(0.1)", at_zero=decay(0.01, -0.1), needs_params=True),
    Row("adamh(0.1)", needs_params=True),
    Row("muonh(0.1)", needs_params=True),
    Row("muown(0.1)", needs_params=True),
    Row("scion(0.01)", at_zero=decay(-0.01), needs_params=True),
    # Compositions with a name
    Row("scale_by_lion(0.8, fading)"),
    Row("lion(0.1, weight_decay=0.0, cautious_update=True)"),
    Row("lion(0.1, fading, mu_dtype='bfloat16')", at_zero=decay(1e-3, -0.1), needs_params=True),
    Row("signum(fading)"),
    Row("ademamix(0.1, b3=0.99, ramp_steps=3)"),
    Row("simplified_ademamix(0.1, alpha=fading)", bounded=False),
    Row("laprop(0.1, b2=fading)"),
    Row("qhm(0.1, nu=fading)"),
    Row("aggmo(0.1, (0.0, 0.5, fading))", bounded=False),
    Row("adamc(fading, 0.5)", at_zero=None, needs_params=True),
    Row("muon2(0.1)"),
    Row("rmnp(0.1)"),
    Row("grokfast(fading)", bounded=False),
    Row("mars_gradient(gamma=fading, from_zero=True)"),
    Row("mars(0.1, variant='muon', auxiliary=scale(0.5))"),
    Row("scale_by_adan()"),
    Row("adan(0.1, weight_decay=0.1, proximal=True)", at_zero=None, needs_params=True),
    Row("scale_by_adopt(use_clipping=False)"),
    Row("adopt(0.1, nesterov=True)"),
    Row("scale_by_optimistic_gradient(fading)", bounded=False),
    Row("optimistic_gradient_descent(0.1, beta=0.5)", bounded=False),
    Row("optimistic_adam_v2(0.1)"),
    Row("lamb(0.1, max_norm=1.0, trust_ratio_mask=by_rank(2))", needs_params=True),
    Row("lars(0.1)", bounded=False, needs_params=True),
    Row("fromage(fading)", at_zero=None, needs_params=True),
    Row("stableadamw(0.1)", at_zero=decay(1e-2, -0.1), needs_params=True),
    Row("block_second_moment(fading)", bounded=False),
    Row("scale_by_novograd(eps_root=1e-05)"),
    Row("novograd(0.1)"),
    # Numbers in the state
    Row(
        "tunable(chain(clip_by_global_norm(0.5), adamw(0.1, weight_decay=fading)))",
        at_zero=None,
        needs_params=True,
    ),
    Row("tunable(normuon(0.1), ('learning_rate', 'beta', 'b2'))"),
    Row("tunable(scale(inverse_time(0.5)))"),
    # With schedules that are values
    Row("scale(0.5 * piecewise_constant_schedule(1.0, {1: 0.5}))"),
    Row(
        "adamw(warmup_cosine_decay_schedule(0, 0.1, 2, 9), weight_decay=linear_schedule(0.1, 0, 5))",
        at_zero=None,
        needs_params=True,
    ),
    # Classes of a user. Those that work on whole trees are not here: what they do with complex leaves or
    # with an absent gradient is up to their author.
    Row("own_lion()"),
    Row("own_lion(b1=fading)"),
    Row("unit_norm()"),
    Row("mean_of_all()"),
    Row("masked(scale_by_neuron(), by_rank(2))", smooth=False),
    Row("agreeing(mean_of_all())"),
    Row("smoothed(own_lion(), decay=0.8)"),
    Row("identity() / bias_correction(mean_size(0.99))"),
    Row("size_adam(0.8)"),
]


def without_loss(row: Row) -> Any:
    """The transformation of a row, without the wrapper that gives it a loss."""
    tx = row.make()
    return tx.inner if isinstance(tx, authors.given_loss) else tx


def is_recipe(row: Row) -> bool:
    return isinstance(without_loss(row), gradtx.Recipe)


def representatives() -> list[Row]:
    """The rows that a law compiles whole steps of.

    These are all rows that are not recipes, and of some recipes the row with the most settings. A recipe
    holds no arithmetic of its own: it is defined by transformations that have rows themselves.
    """
    chosen: dict[str, Row] = {}
    for row in ROWS:
        name = type(without_loss(row)).__name__
        if name in COMPILED_RECIPES and len(row.code) > len(chosen.get(name, Row("")).code):
            chosen[name] = row
    return [row for row in ROWS if row in chosen.values() or not is_recipe(row)]


# Recipes that differ in kind from each other.
COMPILED_RECIPES = {
    "adadelta",
    "adagrad",
    "adam",
    "amsgrad",
    "nadam",
    "normuon",
    "rmsprop",
    "scion",
    "sgd",
    "sophia",
}
REPRESENTATIVES = representatives()
OTHERS = [row for row in ROWS if row not in REPRESENTATIVES]
# What another version of JAX may do otherwise: matrices, branches, loops, norms, numbers in the state.
FEW = [
    row
    for row in ROWS
    if row.code
    in {
        "masked(orthogonalize_newton_schulz('jordan', 3, norm='schatten'), by_rank(2))",
        "clip_by_global_norm(0.5)",
        "averaged(sgd(0.1))",
        "compensated(scale(fading), 'int8')",
        "stored(scale_by_momentum(0.8), 'bf16+8', min_size=4)",
        "accumulate(scale_by_momentum(), 2)",
        "layerwise(scale_by_momentum(), 0.5, stacked='')",
        "sgd(0.1, momentum=0.9, nesterov=True)",
        "adamw(0.1, weight_decay=0.01, mask=by_rank(2))",
        "tunable(normuon(0.1), ('learning_rate', 'beta', 'b2'))",
    }
]

SMALL = {"kernel": (2, 3), "bias": (3,)}
# Wide and tall, a vector, a scalar, several matrices in one array, and an array of nothing.
SHAPES = {
    "layers": [SMALL, {"kernel": (3, 2), "bias": (3,)}],
    "gain": (),
    "stack": (2, 3, 2),
    "nothing": (0, 3),
}


def tree(dtype: Any = "float32", seed: int = 0, shapes: Any = None, size: float = 1.0) -> Any:
    """A tree of normal numbers, all dtypes rounded from the same ones."""
    shapes = SHAPES if shapes is None else shapes
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> jax.Array:
        x = rng.normal(size=(2, *shape))
        z = x[0] + 1j * x[1] if jnp.issubdtype(dtype, jnp.complexfloating) else x[0]
        return jnp.asarray(size * z, dtype)

    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def full(value: float, dtype: Any = "float32", shapes: Any = None) -> Any:
    """A tree of one number."""
    shapes = SHAPES if shapes is None else shapes
    fill = lambda shape: jnp.asarray(np.full(shape, value), dtype)
    return jax.tree.map(fill, shapes, is_leaf=lambda x: isinstance(x, tuple))


def nudged(tx: Any, factor: float) -> Any:
    """`tx` with every number multiplied: all of them stay where they may be for a factor below 1."""
    return jax.tree.map(lambda x: x * factor, tx)


def train(tx: Any, params: Any, gradients: list[Any]) -> tuple[Any, Any]:
    """Parameters and state after these gradients."""
    state = tx.init(params)
    for g in gradients:
        updates, state = tx.update(g, state, params)
        params = gradtx.apply_updates(params, updates)
    return params, state


PARAMS = tree(shapes=SMALL)
GRADIENT = tree(seed=1, shapes=SMALL)


def updated(tx: Any, g: Any = GRADIENT, params: Any = PARAMS) -> Any:
    """The updates of a first step."""
    return tx.update(g, tx.init(params), params)[0]


def same(a: Any, b: Any) -> None:
    """Assert that two trees have one structure and equal entries."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def exactly(a: Any, b: Any) -> None:
    """Assert that two trees are equal to the last bit, except for the sign of zero."""
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    chex.assert_trees_all_equal(a, b)


def types(tree: Any) -> Any:
    """What a `lax.scan` carry must keep: structure, shapes, dtypes, weak types."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]
