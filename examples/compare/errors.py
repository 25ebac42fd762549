"""The one kind of error that the comparison reports as a sentence."""


class CompareError(Exception):
    """A mistake that the user can correct; it is printed as a sentence, without a traceback."""
