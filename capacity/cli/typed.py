"""The words of a command line: which it may not have, and how an error calls the options among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from capacity.errors import UsageError

_SUBJECT = re.compile(
    r"(?:the )?(?P<first>[a-z][a-z0-9 _-]*?)(?:(?P<between> and | without )(?P<second>[a-z][a-z0-9 _-]*?))?"
    r"(?= (?:is|are|holds|share|names|exclude)\b| '| -?[0-9]+:|;|$)"
)
"""What an error says something of, at its begin: a parameter, or two."""


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


def with_options(message: str, words: Sequence[str], command: Any) -> str:
    """Return an error of the rooms above with the options for the parameters that it begins with, as they were typed.

    Those rooms serve notebooks too, which have parameters and no options.
    """
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    typed = {word.partition("=")[0] for word in words if word.startswith("--")}
    options: dict[str, str] = {}
    for parameter in command.params:
        for option in typed.intersection(parameter.opts):
            options |= {_plain(name): option for name in (*parameter.opts, parameter.name)}
    subject = _SUBJECT.match(message)
    if subject is None:
        return message
    first, second = (options.get(_plain(subject[part] or ""), subject[part]) for part in ("first", "second"))
    if (first, second) == (subject["first"], subject["second"]):
        return message
    return f"{first}{subject['between'] or ''}{second or ''}{message[subject.end() :]}"


def _plain(name: str) -> str:
    return name.removeprefix("--").replace("_", "-").replace(" ", "-")
