"""Files that come with the package: descriptions of clusters, calibrations and thresholds.

They live in ``data/`` at the repository's top; ``capacity/data`` is a link to it, which a wheel holds as files.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from capacity.errors import UsageError

SUFFIXES: Final = {"calibrations": ".json", "clusters": ".toml", "thresholds": ".toml"}
"""Kinds of shipped files."""
FOLDER: Final = Path(__file__).parent.parent / "data"


def names(kind: str) -> tuple[str, ...]:
    """Names of the shipped files of a kind, in order; empty when there are none.

    Examples
    --------
    >>> "postgres-dev" in names("clusters")
    True
    """
    folder = FOLDER / kind
    return tuple(sorted(file.stem for file in folder.glob(f"*{SUFFIXES[kind]}"))) if folder.is_dir() else ()


def path(kind: str, name: str) -> Path:
    """Path of a shipped file.

    Parameters
    ----------
    kind : str
        ``clusters``, ``calibrations`` or ``thresholds``.
    name : str
        Its name, without suffix.

    Raises
    ------
    UsageError
        If none has this name; it lists those there are and suggests the nearest.

    Examples
    --------
    >>> path("clusters", "devserver").name
    'devserver.toml'
    """
    known = names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"no {kind.removesuffix('s')} {name[:60]!r} is shipped",
            allowed=", ".join(known) or "none is shipped",
            next_step=f"did you mean {near[0]}?" if near else None,
        )
    return FOLDER / kind / f"{name}{SUFFIXES[kind]}"
