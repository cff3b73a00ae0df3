"""``python -m esb``."""

from __future__ import annotations

from esb.cli import main

main()
