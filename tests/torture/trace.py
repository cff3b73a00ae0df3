"""System calls of a bus as strace saw them, read into plain steps that change a disk or tell a client yes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: What changes files and names, what makes them durable, and what answers clients. Positions come from ``pwrite64``; a plain
#: ``write`` appends in this program, so that files need not be followed from their opening (imports open thousands).
CALLS = (
    "write", "writev", "sendto", "sendmsg", "pwrite64", "fsync", "fdatasync", "ftruncate", "mkdir", "mkdirat", "link", "linkat",
    "rename", "renameat", "renameat2", "unlink", "unlinkat",
)  # fmt: skip


def tracer(log: Path, *, calls: tuple[str, ...] = CALLS, inject: tuple[str, ...] = ()) -> list[str]:
    """The words that run a program under strace; its process id stays the program's own (``-D``)."""
    words = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-q",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "-o",
        str(log),
        "-e",
        "signal=none",
    ]
    words += ["-e", "trace=" + ",".join(calls)]
    return words + [word for one in inject for word in ("-e", f"inject={one}")]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``what``: write, truncate, sync (began), synced (ended well), failed (a sync or a write),
    make, link, unlink, rename, answer. ``number`` joins the two halves of a sync."""

    what: str
    path: str = ""
    to: str = ""
    offset: int | None = None
    data: bytes = b""
    number: int = 0


_LINE = re.compile(r"(\d+)\s+(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+)\s+<\.\.\. (\w+) resumed>(.*)")
_RESULT = re.compile(r"(.*)\)\s+= (-?\d+|\?)([^=]*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PLACE = re.compile(r"<((?:\\x[0-9a-f]{2})*)>")
_UNFINISHED = " <unfinished ...>"


def steps(log: Path) -> Iterator[Step]:
    """Read a trace. A call counts from its end, an answer to a client already from its beginning."""
    begun: dict[str, tuple[str, str, int]] = {}
    with log.open(encoding="ascii", errors="replace") as lines:
        for number, raw in enumerate(lines):
            line = raw.rstrip("\n")
            if resumed := _RESUMED.match(line):
                name, start, first = begun.pop(resumed[1], ("", "", 0))
                if name:
                    yield from _end(name, start + resumed[3], first)
                continue
            match = _LINE.match(line)
            if match is None:
                continue  # a thread ended
            unfinished = match[3].endswith(_UNFINISHED)
            rest = match[3].removesuffix(_UNFINISHED)
            yield from _begin(match[2], rest, number)
            if unfinished:
                begun[match[1]] = (match[2], rest, number)
            else:
                yield from _end(match[2], rest, number)


def _begin(name: str, rest: str, number: int) -> Iterator[Step]:
    if name in ("fsync", "fdatasync"):
        yield Step("sync", _places(rest)[0], number=number)
    elif (
        name in ("write", "writev", "sendto", "sendmsg") and "HTTP/1." in (data := _texts(rest)).decode("latin-1")[:16]
    ):
        yield Step("answer", data=data)


def _end(name: str, rest: str, number: int) -> Iterator[Step]:
    match = _RESULT.match(rest)
    if match is None or match[2] == "?":
        return  # the process died in it
    words, result, error = match[1], int(match[2]), match[3]
    if result < 0:
        if name in ("fsync", "fdatasync", "pwrite64"):
            yield Step("failed", _places(words)[0], to=error.strip().split(" ")[0], number=number)
        return
    if name in ("fsync", "fdatasync"):
        yield Step("synced", _places(words)[0], number=number)
    elif name == "pwrite64":
        yield Step("write", _places(words)[0], offset=int(words.rsplit(", ", 1)[1]), data=_texts(words)[:result])
    elif name in ("write", "writev"):
        if (path := _places(words)[0]).startswith("/"):
            yield Step("write", path, data=_texts(words)[:result])
    elif name == "ftruncate":
        yield Step("truncate", _places(words)[0], offset=int(words.rsplit(", ", 1)[1].split(")")[0]))
    else:
        yield from _names(name, words)


def _names(name: str, words: str) -> Iterator[Step]:
    what = {"mkdir": "make", "mkdirat": "make", "unlinkat": "unlink"}.get(
        name, name.removesuffix("2").removesuffix("at")
    )
    paths = _paths(words)
    if what in ("make", "unlink") and paths:
        yield Step(what, paths[0])
    elif what in ("link", "rename") and len(paths) == 2:
        yield Step(what, paths[0], to=paths[1])


def _paths(words: str) -> list[str]:
    """The paths of a call: a text alone, or one below the folder that stands before it."""
    found, base = [], ""
    for part in words.split(", "):
        if place := _PLACE.search(part):
            base = _plain(place[1]).decode()
        elif text := _TEXT.fullmatch(part):
            path = _plain(text[1]).decode(errors="surrogateescape")
            found.append(path if path.startswith("/") else f"{base}/{path}")
    return found


def _places(words: str) -> list[str]:
    return [_plain(place).decode(errors="surrogateescape") for place in _PLACE.findall(words)] or [""]


def _texts(words: str) -> bytes:
    return b"".join(map(_plain, _TEXT.findall(words)))


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
