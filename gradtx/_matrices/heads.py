"""Output heads without a typical name, which `hidden_matrices` takes for hidden matrices."""

import re
from typing import Any

from gradtx._compose.patterns import HEAD, found
from gradtx._matrices.axes import hidden_matrices
from gradtx._matrices.laid_out import laid_out


def possible_heads(rule: Any, paths: list[str], leaves: list[Any]) -> dict[int, str]:
    """The leaves that may be output heads though they go to the hidden matrices, each with a remedy.

    A hidden matrix is followed by a leaf that takes its outputs as inputs. A leaf may be a head if no
    leaf takes so many inputs, and if there is no other leaf of its kind: repeated layers, such as the
    key projections of all layers, are not heads. If a leaf is called a head, nothing is returned.

    Args:
        rule: a rule; the result is empty unless it is `hidden_matrices`.
        paths: the paths of all parameters.
        leaves: the parameters, or their shapes; None for those that are not optimized.
    """
    rule = rule.rule if isinstance(rule, laid_out) else rule
    if not isinstance(rule, hidden_matrices):
        return {}
    matrices = {i: x for i, x in enumerate(leaves) if x is not None and len(x.shape) > 1}
    if len(matrices) < 2 or any(
        found(HEAD, paths[i]) or found(rule.head, paths[i]) for i in matrices
    ):
        return {}
    axes = {i: rule.axes(paths[i], x) for i, x in matrices.items()}
    taken = {
        i: axes[i].size(x.shape)[0]
        for i, x in matrices.items()
        if not found(rule.embedding, paths[i])  # its inputs are not the outputs of another leaf
    }
    kinds = [(re.sub(r"\d+", "#", paths[i]), x.shape) for i, x in matrices.items()]
    heads = {}
    for kind, (i, x) in zip(kinds, matrices.items(), strict=True):
        excluded, why = rule.why(paths[i], x)
        plain = why.startswith("matrix") and axes[i].batch(x.shape) == 1
        outputs = axes[i].size(x.shape)[1]
        followed = any(n == outputs for j, n in taken.items() if j != i)
        if (
            excluded
            or not plain
            or followed
            or kinds.count(kind) > 1
            or found(rule.query, paths[i])
        ):
            continue
        name = re.escape(paths[i].rpartition("/")[0] or paths[i])
        heads[i] = (
            f"`{paths[i]}` may be the output head, since no other leaf takes {outputs} inputs. If it "
            f"is, pass `axes=hidden_matrices(exclude={name!r})`."
        )
    return heads
