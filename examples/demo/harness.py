"""Starts and drives what the demo and the acceptance tests need: the simulators and a bus, each a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

ROOT = Path(__file__).resolve().parents[2]
#: The parts of the repository that are the reference workspace.
WORKSPACE = ("esb.yaml", "routes", "schemas", "transforms", "connectors", "kpis")
NAMES = ("erp", "qms", "wms", "mes", "portal", "analytics")
SECRETS = (
    "erp-password",
    "erp-inbound",
    "qms-client-secret",
    "qms-inbound",
    "wms-key",
    "mes-password",
    "portal-token",
    "portal-inbound",
    "analytics-key",
)
#: Waits of a plant, shortened so that nobody has to watch them.
SHORT_WAITS = {
    "BACKOFF_RELEASE_BLOCKING": "100ms..1s",
    "BACKOFF_OPERATIONAL": "200ms..1s",
    "BACKOFF_BATCH": "200ms..1s",
    "CIRCUIT_OPEN_FOR": "1s",
    "DROP_EVERY": "500ms",
    "DROP_STABLE": "300ms",
}

_ENCODER = msgspec.json.Encoder(decimal_format="number")
T = TypeVar("T")


class TooLate(AssertionError):
    """Something that should have happened did not, within its time."""


def until(check: Callable[[], T], *, within: float, what: str, alive: Callable[[], None] | None = None) -> T:
    """Ask ``check`` until it gives something true. Raises TooLate after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = check()
        if found:
            return found
        if alive is not None:
            alive()
        if time.monotonic() > deadline:
            raise TooLate(f"{what}: not within {within:g} s")
        time.sleep(0.03)


def copy_workspace(target: Path) -> Path:
    """A copy of the reference workspace to run in, so that the repository's own folder stays as it is."""
    target.mkdir(parents=True, exist_ok=True)
    for name in WORKSPACE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target / name)
    return target


def new_secrets() -> dict[str, str]:
    """Fresh secrets for every run, as the environment variables that bus and simulators read."""
    return {f"ESB_SECRET_{name.upper().replace('-', '_')}": secrets.token_urlsafe(18) for name in SECRETS}


def call(url: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """One HTTP call that must succeed; gives the decoded JSON, with exact decimals."""
    data = body if body is None or isinstance(body, bytes) else _ENCODER.encode(body)
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text, parse_float=Decimal) if text else None


class Process:
    """A child process with its output; ``line`` waits for one that begins with a word."""

    def __init__(self, command: list[str], *, environment: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        paths = [str(ROOT), environment.get("PYTHONPATH", "")]
        env = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
        self._out = log.with_suffix(".out")
        with self._out.open("wb") as out, log.open("ab") as err:
            # a session of its own: Ctrl-C reaches the one who started it, who ends things in order
            self.popen = subprocess.Popen(
                command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=env, cwd=cwd, start_new_session=True
            )

    def line(self, word: str, *, within: float) -> str:
        def look() -> str:
            text = self._out.read_text(encoding="utf-8", errors="replace")
            return next((line for line in text.splitlines() if line.startswith(word) and text.endswith("\n")), "")

        return until(look, within=within, what=f"`{word}` of {self.log.stem}", alive=self._must_live)

    def _must_live(self) -> None:
        code = self.popen.poll()
        if code is not None:
            raise TooLate(f"{self.log.stem} ended with {code}:\n{self.tail()}")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def stop(self, *, within: float = 30.0) -> int:
        """SIGTERM, then wait; the exit code. Raises subprocess.TimeoutExpired."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(within)

    def kill(self) -> None:
        """SIGKILL: no drain, no last words."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(60)  # one that waits for the disk ends when the disk answers


class Simulators:
    """The systems around the bus, one process each, on free ports of the loopback."""

    def __init__(
        self, folder: Path, *, names: Iterable[str] = NAMES, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.secrets = new_secrets()
        self._base = {**(os.environ if environment is None else environment), **self.secrets}
        self._names = tuple(names)
        self.urls: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._bus = ""

    def start(self, *names: str) -> None:
        """Start all systems, or those named; one that ran before comes back on its port with its state."""
        wanted = names or self._names
        for name in wanted:
            port = self.urls[name].rsplit(":", 1)[1] if name in self.urls else "0"
            command = [sys.executable, "-m", "examples.demo.simulators", name, "--port", port]
            command += ["--with-parent", "--state", str(self.folder / f"{name}.json")]
            self._processes[name] = Process(command, environment=self._base, log=self.folder / f"{name}.log")
        for name in wanted:
            self.urls[name] = self._processes[name].line("listening", within=60).split()[2]
            if self._bus:
                call(f"{self.urls[name]}/_sim/bus", {"url": self._bus})

    def stop(self, *names: str) -> None:
        """End all systems, or those named: whoever calls them is refused."""
        for name in names or tuple(self._processes):
            process = self._processes.pop(name, None)
            if process is not None:
                process.stop()

    @property
    def running(self) -> frozenset[str]:
        return frozenset(name for name, process in self._processes.items() if process.running)

    @property
    def environment(self) -> dict[str, str]:
        """What a bus needs to find these systems: addresses and secrets."""
        return {**{f"{name.upper()}_URL": url for name, url in self.urls.items()}, **self.secrets}

    def meet(self, bus_url: str) -> None:
        """Tell every system where the bus is."""
        self._bus = bus_url
        for url in self.urls.values():
            call(f"{url}/_sim/bus", {"url": bus_url})

    def reset(self) -> None:
        """Every running system forgets everything."""
        for name in self._processes:
            call(f"{self.urls[name]}/_sim/reset", {})

    def state(self, name: str) -> Any:
        return call(f"{self.urls[name]}/_sim/state")

    def requests(self, name: str, path: str = "") -> list[dict[str, Any]]:
        """The calls that a system got, oldest first, whose path contains ``path``."""
        return list(call(f"{self.urls[name]}/_sim/requests?path={quote(path)}")["items"])

    def behave(self, name: str, mode: str = "ok", **order: Any) -> None:
        call(f"{self.urls[name]}/_sim/behave", {"mode": mode, **order})

    def emit(self, name: str, event: str, data: Any, **order: Any) -> list[dict[str, Any]]:
        """Have a system send an event; gives the answers of the bus, one for each copy sent."""
        sent = call(f"{self.urls[name]}/_sim/emit", {"event": event, "data": data, **order})
        return list(sent["answers"])

    def act(self, name: str, method: str, path: str, body: Any = None) -> int:
        """Somebody in the plant uses the system; the status of the answer."""
        try:
            call(self.urls[name] + path, body, method=method)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        return 200


class Bus:
    """``esb run`` on a workspace, as a process, with its command line."""

    def __init__(
        self, workspace: Path, *, environment: Mapping[str, str], options: Iterable[str] = (), under: Iterable[str] = ()
    ) -> None:
        """``under`` are the words of a program that runs the bus, such as a tracer."""
        self.workspace = workspace
        self._environment = {**os.environ, **SHORT_WAITS, **environment}
        self._options = tuple(options)
        self._under = tuple(under)
        self._process: Process | None = None
        self.http = ""
        self.admin = ""

    def start(self, *, within: float = 60.0) -> Bus:
        """Returns when the bus says `ready`. Raises TooLate with the end of its log."""
        command = [*self._under, sys.executable, "-m", "esb", "run", str(self.workspace)]
        command += ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", *self._options]
        log = self.workspace / "var" / "bus.log"
        self._process = Process(command, environment=self._environment, log=log)
        words = dict(word.split("=", 1) for word in self._process.line("ready ", within=within).split() if "=" in word)
        self.http, self.admin = words["http"], words["admin"]
        return self

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def process(self) -> Process:
        assert self._process is not None, "the bus was not started"
        return self._process

    def stop(self) -> int:
        """SIGTERM; the exit code after the drain."""
        return self.process.stop(within=60)

    def kill(self) -> None:
        """SIGKILL, where it runs."""
        if self._process is not None:
            self._process.kill()

    def log(self) -> str:
        return self.process.log.read_text(encoding="utf-8", errors="replace")

    def run(self, *words: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command of ``esb`` in this workspace, the bus running or not."""
        command = [sys.executable, "-m", "esb", *words]
        environment = {**self._environment, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=self.workspace, env=environment, capture_output=True, text=True, timeout=within, check=False
        )

    def json(self, *words: str) -> list[dict[str, Any]]:
        """The items of a command's ``--json``."""
        done = self.run(*words, "--json")
        if done.returncode != 0:
            raise TooLate(f"esb {' '.join(words)} exited {done.returncode}: {done.stderr.strip()}")
        return list(json.loads(done.stdout, parse_float=Decimal)["items"])

    def status(self) -> dict[str, dict[str, Any]]:
        """``esb status --json`` by route, asked on the admin listener."""
        found = call(f"{self.admin}/api/v1/status")
        return {item["route"]: item for item in found["items"]}
