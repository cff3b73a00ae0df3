"""Formats that are read item by item: against the library below them, called by hand for the same items; and their memory.

The floor gives the same values as far as its library can: the mapping of a record to its fields is in it, the checks, exact
places of faults and bounds of ours are not.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Rate, alternate, ratio

ISA = "ISA*00*          *00*          *ZZ*A              *ZZ*B              *260101*1200*U*00401*000000007*0*P*>~"
FIELDS = {"lot": (0, 10), "material": (10, 28), "qty": (28, 38), "text": (38, 198)}
TEXT = "grain size and hardness as agreed " * 4
#: Kinds whose floor is no library: pydifact needs some twenty times what we need for a message of EDIFACT.
BY_HAND = frozenset({"edifact", "x12"})
#: Bytes that a payload of any size may add to one of a megabyte.
FLAT = 24.0

MEMORY = """
import sys
from pathlib import Path
from benchmarks.parsers import codecs
codec, path = codecs()[sys.argv[1]]
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
with open(sys.argv[2], "rb") as source:
    before = peak()
    count = sum(1 for _ in codec.items(source, path))
print(count, (peak() - before) / 1024)
"""


def record(n: int) -> dict[str, str]:
    return {"lot": f"L{n:07d}", "material": "4711-0815", "qty": f"{n % 997}.50", "text": TEXT}


def write(kind: str, path: Path, size: int) -> int:
    """A file of about ``size`` bytes; the number of its items."""
    head, tail, one = {
        "csv": ("lot,material,qty,text\n", "", lambda n, r: ",".join(r.values()) + "\n"),
        "fixed": ("", "", lambda n, r: "".join(r[f].ljust(b - a) for f, (a, b) in FIELDS.items()) + "\n"),
        "jsonl": ("", "", lambda n, r: _json(r) + "\n"),
        "json": ("[", "]", lambda n, r: ("," if n else "") + _json(r)),
        "xml": (
            "<Doc><Head/>",
            "</Doc>",
            lambda n, r: "<Row>" + "".join(f"<{k}>{v}</{k}>" for k, v in r.items()) + "</Row>",
        ),
        "edifact": ("UNB+UNOC:3+A:14+B:14+260101:1200+7'\n", "UNZ+{count}+7'", _edifact),
        "x12": (f"{ISA}GS*PO*A*B*20260101*1200*1*X*004010~\n", "GE*{count}*1~IEA*1*000000007~", _x12),
    }[kind]
    count = written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(head)
        while written < size:
            written += file.write(one(count, record(count)))
            count += 1
        file.write(tail.replace("{count}", str(count)))
    return count


def _json(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{k}": {v}' if k == "qty" else f'"{k}": "{v}"' for k, v in fields.items()) + "}"


def _edifact(n: int, fields: dict[str, str]) -> str:
    lines = f"LIN+1++{fields['material']}:VP'\nRFF+LO:{fields['lot']}'\nQTY+12:{fields['qty']}:PCE'\n"
    return f"UNH+{n}+ORDERS:D:96A:UN'\n{lines}FTX+AAI+++{fields['text']}'\nUNT+6+{n}'\n"


def _x12(n: int, fields: dict[str, str]) -> str:
    lines = f"PO1*1*{fields['qty']}*EA***VP*{fields['material']}~\nREF*LO*{fields['lot']}~\n"
    return f"ST*850*{n:09d}~\n{lines}MSG*{fields['text']}~\nSE*5*{n:09d}~\n"


def codecs() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Our codec for each kind, and where its list stands."""
    from esb.formats.csv import Csv
    from esb.formats.edifact import Edifact
    from esb.formats.fixed import Fixed
    from esb.formats.json import Json
    from esb.formats.jsonl import JsonLines
    from esb.formats.places import Place
    from esb.formats.x12 import X12
    from esb.formats.xml import Xml

    places = {name: Place(start, end) for name, (start, end) in FIELDS.items()}
    return {
        "csv": (Csv(), ()),
        "fixed": (Fixed(fields=places), ()),
        "jsonl": (JsonLines(), ()),
        "json": (Json(), ()),
        "xml": (Xml(), ("Doc", "Row")),
        "edifact": (Edifact(), ("messages",)),
        "x12": (X12(), ("interchanges[]", "groups[]", "transactions[]")),
    }


# -- the libraries, by hand ----------------------------------------------------------------------------------------------


def _bare_csv(source: Any) -> Iterator[Any]:
    reader = csv.reader(io.TextIOWrapper(source, encoding="utf-8", newline=""))
    names = next(reader)
    return (dict(zip(names, cells, strict=True)) for cells in reader)


def _bare_fixed(source: Any) -> Iterator[Any]:
    lines = io.TextIOWrapper(source, encoding="utf-8")
    return ({name: line[start:end].rstrip() for name, (start, end) in FIELDS.items()} for line in lines)


def _bare_jsonl(source: Any) -> Iterator[Any]:
    from jiter import from_json

    return (from_json(line, float_mode="decimal", catch_duplicate_keys=True) for line in source)


def _bare_json(source: Any) -> Iterator[Any]:
    from jiter import from_json

    return iter(from_json(source.read(), float_mode="decimal", catch_duplicate_keys=True))


def _bare_xml(source: Any) -> Iterator[Any]:
    from lxml import etree

    for _, row in etree.iterparse(source, tag="Row"):
        yield {part.tag: part.text for part in row}
        row.clear()
        while row.getprevious() is not None:
            del row.getparent()[0]


def _bare_edifact(source: Any) -> Iterator[Any]:
    return _bare_edi(source.read().decode("iso-8859-1"), "'", "+", ":", ("UNH", "UNT"))


def _bare_x12(source: Any) -> Iterator[Any]:
    return _bare_edi(source.read().decode("utf-8"), "~", "*", ">", ("ST", "SE"))


def _bare_edi(text: str, end: str, element: str, component: str, frame: tuple[str, str]) -> Iterator[Any]:
    """Split at the marks, as one would by hand: no library of Python reads faster."""
    message: dict[str, Any] = {}
    segments: list[dict[str, str]] = []
    for line in text.split(end):
        tag, *fields = line.strip().split(element)
        if tag == frame[0]:
            segments = []
            kind = fields[1].split(component)
            message = {"reference": fields[0], "type": kind[0], "release": kind[1:], "segments": segments}
        elif tag == frame[1]:
            yield message
        else:
            segment = {"tag": tag}
            for number, field in enumerate(fields, 1):
                first, *others = field.split(component)
                segment[f"e{number}"] = first
                for place, part in enumerate(others, 2):
                    segment[f"e{number}_{place}"] = part
            segments.append(segment)


BARE: dict[str, Callable[[Any], Iterator[Any]]] = {
    "csv": _bare_csv,
    "fixed": _bare_fixed,
    "jsonl": _bare_jsonl,
    "json": _bare_json,
    "xml": _bare_xml,
    "edifact": _bare_edifact,
    "x12": _bare_x12,
}


def report(*, full: bool) -> Iterator[Figure]:
    size = 20_000_000 if full else 5_000_000
    with tempfile.TemporaryDirectory(prefix="esb-bench-") as folder:
        for kind in BARE:
            path = Path(folder) / f"rows.{kind}"
            count = write(kind, path, size)
            yield _speed(kind, path, count, rounds=7 if full else 5)
            yield _memory(kind, Path(folder), 500_000_000 if full else 50_000_000)


def _speed(kind: str, path: Path, count: int, rounds: int) -> Figure:
    codec, place = codecs()[kind]

    def ours() -> Rate:
        with path.open("rb") as source:
            return _rate(lambda: codec.items(source, place), count)

    def whole() -> Rate:
        return _rate(lambda: _at(codec.decode(path.read_bytes()), place), count)

    def bare() -> Rate:
        with path.open("rb") as source:
            return _rate(lambda: BARE[kind](source), count)

    streamed, decoded, floor = alternate(rounds, ours, whole, bare)
    cpu = ratio([rate.cpu for rate in floor], [rate.cpu for rate in streamed])
    said = f"{max(streamed):,.0f} items/s of {max(floor):,.0f}, CPU {cpu:.2f}; as a whole {ratio(decoded, floor):.2f}"
    goal, of = (0.5, "the text split by hand") if kind in BY_HAND else (0.7, "its library by hand")
    return Figure(f"{kind}, item by item, of {of}", ratio(streamed, floor), goal, said=said)


def _rate(read: Callable[[], Iterable[Any]], count: int) -> Rate:
    began = Rate.now()
    found = sum(1 for _ in read())
    assert found == count, (found, count)
    return Rate.since(began, count)


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        inner = [part[name.removesuffix("[]")] for part in (body if isinstance(body, list) else [body])]
        body = [one for part in inner for one in part] if name.endswith("[]") else inner[0]
    return body


def _memory(kind: str, folder: Path, size: int) -> Figure:
    """What reading a large file takes beyond what one of a megabyte takes, in a process of its own each."""
    taken = []
    for bytes_ in (1_000_000, size):
        path = folder / f"memory.{kind}"
        count = write(kind, path, bytes_)
        command = [sys.executable, "-c", MEMORY, kind, str(path)]
        found, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(found) == count
        taken.append(float(grown))
        path.unlink()
    said = f"{taken[0]:.1f} MB at 1 MB, {taken[1]:.1f} MB at {size // 1_000_000} MB"
    return Figure(
        f"{kind}, memory that {size // 1_000_000} MB take more than 1 MB", taken[1] - taken[0], FLAT, True, said, " MB"
    )
