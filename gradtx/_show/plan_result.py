"""`StepPlan`: what a step of an optimizer costs every device of a mesh."""

from collections.abc import Mapping
from typing import NamedTuple

from gradtx._show.html import columns, paragraph, table
from gradtx._show.text import count_of, size_of

_HEADER = ("operation", "mesh axes", "devices", "runs", "size", "sent")


class Traffic(NamedTuple):
    """Equal collective operations of a step.

    Attributes:
        kind: the name of the operation, such as "all-to-all".
        axes: the mesh axes along which the devices exchange arrays.
        devices: how many devices take part in one group.
        runs: how often a step carries it out.
        bytes: the size of its result, or of its operand if that is larger.
        sent: the bytes that a device sends in all runs, if the devices of a group form a ring.
    """

    kind: str
    axes: tuple[str, ...]
    devices: int
    runs: int
    bytes: int
    sent: float


class StepPlan(NamedTuple):
    """The result of `plan`, which prints as a table. All numbers are those of one device.

    Attributes:
        name: the name of the optimizer.
        mesh: the number of devices along every mesh axis.
        platform: what the step was compiled for, "cpu" or the name of a TPU topology.
        compile_seconds: the CPU time that compiling took.
        parameter_bytes: the size of its part of the parameters, which is that of the gradients.
        state_bytes: the size of its part of the state, in its own memory.
        host_bytes: the size of its part of the state in the memory of the host (`offloaded`).
        temporary_bytes: the memory that a step needs besides.
        flops: the floating-point operations in matrix products; None if they were not counted.
        traffic: the collective operations.
        product_seconds: the time of the products at the given rate, or None without a rate.
        memory_seconds: the time to read parameters, state and gradients once, and to write parameters
            and state once, at the given bandwidth, or None without a bandwidth.
        network_seconds: the time to send what the collective operations send, at the given bandwidths,
            or None without a bandwidth.
    """

    name: str
    mesh: Mapping[str, int]
    platform: str
    compile_seconds: float
    parameter_bytes: int
    state_bytes: int
    host_bytes: int
    temporary_bytes: int
    flops: int | None
    traffic: tuple[Traffic, ...]
    product_seconds: float | None = None
    memory_seconds: float | None = None
    network_seconds: float | None = None

    @property
    def sent_bytes(self) -> float:
        """The bytes that a device sends in a step."""
        return sum(x.sent for x in self.traffic)

    @property
    def operations(self) -> int:
        """How many collective operations a step carries out."""
        return sum(x.runs for x in self.traffic)

    @property
    def roofline_seconds(self) -> float | None:
        """The longest of the times that are known, which a step takes at least; None if none is."""
        return max((s for _, s in self._times), default=None)

    @property
    def _times(self) -> list[tuple[str, float]]:
        times = {
            "products": self.product_seconds,
            "memory": self.memory_seconds,
            "network": self.network_seconds,
        }
        return [(name, s) for name, s in times.items() if s is not None]

    @property
    def _title(self) -> str:
        axes = ", ".join(f"{name}: {size}" for name, size in self.mesh.items())
        return (
            f"{self.name} on a mesh with the axes ({axes}), compiled for {self.platform} in "
            f"{self.compile_seconds:.1f} s of CPU time"
        )

    @property
    def _sizes(self) -> list[tuple[str, str]]:
        flops = "not counted" if self.flops is None else f"{count_of(self.flops)}FLOP"
        return [
            ("parameters", size_of(self.parameter_bytes)),
            ("state", size_of(self.state_bytes)),
            *([("state on the host", size_of(self.host_bytes))] if self.host_bytes else []),
            ("temporaries", size_of(self.temporary_bytes)),
            ("matrix products", flops),
            ("sent", f"{size_of(self.sent_bytes)} in {self.operations} operations"),
        ]

    @property
    def _table(self) -> list[tuple[str, ...]]:
        rows = [
            (
                x.kind,
                ", ".join(x.axes),
                f"{x.devices:,}",
                f"{x.runs:,}",
                size_of(x.bytes),
                size_of(x.sent),
            )
            for x in sorted(self.traffic, key=lambda x: -x.sent)
        ]
        return [_HEADER, *rows]

    @property
    def _roofline(self) -> str:
        if not self._times:
            return ""
        parts = ", ".join(f"{name} {_seconds(s)}" for name, s in self._times)
        return f"at least {_seconds(max(s for _, s in self._times))}: {parts}"

    def __repr__(self) -> str:
        lines = [self._title, *columns(self._sizes)]
        lines += ["", *columns(self._table, right=(2, 3, 4, 5))] if self.traffic else []
        return "\n".join([*lines, *(["", self._roofline] if self._roofline else [])])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        parts = [paragraph(self._title), table(("on every device", ""), self._sizes)]
        parts += [table(self._table[0], self._table[1:])] if self.traffic else []
        return "".join([*parts, *([paragraph(self._roofline)] if self._roofline else [])])


def _seconds(s: float) -> str:
    """A time with a unit, such as "1.5 ms"."""
    scale, unit = next(
        ((scale, unit) for scale, unit in ((1, "s"), (1e-3, "ms")) if s >= scale), (1e-6, "µs")
    )
    return f"{s / scale:.3g} {unit}"
