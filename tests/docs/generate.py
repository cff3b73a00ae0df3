"""Writes ``docs/reference/*.md`` from the code. ``make docs`` runs it; a test fails where the files differ."""

from __future__ import annotations

import shutil
from pathlib import Path

from esb.config.editor import reference_markdown
from esb.registry import load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def pages() -> dict[str, str]:
    """File name to text."""
    return dict(reference_markdown(load()))


def main() -> None:
    if REFERENCE.exists():
        shutil.rmtree(REFERENCE)
    REFERENCE.mkdir(parents=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
