"""What is fuzzed: each target takes any bytes and may raise only what its code declares, which it catches itself.

Whatever else comes out, also a broken promise (an assertion), is a finding. ``SEEDS`` says where a target's first inputs are.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jmespath

from esb.clock import ManualClock
from esb.config.loader import load_workspace
from esb.endpoints._http.events import event_key, unwrapped
from esb.endpoints._http.framing import CHUNKED, Chunks, Refused, read_head
from esb.endpoints.base import Request
from esb.errors import EsbError, Invalid
from esb.formats.csv import Csv
from esb.formats.edifact import Edifact
from esb.formats.form import Form
from esb.formats.idoc import Idoc
from esb.formats.json import Json
from esb.formats.x12 import X12
from esb.formats.xml import Xml
from esb.language.base import ExpressionError
from esb.language.workspace import WorkspaceLanguage

ROOT = Path(__file__).parents[2]
SCOPE = {
    "body": {"lot": "0012", "qty": [1, 2, 3], "a": {"b": None}},
    "headers": {"a": "b"},
    "vars": {"x": [{"y": 1}]},
    "meta": {"route": "r"},
    "site": {"plant": "P10"},
}
_LANGUAGE = WorkspaceLanguage({}, "Europe/Vienna", ManualClock())
#: longer inputs say nothing new about these readers
LONGEST = 4096


def json(data: bytes) -> None:
    """What was read is written and read again without a change."""
    codec = Json()
    try:
        body = codec.decode(data)
    except Invalid:
        return
    again = codec.decode(codec.encode(body))
    assert again == body, (body, again)


def csv(data: bytes) -> None:
    for codec in (Csv(), Csv(delimiter=";", header=False), Csv(delimiter="\t")):
        try:
            rows = codec.decode(data)
        except Invalid:
            continue
        assert isinstance(rows, list)


def xml(data: bytes) -> None:
    try:
        Xml().decode(data)
    except Invalid:
        return


class Drip(io.BytesIO):
    """Gives few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(7 if size is None or size > 7 else size)


def _in_pieces(codec: Any, data: bytes, path: tuple[str, ...]) -> None:
    """What is read piece by piece is what is read as a whole, or is refused in the same words."""
    found: list[Any] = []
    for read in (lambda: codec.decode(data), lambda: list(codec.items(Drip(data), path))):
        try:
            found.append(read())
        except Invalid as error:
            found.append((error.message, error.violations))
    whole, streamed = found
    if isinstance(whole, dict):
        for name in path:
            parts = whole if isinstance(whole, list) else [whole]
            whole = [one for part in parts for one in part[name.removesuffix("[]")]]
    assert streamed == whole, (streamed, whole)


def edifact(data: bytes) -> None:
    """What was read is refused for writing, or is whole once it was written, and then always the same."""
    codec = Edifact()
    _in_pieces(Edifact(faults="report"), data, ("messages",))
    try:
        Edifact(faults="report").decode(data)
        body = codec.decode(data)
        for message in body["messages"]:
            message.pop("group", None)  # groups are read, not written
        written = codec.encode(body)
    except Invalid:
        return
    body = codec.decode(written)
    again = codec.decode(codec.encode(body))
    assert again == body, (body, again)


def x12(data: bytes) -> None:
    """As EDIFACT."""
    codec = X12()
    _in_pieces(X12(faults="report"), data, ("interchanges[]", "groups[]", "transactions[]"))
    try:
        X12(faults="report").decode(data)
        body = codec.decode(data)
        written = codec.encode(body)
    except Invalid:
        return
    body = codec.decode(written)
    again = codec.decode(codec.encode(body))
    assert again == body, (body, again)


def idoc(data: bytes) -> None:
    try:
        Idoc().decode(data)
    except Invalid:
        return


def form(data: bytes) -> None:
    try:
        Form().decode(data)
    except Invalid:
        return


def event(data: bytes) -> None:
    """An envelope is refused with a reason, or has an identity and headers of one line each."""
    request = Request(
        "POST", "/a", "", {"content-type": "application/cloudevents+json", "ce-id": "of the sender"}, data
    )
    found = unwrapped(request)
    if not isinstance(found, Request):
        assert found.status == 400
        return
    assert event_key(found.headers) is not None
    assert all(value.isprintable() for value in found.headers.values())


def route(data: bytes) -> None:
    """A route file with any content: diagnostics, never a traceback."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder, "routes", "fuzzed.yaml")
        path.parent.mkdir()
        path.write_bytes(data)
        workspace, problems = load_workspace(Path(folder))
        assert workspace is not None or problems


def http(data: bytes) -> None:
    """A request head is refused or understood; a chunked body ends at the same byte however it is cut."""
    head, end, body = data.partition(b"\r\n\r\n")
    try:
        framing = read_head(head + end, max_headers=50, max_target=1000)
    except Refused:
        return
    assert framing.length == CHUNKED or framing.length >= 0
    assert _taken([body]) == _taken([body[at : at + 1] for at in range(len(body))])


def _taken(pieces: Iterable[bytes]) -> tuple[int, bool] | None:
    chunks, taken = Chunks(), 0
    for piece in pieces:
        try:
            taken += chunks.take(piece)
        except Refused:
            return None
        if chunks.done:
            break
    return taken, chunks.done


def expression(data: bytes) -> None:
    """What compiles here is JMESPath for the reference, too, and fails at run time only as a message's error."""
    text = data.decode("utf-8", "replace")
    try:
        compiled = WorkspaceLanguage({}, "UTC", ManualClock()).expression(text)
    except ExpressionError:
        return
    jmespath.compile(text)
    try:
        compiled(SCOPE)
    except EsbError:
        return


def template(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        compiled = _LANGUAGE.template(text)
    except ExpressionError:
        return
    try:
        compiled.render(SCOPE)
    except EsbError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": json,
    "csv": csv,
    "xml": xml,
    "edifact": edifact,
    "x12": x12,
    "idoc": idoc,
    "form": form,
    "event": event,
    "route": route,
    "http": http,
    "expression": expression,
    "template": template,
}
_HTTP = b"POST /a HTTP/1.1\r\nHost: bus\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_FORM = (
    b'--b\r\nContent-Disposition: form-data; name="lot"\r\n\r\n0012\r\n--b\r\n'
    b'Content-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n'
)
_EVENTS = (
    b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"lot":"0012"}}',
    b'{"specversion":"1.0","id":"1","source":"/a","type":"t","datacontenttype":"text/plain","data_base64":"eA=="}',
)
_EXPRESSIONS = ("body.lot", "body.qty[?@ > `1`] | [0]", "join('-', [body.lot, 'x'])", "{a: body.a.b, b: vars.x[*].y}")
_TEMPLATES = (
    "{{ body.lot }}",
    "{% for q in body.qty %}{{ q * 2 }}{% endfor %}",
    "{{ body.lot | upper }}",
    "{% if a %}",
)


def seeds(name: str) -> list[bytes]:
    """The first inputs of a target: files of the examples and golden tests, small ones first."""
    own = {
        "http": [_HTTP],
        "form": [_FORM],
        "event": [*_EVENTS],
        "expression": [e.encode() for e in _EXPRESSIONS],
        "template": [t.encode() for t in _TEMPLATES],
    }
    if name in own:
        return own[name]
    if name == "route":
        found = [*ROOT.glob("tests/golden/diagnostics/*/routes/*.yaml"), *ROOT.glob("examples/**/*.yaml")]
    elif name in ("edifact", "x12", "idoc"):
        found = [path for path in (ROOT / "examples" / "data" / name).iterdir() if path.suffix != ".md"]
    else:
        found = [*ROOT.glob(f"examples/**/*.{name}")]
    texts = sorted((path.read_bytes() for path in found), key=len)
    return [text for text in texts if len(text) <= LONGEST][:150]
