"""`sftp` against OpenSSH: whom it trusts (S14, S15), and what is left after a kill between any two steps (C6, C7, C14, C15)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import Unavailable
from esb.secret import Secret
from tests.contracts.folder_rigs import Logs, SftpRig, SftpSinkRig, connection_to
from tests.servers.openssh import OpenSsh, openssh


@pytest.fixture(scope="module")
def shared() -> Iterator[OpenSsh]:
    with openssh() as server:
        yield server


@pytest.fixture
def sshd(shared: OpenSsh) -> Iterator[OpenSsh]:
    """The shared server, as it was before a test changed it."""
    yield shared
    shared.pin("host", shared.known_hosts)
    shared.restart()


def connects(server: OpenSsh, logs: Logs | None = None, **changes: Any) -> None:
    """Open a connection and ask something. Raises Unavailable."""

    async def scenario() -> None:
        rig = SftpSinkRig(server)
        context = rig.context()
        if logs is not None:
            context = type(context)(context.name, context.clock, context.workspace, logs)
        session: Any = await connection_to(server, **changes).open(context)
        try:
            assert await session.exists(str(rig.folder).encode())
        finally:
            await session.close()

    asyncio.run(scenario())


# -- whom it trusts -------------------------------------------------------------------------------------------------------


def test_a_changed_host_key_is_refused_until_it_is_pinned(sshd: OpenSsh) -> None:
    connects(sshd)
    sshd.make_key("other")
    sshd.restart("other")
    logs = Logs()
    with pytest.raises(Unavailable, match="its host key is not one of those"):
        connects(sshd, logs)
    assert "somebody may be in the way" in logs.of("sftp.no_connection")[0]["hint"]
    sshd.pin("other", sshd.known_hosts)
    connects(sshd)


@pytest.mark.parametrize("content", ["", "other.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFm\n"])
def test_an_unknown_host_is_refused(sshd: OpenSsh, content: str) -> None:
    sshd.known_hosts.write_text(content)
    with pytest.raises(Unavailable):
        connects(sshd)


def test_a_missing_known_hosts_file_is_said(sshd: OpenSsh) -> None:
    with pytest.raises(Unavailable, match="does not exist") as refused:
        connects(sshd, known_hosts="/nowhere/known_hosts")
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1" in refused.value.hint


def test_trusting_everybody_is_warned_about_at_each_start(sshd: OpenSsh) -> None:
    sshd.known_hosts.write_text("")
    for _ in range(2):
        logs = Logs()
        connects(sshd, logs, known_hosts="", trust_all=True)
        assert [level for level, event, _ in logs if event == "sftp.host_key_unchecked"] == ["warning"]


def test_a_wrong_key_is_refused_and_told_without_it(sshd: OpenSsh) -> None:
    stranger = sshd.make_key("stranger").read_text()
    with pytest.raises(Unavailable, match=f"login of {sshd.user} refused") as refused:
        connects(sshd, key=Secret(stranger))
    assert "PRIVATE" not in str(refused.value) + refused.value.hint
    with pytest.raises(Unavailable, match="private key cannot be read"):
        connects(sshd, key=Secret("no key"))
    connects(sshd, key=str(sshd.key))


@pytest.mark.parametrize(
    "weak",
    [
        {"Ciphers": "aes128-cbc,3des-cbc"},
        {"KexAlgorithms": "diffie-hellman-group14-sha1,diffie-hellman-group1-sha1"},
        {"Ciphers": "aes128-ctr", "MACs": "hmac-sha1,hmac-md5"},
        {"HostKeyAlgorithms": "ssh-rsa"},
    ],
)
def test_a_server_with_only_broken_algorithms_is_refused(sshd: OpenSsh, weak: dict[str, str]) -> None:
    sshd.make_key("rsa", "rsa")
    sshd.pin("rsa", sshd.known_hosts)
    sshd.restart("rsa")
    connects(sshd)  # with an RSA key and sound algorithms it is fine
    sshd.restart("rsa", **weak)
    with pytest.raises(Unavailable, match=r"no common algorithm|onnection lost|reset by peer"):
        connects(sshd)


# -- while it runs --------------------------------------------------------------------------------------------------------


def test_a_server_that_restarts_is_found_again_and_nothing_is_lost(sshd: OpenSsh) -> None:
    async def scenario() -> None:
        from tests.contracts.source_contract import DurableIntake

        rig, intake = SftpRig(sshd), DurableIntake()
        source = await rig.start(intake)
        for number in range(30):
            await rig.offer(f"{number:02}", b'{"n": %d}' % number)
            if number == 10:
                await asyncio.to_thread(sshd.restart)
        await rig.until_held(0)
        await source.stop()
        assert sorted(intake.payloads) == sorted(b'{"n": %d}' % number for number in range(30))
        assert len(rig.logs.of("file.folder_trouble")) <= 3

    asyncio.run(scenario())


def test_while_the_server_is_away_attempts_grow_rarer_and_the_fault_is_told_once(sshd: OpenSsh) -> None:
    sshd.stop()
    clock, logs = ManualClock(), Logs()

    async def scenario() -> None:
        rig = SftpSinkRig(sshd)
        session: Any = await connection_to(sshd).open(type(rig.context())("gw", clock, rig.workspace, logs))
        waits = []
        for _ in range(9):
            for _ in range(2):  # the second one is not tried at all
                with pytest.raises(Unavailable) as refused:
                    await session.exists(b"/")
                assert refused.value.retry_after is not None
            waits.append(refused.value.retry_after.total_seconds())
            clock.advance(waits[-1])
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
        assert len(logs.of("sftp.no_connection")) == 1
        sshd.start()
        assert await session.exists(b"/")
        assert len(logs.of("sftp.back")) == 1
        await session.close()

    asyncio.run(scenario())


def test_no_half_file_is_ever_seen_under_its_name(sshd: OpenSsh) -> None:
    rig = SftpSinkRig(sshd)
    content, seen, stop = b"x" * 400_000, set[int](), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in rig.folder.glob("out/*.json"):
                seen.add(path.stat().st_size)

    async def scenario() -> None:
        context = rig.context()
        session = await rig.connection().open(context)
        from esb.message import Message

        for number in range(15):
            message = Message({"n": number})
            sink = rig.sink(exists="replace" if number % 2 else "fail", body=_Fixed(content))
            await sink.send(message, rig.delivery(message), session)
        await session.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        asyncio.run(scenario())
    finally:
        stop.set()
        watcher.join()
    assert seen == {len(content)}
    assert len(list((rig.folder / "out").iterdir())) == 15


class _Fixed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, scope: Any) -> Any:
        return self.value


# -- kills ----------------------------------------------------------------------------------------------------------------

CONNECTOR = """
connector: gw
type: sftp
host: 127.0.0.1
port: {port}
user: {user}
key: {key}
known_hosts: {known}
"""
ROUTE = """
route: carry
from:
  sftp:
    connector: gw
    path: "{folder}/in/*.json"
    every: 50ms
    ready: {{ rename: true }}
    done: {{ move: ../archive/ }}
steps:
  - to: {{ sftp: {{ connector: gw, path: "{folder}/out/{{{{ body.n }}}}.json" }} }}
    retry: {{ max: 9, backoff: 50ms..1s }}
"""


class Bus:
    """`esb run` over a folder of the server; a failpoint kills it."""

    def __init__(self, root: Path, server: OpenSsh) -> None:
        self.root = root
        self.folder = SftpRig(server).folder
        (root / "routes").mkdir()
        (root / "connectors").mkdir()
        values = {"port": server.port, "user": server.user, "key": server.key, "known": server.known_hosts}
        (root / "connectors/gw.yaml").write_text(CONNECTOR.format(**values))
        (root / "routes/carry.yaml").write_text(ROUTE.format(folder=self.folder))

    def start(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "esb",
            "run",
            str(self.root),
            "--http",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]
        environ = {**os.environ, "ESB_TEST": "1", "ESB_FAILPOINTS": failpoint and f"{failpoint}=kill"}
        return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = threading.Event()
        timer = threading.Timer(60, deadline.set)
        timer.start()
        while not condition():
            assert not deadline.wait(0.02), f"not within its time: {self.tree()}"
        timer.cancel()

    def tree(self) -> list[str]:
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if not p.is_dir())


POINTS = ["file.accepted", "file.moved", "file.written", "file.published"]


def test_a_kill_between_any_two_steps_loses_nothing_and_leaves_one_file(shared: OpenSsh, tmp_path: Path) -> None:
    bus = Bus(tmp_path, shared)
    count = 3 * len(POINTS)
    for begun, point in enumerate(POINTS):
        for number in range(3 * begun, 3 * begun + 3):
            (bus.folder / f"in/{number}.json").write_text(f'{{"n": {number}}}')
        killed = bus.start(point)
        assert killed.wait(60) == -signal.SIGKILL
        half = [path for path in bus.folder.glob("out/*.json") if path.read_text() != f'{{"n":{path.stem}}}']
        assert not half
    whole = sorted([*(f"archive/{n}.json" for n in range(count)), *(f"out/{n}.json" for n in range(count))])
    last = bus.start()
    try:
        bus.until(lambda: bus.tree() == whole)
    finally:
        last.terminate()
        assert last.wait(30) == 0
    assert bus.tree() == whole
    assert [(bus.folder / f"out/{n}.json").read_text() for n in range(count)] == [f'{{"n":{n}}}' for n in range(count)]
