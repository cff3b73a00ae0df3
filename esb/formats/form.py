"""Forms with files (multipart/form-data): what a person or a portal uploads, and what such a portal takes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from esb.errors import Invalid
from esb.formats.base import CodecKind
from esb.formats.content_types import content_type_of, parse_content_type
from esb.formats.faults import invalid, shown
from esb.formats.json import Json
from esb.formats.multipart import BOUNDARY, Part, by_name, join_parts, split_parts
from esb.message import EMPTY
from esb.registry import format_
from esb.spec import option
from esb.spec.kinds import Size

_BAD = "the body is not a form"
_UNWRITABLE = "the body cannot be written as a form"
_JSON = Json()
_PARAMETER = re.compile(r';\s*(name|filename)(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]+))', re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:\s*;[ -~]*)?")
_PLAIN_CODINGS = ("", "binary", "8bit", "7bit")


@format_("form")
@dataclass(frozen=True, slots=True)
class Form:
    """Fields and files of a form (`multipart/form-data`), as one object.

    A field is a text; a file is `{ filename, content_type, content }` with its text, or what `files` reads it as, and
    `{ filename, content_type, base64 }` where it is no text. A name that stands several times is a list. Written the same way:
    an object with `content` or `base64` is a file, any other object a field in JSON, null is left out.
    """

    content_type: ClassVar[str] = "multipart/form-data"
    media_types: ClassVar[tuple[str, ...]] = ("multipart/form-data",)
    suffixes: ClassVar[tuple[str, ...]] = ()

    files: Mapping[str, Annotated[Any, CodecKind()]] = option(
        default=EMPTY, doc="Field → format of the files in it.", example='{ rows: { csv: { delimiter: ";" } } }'
    )
    max_parts: int = option(default=100, doc="Most fields and files.", example=10, minimum=1, maximum=10_000)
    max_part: Size = option(default=10_000_000, doc="Largest field or file.", example="2MB")

    @property
    def apart(self) -> bool:
        """Whether a file in it is never read on the loop."""
        return any(getattr(codec, "apart", False) for codec in self.files.values())

    def decode(self, data: bytes) -> Any:
        """The fields and files. Raises Invalid with the name of a part that cannot be read."""
        # its first line names the boundary: it holds wherever the bytes come from, also from the store
        boundary = data.partition(b"\r\n")[0].rstrip(b" \t")[2:].decode("latin-1") if data[:2] == b"--" else ""
        if not BOUNDARY.fullmatch(boundary):
            raise invalid(_BAD, "it does not begin with a boundary", hint="send it as `multipart/form-data`")
        return by_name(self._read(part) for part in split_parts(data, boundary, limit=self.max_parts))

    def _read(self, part: Part) -> tuple[str, Any]:
        disposition = part.headers.get("content-disposition", "")
        given = {found[1].lower(): _unquoted(found) for found in _PARAMETER.finditer(disposition) if not found[2]}
        name = given.get("name", "")
        if not disposition.lower().startswith("form-data") or not _NAME.fullmatch(name):
            raise invalid(_BAD, "a part has no name (`Content-Disposition: form-data; name=…`)")
        if part.headers.get("content-transfer-encoding", "").lower() not in _PLAIN_CODINGS:
            raise invalid(_BAD, "its content is in a transfer encoding; send it as it is", at=(name,))
        if len(part.content) > self.max_part:
            raise invalid(_BAD, f"it has more than {self.max_part} bytes", at=(name,), hint="raise `max_part`")
        if "filename" not in given:
            return name, _text(part, name)
        return name, self._file(part, name, re.split(r"[/\\]", given["filename"])[-1])

    def _file(self, part: Part, name: str, filename: str) -> dict[str, Any]:
        kind = part.headers.get("content-type", "application/octet-stream")
        head = {"filename": _CONTROL.sub("", filename), "content_type": kind}
        codec = self.files.get(name)
        if codec is not None:
            try:
                return {**head, "content": codec.decode(part.content)}
            except Invalid as error:
                raise Invalid(
                    f"{_BAD}: `{name}`: {error.message}", hint=error.hint, violations=error.violations
                ) from error
        try:
            text = part.content.decode(parse_content_type(kind)[1].get("charset", "utf-8"))
        except (UnicodeDecodeError, LookupError):
            text = "\0"
        if "\0" in text:
            return {**head, "base64": base64.b64encode(part.content).decode("ascii")}
        return {**head, "content": text}

    def encode(self, body: Any) -> bytes:
        """The bytes; :meth:`content_type_for` gives their boundary. Raises Invalid where the body is no object of such parts."""
        if not isinstance(body, dict) or not body:
            raise invalid(_UNWRITABLE, f"it is {shown(body)}", hint="a form is an object: field → text or file")
        parts = [part for name, value in body.items() for part in self._write(name, value)]
        digest = hashlib.sha256(b"\0".join(content for _, content in parts)).hexdigest()
        return join_parts(parts, f"esb-{digest[:40]}")

    def content_type_for(self, data: bytes) -> str:
        """The content type with the boundary of what :meth:`encode` has written."""
        boundary = data.partition(b"\r")[0][2:].decode("ascii")
        return f"{self.content_type}; boundary={boundary}"

    def _write(self, name: str, value: Any) -> Iterator[tuple[dict[str, str], bytes]]:
        if not _NAME.fullmatch(name):
            raise invalid(_UNWRITABLE, "this cannot be the name of a field", at=(name,))
        match value:
            case None:
                return
            case list():
                for one in value:
                    yield from self._write(name, one)
            case dict() if "content" in value or "base64" in value:
                yield self._write_file(name, value)
            case dict():
                yield _head(name, "application/json"), _JSON.encode(value)
            case bool():
                yield _head(name), b"true" if value else b"false"
            case str() | int() | Decimal():
                yield _head(name), (value if isinstance(value, str) else _JSON.encode(value).decode()).encode()
            case _:
                raise invalid(_UNWRITABLE, f"it is {shown(value)}", at=(name,))

    def _write_file(self, name: str, value: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        filename = value.get("filename") or name
        codec = self.files.get(name)
        kind = value.get("content_type") or (
            content_type_of(codec) if codec is not None else "application/octet-stream"
        )
        if not isinstance(filename, str) or not _NAME.fullmatch(filename):
            raise invalid(_UNWRITABLE, "this cannot be the name of a file", at=(name, "filename"))
        if not isinstance(kind, str) or not _TOKEN.fullmatch(kind):
            raise invalid(_UNWRITABLE, "this is no content type", at=(name, "content_type"))
        return _head(name, kind, filename), self._bytes(name, value)

    def _bytes(self, name: str, value: dict[str, Any]) -> bytes:
        if "base64" in value:
            try:
                return base64.b64decode(str(value["base64"]), validate=True)
            except (binascii.Error, ValueError):
                raise invalid(_UNWRITABLE, "this is no base64", at=(name, "base64")) from None
        content, codec = value["content"], self.files.get(name)
        if codec is not None:
            written: bytes = codec.encode(content)
            return written
        if isinstance(content, str):
            return content.encode()
        return _JSON.encode(content)


def _text(part: Part, name: str) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise invalid(_BAD, "a field that is no file is a text in UTF-8", at=(name,)) from None


def _unquoted(found: re.Match[str]) -> str:
    text = re.sub(r'\\(["\\])', r"\1", found[3]) if found[3] is not None else found[4]
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _head(name: str, kind: str = "", filename: str | None = None) -> dict[str, str]:
    """As browsers write it: quotes and line ends in names are percent-encoded."""
    shown_as = f'form-data; name="{name.replace(chr(34), "%22")}"'
    if filename is not None:
        shown_as += f'; filename="{filename.replace(chr(34), "%22")}"'
    return {"Content-Disposition": shown_as} | ({"Content-Type": kind} if kind else {})
