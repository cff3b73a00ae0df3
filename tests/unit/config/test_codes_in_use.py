"""A code that the program reports stands in the table that explains it."""

from __future__ import annotations

import re
from pathlib import Path

import esb
from esb.config.codes import CODES

SOURCES = Path(esb.__file__).parent


def test_every_code_in_the_source_is_explained() -> None:
    used = {
        code for path in SOURCES.rglob("*.py") for code in re.findall(r'"(ESB\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert used <= set(CODES)
