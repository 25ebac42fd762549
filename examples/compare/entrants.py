"""Which optimizers take part, each in one line: its middle learning rate, and its second number.

The learning rate of a line is the middle of what is tried first. The second number is the one that its
users tune next; of most optimizers that is the memory of the first moment. `second` names it where the
rule of `second_of` would take another one.
"""

import dataclasses
from typing import Any

import jax

import gradtx

# Fields that are tried as the second number, the first one that an optimizer has.
SECOND_NUMBERS = {
    "beta": (0.8, 0.9, 0.97),
    "b1": (0.8, 0.9, 0.97),
    "momentum": (0.8, 0.9, 0.97),
    "mu": (0.8, 0.9, 0.97),
    "b2": (0.9, 0.97, 0.99),
    "rho": (0.8, 0.9, 0.99),
    "decay": (0.8, 0.9, 0.99),
    "decay_rate": (0.6, 0.8, 0.95),
    "initial_accumulator_value": (1e-6, 1e-3, 0.1),
    "eta_plus": (1.1, 1.2, 1.4),
    "eta": (0.001, 0.01, 0.1),
    "alpha": (0.5, 1.0, 2.0),
    "slow_step_size": (0.2, 0.5, 0.8),
}


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One optimizer of the comparison.

    Attributes:
        tx: the optimizer, with the middle of its learning rates.
        second: the field of its second number, which may be inside another optimizer; None if it has
            no such number, and then three times as many learning rates are tried.
        rate: the field of its learning rate.
        also: further fields that are set to the learning rate, as a number.
        schedule: whether its learning rate falls to zero during a run. Some optimizers are made for a
            rate that stays.
        costly: whether it also runs on the costly problems.
        label: its name, if it is not the only entrant of its class.
        values: the values of the second number that are tried; None means those of its field.
    """

    tx: Any
    second: str | None = None
    rate: str = "learning_rate"
    also: tuple[str, ...] = ()
    schedule: bool = True
    costly: bool = False
    label: str | None = dataclasses.field(default=None, repr=False)
    values: tuple[Any, ...] | None = dataclasses.field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.label or type(self.tx).__name__

    @property
    def of_matrices(self) -> bool:
        """Whether it gives everything but matrices to another optimizer."""
        return hasattr(self.tx, "auxiliary")

    def made(self, rate: float, second: Any, steps: int) -> Any:
        """The optimizer with these two numbers, for a run of so many steps."""
        falling = gradtx.linear_schedule(rate, 0.0, steps) if self.schedule else rate
        numbers = dict.fromkeys(self.also, rate)
        if self.second is not None:
            numbers[self.second] = second
        return gradtx.replace(self.tx, **{self.rate: falling}, **numbers)

    @property
    def middle(self) -> float:
        """The middle learning rate."""
        return next(x for x in numbers_at(self.tx, self.rate) if x > 0)

    @property
    def seconds(self) -> tuple[Any, ...]:
        """The values of the second number that are tried."""
        if self.second is None:
            return (None,)
        if self.values is not None:
            return self.values
        field = self.second.split(".")[-1]
        if field == "betas":
            return tuple((b1, 0.999) for b1 in SECOND_NUMBERS["b1"])
        return SECOND_NUMBERS[field]


def entrant(tx: Any, **options: Any) -> Entrant:
    """An entrant whose second number is found by the rule, unless it is given."""
    options.setdefault("second", second_of(tx))
    return Entrant(tx, **options)


def second_of(tx: Any) -> str | None:
    """The first field of `SECOND_NUMBERS` that the optimizer has as a number."""
    numbers = (name for name in SECOND_NUMBERS if isinstance(getattr(tx, name, None), float))
    return next(numbers, None)


def numbers_at(tx: Any, name: str) -> list[float]:
    """The number at the end of a path of fields, or those in all fields of this name further in."""
    *parts, last = name.split(".")
    for part in parts:
        tx = getattr(tx, part)
    if isinstance(own := getattr(tx, last, None), float):
        return [own]
    leaves = jax.tree_util.tree_leaves_with_path(tx)
    return [
        x for path, x in leaves if getattr(path[-1], "name", None) == last and isinstance(x, float)
    ]


def _table() -> tuple[Entrant, ...]:
    x = gradtx
    return (
        entrant(x.sgd(0.1, momentum=0.9), costly=True),
        entrant(x.sign_sgd(0.003)),
        entrant(x.signum(0.003)),
        entrant(x.noisy_sgd(0.1)),
        entrant(x.qhm(0.1, momentum=0.9)),
        entrant(x.aggmo(0.1), second=None),
        entrant(x.optimistic_gradient_descent(0.1), second="alpha"),
        entrant(x.polyak_sgd(100.0), rate="scaling", second=None, schedule=False),
        entrant(x.rprop(0.003), schedule=False),
        entrant(x.lars(3.0)),
        entrant(x.fromage(0.03)),
        entrant(x.adagrad(0.1)),
        entrant(x.adadelta(1.0)),
        entrant(x.rmsprop(0.01)),
        entrant(x.adam(0.01), costly=True),
        entrant(x.amsgrad(0.01)),
        entrant(x.adamax(0.01)),
        entrant(x.adamaxw(0.01)),
        entrant(x.adamw(0.01), costly=True),
        entrant(x.adamw(0.01, b2=0.95), label="adamw(b2=0.95)", costly=True),
        entrant(x.adamc(0.01, max_learning_rate=0.01), also=("max_learning_rate",)),
        entrant(x.nadam(0.01)),
        entrant(x.nadamw(0.01)),
        entrant(x.radam(0.01)),
        entrant(x.adabelief(0.01)),
        entrant(x.yogi(0.01)),
        entrant(x.laprop(0.01)),
        entrant(x.adopt(0.01)),
        entrant(x.adan(0.01)),
        entrant(x.ademamix(0.01)),
        entrant(x.simplified_ademamix(0.001)),
        entrant(x.adam_atan2(0.01)),
        entrant(x.adam_mini(0.01)),
        entrant(x.stableadamw(0.01)),
        entrant(x.lamb(0.01)),
        entrant(x.novograd(0.01)),
        entrant(x.optimistic_adam_v2(0.01), second="b1"),
        entrant(x.madgrad(0.01)),
        entrant(x.adafactor(0.01, multiply_by_parameter_scale=False), costly=True),
        entrant(x.came(0.01)),
        entrant(x.sm3(0.1)),
        entrant(x.lion(0.003), costly=True),
        entrant(x.mars(0.01), costly=True),
        entrant(x.sophia(0.003)),
        entrant(x.schedule_free_sgd(1.0), schedule=False),
        entrant(x.schedule_free_adamw(0.01), schedule=False, costly=True),
        entrant(x.prodigy(1.0), second="betas", costly=True),
        entrant(x.dadapt_adamw(1.0), second="betas"),
        entrant(x.dog(1.0), second=None, schedule=False),
        entrant(x.muon(0.03), costly=True),
        entrant(x.normuon(0.03), costly=True),
        entrant(x.adamuon(0.01)),
        entrant(x.muon2(0.03)),
        entrant(x.contra_muon(0.03)),
        entrant(x.aurora(0.03)),
        entrant(x.muown(0.03)),
        entrant(x.namo(0.03)),
        entrant(x.polargrad(0.03)),
        entrant(x.rmnp(0.03)),
        entrant(x.scion(0.001)),
        entrant(x.dion(0.03)),
        entrant(x.adamh(0.03)),
        entrant(x.muonh(0.03)),
        entrant(x.soap(0.01), costly=True),
        entrant(x.kl_soap(0.01)),
        entrant(x.soap_muon(0.03), costly=True),
        entrant(x.splus(0.03)),
        entrant(x.shampoo(0.01), costly=True),
        entrant(x.psgd_kron(0.01), costly=True),
        entrant(x.galore(0.01, rank=4)),
        entrant(x.apollo(0.01, rank=4)),
        entrant(
            x.lookahead(x.adamw(0.01)), second="slow_step_size", rate="fast_optimizer.learning_rate"
        ),
        entrant(
            x.sam(x.sgd(0.1, momentum=0.9)),
            second="optimizer.momentum",
            rate="optimizer.learning_rate",
        ),
        entrant(
            x.asam(x.sgd(0.1, momentum=0.9)),
            second="optimizer.momentum",
            rate="optimizer.learning_rate",
        ),
        entrant(
            x.soda(x.adamw(0.01, weight_decay=0.0)), second="inner.b1", rate="inner.learning_rate"
        ),
    )


ENTRANTS: dict[str, Entrant] = {entrant.name: entrant for entrant in _table()}
