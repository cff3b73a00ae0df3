"""`esb dev`, as the one who writes routes sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from examples.demo.harness import until
from tests.acceptance.test_program import esb, items, post
from tests.acceptance.test_tools import page

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


ANY_PORTS = ("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")


class Terminal:
    ready: dict[str, str]

    def __init__(
        self, root: Path, stdin: int = subprocess.DEVNULL, command: str = "dev", more: Sequence[str] = ANY_PORTS
    ) -> None:
        env = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}  # no browser comes up
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        words = [sys.executable, "-m", "esb", *command.split(), str(root), *more]
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(words, env=env, text=True, **pipes)

    def end(self, code: int = 0) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(60) == code
        finally:
            self.process.kill()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()

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
    one.ready = dict(word.split("=") for word in one.until("ready ").split()[1:])
    yield one
    one.process.terminate()
    assert one.process.wait(60) == 0
    for stream in (one.process.stdout, one.process.stderr):
        assert stream is not None
        stream.close()


def test_everything_of_a_save_is_told_and_nothing_leaves(root: Path, terminal: Terminal) -> None:
    assert "erp" in terminal.until("targets are stubbed")
    assert "esb send from-queue" in terminal.until("from-queue takes nothing from broker")
    terminal.until("✓ tests 1/1")
    assert post(terminal.ready["http"] + "/lots", {"lot": "0012"})[0] == 202
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


def test_files_from_a_folder_work_at_once(tmp_path: Path) -> None:
    root = tmp_path / "drop"
    esb("init", "drop", "--template", "file-drop", cwd=tmp_path)
    one = Terminal(root)
    try:
        one.until("ready ")
        one.until("✓ tests 3/3")
        shutil.copy(root / "samples/lots.csv", root / "var/in/lots.csv")
        lots = {one.until("lots-from-files → erp.lot POST /lots").split('"Lot":"')[1][:4] for _ in range(2)}
        assert lots == {"0012", "0013"}
        until((root / "var/archive/lots.csv").exists, within=60, what="the file is in the archive")
        report = root / "var/rejected/lots.csv.errors.csv"
        until(report.exists, within=60, what="the report of the bad row")
        assert "M-200" in report.read_text(encoding="utf-8-sig")
        assert "/lot" in report.read_text(encoding="utf-8-sig")
    finally:
        one.end()


OTHER = """
route: others
from: { topic: others }
steps:
  - map: { Lot: body.lot }
  - to: erp.post
"""
OTHER_TEST = """
route: others
cases:
  - name: from a file
    send: { file: ../samples/other.json }
    expect: { state: done, sent: { to: erp.post, json: { Lot: "7" } } }
"""


def test_what_a_save_is_about_is_tested_again_until_ctrl_c(tmp_path: Path) -> None:
    more = {"routes/others.yaml": OTHER, "routes/others.test.yaml": OTHER_TEST, "samples/other.json": '{"lot": "7"}'}
    for name, text in {**FILES, **more}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def save(name: str, old: str, new: str) -> None:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new), encoding="utf-8")

    one, code = Terminal(tmp_path, command="test --watch", more=()), 1
    try:
        one.until("2 passed, 0 failed")
        one.until("watching · Ctrl-C ends")
        save("routes/lots.yaml", "Lot: body.lot", "Lot: upper(body.lot)")
        one.until("↻ routes/lots.yaml")
        one.until("1 passed, 0 failed")
        save("samples/other.json", "7", "8")
        one.until("↻ samples/other.json")
        one.until("✗ from a file")
        one.until("0 passed, 1 failed")
        save("routes/lots.test.yaml", "it is sent", "it is sent on")  # what failed runs along
        one.until("✓ it is sent on")
        one.until("1 passed, 1 failed")
        save("routes/lots.yaml", "- to: erp.post", "- to: erp.psot")
        save("samples/other.json", "8", "7")
        one.until("↻ routes/lots.yaml")
        assert one.process.stderr is not None
        assert any("did you mean `erp.post`" in line for line in one.process.stderr)
        save("routes/lots.yaml", "erp.psot", "erp.post")
        one.until("✓ from a file")
        one.until("passed, 0 failed")
        save("connectors/erp.yaml", "meta.reply.body.ok", "meta.reply.body.not_ok")
        one.until("↻ connectors/erp.yaml")
        one.until("0 passed, 2 failed")
    finally:
        one.end(code)


def test_a_watch_is_for_people(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    said = esb("test", "--watch", "--json", "--junit", "x.xml", cwd=tmp_path, code=2).stderr
    assert "leave out --json and --junit" in said


def test_the_catalogue_is_served_here_and_built_anew_on_a_save(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    place = tmp_path / "routes/lots.yaml"
    one = Terminal(tmp_path, command="docs serve", more=())
    try:
        url = one.until("ready ").split()[1]
        assert url.startswith("http://127.0.0.1:")
        status, index, headers = page(url)
        assert (status, "routes/lots.html" in index) == (200, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert page(f"{url}catalogue.css")[2]["Content-Type"].startswith("text/css")
        assert json.loads(page(f"{url}openapi.json")[1])["openapi"].startswith("3.1")
        assert page(f"{url}../esb.yaml")[0] == page(f"{url}routes/nobody.html")[0] == 404
        assert page(url, Host="evil.example")[0] == 421
        taken = url.removesuffix("/").rpartition(":")[2]
        assert "cannot listen on" in esb("docs", "serve", "--port", taken, cwd=tmp_path, code=78).stderr
        place.write_text(FILES["routes/lots.yaml"].replace("route: lots", "route: lots-new"), encoding="utf-8")
        (tmp_path / "routes/lots.test.yaml").unlink()
        one.until("↻ built anew")
        assert page(f"{url}routes/lots-new.html")[0] == 200
        place.write_text(FILES["routes/lots.yaml"].replace("steps:", "stpes:"), encoding="utf-8")
        assert one.process.stderr is not None
        assert any("the pages stay as they were" in line for line in one.process.stderr)
        assert page(f"{url}routes/lots-new.html")[0] == 200
        assert not (tmp_path / "site").exists()
    finally:
        one.end()
