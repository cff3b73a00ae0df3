"""``esb secrets``: names and places, never values; what is written is the owner's alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keyring
import pytest
from click.testing import CliRunner
from keyring.backend import KeyringBackend

from esb.cli import cli
from esb.config.loader import load_workspace

ROUTE = """
route: r
from: { http: { path: /r, auth: { api_key: [ { key: "${secret:qms-key}", client: qms } ] } } }
steps:
  - to: { http: { url: "http://127.0.0.1:9/x", auth: { bearer: "${secret:erp-token}" } } }
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "r.yaml").write_text(ROUTE)
    monkeypatch.setenv("ESB_SECRET_QMS_KEY", "value-of-qms")
    return tmp_path


def run(bus: Path, *words: str, said: str | None = None, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["secrets", *words, "-C", str(bus)], input=said)
    assert done.exit_code == code, done.output
    assert "value-of" not in done.output
    return done.output


def listed(bus: Path) -> dict[str, tuple[str, list[str]]]:
    found: list[dict[str, Any]] = json.loads(run(bus, "ls", "--json"))["items"]
    return {item["name"]: (item["source"], item["used_by"]) for item in found}


def test_each_name_says_where_it_comes_from_and_who_uses_it(bus: Path) -> None:
    assert listed(bus) == {
        "erp-token": ("missing", ["routes/r.yaml:5:64"]),
        "qms-key": ("environment", ["routes/r.yaml:3:53"]),
    }
    assert "erp-token" in run(bus, "check", code=1)
    run(bus, "set", "erp-token", "--stdin", said="value-of-erp\n")
    assert listed(bus)["erp-token"][0] == "file"
    assert run(bus, "check") == "every secret is there\n"
    workspace, problems = load_workspace(bus)
    assert workspace is not None, problems


def test_what_is_written_is_the_owners_alone_and_whole(bus: Path) -> None:
    run(bus, "set", "erp-token", "--stdin", said="value-of-first")
    run(bus, "set", "erp-token", "--stdin", said="value-of-second")
    path = bus / ".secrets" / "erp-token"
    assert path.read_text() == "value-of-second"
    assert [one.name for one in path.parent.iterdir()] == ["erp-token"]
    if os.name != "nt":
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        path.chmod(0o604)
        assert listed(bus)["erp-token"][0] == "file others may read"
        run(bus, "check", code=1)
    for words, code in [(("set", "../x", "--stdin"), 2), (("set", "x"), 2)]:
        run(bus, *words, said="value-of-x", code=code)
    run(bus, "set", "erp-token", "--stdin", said="", code=65)
    assert "the environment comes first" in run(bus, "set", "qms-key", "--stdin", said="value-of-other")


class Ring(KeyringBackend):
    """A keyring in memory."""

    priority = 1.0  # type: ignore[assignment]  # the library has a property

    def get_password(self, service: str, username: str) -> str | None:
        return "value-of-ring" if (service, username) == ("plant-graz", "erp-token") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


def test_the_keyring_is_asked_last_and_only_where_it_is_named(bus: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())
    try:
        assert listed(bus)["erp-token"][0] == "missing"
        (bus / "esb.yaml").write_text("bus: b\nkeyring: plant-graz\n")
        assert listed(bus)["erp-token"][0] == "keyring"
        workspace, problems = load_workspace(bus)
        assert workspace is not None, problems
        run(bus, "set", "erp-token", "--stdin", said="value-of-file")
        assert listed(bus)["erp-token"][0] == "file"
    finally:
        keyring.set_keyring(before)
