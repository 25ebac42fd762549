"""Optimizers written as text."""
