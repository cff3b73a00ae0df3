"""Where the ``$ref`` of a schema leads: to other local schemas, never to the network."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import jsonschema_rs

from esb.contracts.faults import DRAFTS, Path, Where, declared, shape_problems
from esb.contracts.shapes import Spot
from esb.errors import Position, Problem
from esb.formats.faults import shown

#: keywords whose members are schemas by name, and keywords that hold data
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_DATA = frozenset({"const", "enum", "default", "examples"})


def file_uri(path: str) -> str:
    """The base URI of a schema file of the workspace."""
    return f"file:///{path.lstrip('/')}"


class References:
    """Finds what a schema refers to among the local ones, and theirs in turn."""

    def __init__(self, path: str, schema: Any, others: Mapping[str, Any]) -> None:
        self._path = path
        self._schemas = {**others, path: schema}
        self._by_uri: dict[str, str] = {}
        self._embedded: set[str] = set()  # URIs of schemas that stand inside of another
        for other, content in self._schemas.items():
            root = file_uri(other)
            self._by_uri.setdefault(root, other)
            for base, parts, _ in _walk(content, root):
                root = base if not parts else root
                self._by_uri.setdefault(base, other)
                if base != root:
                    self._embedded.add(base)
        self._resources: dict[str, Any] = {}
        self.files: tuple[str, ...] = ()  #: the other files that were followed, after :meth:`collect`

    def registry(self) -> Any:
        """What the validator must know, by every URI that leads there; None where nothing is referred to."""
        if not self._resources:
            return None
        draft = DRAFTS[declared(self._schemas[self._path]).rstrip("#")]
        return jsonschema_rs.Registry(list(self._resources.items()), draft=draft, retriever=_never)

    def twins(self, where: Where) -> Iterator[Problem]:
        """A problem for each ``$id`` that another file has, too: a ``$ref`` would pick either."""
        told = set()
        for base, parts, ref in _walk(self._schemas[self._path], file_uri(self._path)):
            twin = self._by_uri[base]
            if ref is None and twin != self._path and base not in told:
                told.add(base)
                related = ((Position(twin), "the other schema"),)
                message, hint = f"{shown(base)} is the `$id` of {twin}, too", "every schema needs an `$id` of its own"
                yield Problem("ESB109", message, where.at((*parts, "$id")), hint=hint, related=related)

    def collect(self, where: Where) -> Iterator[Problem]:
        """Follow every ``$ref``; gives a problem for each that leads to nothing local."""
        # a schema without an `$id` has the URI by which it was found, and its own references start from there
        todo = [(self._path, file_uri(self._path))]
        seen = set(todo)
        while todo:
            path, found_as = todo.pop()
            # a fault of another file is shown there, when that one is compiled; here it is named
            here = where if path == self._path else Where(path, "")
            for base, parts, ref in _walk(self._schemas[path], found_as):
                if ref is None:
                    continue
                uri, fragment = urldefrag(_join(base, ref))
                target = self._target(path, uri, ref)
                if target is None:
                    yield self._nowhere(here, parts, ref, uri)
                    continue
                schema = self._schemas[target] if target in self._schemas else dialect(uri)
                if uri in self._embedded:  # the validator finds it inside of the file
                    uri = file_uri(target)
                elif not _leads_somewhere(schema, fragment):
                    hint = "written like `#/$defs/name`, and that name must stand there"
                    yield here.problem(parts, "ESB307", f"$ref {shown(ref)} leads nowhere", hint)
                self._resources[uri] = schema
                if (target, uri) in seen or target not in self._schemas:
                    continue
                if target not in {path for path, _ in seen}:
                    yield from shape_problems(schema, Where(target))
                seen.add((target, uri))
                todo.append((target, uri))
        self.files = tuple(sorted({path for path, _ in seen} - {self._path}))

    def _target(self, path: str, uri: str, ref: str) -> str | None:
        """The path of the schema that ``uri`` means (the URI itself where it is a dialect's own), None for none."""
        if uri in self._by_uri:
            return self._by_uri[uri]
        if dialect(uri) is not None:
            return uri
        if not urlsplit(ref).scheme:  # a file beside this one, whatever this one's $id says
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), urldefrag(ref).url))
            if beside in self._schemas:
                return beside
        return None

    def root(self) -> Spot:
        """The schema itself, as a place to follow references from."""
        schema = self._schemas[self._path]
        return Spot(schema, self._path, (), _own_uri(schema, file_uri(self._path)))

    def follow(self, spot: Spot, ref: str) -> Spot | None:
        """The schema that a ``$ref`` at ``spot`` leads to; None where that takes more than a file and a JSON pointer."""
        uri, fragment = urldefrag(_join(spot.base, ref))
        target = self._target(spot.path, uri, ref)
        if target not in self._schemas or uri in self._embedded or (fragment and not fragment.startswith("/")):
            return None
        assert target is not None
        schema = self._schemas[target]
        found = Spot(schema, target, (), _own_uri(schema, file_uri(target)))
        for part in unquote(fragment)[1:].split("/") if fragment else ():
            name: str | int = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found.schema, list):
                name = int(name) if str(name).isdigit() else name
            try:
                found = found.inner(name)
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def _nowhere(self, where: Where, parts: Path, ref: str, uri: str) -> Problem:
        if urlsplit(ref).scheme or uri.startswith("//"):
            hint = f"put that schema into schemas/ with `$id: {urldefrag(ref).url}`; nothing is fetched"
            return where.problem(parts, "ESB308", f"remote $ref {shown(ref)}", hint)
        names = {posixpath.relpath(path, posixpath.dirname(self._path) or "."): path for path in self._schemas}
        close = difflib.get_close_matches(urldefrag(ref).url, names, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "known here: " + ", ".join(sorted(names)[:12])
        return where.problem(parts, "ESB302", f"$ref {shown(ref)}: there is no such schema", hint)


def _join(base: str, ref: str) -> str:
    """The URI that ``ref`` means in a schema at ``base``; a fragment alone stays there, also where the base is a URN."""
    return urldefrag(base).url + ref if ref.startswith("#") else urljoin(base, ref)


def _own_uri(schema: Any, otherwise: str) -> str:
    own = schema.get("$id") if isinstance(schema, dict) else None
    return urldefrag(_join(otherwise, own)).url if isinstance(own, str) and not own.startswith("#") else otherwise


def _never(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not a local schema")


def dialect(uri: str) -> Any:
    """The schema of JSON Schema itself that has this URI, None where there is none."""
    if "json-schema.org/" not in uri:
        return None
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # noqa: PLC0415 - hardly ever needed

    known = next((name for name in (uri, uri + "#") if name in REGISTRY), None)
    return None if known is None else REGISTRY.contents(known)


def _leads_somewhere(schema: Any, fragment: str) -> bool:
    """False where a JSON pointer leads to nothing; anchors are the validator's business."""
    if not fragment.startswith("/"):
        return True
    for part in unquote(fragment)[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict) and name in schema:
            schema = schema[name]
        elif isinstance(schema, list) and name.isdigit() and int(name) < len(schema):
            schema = schema[int(name)]
        else:
            return False
    return True


def _walk(schema: Any, base: str, parts: Path = ()) -> Iterator[tuple[str, Path, str | None]]:
    """Base URI and place of every (sub)schema, and its ``$ref`` where it has one."""
    if not isinstance(schema, dict):
        return
    own = schema.get("$id")
    if isinstance(own, str) and not own.startswith("#"):
        base = urldefrag(_join(base, own)).url
    yield base, parts, None
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        ref = schema.get(keyword)
        if isinstance(ref, str):
            yield base, (*parts, keyword), ref
    for key, value in schema.items():
        if key in _DATA:
            continue
        if isinstance(value, list):
            for index, inner in enumerate(value):
                yield from _walk(inner, base, (*parts, key, index))
        elif key in _NAMED and isinstance(value, dict):
            for name, inner in value.items():
                yield from _walk(inner, base, (*parts, key, name))
        else:
            yield from _walk(value, base, (*parts, key))
