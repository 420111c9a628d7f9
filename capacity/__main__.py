"""``python -m capacity`` is the command line."""

from __future__ import annotations

from capacity.cli import main

if __name__ == "__main__":
    main()
