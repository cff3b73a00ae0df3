"""A target system in a process of its own: it remembers what it saw over every death of the bus, and honours the delivery id.

``python -m tests.torture.sink JOURNAL`` listens on a free port and prints ``listening URL``. Every POST is written to the journal
(one JSON object a line, before the answer): ``{"sink", "id", "key", "applied", "n", "lot", "kind"}``; ``sink`` is the path. How
it answers is in the query: ``?busy=7`` is busy for about every 7th id the first time (503), ``?refuse=7`` says no to it (422),
``?mute=11`` acts on about every 11th id and then hangs up without an answer the first time, ``?down=1`` refuses while the file
JOURNAL.down exists.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


@dataclass(slots=True)
class Journal:
    """What the sink knows; read back from its file when it starts again."""

    path: Path
    keys: set[tuple[str, str]] = field(default_factory=set)
    tries: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    handle: int = -1

    def open(self) -> None:
        self.handle = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for line in self.path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            self.keys.add((one["sink"], one["key"]))
            self.tries[one["sink"], one["key"]] += 1

    def write(self, sink: str, key: str, body: dict[str, object]) -> None:
        applied = (sink, key) not in self.keys
        self.keys.add((sink, key))
        line = {
            "sink": sink,
            "id": body.get("id"),
            "key": key,
            "applied": applied,
            "n": body.get("n"),
            "lot": body.get("lot"),
            "kind": body.get("kind"),
        }
        os.write(self.handle, json.dumps(line).encode() + b"\n")


async def serve(journal: Journal) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _exchange(journal, reader, writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the bus was killed
        finally:
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"listening http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


async def _exchange(journal: Journal, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its answer; False where the connection ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    target = urlsplit(first.split()[1])
    words, sink = dict(parse_qsl(target.query)), target.path.strip("/")
    body = json.loads(data) if data else {}
    key = headers.get("idempotency-key", "")
    journal.tries[sink, key] += 1
    is_first, mark = journal.tries[sink, key] == 1, zlib.crc32(key.encode())
    down = "down" in words and journal.path.with_suffix(".down").exists()
    if down or (is_first and "busy" in words and mark % int(words["busy"]) == 0):
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        return True
    if is_first and "refuse" in words and mark % int(words["refuse"]) == 0:
        writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
        return True
    journal.write(sink, key, body)
    if is_first and "mute" in words and mark % int(words["mute"]) == 1:
        return False
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
    return True


if __name__ == "__main__":
    started = Journal(Path(sys.argv[1]))
    started.open()
    asyncio.run(serve(started))
