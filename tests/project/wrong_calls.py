"""Calls that the type checker refuses: every line that ends in a comment, by the rule in the comment.

`test_types.py` runs the checker on this file. The functions are never called.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx
from gradtx import adam, adamw, chain, identity, masked, muon, partition, scale, scale_by_momentum


def numbers() -> None:
    adamw("x")  # reportArgumentType
    adamw(0.1, b1=None)  # reportArgumentType
    adamw(0.1, None)  # reportArgumentType
    adamw(None)  # reportArgumentType
    adamw([0.1, 0.2])  # reportArgumentType
    adamw({"kernel": 0.1})  # reportArgumentType
    adamw(0.1, weight_decay="0.1")  # reportArgumentType
    adam(0.1, eps_root="1e-8")  # reportArgumentType
    adam(1j)  # reportArgumentType
    muon(0.1, weight_decay=None)  # reportArgumentType
    scale(None)  # reportArgumentType
    scale(identity())  # reportArgumentType
    adamw(gradtx.sgd(0.1))  # reportArgumentType
    gradtx.clip(object())  # reportArgumentType
    gradtx.constant("1")  # reportArgumentType
    gradtx.ema("0.9")  # reportArgumentType
    gradtx.scion(0.1, radius="50")  # reportArgumentType
    gradtx.second_moment(decay=(0.9, 0.99))  # reportArgumentType
    gradtx.eps_hat(1e-8, None)  # reportArgumentType


def schedules() -> None:
    adamw(lambda: 0.1)  # reportArgumentType
    adamw(lambda step, warmup: 0.1)  # reportArgumentType
    adamw(lambda step: "0.1")  # reportArgumentType
    adamw(lambda step: None)  # reportArgumentType
    adamw(0.1, b1=optax.cosine_decay_schedule)  # reportArgumentType
    gradtx.scale_by_schedule("cosine")  # reportArgumentType
    gradtx.second_moment(initial=lambda step: 1.0)  # reportArgumentType
    gradtx.sgd(0.1, momentum=0.9, dampening=lambda step: 0.1)  # reportArgumentType
    gradtx.inverse_time(lambda step: 0.1)  # reportArgumentType
    gradtx.linear_schedule(lambda step: 0.1, 0.0, 10)  # reportArgumentType
    gradtx.linear_schedule(0.0, "1.0", 10)  # reportArgumentType
    gradtx.warmup_stable_decay_schedule(0, 1, 2, 3, 4, decay_type="sqrt")  # reportArgumentType
    gradtx.constant_schedule(1.0) * "2"  # reportOperatorIssue


def words() -> None:
    muon(0.1, form="foo")  # reportArgumentType
    muon(0.1, scaling="rms")  # reportArgumentType
    muon(0.1, coefficients="jordon")  # reportArgumentType
    adamw(0.1, decay_mode="learning_rate")  # reportArgumentType
    adamw(0.1, convention="pytorch")  # reportArgumentType
    scale_by_momentum(form="x")  # reportArgumentType
    gradtx.scale_by_shape("rms")  # reportArgumentType
    gradtx.orthogonalize_newton_schulz(norm="spectral")  # reportArgumentType
    gradtx.newton_schulz(jnp.eye(2), form="foo")  # reportArgumentType
    gradtx.fanout("minus", identity(), 1.0)  # reportArgumentType


def other_fields() -> None:
    adamw(0.1, nesterov="yes")  # reportArgumentType
    adamw(0.1, mu_dtype=16)  # reportArgumentType
    muon(0.1, steps=5.0)  # reportArgumentType
    muon(0.1, steps="5")  # reportArgumentType
    muon(0.1, axes=(0, 1))  # reportArgumentType
    muon(0.1, axes=gradtx.by_rank(2))  # reportArgumentType
    muon(0.1, coefficients=3.4445)  # reportArgumentType
    gradtx.by_path(["kernel"])  # reportArgumentType
    gradtx.by_rank("2")  # reportArgumentType
    gradtx.hidden_matrices(blocks=3)  # reportArgumentType
    gradtx.layerwise(3)  # reportArgumentType
    gradtx.scale_by_path({"a": "b"})  # reportArgumentType
    gradtx.mup(identity(), {}, method="lion")  # reportArgumentType
    gradtx.by_shape(3)  # reportArgumentType
    gradtx.hidden_matrices(head=None)  # reportArgumentType
    gradtx.MatrixAxes(0, 1)  # reportArgumentType
    gradtx.polar_express("5")  # reportArgumentType
    gradtx.adaptive_grad_clip(0.1, axis="0")  # reportArgumentType
    gradtx.shared("0")  # reportArgumentType
    gradtx.accumulator(jnp.ones(2), dtype=32)  # reportArgumentType


def names(tx: gradtx.Transform) -> None:
    adamw(lr=0.1)  # reportCallIssue
    adamw(0.1, beta1=0.9)  # reportCallIssue
    adamw(0.1, learning_rate=0.1)  # reportCallIssue
    scale(0.1, 0.2)  # reportCallIssue
    gradtx.sgd(0.1, momentun=0.9)  # reportCallIssue
    identity(0.1)  # reportCallIssue
    gradtx.rms(decay=0.9, eps=1e-8)  # reportCallIssue
    chain(identity(), name="first")  # reportCallIssue
    gradtx.keep_norm(identity(), gradtx.hidden_matrices())  # reportCallIssue
    _ = tx.learning_rate  # reportAttributeAccessIssue
    gradtx.adamW(0.1)  # reportAttributeAccessIssue


def missing() -> None:
    adamw()  # reportCallIssue
    adam(b1=0.9)  # reportCallIssue
    muon()  # reportCallIssue
    scale()  # reportCallIssue
    masked(identity())  # reportCallIssue
    partition({"all": identity()})  # reportCallIssue
    gradtx.root()  # reportCallIssue
    gradtx.by_path()  # reportCallIssue
    gradtx.fanout()  # reportCallIssue
    gradtx.clip_by_global_norm()  # reportCallIssue


def parts(rule: gradtx.by_rank) -> None:
    chain(3)  # reportArgumentType
    chain(identity(), "scale")  # reportArgumentType
    chain([identity(), scale(0.1)])  # reportArgumentType
    chain(None, identity())  # reportArgumentType
    chain(adamw)  # reportArgumentType
    masked(3, rule)  # reportArgumentType
    masked(rule, identity())  # reportArgumentType
    partition([identity()], rule)  # reportArgumentType
    partition({"all": 3}, rule)  # reportArgumentType
    partition({"all": [identity()]}, rule)  # reportArgumentType
    muon(0.1, auxiliary="adamw")  # reportArgumentType
    muon(0.1, auxiliary=0.1)  # reportArgumentType
    gradtx.foreign(adamw)  # reportArgumentType


def wrappers() -> None:
    gradtx.root(3)  # reportArgumentType
    gradtx.root("second_moment")  # reportArgumentType
    gradtx.cautious(None)  # reportArgumentType
    gradtx.keep_norm(1.0)  # reportArgumentType
    gradtx.running_max([gradtx.second_moment()])  # reportArgumentType
    gradtx.bias_correction(3)  # reportArgumentType
    gradtx.bias_correction(identity())  # reportArgumentType
    gradtx.bias_correction(gradtx.centered_second_moment())  # reportArgumentType


def operators(tx: gradtx.Transform) -> None:
    _ = tx / "x"  # reportOperatorIssue
    _ = "x" / tx  # reportOperatorIssue
    _ = tx * "x"  # reportOperatorIssue
    _ = "x" * tx  # reportOperatorIssue
    _ = tx + None  # reportOperatorIssue
    _ = tx - "1e-8"  # reportOperatorIssue
    _ = tx - (1.0, 2.0)  # reportOperatorIssue
    _ = -tx  # reportOperatorIssue
    _ = tx**2  # reportOperatorIssue
    _ = tx @ tx  # reportOperatorIssue
    _ = tx / [1.0]  # reportOperatorIssue


def calls(tx: gradtx.Transform, params: Any, state: Any) -> None:
    tx.init()  # reportCallIssue
    tx.init(params, state)  # reportCallIssue
    tx.update()  # reportCallIssue
    tx.update(params)  # reportCallIssue
    tx.update(params, state, params, 1.0)  # reportCallIssue
    tx(params)  # reportCallIssue
    tx.init_tree()  # reportCallIssue
    adamw(0.1).init()  # reportCallIssue
    gradtx.apply_updates(params)  # reportCallIssue
    gradtx.apply_updates(params, params, "nearest", None, params)  # reportCallIssue
    gradtx.global_norm()  # reportCallIssue
    gradtx.get(state)  # reportCallIssue
    gradtx.get(state, 0)  # reportArgumentType
    gradtx.set(state, 0)  # reportCallIssue
    gradtx.replace(3)  # reportArgumentType
    gradtx.replace(tx, 0.1)  # reportCallIssue
    gradtx.replace({"learning_rate": 0.1})  # reportArgumentType
    gradtx.stack(adamw(0.1))  # reportArgumentType
    gradtx.stack(adamw(0.1), adamw(0.2))  # reportCallIssue
    gradtx.stack([0.1, 0.2])  # reportArgumentType
    gradtx.axes(tx, 0)  # reportCallIssue
    gradtx.axes(tx, learning_rate="0")  # reportArgumentType
    gradtx.eval_params(params, state)  # reportCallIssue
    gradtx.averaged(tx, "0.999")  # reportArgumentType
    gradtx.averaged(tx, start=2.5)  # reportArgumentType
    gradtx.ema_weight(0.9, "warm")  # reportArgumentType
    gradtx.make_step(tx)  # reportArgumentType
    gradtx.eval_params(0.1, params, state)  # reportArgumentType
    gradtx.lookahead_params(optax.sgd(0.1), params, state)  # reportArgumentType
    gradtx.from_optax("adamw", state)  # reportArgumentType
    gradtx.recipe_state(identity(), state, params)  # reportArgumentType
    gradtx.parse(3)  # reportArgumentType
    gradtx.routing(tx)  # reportCallIssue
    gradtx.summarize(3)  # reportArgumentType


def values(tx: adamw, link: chain) -> None:
    tx.learning_rate = 0.1  # reportAttributeAccessIssue
    _ = tx.lr  # reportAttributeAccessIssue
    link.links = ()  # reportAttributeAccessIssue
    gradtx.root(tx).inner = tx  # reportAttributeAccessIssue


class half(gradtx.Elementwise):
    rate: gradtx.Hyper = "0.5"  # reportAssignmentType
    factor: gradtx.Hyper | None = None

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> Any:
        return self.rate * update, state


def own_classes(params: Any) -> None:
    half("0.5")  # reportArgumentType
    half(0.5, "x")  # reportArgumentType
    half(0.5, None, 3)  # reportCallIssue
    half(rat=0.5)  # reportCallIssue
    half().update(params)  # reportCallIssue


def bases(tx: gradtx.Transform, basis: gradtx.Basis) -> None:
    gradtx.in_basis(tx, basis)  # reportArgumentType
    gradtx.in_basis("eigenbasis", tx)  # reportArgumentType
    gradtx.in_basis(basis, tx, on_refresh="forget")  # reportArgumentType
    gradtx.in_basis(basis, tx, signal=0.9)  # reportArgumentType
    gradtx.in_basis(basis, tx, axes=gradtx.by_rank(2))  # reportArgumentType
    gradtx.in_basis(basis)  # reportCallIssue
    gradtx.scale_in_basis(basis, tx, per="layer")  # reportArgumentType
    gradtx.eigenbasis(method="svd")  # reportArgumentType
    gradtx.eigenbasis(every=2.5)  # reportArgumentType
    gradtx.whitening(side="top")  # reportArgumentType
    gradtx.whitening(relative="yes")  # reportArgumentType
    gradtx.blocked(tx)  # reportArgumentType
    gradtx.blocked(basis, block="1024")  # reportArgumentType
    gradtx.fitted_whitening("0.1")  # reportArgumentType
    gradtx.low_rank(rank="128")  # reportArgumentType
    gradtx.low_rank(method="qr")  # reportArgumentType
    gradtx.fixed_basis("identity")  # reportArgumentType
    gradtx.orthogonalize_low_rank(rank=0.5)  # reportArgumentType
    gradtx.soap(0.1, precondition_frequency="10")  # reportArgumentType
    gradtx.shampoo(0.1, grafting="sgdm")  # reportArgumentType


def more_wrappers(tx: gradtx.Transform, params: Any) -> None:
    gradtx.accumulate(3)  # reportArgumentType
    gradtx.accumulate(tx, every="4")  # reportArgumentType
    gradtx.accumulate(tx, 4, drop_nonfinite="no")  # reportArgumentType
    gradtx.MultiSteps(4, tx)  # reportArgumentType
    gradtx.every(tx, 4)  # reportArgumentType
    gradtx.every(2, tx, otherwise="skip")  # reportArgumentType
    gradtx.delayed(None)  # reportArgumentType
    gradtx.skip_nonfinite(tx, max_consecutive=2.5)  # reportArgumentType
    gradtx.skip_nonfinite(tx, then="stop")  # reportArgumentType
    gradtx.apply_if_finite(tx, "3")  # reportArgumentType
    gradtx.skip_spikes(tx, of="gradient")  # reportArgumentType
    gradtx.dynamic_loss_scale(tx, init_scale="2")  # reportArgumentType
    gradtx.dynamic_loss_scale(tx, growth_interval=0.5)  # reportArgumentType
    gradtx.master_weights(0.1)  # reportArgumentType
    gradtx.compensated(tx, remainder="float32")  # reportArgumentType
    gradtx.schedule_free(tx)  # reportCallIssue
    gradtx.schedule_free("adamw", 0.1)  # reportArgumentType
    gradtx.outer(tx, 0.1)  # reportArgumentType
    gradtx.outer(tx, tx, every="30")  # reportArgumentType
    gradtx.ema_nesterov(tx, decay=None)  # reportArgumentType
    gradtx.lookahead(0.1)  # reportArgumentType
    gradtx.perturbed(tx, 0.05)  # reportArgumentType
    gradtx.sam(0.1)  # reportArgumentType
    gradtx.once(3)  # reportArgumentType
    gradtx.once(tx, 3)  # reportArgumentType
    gradtx.over_residual(tx, 3)  # reportArgumentType
    gradtx.named_chain(tx, tx)  # reportArgumentType
    gradtx.refreshed_average(tx, every=0.5)  # reportArgumentType
    gradtx.offloaded(tx, min_size="1")  # reportArgumentType
    gradtx.weight_norm(tx, 0.1)  # reportArgumentType
    gradtx.graft(tx, "sign")  # reportArgumentType
    gradtx.scale_by_dual_norm(1.0)  # reportArgumentType
    gradtx.layerwise(tx, "0.75")  # reportArgumentType
    gradtx.mup("adam", params)  # reportArgumentType


def sight(tx: gradtx.Transform, state: Any) -> None:
    gradtx.tap(gradtx.norm())  # reportArgumentType
    gradtx.tap("grads", "norm")  # reportArgumentType
    gradtx.tap("grads", active="no")  # reportArgumentType
    gradtx.observe("adamw")  # reportArgumentType
    gradtx.observe(tx, tx)  # reportArgumentType
    gradtx.norm(per="matrix")  # reportArgumentType
    gradtx.norm("leaf")  # reportCallIssue
    gradtx.gradient_noise_scale("32")  # reportArgumentType
    gradtx.orthogonality_error(gradtx.by_rank(2))  # reportArgumentType
    gradtx.rounded_away(16)  # reportArgumentType
    gradtx.tunable(0.1)  # reportArgumentType
    gradtx.tunable(tx, names=3)  # reportArgumentType
    gradtx.inject_hyperparams(adamw(0.1))  # reportArgumentType
    gradtx.reduce_on_plateau(patience="2")  # reportArgumentType
    gradtx.readings()  # reportCallIssue
    gradtx.check(state, tx)  # reportCallIssue


def storage(tx: gradtx.Transform, codec: gradtx.Codec) -> None:
    gradtx.stored(tx, "int7")  # reportArgumentType
    gradtx.stored(tx)  # reportCallIssue
    gradtx.stored(codec, tx)  # reportArgumentType
    gradtx.stored(tx, codec, min_size="1")  # reportArgumentType
    gradtx.blockwise_int8("256")  # reportArgumentType
    gradtx.blockwise_int8(rounding="up")  # reportArgumentType
    gradtx.bfloat16_stochastic(8)  # reportCallIssue


def averages_and_more_schedules() -> None:
    gradtx.ema_weight("0.999")  # reportArgumentType
    gradtx.mean_weight(0.9)  # reportCallIssue
    gradtx.polynomial_weight(None)  # reportArgumentType
    gradtx.power_weight("7")  # reportArgumentType
    gradtx.half_life_schedule(0.1, 0.2)  # reportCallIssue
    gradtx.step_power("0.5")  # reportArgumentType
    gradtx.warmup_inverse_sqrt_schedule(0.0, 0.1, "100")  # reportArgumentType
    gradtx.cosine_decay_schedule(0.1)  # reportCallIssue
    gradtx.piecewise_constant_schedule(0.1, [(10, 0.5)])  # reportArgumentType
    gradtx.piecewise_interpolate_schedule("quadratic", 0.1)  # reportArgumentType
    gradtx.join_schedules(0.1, [10])  # reportArgumentType
    gradtx.join_schedules([0.1, 0.2], 10)  # reportArgumentType
    gradtx.sgdr_schedule({"peak_value": 0.1})  # reportArgumentType
    gradtx.constant_schedule(0.1).shift("10")  # reportArgumentType
    gradtx.constant_schedule(0.1).min(None)  # reportArgumentType
    gradtx.from_first("0.9")  # reportArgumentType
    gradtx.power_decay("0.8")  # reportArgumentType
    gradtx.rectification(decay=None)  # reportArgumentType
    gradtx.dampened("0.1")  # reportArgumentType
    gradtx.linear_onecycle_schedule(100)  # reportCallIssue
    gradtx.exponential_decay(0.1, 10, 0.9, staircase="yes")  # reportArgumentType


def sweeps(tx: gradtx.Transform, batch: gradtx.grid) -> None:
    gradtx.grid("adamw", learning_rate=[0.1])  # reportArgumentType
    gradtx.grid(0.1)  # reportArgumentType
    gradtx.grid(tx, [0.1, 0.2])  # reportArgumentType
    gradtx.samples(tx)  # reportCallIssue
    gradtx.samples("adamw", 4)  # reportArgumentType
    gradtx.samples(tx, "4")  # reportArgumentType
    gradtx.samples(tx, 4, seed="0")  # reportArgumentType
    gradtx.uniform(0.1)  # reportCallIssue
    gradtx.log_uniform("0.1", 1.0)  # reportArgumentType
    gradtx.sweep(batch, batch)  # reportArgumentType
    gradtx.sweep(print, 3)  # reportArgumentType
    gradtx.sweep(print, batch, seeds="3")  # reportArgumentType
    gradtx.sweep(print, batch, chunk=0.5)  # reportArgumentType
    gradtx.sweep(print, batch, score=3)  # reportArgumentType
    gradtx.sweep(print, batch, devices=8)  # reportArgumentType


def meshes(tx: gradtx.Transform, params: Any) -> None:
    gradtx.zero1(tx)  # reportCallIssue
    gradtx.zero1("data", tx)  # reportArgumentType
    gradtx.zero1(tx, 3)  # reportArgumentType
    gradtx.place(tx)  # reportCallIssue
    gradtx.place("muon", params)  # reportArgumentType
    gradtx.place(3, None)  # reportArgumentType
    gradtx.state_shardings(3, params)  # reportArgumentType
    gradtx.plan("muon", params)  # reportArgumentType
    gradtx.plan(tx, params, flops="1e15")  # reportArgumentType
    gradtx.plan(tx, params, topology=8)  # reportArgumentType
    gradtx.laid_out({"w": ("data",)}, gradtx.hidden_matrices())  # reportArgumentType
    gradtx.laid_out(gradtx.hidden_matrices(), ["data"])  # reportArgumentType
    muon(0.1, exchange_dtype=16)  # reportArgumentType
    gradtx.clip_by_global_norm(1.0, axis_name=["data"])  # reportArgumentType


def more_transformations() -> None:
    gradtx.by_fan_in("1024")  # reportArgumentType
    gradtx.by_fan_in(1024, axes=3)  # reportArgumentType
    gradtx.transformer_blocks(heads="8")  # reportArgumentType
    gradtx.transformer_blocks(axes=3)  # reportArgumentType
    gradtx.matrix_blocks(3)  # reportArgumentType
    gradtx.adam_mini(0.1, blocks=gradtx.hidden_matrices())  # reportArgumentType
    gradtx.clip_by_z_score("2.5")  # reportArgumentType
    gradtx.clip_by_percentile(window=0.5)  # reportArgumentType
    gradtx.clip_by_average_norm(warmup="100")  # reportArgumentType
    gradtx.factored_second_moment(factored_axes="first")  # reportArgumentType
    gradtx.qk_clip(names=3)  # reportArgumentType
    gradtx.scale_by_polyak(variant="x")  # reportArgumentType
    gradtx.add_noise(0.01, 0.55, key=0.5)  # reportArgumentType
    gradtx.add_noise(0.01)  # reportCallIssue
    gradtx.matrix_norm(order=2.0)  # reportArgumentType
    gradtx.centralize("0")  # reportArgumentType
    gradtx.grokfast(alpha=None)  # reportArgumentType
    gradtx.mars(0.1, variant="sgd")  # reportArgumentType
    gradtx.adafactor(factored_axes="first")  # reportArgumentType
    gradtx.sophia(0.1, late="yes")  # reportArgumentType
    gradtx.dion(0.1, rank=0.5)  # reportArgumentType
    gradtx.stateless(3)  # reportArgumentType
    gradtx.stateless_with_tree_map(None)  # reportArgumentType
    gradtx.decay_mask("no")  # reportArgumentType
    gradtx.static()  # reportCallIssue


def training(tx: gradtx.Transform, params: Any, state: Any) -> None:
    gradtx.make_step(print, has_aux="yes")  # reportArgumentType
    gradtx.make_nnx_step(3)  # reportArgumentType
    gradtx.check_state(state, "adamw", params)  # reportArgumentType
    gradtx.migrate(state, "adamw", params)  # reportArgumentType
    gradtx.migrate(state, tx, params, report=3)  # reportArgumentType
    gradtx.reset(state, tx)  # reportCallIssue
    gradtx.locate_nonfinite("adamw", params, state)  # reportArgumentType
    gradtx.incremental_update(params, params)  # reportCallIssue
    gradtx.incremental_update(params, params, "0.1")  # reportArgumentType
    gradtx.safe_increment("1")  # reportArgumentType
    gradtx.plot(tx, steps="100")  # reportArgumentType
    gradtx.summarize(tx, params, compiled="yes")  # reportArgumentType
    gradtx.from_config({"adamw": 0.1}, names=["lr"])  # reportArgumentType
    gradtx.from_config(3)  # reportArgumentType
    gradtx.to_config(3)  # reportArgumentType
    gradtx.parse("adam(0.1)", names=["lr"])  # reportArgumentType
    gradtx.global_norm(params, axis_name=["data"])  # reportArgumentType
