"""Optimizers by family: fields and a definition each. No arithmetic stands here."""
