"""Transformations of one array at a time."""
