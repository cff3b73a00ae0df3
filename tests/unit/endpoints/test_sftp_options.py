"""What lint says about the options of `sftp`: its connector, its source and its sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import load_workspace
from esb.endpoints.sftp import SftpConnection, SftpSink, SftpSource
from esb.secret import Secret
from esb.spec import MISSING

Options = Callable[[type, Any], tuple[Any, list[str]]]

CONNECTOR = """
connector: gw
type: sftp
host: sftp.supplier.example
user: graz
{more}
"""
ROUTE = "route: r\nfrom: { sftp: { %s path: '/in/*.csv' } }\nsteps: [ { to: { sftp: { %s path: /out/a } } } ]\n"


def problems_of(root: Path, more: str, source: str = "connector: gw,", sink: str = "connector: gw,") -> list[str]:
    (root / "routes").mkdir(exist_ok=True)
    (root / "connectors").mkdir(exist_ok=True)
    (root / "connectors/gw.yaml").write_text(CONNECTOR.format(more=more))
    (root / "routes/r.yaml").write_text(ROUTE % (source, sink))
    environ = {"ESB_SECRET_GW": "s3cret"}
    _, problems = load_workspace(root, environ=environ)
    return [f"{problem.code} {problem.message} | {problem.hint}" for problem in problems]


@pytest.mark.parametrize("key", ["${secret:gw}", "keys/gw", "${GW_KEY:-/etc/esb/keys/gw}"])
def test_a_connector_with_key_and_known_hosts_is_enough(tmp_path: Path, key: str) -> None:
    assert problems_of(tmp_path, f"key: {key}\nknown_hosts: connectors/gw.known_hosts") == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("known_hosts: gw.known_hosts", "needs a login"),
        ("key: ${secret:gw}", "exactly one of `known_hosts`, `trust_all: true`"),
        ("key: ${secret:gw}\nknown_hosts: x\ntrust_all: true", "exactly one of `known_hosts`, `trust_all: true`"),
        ("key: ${secret:gw}\nknown_hosts: x\npatience: 10ms", "`patience` must be at least 1s"),
        ("key: |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  b3Bl\nknown_hosts: x", "a secret is written in the file"),
        ("key_file: keys/gw\nknown_hosts: x", "here it is `key`"),
        ("password: ${secret:gw}\nknown_hosts: x\nport: 70000", "port"),
    ],
)
def test_what_is_wrong_with_a_connector(tmp_path: Path, more: str, words: str) -> None:
    found = problems_of(tmp_path, more)
    assert any(words in problem for problem in found), found


def test_the_hint_says_how_to_get_the_host_key(tmp_path: Path) -> None:
    assert any("ssh-keyscan -p 22 sftp.supplier.example" in text for text in problems_of(tmp_path, "key: ${secret:gw}"))


@pytest.mark.parametrize("where", ["source", "sink"])
def test_an_endpoint_names_its_connector(tmp_path: Path, where: str) -> None:
    found = problems_of(tmp_path, "key: ${secret:gw}\nknown_hosts: x", **{where: ""})
    assert len(found) == 1
    assert "`sftp` does not say which system" in found[0]


def test_source_and_sink_take_the_options_of_file(options: Options) -> None:
    source, problems = options(
        SftpSource,
        {
            "path": "/in/*.csv",
            "every": "1m",
            "ready": {"stable_for": "20s"},
            "done": {"move": "../archive/"},
            "failed": {"move": "/rejected/", "report": "errors.csv"},
        },
    )
    assert problems == []
    assert source.every == timedelta(minutes=1)
    sink, problems = options(SftpSink, {"path": "/out/{{ body.id }}.json", "exists": "replace", "mkdirs": False})
    assert problems == []
    assert (sink.exists, sink.mkdirs) == ("replace", False)


@pytest.mark.parametrize(
    ("cls", "given", "words"),
    [
        (SftpSource, {"path": "/in/"}, "names a folder"),
        (SftpSource, {"path": "/in/*", "done": {"move": "."}}, "is the folder that is watched"),
        (SftpSource, {"path": "/in/*", "ready": {}}, "exactly one of"),
        (SftpSink, {"path": "/out/"}, "names a folder"),
        (SftpSink, {"path": "{{ body.where }}/x"}, "begins with a value of the message"),
    ],
)
def test_paths_are_checked_as_those_of_file(options: Options, cls: type, given: Mapping[str, Any], words: str) -> None:
    found, problems = options(cls, given)
    assert found is MISSING or problems
    assert any(words in problem for problem in problems), problems


def test_no_secret_shows_in_the_options() -> None:
    connection = SftpConnection(host="h", user="u", key=Secret("PRIVATE"), password=Secret("PASS"), known_hosts="x")
    assert "PRIVATE" not in repr(connection)
    assert "PASS" not in repr(connection)
