"""The outside anchor of the audit: its head, written every minute to a file in another place.

A chain inside one file cannot show that its end was cut or that all of it was written anew; a line that says "entry 812 had
this hash at this time", where whoever can change the store cannot write, shows both. Each line is JSON with ``seq at hash``
and, where a key is set, ``mac``: HMAC-SHA256 over the three, so that a line cannot be made up without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esb.secret import Secret


@dataclass(slots=True)
class Anchor:
    """The file to which the head is appended; a line is on the disk when :meth:`write` returns."""

    path: Path
    key: Secret | None = None
    _last: tuple[int, str] = field(default=(0, ""))

    def write(self, seq: int, digest: str, at: str) -> bool:
        """Append the head unless it is the one written last; says whether it was. Raises OSError."""
        if not seq or (seq, digest) == self._last:
            return False
        line: dict[str, Any] = {"seq": seq, "at": at, "hash": digest}
        if self.key is not None:
            line["mac"] = mac(self.key, line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._last = (seq, digest)
        return True


def mac(key: Secret, line: Mapping[str, Any]) -> str:
    text = f"{line['seq']} {line['at']} {line['hash']}"
    return hmac.new(key.reveal().encode(), text.encode(), hashlib.sha256).hexdigest()


def compare(entries: Iterable[Mapping[str, Any]], lines: Iterable[str], key: Secret | None) -> list[str]:
    """What the anchor shows that the chain does not: each fault in words, the first bad entry first."""
    hashes = {int(entry["seq"]): str(entry["hash"]) for entry in entries}
    last, good, found = max(hashes, default=0), 0, []
    for number, text in enumerate(lines, 1):
        line = _line(text)
        if line is None or (key is not None and not hmac.compare_digest(mac(key, line), str(line.get("mac", "")))):
            found.append(f"line {number} of the anchor is not one that this bus wrote")
            continue
        seq = line["seq"]
        if hashes.get(seq) == line["hash"]:
            good = max(good, seq)
        elif seq > last:
            found.append(f"entry {last + 1} is missing: the end was cut; entry {seq} was there at {line['at']}")
            break
        else:
            found.append(
                f"entry {good + 1} or one behind it, up to entry {seq}, was written anew"
                f" after {line['at']}; the anchor confirms the entries up to {good}"
            )
            break
    return found


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(line, dict) and type(line.get("seq")) is int and {"at", "hash"} <= line.keys()
    return line if whole else None
