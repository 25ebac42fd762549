"""Optimizers by family: fields and a definition each, and no arithmetic."""
