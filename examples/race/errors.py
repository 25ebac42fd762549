"""The one kind of error that the race reports as a sentence."""


class RaceError(Exception):
    """A mistake that the user can correct; it is printed as a sentence, without a traceback."""
