"""The programs that a measurement starts on free loopback ports, and ends: the bus, sinks, bare servers, load."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.figures import Rate, Skipped

BARE = """
import json, sys
import uvicorn
ANSWER = b'{"message_id":"00000000-0000-0000-0000-000000000000","state":"queued"}'
HEAD = {"type": "http.response.start", "status": 202, "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]}
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(HEAD)
    await send({"type": "http.response.body", "body": ANSWER})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off", http="httptools", loop="uvloop")
"""
KEY = "bench-0123456789abcdef"
RAW = f"""
import asyncio, hmac, json, sys
import httptools, uvloop
KEY = b"{KEY}"
ANSWER = b'{{"message_id":"00000000-0000-0000-0000-000000000000","state":"queued"}}'
HEAD = b"HTTP/1.1 %b\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
TAKEN, REFUSED = HEAD % (b"202 Accepted", len(ANSWER)) + ANSWER, HEAD % (b"401 Unauthorized", 0)
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data):
        self.parser.feed_data(data)
    def on_message_begin(self):
        self.key, self.parts = b"", []
    def on_header(self, name, value):
        if name.lower() == b"x-api-key":
            self.key = value
    def on_body(self, body):
        self.parts.append(body)
    def on_message_complete(self):
        json.loads(b"".join(self.parts))
        self.transport.write(TAKEN if hmac.compare_digest(self.key, KEY) else REFUSED)
async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""
STARLETTE = f"""
import hmac, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
ANSWER = b'{{"message_id":"00000000-0000-0000-0000-000000000000","state":"queued"}}'
async def take(request):
    if not hmac.compare_digest(request.headers.get("x-api-key", ""), "{KEY}"):
        return Response(status_code=401)
    await request.json()
    return Response(ANSWER, 202, media_type="application/json")
uvicorn.run(Starlette(routes=[Route("/", take, methods=["POST"])]), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off", http="httptools", loop="uvloop")
"""
NGINX = """daemon off; pid {folder}/pid; error_log {folder}/error error; worker_processes 1;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{{"ok":true}}'; }} }} }}
"""
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
if "{key}" ~= "" then wrk.headers["X-API-Key"] = "{key}" end
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def need(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


@contextlib.contextmanager
def folder(files: Mapping[str, str]) -> Iterator[Path]:
    """A fresh folder with these files."""
    with tempfile.TemporaryDirectory() as name:
        for path, text in files.items():
            at = Path(name) / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text)
        yield Path(name)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[str], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Skipped(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise Skipped(f"{process.args!r} does not listen after {seconds:g} s")


@contextlib.contextmanager
def bus(root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`esb run` of a workspace: the address of its ingress, and the process."""
    command = [sys.executable, "-m", "esb", "run", str(root), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with ended(
        subprocess.Popen([*command, "--no-watch"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("ready "):
            raise Skipped("the bus did not start")
        yield re.split(r"http=(\S+)", ready)[1], process


@contextlib.contextmanager
def python(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in Python that takes its port as the last word: its address, and the process."""
    port = free_port()
    with ended(subprocess.Popen([sys.executable, *words, str(port)], text=True)) as process:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}", process


def bare() -> contextlib.AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """uvicorn with httptools and uvloop under an application that reads the body and answers 202."""
    return python("-c", BARE)


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """nginx that answers every request at once: the fastest target there is."""
    program, port = need("nginx"), free_port()
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "nginx.conf"
        config.write_text(NGINX.format(folder=name, port=port))
        with ended(subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL, text=True)) as process:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"


def wrk(
    server: tuple[str, subprocess.Popen[str]],
    path: str,
    body: Path,
    *,
    connections: int = 64,
    seconds: float = 3,
    refused: bool = False,
    key: str = "",
) -> Rate:
    """Requests a second that were answered with success (wrk, one thread, closed loop), and the server's CPU time of one.

    ``refused``: some requests may be answered with 503. ``key``: what is shown as `X-API-Key`.
    """
    url, server_process = server[0] + path, server[1]
    script = body.with_suffix(".lua")
    script.write_text(POST.format(body=body, key=key))
    before = cpu_of(server_process.pid)
    command = [need("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", said))
    total = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert total is not None
    assert rate is not None
    if failed > int(total[1]) // 100 and not refused:
        raise Skipped(f"{failed} of {total[1]} requests to {url} were refused")
    answered = Rate(float(rate[1]) * (1 - failed / max(int(total[1]), 1)))
    answered.cpu = (cpu_of(server_process.pid) - before) / max(int(total[1]), 1)
    return answered


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
