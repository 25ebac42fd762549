"""Showing a transformation: as a tree, as a table of where each leaf goes, and as an equation."""
