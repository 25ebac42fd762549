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
