"""Contracts: JSON Schemas, compiled at load, checked exactly and offline."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, Self
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import jsonschema_rs

from esb.contract_words import violations_of
from esb.errors import ConfigError, Invalid, Position, Problem, Violation
from esb.formats.faults import pointer, shown
from esb.formats.json import Json
from esb.formats.json_place import place
from esb.message import EMPTY

#: violations that one error lists
LISTED = 50
#: beyond this many values only the first violation is looked for: finding all takes about 10 µs each
THOROUGH = 10_000

_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=50_000)
_DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909,
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6,
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4,
}
_DEFAULT = "https://json-schema.org/draft/2020-12/schema"
#: keywords whose members are schemas by name, and keywords that hold data
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_DATA = frozenset({"const", "enum", "default", "examples"})

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class JsonContract:
    """A JSON Schema (2020-12 unless ``$schema`` says otherwise; drafts 4 to 2019-09 work, too), compiled.

    Decimals are checked exactly, ``format`` is asserted, patterns run in bounded time, and nothing is ever fetched.
    """

    name: str
    path: str
    validator: Any

    @classmethod
    def compile(cls, name: str, schema: Any, path: str, others: Mapping[str, Any] = EMPTY, *, text: str = "") -> Self:
        """Compile ``schema``, the content of the file ``path`` (``text`` gives its problems their lines).

        ``others`` are the other local schemas by their path, in the same form as ``path``; a ``$ref`` finds them by ``$id`` or
        by relative path. Raises ConfigError: ESB307 for a bad schema, ESB302 for a missing file, ESB308 for a remote ``$ref``.
        """
        where = _Where(path, text)
        problems = _shape_problems(schema, where)
        if problems:
            raise ConfigError(problems)
        references = _References(path, schema, others)
        problems = [*references.twins(where), *references.collect(where)]
        if problems:
            raise ConfigError(problems)
        try:
            registry = references.registry()
            validator = jsonschema_rs.validator_for(
                schema,
                validate_formats=True,
                offline=True,
                registry=registry,
                base_uri=file_uri(path),
                pattern_options=_PATTERNS,
            )
        except jsonschema_rs.ValidationError as error:
            raise ConfigError(_schema_problems(schema, error, where)) from None
        except (jsonschema_rs.ReferencingError, ValueError) as error:
            raise ConfigError(
                [_problem(where, (), "ESB307", f"the schema cannot be used: {_first_line(error)}")]
            ) from None
        return cls(name, path, validator)

    def check(self, body: Any) -> None:
        """Raise Invalid with every violation (at most 50), each with its JSON pointer."""
        try:
            if self.validator.is_valid(body):
                return
        except ValueError as error:
            detail = "is raw bytes" if isinstance(body, bytes) else f"has no JSON form ({_first_line(error)})"
            hint = "`parse` it first" if isinstance(body, bytes) else ""
            message = f"contract {self.name}: the body {detail}"
            raise Invalid(message, hint=hint, violations=(Violation("", detail),)) from None
        raise self._broken(body)

    def _broken(self, body: Any) -> Invalid:
        if _is_large(body):
            try:
                self.validator.validate(body)
            except jsonschema_rs.ValidationError as error:
                found = list(violations_of([error], body))
            more = "first found; the body is too large to list all"
        else:
            found = list(violations_of(list(self.validator.iter_errors(body)), body))
            more = "1 violation" if len(found) == 1 else f"{len(found)} violations"
            if len(found) > LISTED:
                more += f", {LISTED} listed"
        first = found[0]
        subject = f"`{first.pointer}`" if first.pointer else "the body"
        words = (
            f"contract {self.name}: {subject} {first.detail}"
            if first.pointer
            else f"contract {self.name}: {first.detail}"
        )
        return Invalid(f"{words} ({more})", violations=found[:LISTED])


def read_schema(data: bytes, path: str) -> Any:
    """The schema in a file, with exact numbers. Raises ConfigError (ESB307) where it is no JSON."""
    try:
        return Json().decode(data)
    except Invalid as error:
        detail = error.violations[0].detail
        line, column = 1, 1
        if detail.startswith("line "):
            place_, _, detail = detail.partition(": ")
            line, column = (int(word.split()[1]) for word in place_.split(", "))
        raise ConfigError(
            [Problem("ESB307", f"not valid JSON: {detail}", Position(path, line, column), hint=error.hint)]
        ) from None


def file_uri(path: str) -> str:
    """The base URI of a schema file of the workspace."""
    return f"file:///{path.lstrip('/')}"


def _never(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not a local schema")


def _is_large(body: Any) -> bool:
    """True beyond THOROUGH values; looks at no more than those."""
    seen, stack = 0, [body]
    while stack and seen <= THOROUGH:
        value = stack.pop()
        seen += 1
        if isinstance(value, dict):
            seen += len(value)
            stack.extend(inner for inner in value.values() if isinstance(inner, (dict, list)))
        elif isinstance(value, list):
            seen += len(value)
            stack.extend(inner for inner in value if isinstance(inner, (dict, list)))
    return seen > THOROUGH


# -- problems of a schema ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Where:
    path: str
    text: str

    def at(self, parts: Path) -> Position:
        return place(self.text, self.path, parts) if self.text else Position(self.path)


def _problem(where: _Where, parts: Path, code: str, message: str, hint: str = "") -> Problem:
    at = f" (at {pointer(parts)})" if parts and not where.text else ""
    return Problem(code, message + at, where.at(parts), hint=hint)


def _shape_problems(schema: Any, where: _Where) -> list[Problem]:
    if not isinstance(schema, (dict, bool)):
        return [_problem(where, (), "ESB307", f"a schema is an object, not {shown(schema)}")]
    declared = schema.get("$schema", _DEFAULT) if isinstance(schema, dict) else _DEFAULT
    if not isinstance(declared, str) or declared.rstrip("#") not in _DRAFTS:
        hint = "known: " + ", ".join(_DRAFTS)
        return [_problem(where, ("$schema",), "ESB307", f"unknown dialect {shown(declared)}", hint)]
    return []


def _schema_problems(schema: Any, error: Any, where: _Where) -> list[Problem]:
    """Every fault of a schema in the words of ``jsonschema``, which is imported only here: it is slow to load."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        return [_problem(where, (), "ESB307", f"a $ref leads nowhere: {_first_line(error)}")]
    from jsonschema import validators  # noqa: PLC0415
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    plain = _with_floats(schema)
    draft = validators.validator_for(plain, default=validators.validator_for({"$schema": _DEFAULT}))
    problems = []
    for fault in draft(draft.META_SCHEMA).iter_errors(plain):
        best = best_match([fault]) or fault
        parts = tuple(best.absolute_path)
        hint = "types are array, boolean, integer, null, number, object, string" if parts[-1:] == ("type",) else ""
        problems.append(_problem(where, parts, "ESB307", f"`{parts[-1] if parts else 'schema'}`: {best.message}", hint))
    if problems:
        return problems
    parts = tuple(error.instance_path)
    message = (
        f"{shown(_at(schema, parts))} is not a regular expression, or too large" if "regex" in error.message else ""
    )
    return [_problem(where, parts, "ESB307", message or _first_line(error))]


def _with_floats(value: Any) -> Any:
    """``jsonschema`` does not take a Decimal for a number; its verdict on a schema does not depend on the digits."""
    if isinstance(value, dict):
        return {key: _with_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_floats(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


def _at(value: Any, parts: Path) -> Any:
    for part in parts:
        value = value[part]
    return value


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


# -- references --------------------------------------------------------------------------------------------------------


class _References:
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

    def registry(self) -> Any:
        """What the validator must know, by every URI that leads there; None where nothing is referred to."""
        if not self._resources:
            return None
        main = self._schemas[self._path]
        declared = main.get("$schema", _DEFAULT) if isinstance(main, dict) else _DEFAULT
        draft = _DRAFTS[declared.rstrip("#")]
        return jsonschema_rs.Registry(list(self._resources.items()), draft=draft, retriever=_never)

    def twins(self, where: _Where) -> Iterator[Problem]:
        """A problem for each ``$id`` that another file has, too: a ``$ref`` would pick either."""
        for base, parts, ref in _walk(self._schemas[self._path], file_uri(self._path)):
            twin = self._by_uri[base]
            if ref is None and twin != self._path:
                related = ((Position(twin), "the other schema"),)
                message, hint = f"{shown(base)} is the `$id` of {twin}, too", "every schema needs an `$id` of its own"
                yield Problem("ESB109", message, where.at((*parts, "$id")), hint=hint, related=related)

    def collect(self, where: _Where) -> Iterator[Problem]:
        """Follow every ``$ref``; gives a problem for each that leads to nothing local."""
        # a schema without an `$id` has the URI by which it was found, and its own references start from there
        todo = [(self._path, file_uri(self._path))]
        seen = set(todo)
        while todo:
            path, found_as = todo.pop()
            # a fault of another file is shown there, when that one is compiled; here it is named
            here = where if path == self._path else _Where(path, "")
            for base, parts, ref in _walk(self._schemas[path], found_as):
                if ref is None:
                    continue
                uri, fragment = urldefrag(urljoin(base, ref))
                target = self._target(path, uri, ref)
                if target is None:
                    yield self._nowhere(here, parts, ref, uri)
                    continue
                schema = self._schemas[target] if target in self._schemas else dialect(uri)
                if uri not in self._embedded and not _leads_somewhere(schema, fragment):
                    hint = "written like `#/$defs/name`, and that name must stand there"
                    yield _problem(here, parts, "ESB307", f"$ref {shown(ref)} leads nowhere", hint)
                self._resources[uri] = schema
                if (target, uri) not in seen and target in self._schemas:
                    seen.add((target, uri))
                    todo.append((target, uri))

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

    def _nowhere(self, where: _Where, parts: Path, ref: str, uri: str) -> Problem:
        if urlsplit(ref).scheme or uri.startswith("//"):
            hint = f"put that schema into schemas/ with `$id: {urldefrag(ref).url}`; nothing is fetched"
            return _problem(where, parts, "ESB308", f"remote $ref {shown(ref)}", hint)
        import difflib  # noqa: PLC0415 - only for the hint

        names = {posixpath.relpath(path, posixpath.dirname(self._path) or "."): path for path in self._schemas}
        close = difflib.get_close_matches(urldefrag(ref).url, names, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "known here: " + ", ".join(sorted(names)[:12])
        return _problem(where, parts, "ESB302", f"$ref {shown(ref)}: there is no such schema", hint)


def dialect(uri: str) -> Any:
    """The schema of JSON Schema itself that has this URI, None where there is none."""
    if "json-schema.org/" not in uri:
        return None
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # noqa: PLC0415 - hardly ever needed

    return (
        REGISTRY.contents(uri) if uri in REGISTRY else REGISTRY.contents(uri + "#") if uri + "#" in REGISTRY else None
    )


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
        base = urldefrag(urljoin(base, own)).url
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
