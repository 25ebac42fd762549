# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Muon
#
# What does Muon do, and why does it help? SGD and Adam treat the parameters as a list of numbers. But most
# parameters of a network are matrices, and a matrix maps one activation to the next. Muon (Jordan et al.,
# 2024) is gradient descent in which the size of a step is measured by the effect of the step on activations.
# The update of Muon is the momentum with every singular value replaced by one,
#
# $$m_t = \beta m_{t-1} + (1 - \beta)\, g_t = U S V^\top, \qquad \theta_t = \theta_{t-1} - \eta\, s\; U V^\top,$$
#
# where the factor $s$ depends only on the shape of the matrix. This notebook derives $U V^\top$, computes it
# without a singular value decomposition, and trains with it. Every section shows an equation, the code for
# it, and a figure that would look different if a line of the code were wrong. The last cell checks the
# numbers in the figures.

# %%
import os
import sys
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import gradtx as gx

for folder in (Path.cwd(), *Path.cwd().parents):  # the model and the text are those of an example
    sys.path.append(str(folder / "examples"))
import char_lm

SMALL = bool(os.environ.get("GRADTX_SMALL"))  # the same cells at a size for tests
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#777777"
plt.rcParams.update(
    {
        "figure.figsize": (7, 3.4),
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlelocation": "left",
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
)
checks = {}


def svd(x):
    """The decomposition in float64, which is the oracle for everything below."""
    return np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)


def relative_error(x, expected):
    return np.linalg.norm(np.asarray(x, np.float64) - expected) / np.linalg.norm(expected)


# %% [markdown]
# The matrices in this notebook are gradients of a small character-level transformer. It is trained for a few
# steps on the reference text that comes with Python.

# %%
text, held_out, alphabet = char_lm.encode(char_lm.python_reference())
text = jnp.asarray(text)
length, batch, width, depth = (16, 8, 16, 1) if SMALL else (64, 32, 64, 2)
half = len(held_out) // 2  # the first half chooses learning rates, the second half is the test
starts = np.linspace(0, half - length - 1, 8 if SMALL else 128).astype(int)
validation = char_lm.windows_at(jnp.asarray(held_out[:half]), starts, length)
test = char_lm.windows_at(jnp.asarray(held_out[half:]), starts, length)


def initial_model(seed):
    return char_lm.CharLM(len(alphabet), length, width, depth, key=jax.random.key(seed))


start = initial_model(0)

run_steps = 40 if SMALL else 160
tx = char_lm.OPTIMIZERS["AdamW"](char_lm.warmup_cosine(3e-3, run_steps))
_, model = char_lm.train(tx, start, text, validation, 40, batch)
windows = char_lm.windows_at(text, jnp.arange(batch) * 1000, length)
gradients = eqx.filter_jit(eqx.filter_grad(char_lm.loss))(model, windows)
gradient = gradients.blocks[0].up.weight  # 4 d outputs, d inputs
print(f"the gradient of blocks/0/up/weight, {gradient.shape[0]} x {gradient.shape[1]}")

# %% [markdown]
# ## 1. Steepest descent depends on the norm
#
# Let $G$ be the gradient. A small step $D$ changes the loss by
# $\langle G, D\rangle = \sum_{ij} G_{ij} D_{ij}$. The direction of steepest descent is $-D$, where $D$ has
# norm one and makes this sum as large as possible. So the direction depends on the norm:
#
# | the norm of $D$ | steepest | known as |
# |---|---|---|
# | Frobenius, $\sqrt{\sum D_{ij}^2}$ | $G / \lVert G\rVert_F$ | gradient descent |
# | largest entry, $\max \lvert D_{ij}\rvert$ | $\operatorname{sign} G$ | Adam's first step |
# | spectral, $\max_x \lVert D x\rVert / \lVert x\rVert$ | $U V^\top$ | Muon, without momentum |
#
# The third norm measures the effect on activations: for every activation $x$, the output of the layer
# changes by at most $\lVert D\rVert_2 \lVert x\rVert$. The proof of the third row takes one line. With
# $G = \sum_i \sigma_i u_i v_i^\top$,
#
# $$\langle G, D\rangle = \sum_i \sigma_i\, u_i^\top D v_i \;\le\; \sum_i \sigma_i \lVert D\rVert_2
#   = \lVert G\rVert_* \lVert D\rVert_2,$$
#
# and for $D = U V^\top$ the inequality is an equality, because $u_i^\top D v_i = 1$ for every $i$. The sum of
# the singular values, $\lVert G\rVert_*$, is called the nuclear norm. The learning rate decides how far to go.
# The size of $G$ does not change the step, as in Adam.
#
# In the figure, all directions have spectral norm one. The bars show which share of $\lVert G\rVert_*$ each
# direction reaches.

# %%
G = np.asarray(gradient, np.float64)
U, sigma, Vt = svd(G)
nuclear = sigma.sum()
rng = np.random.default_rng(0)
directions = {
    "$U V^\\top$": U @ Vt,
    "the sign of $G$": np.sign(G),
    "$G$ itself": G,
    "noise": rng.normal(size=G.shape),
}
gains = {
    name: abs(np.sum(G * D)) / np.linalg.norm(D, 2) / nuclear for name, D in directions.items()
}

fig, ax = plt.subplots(figsize=(7, 2.2))
bars = ax.barh(list(gains), list(gains.values()), color=[BLUE, ORANGE, GREEN, GREY], height=0.6)
ax.bar_label(bars, fmt="{:.0%}", padding=4)
ax.axvline(1, color=GREY, lw=0.8, ls=":")
ax.set(
    xlim=(0, 1.1),
    xlabel=r"$\langle G, D\rangle \,/\, \|G\|_*$  where  $\|D\|_2 = 1$",
)
ax.set_title("The same reach, unequal descent")
ax.invert_yaxis()
ax.grid(visible=False, axis="y")

tries = [U @ Vt + 0.1 * rng.normal(size=G.shape) / G.shape[0] ** 0.5 for _ in range(50)]
checks["U V^T attains the nuclear norm"] = np.isclose(gains["$U V^\\top$"], 1, rtol=1e-12)
checks["no direction near U V^T descends faster"] = all(
    np.sum(G * D) / np.linalg.norm(D, 2) < nuclear for D in tries
)

# %% [markdown]
# ## 2. The polynomial
#
# How is $U V^\top$ computed? A singular value decomposition of every matrix in every step would be slow on an
# accelerator. Matrix products are fast there, and an odd polynomial of a matrix needs only products. Since
# $X X^\top = U S^2 U^\top$,
#
# $$p(X) = a X + b\, (X X^\top) X + c\, (X X^\top)^2 X = U\, p(S)\, V^\top, \qquad p(x) = a x + b x^3 + c x^5.$$
#
# The singular vectors do not change, and every singular value $x$ becomes $p(x)$. So divide the matrix by its
# Frobenius norm, which brings all singular values into $[0, 1]$, and then apply polynomials that move this
# interval towards one. This is the whole algorithm, which is called Newton-Schulz in the context of Muon. It
# remains to choose the coefficients $(a, b, c)$ of every step.
#
# Suppose that all singular values of at least $\ell$ shall come close to one. The best first step is the
# polynomial of degree five whose largest distance to one on $[\ell, 1]$ is smallest. Let $E$ be this distance.
# The best polynomial reaches $1 - E$ and $1 + E$ in turn, at four points. After the first step, the singular
# values lie in $[\ell', 2 - \ell']$ with $\ell' = 1 - E$, and the next step solves the same problem on this
# interval. Amsel et al. (2025, [arXiv:2505.16932](https://arxiv.org/abs/2505.16932)) show that this greedy
# choice gives the best composition. `polar_express` computes these coefficients when it is called.


# %%
def compose(triples, x):
    """What becomes of a singular value x: the definition, in NumPy."""
    for a, b, c in triples:
        x = a * x + b * x**3 + c * x**5
    return x


triples = gx.polar_express(4, lower=0.03, cushion=0.0, safety=0.0)
low, high, ripples = 0.03, 1.0, []
fig, axes = plt.subplots(1, 4, figsize=(10, 2.7), sharey=True)
for k, (ax, triple) in enumerate(zip(axes, triples, strict=True)):
    x = np.linspace(low, high, 2001)
    y = compose([triple], x)
    error = np.abs(y - 1).max()
    # The peaks inside, and the two ends.
    turns = np.concatenate([[0], 1 + np.flatnonzero(np.diff(np.sign(np.diff(y)))), [len(x) - 1]])
    ripples.append((error, y[turns]))
    ax.axhspan(1 - error, 1 + error, color=BLUE, alpha=0.08, lw=0)
    ax.axhline(1, color=GREY, lw=0.8, ls=":")
    ax.plot(x, y, color=BLUE)
    ax.plot(x[turns], y[turns], "o", ms=5, color=BLUE, mfc="white")
    ax.set(title=f"step {k + 1}: [{low:.3g}, {high:.3g}]", xlabel="$x$", ylim=(0, 2))
    low, high = 1 - error, 1 + error
axes[0].set_ylabel("$p(x)$")
fig.suptitle(
    r"Each step is the best on what the step before left ($\ell = 0.03$)", x=0.02, ha="left"
)
checks["the optimum ripples: four touches of 1 - E and 1 + E in turn"] = all(
    len(y) == 4 and np.allclose(y, 1 + error * np.array([-1, 1, -1, 1]), atol=1e-5)
    for error, y in ripples[:3]
)

# %% [markdown]
# How many steps are needed? As soon as the smallest singular value is no longer small, the error of the
# composition falls doubly exponentially. With $\ell = 10^{-3}$, the error is .11 after five steps and .0009
# after six. An error of .1 hardly changes training, so Muon takes five steps.

# %%
lowers = np.array([1e-1, 1e-2, 1e-3, 1e-4])
steps = np.arange(1, 9)
fig, ax = plt.subplots()
errors = {}
for lower, color in zip(lowers, [GREY, GREEN, BLUE, ORANGE], strict=True):
    x = np.geomspace(lower, 1, 4001)
    errors[lower] = np.array(
        [
            np.abs(compose(gx.polar_express(int(k), lower, cushion=0.0, safety=0.0), x) - 1).max()
            for k in steps
        ]
    )
    shown = errors[lower] > 1e-7
    ax.semilogy(steps[shown], errors[lower][shown], "o-", ms=4, color=color)
    ax.annotate(
        rf"$\ell = {lower:g}$", (steps[shown][-1], errors[lower][shown][-1]), (6, 0),
        textcoords="offset points", color=color, va="center",
    )  # fmt: skip
ax.axhline(0.11, color=GREY, lw=0.8, ls=":")
ax.text(9.15, 0.13, ".11", color=GREY, ha="right")
ax.set(
    xlabel="steps", ylabel=r"largest $|p(x) - 1|$ on $[\ell, 1]$", xlim=(0.8, 9.2), ylim=(1e-7, 2)
)
ax.set_title("The smallest singular value that counts decides the number of steps")
checks["five steps from 1e-3 leave .11, six .0009"] = (
    abs(errors[1e-3][4] - 0.11) < 0.005 and abs(errors[1e-3][5] - 9.2e-4) < 2e-5
)
checks["the published triples come out of the generator"] = np.allclose(
    gx.polar_express(10, safety=0.0)[:2],
    [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    ],
    rtol=0,
    atol=1e-10,
)

# %% [markdown]
# Which other coefficients are in use? Some were found by search, and `newton_schulz` knows them by name. The
# next cell measures each of them: it passes the singular value $x$ in the matrix
# $\operatorname{diag}(x, \sqrt{1 - x^2})$, whose Frobenius norm is one, and the first entry of the result is
# $p(x)$.
#
# - `polar_express` is the default. `speedrun` and `cans` solve the same problem with other safeguards.
# - `jordan` repeats the same coefficients in every step. It is steep at zero, and then it *wanders*: its
#   fixed points repel, so more steps do not bring the singular values closer to one.
# - `dion` has a smaller ripple. The smallest singular value that it brings up is twice as large as for
#   `polar_express`.
# - `modula` takes six steps and never exceeds one. `cubic` needs no product for $c$. `deepseek` takes ten
#   steps: eight with Jordan's coefficients, and two that converge.
# - `classical` is the original Newton-Schulz iteration. It converges from every value, but slowly from small
#   values.

# %%
names = (
    *("polar_express", "speedrun", "cans", "jordan", "dion", "modula"),
    *("cubic", "deepseek", "classical"),
)
x = np.geomspace(1e-6, 1, 600 if SMALL else 1500)
pairs = np.zeros((len(x), 2, 2), np.float32)
pairs[:, 0, 0], pairs[:, 1, 1] = x, np.sqrt(1 - x**2)
maps = {
    name: np.asarray(jax.jit(partial(gx.newton_schulz, coefficients=name))(pairs))[:, 0, 0]
    for name in names
}

reach = {name: x[np.argmax(y >= 0.5)] for name, y in maps.items()}

fig, axes = plt.subplots(3, 3, figsize=(10, 6.4), sharex=True, sharey=True)
for ax, name in zip(axes.flat, names, strict=True):
    for other in names:
        ax.semilogx(x, maps[other], color=GREY, lw=0.7, alpha=0.3)
    half = reach[name]
    ax.axhline(1, color=GREY, lw=0.8, ls=":")
    ax.semilogx(x, maps[name], color=BLUE, lw=2)
    ax.plot([half], [0.5], "o", ms=5, color=BLUE, mfc="white")
    exponent = int(np.floor(np.log10(half)))
    text_at = rf"one half at ${half / 10**exponent:.1f} \cdot 10^{{{exponent}}}$"
    ax.annotate(
        text_at, (half, 0.5), (8, -3) if half < 3e-3 else (-8, 3), textcoords="offset points",
        color=BLUE, va="center", ha="left" if half < 3e-3 else "right", fontsize=9,
    )  # fmt: skip
    ax.set_title(name, color=BLUE, fontsize=11, weight="bold")
for ax in axes[-1]:
    ax.set_xlabel(r"singular value $x = \sigma / \|X\|_F$")
for ax in axes[:, 0]:
    ax.set_ylabel("$p(x)$")
axes[0, 0].set_ylim(-0.05, 1.45)

jordan = compose([(3.4445, -4.7750, 2.0315)] * 5, x)
inside = maps["jordan"][x >= 1.5e-3]
checks["jordan: the measured map is its five quintics"] = np.allclose(
    maps["jordan"], jordan, atol=2e-5
)
checks["jordan: from .0015 on, within [.680, 1.202]"] = (
    abs(inside.min() - 0.680) < 4e-3 and abs(inside.max() - 1.202) < 4e-3
)
checks["modula never exceeds one"] = maps["modula"].max() < 1 + 1e-5
default = compose(gx.polar_express(5), x)
checks["polar_express: the measured map is its quintics"] = np.allclose(
    maps["polar_express"], default, atol=2e-5
)

# %% [markdown]
# ## 3. A real gradient
#
# The gradients of a network are far from orthogonal: a few directions have most of the norm. The left figure
# shows the singular values of the gradient before and after each step. The lines are the singular values of
# the result of `newton_schulz` after $k$ steps. The dots are
# $p_k(\cdots p_1(\sigma_i / \lVert G\rVert_F))$, computed from the decomposition of $G$ alone.
#
# Why is the last singular value nearly zero? The input of the layer comes from a LayerNorm, so its entries
# sum to about zero, and the gradient in the direction $(1, \dots, 1)$ is nearly zero. After five steps this
# direction is still small. An exact decomposition would bring it to one, and amplify what is little more than
# rounding noise.

# %%
triples = gx.polar_express(5)
relative = sigma / np.linalg.norm(G)
spectra = [relative]
for k in range(1, 6):
    spectra.append(svd(gx.newton_schulz(gradient, triples[:k], steps=k, form="standard"))[1])

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
index = np.arange(1, len(sigma) + 1)
every = slice(0, None, max(1, len(sigma) // 12))
for k, measured in enumerate(spectra):
    color = plt.get_cmap("viridis_r")(0.15 + 0.17 * k)
    expected = np.sort(compose(triples[:k], relative))[::-1]
    left.semilogy(index, measured, color=color)
    left.plot(index[every], expected[every], "o", ms=3.5, color=color, mfc="white")
    name = "$G$" if k == 0 else f"{k} step" + "s" * (k > 1)
    left.annotate(
        name, (index[-1], measured[-1]), (6, 0), textcoords="offset points", color=color,
        va="center", annotation_clip=False,
    )  # fmt: skip
left.set(xlabel="rank of the singular value", ylabel="singular value, norm one at first")
left.set_title("Five steps bring up all but a null direction")

matrices = {
    route.path: leaf
    for route, leaf in zip(
        gx.routing(gx.muon(1.0), gradients), jax.tree.leaves(gradients), strict=True
    )
    if route.label == "muon"
}
relatives = {path: svd(leaf)[1] / np.linalg.norm(leaf) for path, leaf in matrices.items()}
floor = reach["polar_express"]  # what five steps of the default bring half way up
for path, values in relatives.items():
    fed = "mlp" if "up" in path or "down" in path else "attention"
    color = {"mlp": BLUE, "attention": ORANGE}[fed]
    right.semilogy(np.linspace(0, 1, len(values)), values, color=color, lw=1.1, alpha=0.8)
right.axhspan(1e-6, floor, color=GREY, alpha=0.12, lw=0)
right.text(0.02, floor * 0.8, "out of reach for five steps", color=GREY, va="top")
right.text(0.98, 0.95, "feed-forward", color=BLUE, transform=right.transAxes, ha="right", va="top")
right.text(0.98, 0.87, "attention", color=ORANGE, transform=right.transAxes, ha="right", va="top")
right.set(xlabel="rank of the singular value, relative", ylim=(1e-5, 2))
right.set_title("The gradients of all hidden matrices")
everything = np.concatenate(list(relatives.values()))
print(f"{np.mean(everything > floor):.0%} of the singular values are within reach of five steps")

result = gx.newton_schulz(gradient, triples)
checks["Newton-Schulz is U p(S) V^T (NumPy's SVD)"] = (
    relative_error(result, (U * compose(triples, relative)) @ Vt) < 1e-4
)
constant = np.abs(Vt[-1].sum()) / np.sqrt(len(Vt))
checks["the direction without gradient is (1, ..., 1)"] = constant > 0.9
checks["every step moves the spectrum by its polynomial"] = all(
    np.allclose(measured, np.sort(compose(triples[:k], relative))[::-1], rtol=1e-3, atol=2e-5)
    for k, measured in enumerate(spectra)
)

# %% [markdown]
# ## 4. Forms and precision
#
# The steps can be computed in two ways. The *standard* form computes $R = X X^\top$ in every step,
#
# $$R = X X^\top, \qquad Z = b R + c R^2, \qquad X \leftarrow a X + Z X.$$
#
# The *Gram* form does not change $X$ in every step. Let $m$ be the short side of $X$. The Gram form updates
# two $m \times m$ matrices instead, and multiplies $X$ once,
#
# $$Q \leftarrow Q (Z + a I), \qquad R \leftarrow (Z + a I)\, R\, (Z + a I), \qquad
#   \text{at the end } X \leftarrow Q X.$$
#
# For $T$ steps of degree five on an $m \times n$ matrix, the standard form needs $T (4 m^2 n + 2 m^3)$
# operations in its products. The Gram form with one restart, which is explained below, needs
# $8 m^2 n + (8 T - 12) m^3$. This is less if $n / m$ is at least 1.5. By default, every shape with at least 64
# rows gets the cheaper form. In the figure, the compiler counted the operations of the dots, and the lines
# are these formulas.

# %%
m, aspects = 192, np.array([1, 2, 3, 4, 6, 8])


def counted(form, n):
    f = jax.jit(partial(gx.newton_schulz, form=form, symmetric=False))
    compiled = f.lower(jax.ShapeDtypeStruct((m, n), jnp.float32)).compile()
    return compiled.cost_analysis()["flops"]


flops = {
    form: np.array([counted(form, int(m * a)) for a in aspects]) for form in ("standard", "gram")
}
formulas = {
    "standard": 5 * (4 * aspects + 2) * m**3,
    "gram": (8 * aspects + 28) * m**3,
}
fig, ax = plt.subplots()
for form, color in [("standard", ORANGE), ("gram", BLUE)]:
    ax.plot(aspects, formulas[form] / m**3, color=color)
    ax.plot(aspects, flops[form] / m**3, "o", ms=5, color=color, mfc="white")
    ax.annotate(
        form, (aspects[-1], formulas[form][-1] / m**3), (8, 0), textcoords="offset points",
        color=color, va="center", weight="bold", annotation_clip=False,
    )  # fmt: skip
ax.set(xlabel="aspect $n / m$", ylabel="operations, in units of $m^3$", ylim=(0, None))
ax.set_title("Long matrices are cheaper in the Gram form")
checks["the compiler counts the products that the formulas do"] = all(
    np.allclose(flops[form], formulas[form], rtol=0.05) for form in flops
)

# %% [markdown]
# In exact arithmetic the two forms agree. With rounding, $R$ drifts away from $X X^\top$ until it has negative
# eigenvalues, and these grow by the factor $a^2$ per step. A *restart* prevents this: it sets
# $X \leftarrow Q X$ and computes $R$ from the new $X$. How many restarts are needed depends on the dtype of
# the factors. The library plans the restarts, and refuses a plan that is not stable.

# %%
try:
    gx.newton_schulz(gradient, form="gram", dtype="bfloat16", restart=(2,))
    checks["the unstable combination is refused"] = False
except ValueError as error:
    print(error)
    checks["the unstable combination is refused"] = True

# %% [markdown]
# Which precision is needed? The figure shows the distance to $U\, p(S)\, V^\top$ in float64. In float32 the
# error is $10^{-5}$, up to a factor of six. In bfloat16, with sums in float32, the error is about .02 for a
# well-conditioned matrix, and .6 for a matrix of rank 8: rounding noise fills the null directions, and five
# steps multiply the noise by nearly a thousand. Large models are nevertheless trained in bfloat16.
#
# gradtx iterates in float32, unless you ask for bfloat16 with `muon(rate, ns_dtype="bfloat16")`. On an
# accelerator, products of float32 arrays also round their factors, to TF32 or bfloat16, unless
# `precision="highest"` is set. The numbers here were computed on a CPU.

# %%
rows, columns = (32, 64) if SMALL else (64, 256)
Q1 = np.linalg.qr(rng.normal(size=(rows, rows)))[0]
Q2 = np.linalg.qr(rng.normal(size=(columns, rows)))[0].T
kinds = {
    "Gaussian": rng.normal(size=(rows, columns)),
    "the gradient": G,
    "condition $10^4$": Q1 * np.geomspace(1, 1e-4, rows) @ Q2,
    "condition $10^6$": Q1 * np.geomspace(1, 1e-6, rows) @ Q2,
    "rank 8": rng.normal(size=(rows, 8)) @ rng.normal(size=(8, columns)),
}
variants = {
    ("standard", "float32"): (ORANGE, "o"),
    ("gram", "float32"): (BLUE, "o"),
    ("standard", "bfloat16"): (ORANGE, "s"),
    ("gram", "bfloat16"): (BLUE, "s"),
}
precision = {}
fig, ax = plt.subplots(figsize=(7, 3))
for row, (kind, x) in enumerate(kinds.items()):
    x = x.astype(np.float32)
    u, s, vt = svd(x)
    s[s < 1e-6 * s[0]] = 0  # the rank that was meant
    exact = (u * compose(triples, s / np.linalg.norm(s))) @ vt
    for (form, dtype), (color, marker) in variants.items():
        y = gx.newton_schulz(x, triples, form=form, dtype=dtype)
        precision[kind, form, dtype] = relative_error(y, exact)
        nudge = 0.12 * (1 if form == "gram" else -1)
        ax.semilogx(precision[kind, form, dtype], row + nudge, marker, color=color, ms=6)
ax.set_yticks(range(len(kinds)), list(kinds))
ax.set(xlabel="relative error against the polynomial in float64", xlim=(3e-7, 3), ylim=(4.6, -1.1))
ax.grid(visible=False, axis="y")
for position, name in [(1e-5, "float32"), (0.05, "bfloat16")]:
    ax.text(position, -0.75, name, color=GREY, ha="center", weight="bold")
ax.plot([], [], "o", color=ORANGE, label="standard")
ax.plot([], [], "o", color=BLUE, label="Gram")
ax.legend(loc="center", bbox_to_anchor=(0.5, 0.5))
ax.set_title("The dtype decides much, the form little")
checks["float32 errs by less than 2e-4, in either form"] = all(
    error < 2e-4 for (_, _, dtype), error in precision.items() if dtype == "float32"
)
checks["bfloat16 errs by .005 to .05 on a Gaussian matrix"] = all(
    0.005 < precision["Gaussian", form, "bfloat16"] < 0.05 for form in ("standard", "gram")
)

# %% [markdown]
# ## 5. Momentum and scale
#
# The result of orthogonalization does not depend on the scale of its argument. The average and the heavy ball
# are two recursions for momentum that differ only by the factor $1 - \beta$, so they are the same method here. A
# loss and a thousand times this loss also give the same updates. Two choices remain: $\beta$, and whether the
# momentum is Nesterov's, $\beta m_t + (1 - \beta) g_t$.
#
# How large should the update be? Let $\theta$ map $n_{in}$ inputs to $n_{out}$ outputs. The entries of
# $U V^\top$ have a root mean square of $1 / \sqrt{\max(n_{in}, n_{out})}$. There are three proposals for the
# factor $s$:
#
# | mode | $s$ | what is equal for all shapes |
# |---|---|---|
# | `match_rms` | $0.2 \sqrt{\max(n_{in}, n_{out})}$ | The root mean square of the entries is .2, which is about the root mean square of AdamW's updates. |
# | `spectral` | $\sqrt{n_{out} / n_{in}}$ | The gain is one. The gain is the largest ratio of the root mean squares of the output and the input. |
# | `original` | $\sqrt{\max(1, n_{out} / n_{in})}$ | The gain is one if there are more outputs than inputs. In all other layers, the spectral norm is one. |
#
# `match_rms` (Liu et al., 2025) is the default. AdamW trains the other parameters, and with `match_rms` one
# learning rate serves both.

# %%
shapes = [(64, 1024), (64, 256), (64, 64), (256, 64), (1024, 64)]
shapes = [(a // 8, b // 8) for a, b in shapes] if SMALL else shapes
modes = {"match_rms": BLUE, "spectral": GREEN, "original": ORANGE}
sizes, theory = {}, {}
for mode in modes:
    tx = gx.chain(gx.orthogonalize_newton_schulz("deepseek"), gx.scale_by_shape(mode))
    for n_in, n_out in shapes:
        g = {"kernel": jnp.asarray(rng.normal(size=(n_in, n_out)), jnp.float32)}
        u = np.asarray(tx.update(g, tx.init(g), g)[0]["kernel"])
        gain = np.linalg.norm(u, 2) * np.sqrt(n_in / n_out)  # of x -> x u
        sizes[mode, n_in, n_out] = np.sqrt(np.mean(u**2)), gain
        s = {
            "match_rms": 0.2 * np.sqrt(max(n_in, n_out)),
            "spectral": np.sqrt(n_out / n_in),
            "original": np.sqrt(max(1, n_out / n_in)),
        }[mode]
        theory[mode, n_in, n_out] = s / np.sqrt(max(n_in, n_out)), s * np.sqrt(n_in / n_out)

fig, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for which, (ax, title) in enumerate(
    zip(
        axes,
        ["Root mean square of the update's entries", "Largest gain of the update"],
        strict=True,
    )
):
    for mode, color in modes.items():
        lines = [theory[mode, *shape][which] for shape in shapes]
        ax.semilogy(lines, color=color)
        ax.plot(
            [sizes[mode, *shape][which] for shape in shapes], "o", ms=5, color=color, mfc="white"
        )
    ax.set_xticks(range(len(shapes)), [rf"${a} \to {b}$" for a, b in shapes])
    ax.set_title(title)
labels = [  # panel, mode, which shape, offset, side
    *((0, "match_rms", 0, (0, 6), "left"), (0, "spectral", 3, (-8, -4), "right")),
    *((0, "original", 3, (4, 6), "left"), (1, "match_rms", 3, (-8, 4), "right")),
    *((1, "spectral", 4, (0, -14), "right"), (1, "original", 3, (-8, 4), "right")),
]
for panel, mode, i, offset, side in labels:
    axes[panel].annotate(
        mode, (i, theory[mode, *shapes[i]][panel]), offset, textcoords="offset points",
        color=modes[mode], ha=side,
    )  # fmt: skip
for ax, ticks, limits in zip(
    axes, [(0.01, 0.03, 0.1, 0.2), (1, 3, 10, 30)], [(0.006, 0.33), (0.6, 40)], strict=True
):
    if not SMALL:
        ax.set(yticks=ticks, yticklabels=[f"{tick:g}" for tick in ticks], ylim=limits)
    ax.minorticks_off()
    ax.set_xlabel("inputs and outputs")
checks["the scales are those of the table"] = all(
    np.allclose(sizes[key], theory[key], rtol=0.01) for key in sizes
)

# %% [markdown]
# Muon's update of the hidden matrices is a chain of four links. `muon` is short for this chain.

# %%
step = gx.chain(
    gx.scale_by_momentum(0.95, nesterov=True),
    gx.orthogonalize_newton_schulz(),
    gx.scale_by_shape("match_rms"),
    gx.scale_by_learning_rate(0.01),
)


def updates(tx, scale=1.0):
    """The second and last update for two gradients of `blocks/0/up/weight`."""
    params = {"up": {"weight": model.blocks[0].up.weight}}
    state = tx.init(params)
    for g in (gradient, jnp.flip(gradient, 0)):
        u, state = tx.update({"up": {"weight": scale * g}}, state, params)
    return np.asarray(u["up"]["weight"])


ball = gx.replace(step, **{"scale_by_momentum.form": "heavy_ball"})
chained = updates(step)
checks["muon is momentum, orthogonalized, scaled"] = (
    relative_error(updates(gx.muon(0.01)), chained) < 1e-6
)
# Powers of two round nothing. Other factors do, and the slope of a thousand at zero enlarges it.
checks["2^40 times the gradient: the same update, bit by bit"] = np.array_equal(
    updates(step, 2.0**40), chained
)
checks["1e-20 times the gradient: the same update"] = (
    relative_error(updates(step, 1e-20), chained) < 2e-4
)
checks["average and heavy ball are one method"] = relative_error(updates(ball), chained) < 2e-4
ball

# %% [markdown]
# ## 6. Which parameters Muon trains
#
# The derivation is about matrices that map activations. Embeddings and heads are matrices too. But the input
# of an embedding is one character, and not a vector of activations, and in practice AdamW trains embeddings
# and heads better. Gains and biases are vectors. `muon` finds the hidden matrices from the paths and the
# shapes of the parameters, and `routing` shows the result.

# %%
print(gx.routing(gx.muon(0.01), start))

# %% [markdown]
# The rule also finds matrices in arrays with more axes. A convolution is one matrix, from all inputs in its
# window to the outputs. In a projection of attention, the axes of the heads belong to the outputs. In stacked
# layers, every layer is a matrix.

# %%
others = {
    "conv1": {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 32), jnp.float32)},
    "layers": {
        "attention": {"query": {"kernel": jax.ShapeDtypeStruct((12, 64, 4, 16), jnp.float32)}},
        "mlp": {"kernel": jax.ShapeDtypeStruct((12, 64, 256), jnp.float32)},
        "norm": {"scale": jax.ShapeDtypeStruct((12, 64), jnp.float32)},
    },
}
routes = gx.routing(gx.muon(0.01), others)
checks["convolutions, heads and stacks are matrices, stacked gains are not"] = [
    route.why for route in routes
] == [
    "convolution 144 -> 32",
    "matrix 64 -> 64, 12 of them",
    "matrix 64 -> 256, 12 of them",
    "norm, gain or bias, by its name",
]
routes

# %% [markdown]
# ## 7. Against AdamW
#
# Both optimizers train the same transformer, at five learning rates each and with two seeds, which decide the
# initial weights and the batches. The best rate has the lowest mean loss on validation text. If it is the first or
# the last one, the grid is extended. Each optimizer then trains at its best rate with four fresh seeds, and the left
# figure shows the mean loss on test text, which was not used before, with a band of one standard error. Both have
# the schedule of the example. Weight decay is off for Muon and $10^{-4}$ for AdamW, which are the defaults.
#
# The right figure shows how training changed the hidden matrices: the singular values of $\theta_T - \theta_0$, for
# the first fresh seed. The change that AdamW made lies mostly in a few directions. The change that Muon made uses
# all directions, because every step of Muon does.
#
# This is a small model and a short run. Published comparisons with a well-tuned AdamW find that Muon needs
# fewer steps by a factor of 1.4 at 0.1 billion parameters and of 1.1 at 1.2 billion parameters (Wen et al., 2025,
# [arXiv:2509.02046](https://arxiv.org/abs/2509.02046)). `examples/char_lm.py` trains for longer, with
# one seed.

# %%
grid = [3e-3, 3e-2] if SMALL else [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
choosing, fresh = ([0], [100, 101]) if SMALL else ([0, 1], [100, 101, 102, 103])


def losses_and_model(name, rate, seed, windows):
    tx = char_lm.OPTIMIZERS[name](char_lm.warmup_cosine(rate, run_steps))
    return char_lm.train(tx, initial_model(seed), text, windows, run_steps, batch, seed)


def validation_loss(name, rate):
    """The losses at the end for all seeds that choose; infinity if a run diverged."""
    try:
        return [losses_and_model(name, rate, seed, validation)[0][-1] for seed in choosing]
    except char_lm.Diverged:
        return [np.inf] * len(choosing)


chosen, best, curves, trained = {}, {}, {}, {}
for name in char_lm.OPTIMIZERS:
    tried = {rate: validation_loss(name, rate) for rate in grid}
    best[name] = min(tried, key=lambda rate: np.mean(tried[rate]))
    for _ in range(0 if SMALL else 2):
        if min(tried) < best[name] < max(tried):
            break
        beyond = best[name] / 3 if best[name] == min(tried) else best[name] * 3
        tried[beyond] = validation_loss(name, beyond)
        best[name] = min(tried, key=lambda rate: np.mean(tried[rate]))
    chosen[name] = dict(sorted(tried.items()))
    runs = [losses_and_model(name, best[name], seed, test) for seed in fresh]
    curves[name] = np.array([losses for losses, _ in runs])
    trained[name] = runs[0][1]


def spectrum_of_change(model):
    """Singular values of the change of every hidden matrix, largest one, on one axis of ranks."""
    routes = gx.routing(gx.muon(1.0), start)
    change = jax.tree.map(
        lambda a, b: a - b,
        *(eqx.filter(x, eqx.is_inexact_array) for x in (model, initial_model(fresh[0]))),
    )
    chosen = [
        leaf
        for leaf, route in zip(jax.tree.leaves(change), routes, strict=True)
        if route.label == "muon"
    ]
    return np.array([s / s[0] for s in (svd(x)[1] for x in chosen)])


colors = {"AdamW": ORANGE, "Muon": BLUE}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
changes = {}
for name, rate in best.items():
    mean = curves[name].mean(axis=0)
    error = curves[name].std(axis=0, ddof=1) / len(fresh) ** 0.5
    at = char_lm.ROUND * np.arange(len(mean))
    left.plot(at[1:], mean[1:], color=colors[name])
    left.fill_between(at[1:], (mean - error)[1:], (mean + error)[1:], color=colors[name], alpha=0.3)
    label = f"{name}, rate {rate:g}\n{mean[-1]:.3f} ± {error[-1]:.3f}"
    left.annotate(
        label, (at[-1], mean[-1]), (6, 0), textcoords="offset points", color=colors[name],
        va="center", annotation_clip=False,
    )  # fmt: skip
    changes[name] = spectrum_of_change(trained[name])
    ranks = np.linspace(0, 1, changes[name].shape[1])
    right.semilogy(ranks, changes[name].T, color=colors[name], lw=0.7, alpha=0.5)
    right.semilogy(ranks, np.median(changes[name], 0), color=colors[name], lw=2.4)
    right.annotate(
        name, (ranks[-1], np.median(changes[name], 0)[-1]), (6, 0), textcoords="offset points",
        color=colors[name], va="center", weight="bold", annotation_clip=False,
    )  # fmt: skip
left.set(xlabel="step", ylabel="test loss (nats per character)")
left.set_title("The same number of steps, each at its best rate")
right.set(xlabel="rank of the singular value, relative", ylim=(1e-4, 1.5))
right.set_ylabel("singular value, the largest is one")
right.set_title(r"$\theta_T - \theta_0$ of every hidden matrix")

print(f"validation loss after {run_steps} steps, {len(choosing)} seeds")
for name, tried in chosen.items():
    print(f"{name:7}", *(f"{rate:g}: {np.mean(losses):.3f} " for rate, losses in tried.items()))
ends = {name: losses[:, -1] for name, losses in curves.items()}
gain = ends["AdamW"].mean() - ends["Muon"].mean()
error = np.sqrt(sum(x.var(ddof=1) / len(x) for x in ends.values()))
print(f"test loss of AdamW minus that of Muon: {gain:.3f} ± {error:.3f}")
middle = {name: np.median(change, 0)[change.shape[1] // 2] for name, change in changes.items()}
checks["Muon ends lower than AdamW, by more than 3 standard errors"] = SMALL or gain > 3 * error
checks["both best rates lie inside their grids"] = SMALL or all(
    min(chosen[name]) < best[name] < max(chosen[name]) for name in chosen
)
checks["Muon's change is the flatter one"] = middle["Muon"] > middle["AdamW"]

# %% [markdown]
# ## Checks
#
# The last checks use matrices whose result is known without a decomposition.

# %%
five = partial(gx.newton_schulz, coefficients="jordan", steps=5)
p5 = lambda x: compose([(3.4445, -4.7750, 2.0315)] * 5, x)
rank_one = np.outer(rng.normal(size=8), rng.normal(size=12)).astype(np.float32)
orthogonal = np.linalg.qr(rng.normal(size=(16, 16)))[0].astype(np.float32)
exact = gx.newton_schulz(kinds["Gaussian"].astype(np.float32), "classical", steps=20)
u, _, vt = svd(kinds["Gaussian"])
checks["rank one: its singular value becomes p^5(1) = .6964"] = (
    abs(svd(five(rank_one))[1][0] - p5(1.0)) < 1e-5 and abs(p5(1.0) - 0.696436) < 1e-6
)
checks["orthogonal 16 x 16: all become p^5(1/4) = .7145"] = (
    np.allclose(svd(five(orthogonal))[1], p5(0.25), atol=1e-5) and abs(p5(0.25) - 0.714526) < 1e-6
)
checks["a convergent triple, twenty times: U V^T itself"] = relative_error(exact, u @ vt) < 2e-6
checks["odd, and zero at zero"] = np.array_equal(five(-rank_one), -five(rank_one)) and not np.any(
    five(0 * rank_one)
)
checks["the transpose of the result is the result of the transpose"] = np.array_equal(
    five(rank_one.T), five(rank_one).T
)
for name, passed in checks.items():
    print("ok  " if passed else "FAIL", name)
assert all(checks.values()), [name for name, passed in checks.items() if not passed]
