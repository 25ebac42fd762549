"""Wrappers: one transformation around another."""
