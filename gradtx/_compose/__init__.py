"""Transformations of transformations: in series, in parallel, and by parameter."""
