"""Classes as a user writes them: those of docs/write_your_own.md, with hyperparameters to sweep.

They stand in the zoo, so that every law holds for a user's classes as well. `test_authors.py` holds each
against its recurrence.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import gradtx
from gradtx import Elementwise, Hyper, Matrixwise, Moment, Recipe, Transform, Wrapper


class MuState(NamedTuple):
    mu: Any


class NuState(NamedTuple):
    nu: Any


class CountState(NamedTuple):
    count: Any
    mean: Any


class InnerState(NamedTuple):
    mean: Any
    inner: Any


class LeftRightState(NamedTuple):
    left: Any
    right: Any


class SizeAdamState(NamedTuple):
    count: Any
    mu: Any
    nu: Any


class own_lion(Elementwise):
    b1: Hyper = 0.9
    b2: Hyper = 0.99
    limits = {"b1": "[0, 1)", "b2": "[0, 1)"}

    def init_leaf(self, param):
        return MuState(mu=gradtx.accumulator(param))

    def update_leaf(self, update, state, param):
        mixed = self.b1 * state.mu + (1 - self.b1) * update
        return jnp.sign(mixed), MuState(self.b2 * state.mu + (1 - self.b2) * update)


class unit_norm(Elementwise):
    size: Hyper = 1.0

    def measure(self, updates, params, extra):
        return gradtx.global_norm(updates)

    def update_leaf(self, update, state, param, norm):
        return self.size * update / jnp.where(norm > 0, norm, 1.0), state


class mean_of_all(Elementwise):
    least: Hyper = 0.0

    def init_leaf(self, param):
        return CountState(count=gradtx.shared(0), mean=gradtx.accumulator(param))

    def begin(self, state, measured):
        count = state.count + 1
        return state._replace(count=count), jnp.maximum(1 / count, self.least)

    def update_leaf(self, update, state, param, rate):
        mean = state.mean + rate * (update - state.mean)
        return mean, state._replace(mean=mean)


class scale_by_neuron(Matrixwise):
    decay: Hyper = 0.95
    eps: Hyper = 1e-8

    def init_matrix(self, x):
        return NuState(nu=gradtx.accumulator(x[:, :1]))

    def update_matrix(self, x, state):
        nu = self.decay * state.nu + (1 - self.decay) * jnp.mean(x * x, -2, keepdims=True)
        return x / (jnp.sqrt(nu) + self.eps), NuState(nu)


def inverse_fourth_root(a, eps):
    values, vectors = jnp.linalg.eigh(a)
    powers = (jnp.maximum(values, 0.0) + eps) ** -0.25
    return (vectors * powers[:, None, :]) @ vectors.mT


class scale_by_shampoo(Matrixwise):
    eps: Hyper = 1e-6

    def init_matrix(self, x):
        return LeftRightState(gradtx.accumulator(x @ x.mT), gradtx.accumulator(x.mT @ x))

    def update_matrix(self, x, state):
        left, right = state.left + x @ x.mT, state.right + x.mT @ x
        a, b = (inverse_fourth_root(s, self.eps) for s in (left, right))
        return a @ x @ b, LeftRightState(left, right)


class agreeing(Wrapper, Elementwise):
    kept: Hyper = 0.0

    def update_leaf(self, update, state, param, given):
        opposed = jnp.sign(update) * jnp.sign(given) <= 0
        return jnp.where(opposed, self.kept * update, update), state


class smoothed(Wrapper, Elementwise):
    decay: Hyper = 0.9

    def init_leaf(self, param, inner):
        return InnerState(gradtx.accumulator(param), inner)

    def update_leaf(self, update, state, param, given):
        mean = self.decay * state.mean + (1 - self.decay) * update
        return mean, state._replace(mean=mean)


class alternating(Wrapper):
    factor: Hyper = 1.0
    n: int = 2

    def init_tree(self, params):
        return CountState(jnp.int32(0), self.inner.init_tree(params))

    def update_tree(self, updates, state, params, extra):
        def step():
            new, inner = self.inner.update_tree(updates, state.mean, params, extra)
            return jax.tree.map(lambda u: self.factor * u, new), inner

        def wait():
            return jax.tree.map(jnp.zeros_like, updates), state.mean

        new, inner = jax.lax.cond(state.count % self.n == 0, step, wait)
        return new, CountState(state.count + 1, inner)


class given_loss(Wrapper):
    """The inner transformation gets what some need of a loss, here that of |params|^2 / 2."""

    def update_tree(self, updates, state, params, extra):
        loss = {"value": jnp.float32(0.5), "grad_fn": lambda x: x}
        return self.inner.update_tree(updates, state, params, loss | extra)


class mean_size(Moment):
    def init_leaf(self, param):
        return NuState(gradtx.accumulator(param, real=True))

    def update_leaf(self, update, state, param):
        nu = self.decay * state.nu + (1 - self.decay) * jnp.abs(update)
        return nu, NuState(nu)

    def gain(self, log_kept, decay):
        return -jnp.expm1(log_kept)


class size_adam(Recipe):
    b1: Hyper = 0.9
    b2: Hyper = 0.99
    renames = {"maximum": "nu"}

    def state(self):
        return None if callable(self.b1) or callable(self.b2) else SizeAdamState

    def expand(self):
        m = gradtx.bias_correction(gradtx.scale_by_momentum(self.b1))
        return m / gradtx.bias_correction(mean_size(self.b2))


class polyak(Transform):
    max_step: Hyper = 1.0

    def update_tree(self, updates, state, params, extra):
        norm = gradtx.global_norm(updates)
        step = jnp.minimum(1 / jnp.where(norm > 0, norm, 1.0) ** 2, self.max_step)
        return jax.tree.map(lambda g: -step * g, updates), state
