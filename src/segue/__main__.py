"""The entry point of `segue` and of `python -m segue`: settings that must stand before JAX is imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # A run shares its GPU with a simulator's renderer, and other people.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from segue.cli.main import command

    sys.exit(command(sys.argv[1:]))


if __name__ == "__main__":
    main()
