"""Limits on what one text or one configuration may ask for, so that none takes long or fills the memory.

A text can be short and still ask for much work, and a mapping that was read from YAML can contain the
same part many times. So whatever is read is counted, and every count has a limit. The limits lie far
above what an optimizer needs.
"""

MOST_CHARACTERS = 100_000
# A constructor takes up to half a millisecond.
MOST_CALLS = 1000
# The functions that walk through a value are recursive, so a deeply nested value could exceed Python's
# limit on recursion.
MOST_LEVELS = 50


class Budget:
    """What has been used up so far. Each method returns a problem, or an empty string."""

    def __init__(self) -> None:
        self.characters, self.calls = 0, 0

    def read(self, characters: int) -> str:
        """Count the characters of a text, or of the parts of a mapping.

        Args:
            characters: how many characters are added.
        """
        self.characters += characters
        if self.characters <= MOST_CHARACTERS:
            return ""
        return f"a text can have at most {MOST_CHARACTERS} characters, and this one has more."

    def call(self, cost: int = 1) -> str:
        """Count a call of a constructor.

        Args:
            cost: how many ordinary calls take as long as this one.
        """
        self.calls += cost
        if self.calls <= MOST_CALLS:
            return ""
        return (
            f"the text asks for too much work: it can make at most {MOST_CALLS} calls, where a slow "
            "call counts several times."
        )
