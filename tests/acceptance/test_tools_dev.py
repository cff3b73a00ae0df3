"""`esb dev`, as the one who writes routes sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_program import esb, items, post

pytestmark = pytest.mark.acceptance

FILES = {
    "connectors/erp.yaml": """
connector: erp
type: http
base_url: http://127.0.0.1:1
auth: { bearer: { token: "${secret:nobody-set-this}" } }
operations: { post: { path: "/lots/{{ body.Lot }}", success_when: meta.reply.body.ok } }
stub: { post: { status: 201, json: { ok: true } } }
""",
    "connectors/broker.yaml": "connector: broker\ntype: amqp\nurl: amqp://127.0.0.1:1/\n",
    "routes/lots.yaml": """
route: lots
from: { http: { path: /lots } }
steps:
  - map: { Lot: body.lot }
  - to: erp.post
---
route: from-queue
from: { amqp: { connector: broker, queue: lots } }
steps:
  - log: "got {{ body.lot }}"
""",
    "routes/lots.test.yaml": """
route: lots
cases:
  - name: it is sent
    send: { json: { lot: "1" } }
    expect: { state: done, sent: { to: erp.post, json: { Lot: "1" } } }
""",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dev")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


class Terminal:
    def __init__(self, root: Path, stdin: int = subprocess.DEVNULL) -> None:
        env = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}  # no browser comes up
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        command = [sys.executable, "-m", "esb", "dev", str(root), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=env, text=True, **pipes)

    def until(self, *words: str) -> str:
        """The next line with these words; fails when the program ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if all(word in line for word in words):
                return line
        raise AssertionError(f"never said: {words}\n{self.process.stderr.read() if self.process.stderr else ''}")


@pytest.fixture(scope="module")
def terminal(root: Path) -> Iterator[Terminal]:
    one = Terminal(root)
    yield one
    one.process.terminate()
    assert one.process.wait(60) == 0
    for stream in (one.process.stdout, one.process.stderr):
        assert stream is not None
        stream.close()


def test_everything_of_a_save_is_told_and_nothing_leaves(root: Path, terminal: Terminal) -> None:
    ready = dict(word.split("=") for word in terminal.until("ready ").split()[1:])
    assert "erp" in terminal.until("targets are stubbed")
    assert "esb send from-queue" in terminal.until("from-queue takes nothing from broker")
    terminal.until("✓ tests 1/1")
    assert post(ready["http"] + "/lots", {"lot": "0012"})[0] == 202
    assert terminal.until("lots → erp.post", "POST /lots/0012").rstrip().endswith('{"Lot":"0012"}  ← 201')
    esb("send", "from-queue", "-d", '{"lot":"7"}', "--wait", cwd=root)
    terminal.until("· from-queue: got 7")
    assert {one["route"]: one["state"] for one in items("status", cwd=root)} == {
        "lots": "running",
        "from-queue": "stubbed",
    }

    place = root / "routes" / "lots.yaml"
    place.write_text(FILES["routes/lots.yaml"].replace("body.lot }\n", "bdy.lot }\n"), encoding="utf-8")
    assert "did you mean `body`?" in terminal.until("✗ routes/lots.yaml:5:", "ESB402")
    terminal.until("1 fault; the live version goes on")
    place.write_text(
        FILES["routes/lots.yaml"].replace("Lot: body.lot }\n", "Lot: upper(body.lot) }\n"), encoding="utf-8"
    )
    assert "live in" in terminal.until("↻ routes/lots.yaml: lint ✓", "lots")
    terminal.until("✓ tests 1/1")
    tests = root / "routes" / "lots.test.yaml"
    tests.write_text(FILES["routes/lots.test.yaml"].replace('Lot: "1"', 'Lot: "2"'), encoding="utf-8")
    terminal.until("✗ it is sent: routes/lots.test.yaml")
    terminal.until("✗ tests 0/1")


def test_the_messages_are_in_a_store_of_their_own(root: Path, terminal: Terminal) -> None:
    assert (root / ".esb" / "dev.db").exists()
    assert not (root / ".esb" / "bus.db").exists()
    assert "runs this workspace" in esb("dev", str(root), cwd=root, code=75).stderr


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are of POSIX; see tests/unit/cli/test_keys.py")
def test_single_keys_do_something_at_once_where_stdin_is_a_terminal(root: Path, tmp_path: Path) -> None:
    import termios

    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    hand, keyboard = os.openpty()
    before = termios.tcgetattr(keyboard)
    one = Terminal(tmp_path, stdin=keyboard)
    try:
        assert "r reload · t tests · l lint · o pages · q quit · ? help" in one.until("targets are stubbed")
        one.until("✓ tests 1/1")
        os.write(hand, b"t")
        one.until("✓ tests 1/1")
        os.write(hand, b"?")
        one.until("· r reload")
        os.write(hand, b"l")
        one.until("lint: 0 errors, 1 warnings in 3 files")
        os.write(hand, b"o")
        assert "http://127.0.0.1:" in one.until("· pages")
        os.write(hand, b"xr")
        one.until("↻ reload: lint ✓", "nothing to swap")
        os.write(hand, b"q")
        assert one.process.wait(60) == 0
        assert termios.tcgetattr(keyboard) == before, "the terminal is as it was"
    finally:
        one.process.kill()
        one.process.wait(60)
        for stream in (one.process.stdout, one.process.stderr):
            assert stream is not None
            stream.close()
        os.close(hand)
        os.close(keyboard)
