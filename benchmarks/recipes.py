"""Every recipe once, with settings in which all of its state is in use."""

from collections.abc import Callable

import gradtx

RATE = 1e-3

RECIPES: dict[str, Callable[[gradtx.Hyper], gradtx.Transform]] = {
    "sgd": lambda rate: gradtx.sgd(rate, momentum=0.9),
    "adagrad": lambda rate: gradtx.adagrad(rate),
    "rmsprop": lambda rate: gradtx.rmsprop(rate, momentum=0.9),
    "adadelta": lambda rate: gradtx.adadelta(rate),
    "adam": lambda rate: gradtx.adam(rate),
    "adamw": lambda rate: gradtx.adamw(rate),
    "amsgrad": lambda rate: gradtx.amsgrad(rate),
    "nadam": lambda rate: gradtx.nadam(rate),
    "nadamw": lambda rate: gradtx.nadamw(rate),
    "muon": lambda rate: gradtx.muon(rate),
    "normuon": lambda rate: gradtx.normuon(rate),
    "adamuon": lambda rate: gradtx.adamuon(rate),
    "scion": lambda rate: gradtx.scion(rate),
}
