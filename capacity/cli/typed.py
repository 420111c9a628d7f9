"""The words of a command line: which it may not have."""

from __future__ import annotations

from collections.abc import Sequence

from capacity.errors import UsageError


def check_words(words: Sequence[str]) -> None:
    """Refuse a word that no record and no request can hold, and an empty one, before anything is done for it.

    An empty word is most often a variable of the shell that is not set, and would pass for an option left out.
    """
    for before, word in zip(("", *words), words, strict=False):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word[:60]!a} is not UTF-8", next_step="type it, or name the file, in UTF-8") from None
        option, equals, value = word.partition("=")
        named = option if option.startswith("--") and equals else before if before.startswith("--") else "an argument"
        if not (value if named == option else word):
            raise UsageError(f"{named} is empty", next_step="pass a value, or leave it out; is a variable not set?")
