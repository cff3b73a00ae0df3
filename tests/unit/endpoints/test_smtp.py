"""What the options of ``smtp`` let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.loader import load_workspace

ROUTE = "route: r\nfrom: { timer: { every: 1h } }\nsteps: [ { to: mail.hold } ]\n"
CONNECTOR = "connector: mail\ntype: smtp\n%s\noperations:\n  hold: { %s }\n"
GOOD = "host: mail.plant.example"
HOLD = "from: esb@plant.example, to: desk@plant.example, subject: Hold, text: '{{ body.lot }}'"


def codes(tmp_path: Path, connector: str = GOOD, hold: str = HOLD) -> list[str]:
    for folder, text in (("connectors", CONNECTOR % (connector, hold)), ("routes", ROUTE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text(text)
    _, problems = load_workspace(tmp_path, environ={}, resolve_env=False)
    return [problem.code for problem in problems]


def test_a_server_and_an_operation(tmp_path: Path) -> None:
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("connector", "code"),
    [
        ("port: 25", "ESB102"),
        (f"{GOOD}\nuser: esb", "ESB102"),
        (f"{GOOD}\nuser: esb\npassword: geheim", "ESB501"),
        (f"{GOOD}\nuser: esb\npassword: ${{secret:mail}}\nsecurity: none", "ESB107"),
        (f"{GOOD}\nsecurity: ssl", "ESB105"),
    ],
)
def test_a_server_that_is_refused(tmp_path: Path, connector: str, code: str) -> None:
    assert code in codes(tmp_path, connector)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("desk@plant.example", "'{{ body.mail }}'"), "ESB103"),
        (("desk@plant.example", "'desk@plant.example\\r\\nRCPT TO:<x@y>'"), "ESB103"),
        (("desk@plant.example", "[]"), "ESB102"),
        (("subject: Hold", "format: csv, subject: Hold"), "ESB102"),
    ],
)
def test_a_mail_that_is_refused(tmp_path: Path, change: tuple[str, str], code: str) -> None:
    assert codes(tmp_path, GOOD, HOLD.replace(*change)) == [code]
