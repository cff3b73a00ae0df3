"""How a command reaches a bus: what it asks for is what was typed, and whatever answers, the exit code says what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import cli, exits

ROUTE = "route: lots\ntrack: { lot: body.lot }\nfrom: { http: { path: /lots } }\nsteps: [ { set: { vars.seen: body.lot } } ]\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "a.yaml").write_text(ROUTE)
    (tmp_path / "esb.yaml").write_text("bus: plant\n")
    return tmp_path


class Peer:
    """Answers each connection with the next of some answers, then with the last of them, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                connection.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    found = Peer(request.param)
    yield found
    found.close()


EMPTY = b'HTTP/1.1 200 OK\r\ncontent-length: 31\r\n\r\n{"kind": "Status", "items": []}'


def said(root: Path, *words: str, code: int, **environment: str) -> str:
    done = CliRunner(env=environment).invoke(cli, [*words, "-C", str(root)])
    assert done.exit_code == code, (done.output, done.exception)
    return str(done.output)


@pytest.mark.parametrize("peer", [EMPTY], indirect=True)
def test_a_name_with_blanks_and_umlauts_is_asked_for_as_it_is(
    peer: Peer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESB_SERVER", peer.address)
    for words in (["messages", "show", "Süd 1?x#y"], ["routes", "versions", "Süd 1?x#y"], ["trace", "Süd 1?x#y"]):
        CliRunner().invoke(cli, [*words, "-C", str(root)])
    asked = [line.split(b" ")[1].decode() for line in peer.asked]
    name = "S%C3%BCd%201%3Fx%23y"
    assert asked == [f"/api/v1/{path}" for path in (f"messages/{name}", f"routes/{name}/versions", f"trace/{name}")]


def test_a_route_whose_name_nobody_could_have_written_is_missing_also_of_a_stopped_bus(root: Path) -> None:
    for words in (
        ["routes", "pause", "Süd 1", "--reason", "x"],
        ["messages", "show", "a b"],
        ["routes", "diff", "ä b"],
    ):
        done = CliRunner().invoke(cli, [*words, "-C", str(root)])
        assert done.exit_code == exits.MISSING, (words, done.output, done.exception)


@pytest.mark.parametrize(
    "words",
    [
        ["trace", b"\xc4x"],
        ["dlq", "discard", "--all", "--reason", b"\xc4x"],
    ],
    ids=lambda words: words[0],
)
def test_an_argument_that_is_no_text_is_a_slip_of_whoever_typed_it(words: list[str | bytes], root: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "esb", *words], check=False, cwd=root, capture_output=True, timeout=60)
    assert done.returncode == exits.USAGE, done.stderr
    assert b"an argument is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "peer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"",
    ],
    ids=["another protocol", "died in its answer", "a page", "nothing"],
    indirect=True,
)
def test_whatever_answers_instead_of_a_bus_is_unreachable(peer: Peer, root: Path) -> None:
    assert "answer" in said(root, "status", code=exits.UNREACHABLE, ESB_SERVER=peer.address)


@pytest.mark.parametrize(
    "server", ["127.0.0.1:8081", "file:///etc/hosts", "ftp://127.0.0.1", "http://", "plant", "http://[::1"]
)
def test_an_address_that_is_none_is_said_and_nothing_else_is_opened(server: str, root: Path) -> None:
    assert "ESB_SERVER" in said(root, "status", code=exits.USAGE, ESB_SERVER=server)


@pytest.mark.parametrize("peer", [EMPTY], indirect=True)
def test_a_line_break_behind_a_token_is_no_part_of_it(peer: Peer, root: Path) -> None:
    said(root, "status", "--json", code=exits.DONE, ESB_SERVER=peer.address, ESB_TOKEN="esb_1\n")
    assert b"Authorization: Bearer esb_1\r\n" in peer.asked[0]


@pytest.mark.parametrize("token", ["ESBS\nECRET", "ESBSECRET€"])
def test_what_no_token_can_be_is_refused_without_showing_it(token: str, root: Path) -> None:
    words = said(root, "status", code=exits.NOT_ALLOWED, ESB_SERVER="http://127.0.0.1:1", ESB_TOKEN=token)
    assert "ESB_TOKEN" in words
    assert "ECRET" not in words


def test_an_authority_that_is_not_there_is_said(root: Path) -> None:
    words = said(root, "status", code=exits.BAD_CONFIG, ESB_SERVER="https://127.0.0.1:1", ESB_CA=str(root / "no.pem"))
    assert "ESB_CA" in words


def listing(*ids: str) -> bytes:
    item = {
        "route": "lots",
        "scope": "",
        "state": "done",
        "key": "",
        "track": {},
        "accepted_at": "2026-05-31T06:00:00Z",
    }
    items = [{**item, "id": id_, "finished_at": "2026-05-31T06:00:00Z"} for id_ in ids]
    body = json.dumps({"kind": "MessageList", "items": items}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def test_a_tail_outlives_a_restart_of_the_bus(root: Path) -> None:
    peer = Peer(listing("a"), b"", b"", listing("b", "a"))
    try:
        words = ["tail", "--last", "1", "--count", "2", "--every", "0.1", "-C", str(root)]
        done = CliRunner(env={"ESB_SERVER": peer.address}).invoke(cli, words)
    finally:
        peer.close()
    assert done.exit_code == exits.DONE, (done.output, done.exception)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["a", "b"]
    assert done.stderr.count("it is asked again") == 1


def test_why_a_bus_does_not_answer_is_said_in_words(root: Path) -> None:
    words = said(root, "status", code=exits.UNREACHABLE, ESB_SERVER="http://127.0.0.1:1")
    assert "urlopen" not in words
    assert "Connection refused" in words
