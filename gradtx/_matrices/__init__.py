"""Transformations of one matrix at a time."""
