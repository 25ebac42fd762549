"""Optimizers by family: each is a set of fields and the composition that they stand for."""
