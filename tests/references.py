"""The recurrences of the optimizers, written out in NumPy float64: oracles for gradtx.

Every *system* here is called as

    system(gradients, params0, *, steps=None, **hyperparameters) -> [u_1, ..., u_T]

- `gradients` is a list of arrays, one per step (open loop), or a callable of the point at which the
  gradient is wanted, called once per step (closed loop; then `steps` says how many).
- The result is the list of *updates*, what is added to the parameters, so u_t is minus something
  that descends. `iterates(params0, updates)` gives [theta_1, ..., theta_T].
- One array, real or complex, or for Muon and its kin a matrix or a stack of real matrices.
- A hyperparameter may be a schedule: a callable of the count, which is 0 at the first update,
  while the bias corrections use t = 1 there.

Defaults are the named source's, but for a rate where it has none; a source that differs from
another in defaults alone is a `partial`. `test_references.py` holds them against Optax.
"""

import inspect
from functools import partial, wraps

import numpy as np


class State(dict):
    """What a recurrence remembers, by attribute; whatever was never set is zero."""

    def __getattr__(self, name):
        return self.get(name, 0.0)

    __setattr__ = dict.__setitem__


def f64(x):
    """`x` as a new array of float64, or of complex128 if it is complex."""
    return np.array(x, dtype=complex if np.iscomplexobj(x) else float)


def sq(x):
    return np.abs(x) ** 2


def over(a, b):
    """a / b, where 0 / 0 is 0: a coordinate that has seen no gradient stays where it is."""
    return a / np.where(b > 0, b, 1)


def recurrence(step):
    """A system from one step: `step(s, grad, x, t, **hyperparameters) -> update`.

    `grad(point)` is the gradient, so that a look-ahead may choose its point. `s.later` has the
    hyperparameters of the *next* step, which the exact Nesterov recurrences need.
    """
    keywords = inspect.signature(step).parameters.values()
    defaults = {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY}

    @wraps(step)
    def system(gradients, params0, *, steps=None, **given):
        assert given.keys() <= defaults.keys(), given.keys() - defaults.keys()
        hyper = {**defaults, **given}
        x, s, updates = f64(params0), State(), []
        for t in range(1, (len(gradients) if steps is None else steps) + 1):
            s.later = {k: v(t) if callable(v) else v for k, v in hyper.items()}
            now = {k: v(t - 1) if callable(v) else v for k, v in hyper.items()}
            grad = gradients if callable(gradients) else lambda point, t=t: gradients[t - 1]
            updates.append(step(s, lambda point, grad=grad: f64(grad(point)), x, t, **now))
            x = x + updates[-1]
        return updates

    return system


def iterates(params0, updates):
    """[theta_1, ..., theta_T], by the same additions as in the closed loop."""
    points = [f64(params0)]
    for update in updates:
        points.append(points[-1] + update)
    return points[1:]


# --- SGD, and the four things called momentum -----------------------------------------------------


@recurrence
def sgd(s, grad, x, t, *, lr=0.1, weight_decay=0.0):
    """Robbins & Monro (1951); coupled L2 as in torch's SGD."""
    return -lr * (grad(x) + weight_decay * x)


@recurrence
def ema_momentum(s, grad, x, t, *, lr=0.1, b=0.9):
    """Adam's m, Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1, alone: an average, zero start."""
    s.m = b * s.m + (1 - b) * grad(x)
    return -lr * s.m


@recurrence
def heavy_ball(s, grad, x, t, *, lr=0.1, b=0.9):
    """torch's SGD and optax.sgd: m = b m + g; the current rate multiplies all of the history."""
    s.m = b * s.m + grad(x)
    return -lr * s.m


@recurrence
def heavy_ball_inside(s, grad, x, t, *, lr=0.1, b=0.9):
    """Sutskever et al. (2013) eq. 1-2, Keras SGD: a gradient keeps the rate it arrived with. It is
    Polyak's (1964) x' = x - lr g + b (x - x_previous), for v is x - x_previous."""
    s.v = b * s.v - lr * grad(x)
    return s.v


@recurrence
def sgd_torch(s, grad, x, t, *, lr=1e-3, b=0.9, dampening=0.0, nesterov=False, weight_decay=0.0):
    """torch.optim.SGD: the buffer starts as the first gradient, which dampening does not touch."""
    g = grad(x) + weight_decay * x
    s.m = g if t == 1 else b * s.m + (1 - dampening) * g
    return -lr * (g + b * s.m if nesterov else s.m)


# --- Nesterov, on theta, or shifted, on phi = theta - lr b m; gain is 1, or 1 - b for the EMA -----


@recurrence
def lookahead(s, grad, x, t, *, lr=0.1, b=0.9, gain=1.0):
    """Nesterov (1983): the gradient is taken at theta - lr b m, where the momentum leads."""
    s.m = b * s.m + gain * grad(x - lr * b * s.m)
    return -lr * s.m


@recurrence
def lookahead_inside(s, grad, x, t, *, lr=0.1, b=0.9):
    """Sutskever et al. (2013) eq. 3-4: the gradient is taken at theta + b v, the rate inside."""
    s.v = b * s.v - lr * grad(x + b * s.v)
    return s.v


@recurrence
def nesterov(s, grad, x, t, *, lr=0.1, b=0.9, gain=1.0, exact=False):
    """`lookahead` shifted: exact if the momentum term takes the *next* step's lr b, which differs
    from what torch and optax.sgd(nesterov=True) do as soon as lr or b has a schedule."""
    g = grad(x)
    s.m = b * s.m + gain * g
    return -lr * gain * g - (s.later["lr"] * s.later["b"] if exact else lr * b) * s.m


nesterov_exact = partial(nesterov, exact=True)


@recurrence
def nesterov_inside(s, grad, x, t, *, lr=0.1, b=0.9):
    """Keras SGD(nesterov=True): `lookahead_inside` shifted, under every schedule of the rate."""
    g = grad(x)
    s.v = b * s.v - lr * g
    return s.later["b"] * s.v - lr * g


# --- AdaGrad, RMSProp, AdaDelta -------------------------------------------------------------------


@recurrence
def adagrad(s, grad, x, t, *, lr=0.1, delta=0.0, eps=0.0, initial=0.0, weight_decay=0.0,
            lr_decay=0.0):  # fmt: skip
    """Duchi, Hazan & Singer (2011), diagonal, delta outside the root; the rest is the peers'."""
    g = grad(x) + weight_decay * x
    s.G = s.setdefault("G", initial) + sq(g)
    return -lr / (1 + (t - 1) * lr_decay) * over(g, np.sqrt(s.G + eps) + delta)


adagrad_torch = partial(adagrad, lr=1e-2, delta=1e-10)
adagrad_optax = partial(adagrad, eps=1e-7, initial=0.1)
adagrad_keras = partial(adagrad, lr=1e-3, eps=1e-7, initial=0.1)


@recurrence
def adagrad_full(s, grad, x, t, *, lr=0.1, delta=0.0):
    """Duchi et al. (2011), full matrix: (delta I + G^(1/2))^-1 g; the pseudo-inverse if delta = 0,
    and where an eigenvalue is within rounding of 0, for g has no part there."""
    g = grad(x).ravel()
    s.G = s.G + np.outer(g, g.conj())
    w, Q = np.linalg.eigh(s.G)
    root = np.sqrt(np.where(w > w.size * np.finfo(float).eps * w.max(), w, 0))
    return -lr * (Q @ over(Q.conj().T @ g * (root > 0), root + delta)).reshape(x.shape)


@recurrence
def rmsprop(s, grad, x, t, *, lr=1e-2, decay=0.9, eps=0.0, momentum=0.0, nesterov=False,
            centered=False, eps_in_sqrt=True, lr_inside=True, initial=0.0, debias=False,
            weight_decay=0.0):  # fmt: skip
    """Hinton, csc321 lecture 6e (2012): no epsilon, no correction; the rest is the peers'."""
    g = grad(x) + weight_decay * x
    s.n = decay * s.setdefault("n", initial) + (1 - decay) * sq(g)
    s.a = decay * s.a + (1 - decay) * g
    gain = 1 - decay**t if debias else 1.0
    n = s.n / gain - centered * sq(s.a / gain)
    u = over(g, np.sqrt(n + eps) if eps_in_sqrt else np.sqrt(n) + eps)
    s.v = momentum * s.v + (lr * u if lr_inside else u)
    return -(lr * u + momentum * s.v if nesterov else s.v if lr_inside else lr * s.v)


rmsprop_torch = partial(rmsprop, decay=0.99, eps=1e-8, eps_in_sqrt=False, lr_inside=False)
rmsprop_optax = partial(rmsprop, eps=1e-8)
rmsprop_keras = partial(rmsprop, lr=1e-3, eps=1e-7)
# Graves (2013), arXiv:1308.0850, eq. 38-41.
rmsprop_graves = partial(rmsprop, lr=1e-4, decay=0.95, eps=1e-4, momentum=0.9, centered=True)


@recurrence
def adadelta(s, grad, x, t, *, lr=1.0, rho=0.95, eps=1e-6, weight_decay=0.0):
    """Zeiler (2012), arXiv:1212.5701, Algorithm 1; lr stays out of E[dx^2]; L2 as torch, Optax."""
    g = grad(x) + weight_decay * x
    s.g2 = rho * s.g2 + (1 - rho) * sq(g)
    dx = -np.sqrt(s.x2 + eps) / np.sqrt(s.g2 + eps) * g
    s.x2 = rho * s.x2 + (1 - rho) * sq(dx)
    return lr * dx


# Optax too, but its default, learning_rate=None, leaves out the sign as well and ascends.
adadelta_torch = adadelta_optax = partial(adadelta, rho=0.9)
adadelta_keras = partial(adadelta, lr=1e-3, eps=1e-7)


# --- Adam and its kin -----------------------------------------------------------------------------


def moments(s, g, b1, b2):
    s.m = b1 * s.m + (1 - b1) * g
    s.v = b2 * s.v + (1 - b2) * sq(g)
    return s.m, s.v


@recurrence
def adam(s, grad, x, t, *, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=0.0,
         debias_m=True):  # fmt: skip
    """Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1; Optax's eps_root; torch's coupled L2."""
    m, v = moments(s, grad(x) + weight_decay * x, b1, b2)
    m = m / (1 - b1**t) if debias_m else m
    return -lr * m / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)


# St John (2021), arXiv:2110.10828: only v is corrected, so that the step warms up by itself.
adamd = partial(adam, debias_m=False)


@recurrence
def adam_eps_hat(s, grad, x, t, *, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0,
                 amsgrad=False):  # fmt: skip
    """Kingma & Ba, end of section 2: the corrections in the rate, so eps meets an uncorrected v.

    Keras has this form, and for every optimizer a decay that shrinks by 1 - lr wd before the step.
    """
    m, v = moments(s, grad(x), b1, b2)
    s.top = np.maximum(s.top, v) if amsgrad else v
    shrunk = x * (1 - lr * weight_decay)
    return shrunk - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(s.top) + eps) - x


adam_keras = partial(adam_eps_hat, eps=1e-7)
adamw_keras = partial(adam_eps_hat, eps=1e-7, weight_decay=4e-3)


@recurrence
def amsgrad(s, grad, x, t, *, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=0.0,
            maximum="corrected"):  # fmt: skip
    """Reddi, Kale & Kumar (2018), arXiv:1904.09237, Algorithm 2, with the maximum taken of v
    "corrected" (Optax), "raw" and corrected after (torch), or "never" corrected (the paper)."""
    m, v = moments(s, grad(x) + weight_decay * x, b1, b2)
    gain1, gain2 = (1, 1) if maximum == "never" else (1 - b1**t, 1 - b2**t)
    s.top = np.maximum(s.top, v / gain2 if maximum == "corrected" else v)
    top = s.top if maximum == "corrected" else s.top / gain2
    return -lr * over(m / gain1, np.sqrt(top + eps_root) + eps)


amsgrad_optax = amsgrad
amsgrad_torch = partial(amsgrad, maximum="raw")
amsgrad_paper = partial(amsgrad, maximum="never", eps=0.0)


@recurrence
def nadam(s, grad, x, t, *, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0,
          weight_decay=0.0):  # fmt: skip
    """Dozat (2016) with a constant mu, without his extra b2: optax.nadam, optax.nadamw."""
    g = grad(x)
    m, v = moments(s, g, b1, b2)
    m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return -lr * (m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * x)


nadamw = partial(nadam, weight_decay=1e-4)


@recurrence
def nadam_torch(s, grad, x, t, *, lr=2e-3, b1=0.9, b2=0.999, eps=1e-8, momentum_decay=4e-3,
                weight_decay=0.0, decoupled=False):  # fmt: skip
    """torch.optim.NAdam: Dozat's warming mu_t = b1 (1 - 0.96^(t decay) / 2) and its product."""
    g = grad(x) + (0 if decoupled else weight_decay) * x
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    s.product = s.setdefault("product", 1.0) * mu
    m, v = moments(s, g, b1, b2)
    m_hat = (1 - mu) * g / (1 - s.product) + mu_next * m / (1 - s.product * mu_next)
    u = -lr * m_hat / (np.sqrt(v / (1 - b2**t)) + eps)
    return u - lr * weight_decay * x if decoupled else u


nadam_keras = partial(nadam_torch, lr=1e-3, eps=1e-7, momentum_decay=1.0)


@recurrence
def adamw(s, grad, x, t, *, lr=1e-3, schedule=1.0, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2,
          decay="lr", mask_update=False, mask_decay=False):  # fmt: skip
    """Loshchilov & Hutter (2019), arXiv:1711.05101, Algorithm 2, with alpha = lr, eta = schedule.

    The decay is multiplied by alpha eta for "lr" (torch, which shrinks first: the same sum; Optax),
    by eta alone for "schedule" (line 12 of the paper), by nothing for "absolute".
    """
    g = grad(x)
    m, v = moments(s, g, b1, b2)
    rate = {"lr": lr * schedule, "schedule": schedule, "absolute": 1.0}[decay]
    u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    u = cautious(u, g) if mask_update else u
    kept = aligned(u, x) if mask_decay else 1
    return -lr * schedule * u - rate * weight_decay * x * kept


adamw_optax = partial(adamw, weight_decay=1e-4)
adam_torch, adamw_torch = adam, adamw


def cautious(u, g):
    """Liang et al. (2024), arXiv:2411.16085: only where u, to be subtracted, agrees with g."""
    mask = u * g > 0
    return u * mask / max(mask.mean(), 1e-3)


def aligned(u, x):
    """Chen et al. (2025), arXiv:2510.12402: where decay goes the way of u, to be subtracted."""
    return u * x >= 0


@recurrence
def laprop(s, grad, x, t, *, lr=4e-4, b1=0.9, b2=0.999, eps=1e-15):
    """Ziyin, Wang & Ueda (2020), arXiv:2002.04839: momentum of the normalized gradient; as in the
    authors' code the rate is inside it, and inside its correction too."""
    g = grad(x)
    s.v = b2 * s.v + (1 - b2) * sq(g)
    s.m = b1 * s.m + (1 - b1) * lr * g / (np.sqrt(s.v / (1 - b2**t)) + eps)
    s.rate = b1 * s.rate + (1 - b1) * lr
    return -s.m * lr / s.rate


# --- Muon and its kin, for matrices with a row for each output ------------------------------------

KELLER = (3.4445, -4.7750, 2.0315)


def norm(x):
    return np.linalg.norm(x, axis=(-2, -1), keepdims=True)


def orthogonalize(x, coefficients=KELLER, steps=5, eps=1e-7, clamp=False):
    """Jordan's `zeropower_via_newtonschulz5`, in float64 where he has bfloat16."""
    if x.shape[-2] > x.shape[-1]:
        return orthogonalize(x.mT, coefficients, steps, eps, clamp).mT
    a, b, c = coefficients
    x = x / (np.maximum(norm(x), eps) if clamp else norm(x) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def polar_factor(x):
    """U V^T of the SVD, over the singular values that are not rounding: what Muon approximates."""
    u, sigma, vt = np.linalg.svd(x, full_matrices=False)
    cut = max(x.shape[-2:]) * np.finfo(float).eps * sigma[..., :1]
    return u * (sigma > cut)[..., None, :] @ vt


def shape_scale(x, rule):
    rows, columns = x.shape[-2:]
    jordan, moonlight = max(1, rows / columns) ** 0.5, 0.2 * max(rows, columns) ** 0.5
    return {"jordan": jordan, "moonlight": moonlight, "spectral": (rows / columns) ** 0.5}[rule]


def blend(s, g, b, nesterov=True, classical=False):
    """Jordan's two lerps, the EMA m and then (1 - b) g + b m; or the classical m and g + b m."""
    gain = 1 if classical else 1 - b
    s.m = b * s.m + gain * g
    return gain * g + b * s.m if nesterov else s.m


@recurrence
def muon(s, grad, x, t, *, lr=0.02, b=0.95, nesterov=True, classical=False, weight_decay=0.0,
         scale="jordan", coefficients=KELLER, ns_steps=5, eps=1e-7, clamp=False,
         equilibrate=False, mask_update=False, mask_decay=False):  # fmt: skip
    """Jordan et al. (2024), KellerJordan/Muon; the decay takes the rate without the shape's scale.

    `equilibrate`: Chang et al. (2026), arXiv:2603.28254 (MuonEq-R), unit rows; any common length
    does, for the iteration divides by the norm. The masks: `cautious` and `aligned`.
    """
    g = grad(x)
    u = blend(s, g, b, nesterov, classical)
    u = u / np.sqrt(sq(u).sum(-1, keepdims=True) + 1e-8) if equilibrate else u
    u = shape_scale(x, scale) * orthogonalize(u, coefficients, ns_steps, eps, clamp)
    u = cautious(u, g) if mask_update else u
    return -lr * u - lr * weight_decay * x * (aligned(u, x) if mask_decay else 1)


muon_torch = partial(muon, lr=1e-3, weight_decay=0.1, clamp=True)
# Liu et al. (2025), arXiv:2502.16982, eq. 4, toy_train.py.
muon_moonlight = partial(muon, lr=1e-3, weight_decay=0.1, classical=True, scale="moonlight")
muon_keras = partial(muon_moonlight, weight_decay=4e-3)


@recurrence
def muon_optax(s, grad, x, t, *, lr=0.02, b=0.95, eps=1e-8, weight_decay=0.0):
    """optax.contrib.muon: bias-corrected as NAdam; columns are outputs, so the scale is of x.mT."""
    g = grad(x)
    s.m = b * s.m + (1 - b) * g
    u = orthogonalize(b * s.m / (1 - b ** (t + 1)) + (1 - b) * g / (1 - b**t), eps=eps)
    return -lr * (shape_scale(x.mT, "jordan") * u + weight_decay * x)


@recurrence
def normuon(s, grad, x, t, *, lr=0.02, b=0.95, b2=0.95, weight_decay=0.0):
    """Li et al. (2025), arXiv:2510.05491: divide each row by its rms over time, keep the norm."""
    o = orthogonalize(blend(s, grad(x), b))
    s.v = b2 * s.v + (1 - b2) * sq(o).mean(-1, keepdims=True)
    u = o / (np.sqrt(s.v) + 1e-10)
    u = shape_scale(x, "jordan") * u * norm(o) / (norm(u) + 1e-10)
    return -lr * (u + weight_decay * x)


@recurrence
def adamuon(s, grad, x, t, *, lr=0.02, b=0.95, eps=1e-8, weight_decay=0.01):
    """Si, Zhang & Shen (2025), arXiv:2507.11005: the sign first, a v of O after, then rms 0.2."""
    o = orthogonalize(np.sign(blend(s, grad(x), b)))
    s.v = b * s.v + (1 - b) * sq(o)
    u = o / (np.sqrt(s.v) + eps)
    u = u * 0.2 * (x.shape[-2] * x.shape[-1]) ** 0.5 / (norm(u) + eps)
    return -lr * (u + weight_decay * x)


@recurrence
def scion(s, grad, x, t, *, lr=2**-12, alpha=0.1, radius=50.0, lmo="spectral", constrained=True):
    """Pethick et al. (2025), arXiv:2502.07529: Frank-Wolfe, or unconstrained without its decay."""
    s.m = (1 - alpha) * s.m + alpha * grad(x)
    sign = lmo == "sign"
    u = np.sign(s.m) / x.shape[-1] if sign else shape_scale(x, "spectral") * orthogonalize(s.m)
    return -lr * (radius * u + constrained * x)
