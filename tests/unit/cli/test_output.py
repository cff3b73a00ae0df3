"""Tables stay readable whatever stands in a message."""

from __future__ import annotations

import pytest

from esb.cli.output import WIDEST, table


def test_one_long_key_does_not_push_the_other_columns_away(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"key": "k" * 3000, "state": "done"}, {"key": "4711", "state": "dead"}]
    table(rows, (("KEY", "key"), ("STATE", "state")), empty="nothing")
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "k" * (WIDEST - 1) + "…  done"
    assert head.index("STATE") == second.index("dead") == WIDEST + 2
