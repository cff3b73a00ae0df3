"""``python -m esb``, and the command ``esb``."""

from __future__ import annotations

import sys


def main() -> object:
    """Ctrl-C is quiet from the first line on: loading the command line alone takes a tenth of a second."""
    try:
        from esb.cli import main as command  # noqa: PLC0415 - in here, so that Ctrl-C is heard
    except KeyboardInterrupt:
        sys.exit(130)
    return command()


if __name__ == "__main__":
    main()
