"""What the recurrences must come to: closed forms and bounds, and the maps that keep no state.

Notation as in `references.py`. On a quadratic of one curvature, error means theta_t / theta_0, and
t = 0 is the start; elsewhere t = 1 is the first update, and a step is its signed length in units
of the learning rate unless `lr` is an argument.
"""

import numpy as np
from references import KELLER, sq

# --- Quadratics: theta' = ... with gradient curvature * theta -------------------------------------


def gd_error(t, lr, curvature):
    """A step multiplies the error by 1 - lr c."""
    return (1 - lr * curvature) ** t


def gd_best(mu, L):
    """(lr, contraction per step) of the best constant rate for curvatures in [mu, L]:
    Nesterov (2004), Theorem 2.1.15; both ends contract by the same factor."""
    return 2 / (mu + L), (L - mu) / (L + mu)


def heavy_ball_best(mu, L):
    """(lr, b, modulus of all roots): Polyak (1964)."""
    root = (np.sqrt(L / mu) - 1) / (np.sqrt(L / mu) + 1)
    return 4 / (np.sqrt(L) + np.sqrt(mu)) ** 2, root**2, root


def heavy_ball_angle(lr, b, curvature):
    """phi of the complex roots sqrt(b) exp(+-i phi); the iterate rings with period 2 pi / phi."""
    return np.arccos((1 + b - lr * curvature) / (2 * np.sqrt(b)))


def heavy_ball_error(t, lr, b, curvature):
    """If the roots are complex, (1 + b - lr curvature)^2 < 4 b."""
    phi = heavy_ball_angle(lr, b, curvature)
    sine = (np.cos(phi) - np.sqrt(b)) / np.sin(phi)
    return b ** (t / 2) * (np.cos(t * phi) + sine * np.sin(t * phi))


def heavy_ball_error_double_root(t, z):
    """At the ends of the spectrum under `heavy_ball_best`: z = +modulus at mu, -modulus at L."""
    return (1 + (1 - z) * t) * z**t


def nesterov_rate(lr, b, curvatures):
    """The larger root's modulus, at worst: phi'' = (1 + b)(1 - lr c) phi' - b (1 - lr c) phi."""
    p, q = (1 + b) * (1 - lr * curvatures), b * (1 - lr * curvatures)
    root = np.sqrt((p**2 - 4 * q).astype(complex))
    return np.max(np.maximum(abs(p + root), abs(p - root)) / 2)


def nesterov_best(mu, L):
    """(lr, b, rate) for a quadratic: Lessard, Recht & Packard (2016), arXiv:1408.3595."""
    root = np.sqrt(3 * L / mu + 1)
    return 4 / (3 * L + mu), (root - 2) / (root + 2), 1 - 2 / root


def stationary_variance(lr, b, curvature, noise_variance):
    """Of theta under the heavy ball (b = 0: SGD) with white gradient noise."""
    return lr * noise_variance * (1 + b) / (curvature * (1 - b) * (2 * (1 + b) - lr * curvature))


# --- Moving averages ------------------------------------------------------------------------------


def ema_gain(t, b):
    """Of a constant, and so what bias correction divides by: 1 - b^t."""
    return 1 - b**t


def heavy_ball_gain(t, b):
    return ema_gain(t, b) / (1 - b)


def ema_of_ramp(t, b):
    """Of 1, 2, 3, ...: it lags by b / (1 - b) in the end."""
    return t - b * ema_gain(t, b) / (1 - b)


def debiased_weights(t, b):
    """The corrected average is sum_i weights[i - 1] g_i; the weights sum to 1."""
    return (1 - b) * b ** np.arange(t - 1.0, -1, -1) / ema_gain(t, b)


def ema_variance(t, b, debiased=False):
    """Of the average of white noise of variance 1; (1 - b) / (1 + b) in the end."""
    raw = (1 - b) / (1 + b) * ema_gain(2 * t, b)
    return raw / ema_gain(t, b) ** 2 if debiased else raw


def centered_variance(gs, decay):
    """EMA of g^2 less the squared EMA of g, by Welford's rule: the same number, never negative."""
    mean = variance = 0.0
    for g in gs:
        variance = decay * (variance + (1 - decay) * sq(g - mean))
        mean = decay * mean + (1 - decay) * g
    return variance


# --- AdaGrad, RMSProp, AdaDelta -------------------------------------------------------------------


def adagrad_constant_step(t):
    """No epsilon, no initial accumulator, a constant gradient."""
    return 1 / np.sqrt(t)


def adagrad_displacement_bounds(T):
    """The sum of those steps lies between these two, the integrals of 1 / sqrt(t)."""
    return 2 * np.sqrt(T + 1) - 2, 2 * np.sqrt(T) - 1


def adagrad_lemma(gs):
    """(sum g_t^2 / sqrt(G_t), 2 sqrt(G_T)): the first is never more. Duchi et al. (2011)."""
    G = np.cumsum(sq(np.asarray(gs)), 0)
    terms = np.divide(sq(np.asarray(gs)), np.sqrt(G), out=np.zeros_like(G), where=G > 0)
    return terms.sum(0), 2 * np.sqrt(G[-1])


def adagrad_regret_bound(gs, diameters, lr):
    """For linear losses: sum_i (D_i^2 / (2 lr) + lr) ||g_1:T,i||; Duchi et al. (2011), Theorem 5."""
    return np.sum((diameters**2 / (2 * lr) + lr) * np.linalg.norm(gs, axis=0))


def rmsprop_constant_step(t, decay):
    """No epsilon, no correction: 1 / sqrt(1 - decay^t), first 3.16 at 0.9."""
    return 1 / np.sqrt(ema_gain(t, decay))


def adadelta_first_step(g, rho, eps):
    """Zeiler (2012), arXiv:1212.5701, Algorithm 1, from averages that are zero."""
    return -np.sqrt(eps) * g / np.sqrt((1 - rho) * sq(g) + eps)


def adadelta_growth(t, rho, eps):
    """|step t| / this falls to 1 for a constant gradient far above sqrt(eps), as slowly as the
    start is forgotten: at t = 500 it is 1.10 for rho = 0.9, 1.35 for 0.95."""
    return np.sqrt(eps * (1 + (1 - rho) * t))


# --- Adam -----------------------------------------------------------------------------------------


def adam_first_step(g, eps):
    """For any b1 and b2: the corrections divide by 1 - b1 and 1 - b2; arXiv:1412.6980, section 3."""
    return -g / (np.abs(g) + eps)


def adam_first_step_eps_hat(g, b2, eps):
    return -g / (np.abs(g) + eps / np.sqrt(1 - b2))


def adam_first_step_derivative(g, eps):
    """By g; finite at 0, where differentiating a naive square root gives NaN."""
    return -eps / (np.abs(g) + eps) ** 2


def adam_uncorrected_factor(t, b1, b2):
    """What leaving out both corrections multiplies the step by: 6.57 at t = 12 by default."""
    return ema_gain(t, b1) / np.sqrt(ema_gain(t, b2))


def adam_step_bound(t, b1, b2):
    """The largest |step t| over all gradients (Cauchy-Schwarz), b1^2 < b2, no epsilon."""
    r = b1**2 / b2
    weights = (1 - b1) / np.sqrt(1 - b2) * np.sqrt((1 - r**t) / (1 - r))
    return weights * np.sqrt(ema_gain(t, b2)) / ema_gain(t, b1)


def adam_worst_gradients(T, b1, b2):
    """Those that attain it at t = T."""
    return (b1 / b2) ** np.arange(T - 1.0, -1, -1)


def adam_coasting_factor(k, t0, b1, b2):
    """|step t0 + k| / |step t0| when the gradients are 0 after t0, no epsilon."""
    mean = b1**k * ema_gain(t0, b1) / ema_gain(t0 + k, b1)
    square = b2**k * ema_gain(t0, b2) / ema_gain(t0 + k, b2)
    return mean / np.sqrt(square)


def adam_spike_recovery(spike, b2):
    """About when |step| is back at 1/2, if gradients of 1 follow one of size `spike`."""
    return np.log((1 - b2) * spike**2 / 3) / -np.log(b2)


def reddi_gradients(T, C=3.0):
    """Reddi et al. (2018), Theorem 1: on [-1, 1] the best point is -1, and Adam goes to 1."""
    return [np.array([C if t % 3 == 1 else -1.0]) for t in range(1, T + 1)]


def decayed(theta0, rates, weight_decay):
    """Decoupled decay without a gradient."""
    return theta0 * np.prod(1 - np.asarray(rates) * weight_decay)


# --- Newton-Schulz --------------------------------------------------------------------------------


def newton_schulz_map(sigma, coefficients=KELLER, steps=5):
    """What the iteration does to one singular value of the normalized matrix."""
    a, b, c = coefficients
    for _ in range(steps):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return sigma


def newton_schulz_by_svd(x, coefficients=KELLER, steps=5, eps=1e-7):
    """The same by an SVD: U p(p(...(Sigma / (norm + eps)))) V^T."""
    u, sigma, vt = np.linalg.svd(x, full_matrices=False)
    return u * newton_schulz_map(sigma / (np.linalg.norm(x) + eps), coefficients, steps) @ vt


# --- Maps without state ---------------------------------------------------------------------------


def qk_clip(w_q, w_k, max_logits, tau=100.0):
    """Kimi team (2025), arXiv:2507.20534, after a step: sqrt(gamma) on each head (first axis)."""
    root = np.sqrt(np.minimum(1, tau / max_logits)).reshape(-1, 1, 1)
    return w_q * root, w_k * root


def clip_by_value(g, bound):
    return np.minimum(np.maximum(g, -bound), bound)


def clip_by_global_norm(gs, bound):
    """Pascanu et al. (2013), arXiv:1211.5063, Algorithm 1, over a list of arrays."""
    total = np.sqrt(sum(sq(g).sum() for g in gs))
    return [g * (bound / total if total > bound else 1) for g in gs]


def clip_by_block_rms(g, threshold):
    """Shazeer & Stern (2018), arXiv:1804.04235, section 6: g / max(1, rms / threshold)."""
    return g / max(1, np.sqrt(sq(g).mean()) / threshold)


def clip_adaptive(g, x, ratio, eps=1e-3):
    """Brock et al. (2021), arXiv:2102.06171, eq. 3; Optax's units: a matrix's columns, a kernel's
    outputs, axis 0 of three, else all of the array."""
    axes = {2: 0, 3: 0, 4: (0, 1, 2), 5: (0, 1, 2, 3)}.get(np.ndim(g) * (np.squeeze(g).ndim > 1))
    size, weight = (np.sqrt(sq(a).sum(axes, keepdims=True)) for a in (g, x))
    limit = ratio * np.maximum(weight, eps)
    return np.where(size < limit, g, g * limit / np.maximum(size, 1e-6))
