"""XML as a body: elements are objects, text stays text. No DTD, no entities, no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Literal, NoReturn

from lxml import etree

from esb.errors import Invalid
from esb.formats.charset import Encoding, decode_text
from esb.formats.faults import invalid
from esb.formats.xml_items import Records
from esb.formats.xml_write import MAX_DEPTH, XmlWriter, is_name
from esb.message import EMPTY
from esb.registry import format_
from esb.spec import MapNode, Node, Reader, option

_BAD = "the body is not acceptable XML"
_NO_DTD = "it has a document type (<!DOCTYPE …>), which is never read"
#: lxml's stubs know less than lxml
Element = Any
_XML = "{http://www.w3.org/XML/1998/namespace}"


@format_("xml")
@dataclass(frozen=True, slots=True)
class Xml:
    """XML as objects: `<Lot no="1"><Qty>012</Qty></Lot>` is `{ Lot: { "@no": "1", Qty: "012" } }`.

    Text stays text (leading zeros!). Attributes are `@name`; the text of an element that has attributes or children is
    `#text`; repeated siblings are a list, also where others stand between them; an empty element is the empty text.
    Comments and processing instructions are left out. A document type is refused, and so is nesting beyond 100 levels.
    Standards such as QIF, B2MML, GS1 XML and SOAP are XML like any other: the reference workspace has transforms that make entities of
    them (schemas/README.md lists them).
    """

    content_type: ClassVar[str] = "application/xml"
    media_types: ClassVar[tuple[str, ...]] = ("application/xml", "text/xml")
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    #: what a `split` reads piece by piece
    each: ClassVar[str] = "body.ROOT.ELEMENT"

    namespaces: Literal["strip", "keep"] = option(
        default="strip",
        doc="`strip` drops prefixes and declarations; `keep` keeps them (`soap:Body`, `@xmlns:soap`).",
        example="keep",
    )
    prefixes: Mapping[str, str] = option(
        default=EMPTY,
        doc="Prefix of a namespace, whatever the document calls it; it is declared where it is written.",
        example='{ soap: "http://schemas.xmlsoap.org/soap/envelope/" }',
    )
    always_list: tuple[str, ...] = option(
        default=(), doc="Elements that are a list even where there is one.", example="[E1MARAM, E1MAKTM]"
    )
    root: Literal["keep", "drop"] = option(
        default="keep",
        doc="`keep` has the name of the root element as the only key; `drop` leaves it out.",
        example="drop",
    )
    element: str = option(
        default="", doc="Name of the root element that is written where `root: drop`.", example="ShippingOrder"
    )
    encoding: Encoding = option(default="utf-8", doc="Encoding that is written.", example="iso-8859-1")
    charset: Encoding | None = option(
        default=None, doc="Encoding that is read, where the document declares a wrong one.", example="cp1252"
    )
    declaration: bool = option(default=True, doc="Write the line `<?xml …?>`.", example=False)
    nulls: Literal["omit", "empty"] = option(
        default="omit", doc="What null becomes: no element, or an empty one.", example="empty"
    )

    def check(self, node: Node, reader: Reader) -> None:
        """Report names that no document may have."""
        for prefix in self.prefixes:
            if not is_name(prefix) or ":" in prefix or prefix.lower() in ("xml", "xmlns"):
                hint = 'for a default namespace set "@xmlns" in the body' if not prefix else "use letters and digits"
                reader.problem("ESB103", f"`{prefix}` is not a namespace prefix", _at(node, "prefixes"), hint=hint)
        if self.element and not is_name(self.element):
            reader.problem("ESB103", f"`{self.element}` is not an element name", _at(node, "element"))

    def decode(self, data: bytes) -> Any:
        """The body. Raises Invalid with line and column where the document is not well-formed or not allowed."""
        root = self._parse(data)
        mapping = _Mapping(self)
        value = mapping.content(root, {}, 1)
        return value if self.root == "drop" else {mapping.name(root): value}

    def streams(self, path: tuple[str, ...]) -> bool:
        """Whether the list is one of elements that stand beside each other, below elements that are there once."""
        if any(name.endswith("[]") for name in path):
            return False
        return len(path) >= (1 if self.root == "drop" else 2) and not set(path[:-1]) & set(self.always_list)

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The elements one by one. Raises Invalid as :meth:`decode`; also where an element on the way stands there twice."""
        mapping = _Mapping(self)
        charset = "utf-8" if self.charset is not None else None

        def make(events: Any, tags: list[str] | None) -> Any:
            parser = etree.XMLPullParser(events=events, tag=tags, **_options(charset))
            parser.resolvers.add(_Refuse())
            return parser

        whole = (None, *path) if self.root == "drop" else path
        records = Records(make, whole, mapping.name, _refuse_dtd, _BAD, by_tag=self.namespaces == "strip")
        try:
            yield from records.read(source, self.charset, mapping.content, len(path) + 1)
        except etree.XMLSyntaxError as error:
            raise _unreadable(error) from None
        if records.count == 1 and path[-1] not in self.always_list:
            hint = f"where there may be one, write `always_list: [{path[-1]}]` in the format"
            raise invalid(_BAD, f"`body.{'.'.join(path)}` is one element, not a list", hint=hint)

    def encode(self, body: Any) -> bytes:
        """The document. Raises Invalid with the pointer of what XML cannot hold (control characters, bad names)."""
        name, content, at = self._root_of(body)
        return XmlWriter(self.prefixes, self.encoding, nulls=self.nulls, declaration=self.declaration).document(
            name, content, at
        )

    def _parse(self, data: bytes) -> Element:
        charset = None
        if self.charset is not None:
            data, charset = decode_text(data, self.charset, _BAD).encode(), "utf-8"
        if not data.strip():
            raise invalid(_BAD, "it is empty")
        # a parser of its own for each document: it keeps the error log, and lxml serialises shared ones
        parser = etree.XMLParser(**_options(charset))
        # `load_dtd=False` alone does not stop libxml2 from reading an external subset; this does, before it is opened
        parser.resolvers.add(_Refuse())
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            raise _unreadable(error) from None
        _refuse_dtd(root)
        return root

    def _root_of(self, body: Any) -> tuple[str, Any, tuple[str, ...]]:
        bad = "the body cannot be written as XML"
        if self.root == "drop":
            if not self.element:
                raise invalid(bad, "the root element has no name", hint="set `element: <name>` beside `root: drop`")
            return self.element, body, ()
        names = [name for name in body if not str(name).startswith(("@", "#"))] if isinstance(body, dict) else []
        if len(names) != 1 or len(names) != len(body):
            found = f"it has {len(body)} keys" if isinstance(body, dict) else "it is not an object"
            hint = "`map` it under the name of the root element, or set `root: drop` and `element: <name>`"
            raise invalid(bad, f"a document has one root element, but {found}", hint=hint)
        content = body[names[0]]
        if isinstance(content, list):
            if len(content) != 1:
                raise invalid(bad, f"a document has one root element, not {len(content)}", at=names)
            content = content[0]
        return names[0], content, (names[0],)


def _options(charset: str | None) -> dict[str, Any]:
    return {
        "encoding": charset,
        "resolve_entities": False,
        "no_network": True,
        "load_dtd": False,
        "huge_tree": False,
        "remove_comments": True,
        "remove_pis": True,
        "collect_ids": False,
    }


def _refuse_dtd(root: Element) -> None:
    if root.getroottree().docinfo.internalDTD is not None:
        raise _refused()


class _Refuse(etree.Resolver):
    """Called before libxml2 opens anything outside of the document."""

    def resolve(self, *asked_for: object) -> NoReturn:
        raise _refused()


def _refused() -> Invalid:
    hint = "ask the sender to leave it out; it can read files and exhaust memory"
    return invalid(_BAD, _NO_DTD, hint=hint)


def _unreadable(error: etree.XMLSyntaxError) -> Invalid:
    line, column = error.position
    words = (error.msg or "not well-formed").split(", line ")[0].strip().rstrip(".")
    if "entity amplification" in words:
        return _refused()
    if "Excessive depth" in words:
        return _too_deep(line)
    hint = ""
    if "character encoding" in words or "encoder error" in words or "not proper UTF-8" in words:
        hint = "the bytes are not in the declared encoding; set `charset: cp1252` where the sender declares a wrong one"
    return invalid(_BAD, f"line {line}, column {column}: {words}", hint=hint)


def _too_deep(line: int) -> Invalid:
    return invalid(_BAD, f"line {line}: nested deeper than {MAX_DEPTH} levels")


def _at(node: Node, name: str) -> Node:
    return (node.get(name) if isinstance(node, MapNode) else None) or node


class _Mapping:
    """From elements to a body, for one document."""

    __slots__ = ("_always", "_keep", "_names", "_plain", "_prefix_of")

    def __init__(self, options: Xml) -> None:
        self._keep = options.namespaces == "keep"
        self._always = frozenset(options.always_list)
        self._prefix_of = {uri: prefix for prefix, uri in options.prefixes.items()}
        self._names: dict[tuple[str, str | None], str] = {}
        #: by tag alone, where prefixes mean nothing
        self._plain: dict[str, str] = {}

    def name(self, element: Element) -> str:
        tag = element.tag
        key = (tag, element.prefix if self._keep else None)
        name = self._names.get(key)
        if name is None:
            uri, _, local = tag[1:].rpartition("}") if tag[0] == "{" else ("", "", tag)
            prefix = (self._prefix_of.get(uri) or element.prefix) if self._keep and uri else None
            name = self._names[key] = f"{prefix}:{local}" if prefix else local
            if not self._keep:
                self._plain[tag] = name
        return name

    def content(self, element: Element, scope: dict[str | None, str], depth: int) -> Any:
        """The value of an element: its text where it holds nothing else, or an object."""
        if depth > MAX_DEPTH:
            raise _too_deep(element.sourceline or 0)
        attributes, parts = element.items(), len(element)
        declared: dict[str | None, str] = element.nsmap if self._keep else scope
        fresh = self._keep and declared != scope
        if not parts and not attributes and not fresh:
            return element.text or ""
        found: dict[str, Any] = {}
        if fresh:
            self._declarations(declared, scope, found)
        for name, value in attributes:
            key = "@" + (name if name[0] != "{" else self._attribute(name, declared))
            if key in found:
                line = f"line {element.sourceline}: two attributes are called `{key[1:]}`"
                raise invalid(_BAD, line, hint="set `namespaces: keep`")
            found[key] = value
        text = element.text
        if not parts:
            if text:
                found["#text"] = text
            return found
        between = self._children(element, declared, depth + 1, found)
        if between or (text and not text.isspace()):
            found["#text"] = " ".join(piece.strip() for piece in (text, *between) if piece and not piece.isspace())
        return found

    def _children(
        self, element: Element, scope: dict[str | None, str], depth: int, found: dict[str, Any]
    ) -> Sequence[str]:
        """Put the children into ``found``; gives the texts between them. A value is never a list: a list is several."""
        always, names, keep = self._always, self._plain, self._keep or depth > MAX_DEPTH
        between: list[str] | None = None
        for child in element:
            # most elements of most documents hold nothing but text: they are read here
            plain = not keep and not len(child) and not child.items()
            value = (child.text or "") if plain else self.content(child, scope, depth)
            name = names.get(child.tag) or self.name(child)
            before = found.get(name)
            if before is None:
                found[name] = value if name not in always else [value]
            elif type(before) is list:
                before.append(value)
            else:
                found[name] = [before, value]
            tail = child.tail
            if tail and not tail.isspace():
                between = [] if between is None else between
                between.append(tail)
        return between or ()

    def _declarations(
        self, declared: dict[str | None, str], scope: dict[str | None, str], found: dict[str, Any]
    ) -> None:
        for prefix, uri in declared.items():
            if scope.get(prefix) != uri and uri not in self._prefix_of:
                found[f"@xmlns:{prefix}" if prefix else "@xmlns"] = uri

    def _attribute(self, name: str, declared: Mapping[str | None, str]) -> str:
        uri, _, local = name[1:].rpartition("}")
        if not self._keep:
            return local
        if name.startswith(_XML):
            return f"xml:{local}"
        prefix = self._prefix_of.get(uri) or next((p for p, u in declared.items() if u == uri and p), None)
        return f"{prefix}:{local}" if prefix else local
