"""Every part of ``make bench`` can be loaded: what it measures has other names after a change."""

from __future__ import annotations

from benchmarks.__main__ import PARTS


def test_every_part_can_be_loaded() -> None:
    assert {"core", "http", "amqp", "sftp", "sql", "isolation"} <= PARTS.keys()
