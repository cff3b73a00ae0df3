"""`esb try` of a file that has a fault, or in a workspace that has one: when it is wanted most."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.testing.attempt import attempt
from tests.runtime.conftest import write

ROUTE = "route: r\nfrom: { http: { path: /r } }\nsteps: [ { transform: t.j2 } ]\n"


@pytest.mark.parametrize("words", ["t.j2", "transforms/t.j2"])
def test_the_fault_of_a_file_is_shown_in_it(tmp_path: Path, words: str) -> None:
    write(tmp_path, {"routes/r.yaml": ROUTE, "transforms/t.j2": '{"lot": {{ lot }}}'})
    (problem,) = attempt(tmp_path, words, b"{}").problems
    assert (problem.code, str(problem.position)) == ("ESB407", "transforms/t.j2:1:12")


def test_a_fault_elsewhere_in_the_workspace_is_in_nobodys_way(tmp_path: Path) -> None:
    write(tmp_path, {"routes/r.yaml": "rout: r\n", "transforms/t.j2": '{"lot": {{ body.lot | tojson }}}'})
    assert attempt(tmp_path, "t.j2", b'{"lot": "4711"}').body == {"lot": "4711"}
