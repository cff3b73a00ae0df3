"""The elements of one kind of a large XML document one by one; nothing else of it stays in memory."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from esb.formats.faults import invalid
from esb.formats.lines import LONGEST

_PIECE = 1 << 16
#: Bytes without an element given after which the rest of the document that was read is let go.
_SWEEP = 1 << 20
#: lxml's stubs know less than lxml
Element = Any
#: Makes a pull parser for some events of elements with some tags (None: all).
MakeParser = Callable[[Any, list[str] | None], Any]
#: From an element, the namespaces in scope around it (empty where they mean nothing) and its depth to its value.
ValueOf = Callable[[Element, dict[str | None, str], int], Any]


class Records:
    """Gives the elements at ``path``: the names from the root on, where None stands for any.

    ``begin`` sees the root element before anything else; ``by_tag``: a name depends on nothing but the tag.
    Raises Invalid, and what the parser raises.
    """

    def __init__(
        self,
        make: MakeParser,
        path: tuple[str | None, ...],
        name: Callable[[Element], str],
        begin: Callable[[Element], None],
        message: str,
        *,
        by_tag: bool,
    ) -> None:
        self._make = make
        self._path = path
        self._name = name
        self._begin = begin
        self._message = message
        self._root: Element | None = None
        self._parent: Element | None = None  #: the one whose children are given
        self._fed = 0  #: bytes since something was last let go
        self._tag = ""  #: of elements at the path, where it alone makes the name
        self._by_tag = by_tag
        self.count = 0  #: elements given so far

    def read(self, source: BinaryIO, charset: str | None, value: ValueOf, depth: int) -> Iterator[Any]:
        """The value of each element when it is complete; the element is emptied when the next one is asked for."""
        root = self._root_of(source, charset)
        tags = [root.tag, "{*}" + str(self._path[-1]).rpartition(":")[2]]
        parser = self._make(("start", "end"), tags)
        source.seek(0)
        scope: dict[str | None, str] = {}
        for piece in self._pieces(source, charset):
            if piece:
                parser.feed(piece)
            else:
                parser.close()
            self._fed += len(piece)
            for event, element in parser.read_events():
                if event == "start":
                    if self._root is None:
                        self._root = element
                    continue
                parent = element.getparent()
                if (parent is not self._parent or element.tag != self._tag) and not self._is_one(element, parent):
                    continue
                self.count += 1
                yield value(element, scope if self._by_tag else parent.nsmap, depth)
                element.clear()
                self._fed = 0
                while element.getprevious() is not None:
                    del parent[0]
            if self._fed > _SWEEP:
                self._sweep()

    def _root_of(self, source: BinaryIO, charset: str | None) -> Element:
        """The root element, of which only the beginning is read."""
        parser = self._make(("start",), None)
        for piece in self._pieces(source, charset):
            if piece:
                parser.feed(piece)
            else:
                parser.close()
            for _, element in parser.read_events():
                self._begin(element)
                return element
        raise invalid(self._message, "it has no element")

    def _pieces(self, source: BinaryIO, charset: str | None) -> Iterator[bytes]:
        """The document in pieces, an empty one at its end; in UTF-8 where it has a charset of its own."""
        decoder = codecs.getincrementaldecoder(charset)() if charset is not None else None
        while True:
            piece = source.read(_PIECE)
            data = piece if decoder is None else _recoded(decoder, piece, charset, self._message)
            if data or not piece:
                yield data
            if not piece:
                if data:
                    yield b""
                return

    def _is_one(self, element: Element, parent: Element | None) -> bool:
        """Whether it stands at the path; the elements around it must be there once."""
        if parent is None:
            return False
        if parent is not self._parent:
            if not self._is_at(parent, len(self._path) - 2):
                return False
            if self._parent is not None:
                place = ".".join(filter(None, self._path[:-1]))
                detail = f"line {parent.sourceline}: there is a second `{place}`, so its parts are no one list"
                raise invalid(self._message, detail)
            self._parent = parent
        if self._name(element) != self._path[-1]:
            return False
        self._tag = element.tag if self._by_tag else ""
        return True

    def _is_at(self, element: Element | None, level: int) -> bool:
        while element is not None and level >= 0:
            if self._path[level] is not None and self._name(element) != self._path[level]:
                return False
            element, level = element.getparent(), level - 1
        return element is None and level < 0

    def _sweep(self) -> None:
        """Free what is complete around the place that the parser has come to, but nothing of an element that will be given."""
        at, level, on_path = self._root, 0, True
        while at is not None:
            on_path = on_path and self._path[level] in (None, self._name(at))
            level += 1
            if (on_path and level == len(self._path)) or not len(at):
                break
            if len(at) > 1:
                del at[:-1]
                self._fed = 0
            at = at[-1]
        if self._fed > LONGEST:
            detail = f"an element has more than {LONGEST} bytes"
            raise invalid(self._message, detail, hint="split at a smaller element, further inside")


def _recoded(decoder: codecs.IncrementalDecoder, piece: bytes, charset: str | None, message: str) -> bytes:
    try:
        return decoder.decode(piece, not piece).encode()
    except UnicodeError as error:
        raise invalid(message, f"not {charset} text ({error})") from None


__all__ = ["Records"]
