"""A contract: one JSON Schema, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Self

import jsonschema_rs

from esb.contracts.faults import Where, first_line, schema_problems, shape_problems
from esb.contracts.life import Life, life_problems
from esb.contracts.references import References, file_uri
from esb.contracts.shapes import Schema, Spot
from esb.contracts.words import violations_of
from esb.errors import ConfigError, Invalid, Position, Problem, Violation
from esb.formats.json import Json
from esb.language.shapes import UNKNOWN, Origin, Shape
from esb.message import EMPTY

#: violations that one error lists
LISTED = 50
#: beyond this many values only the first violation is looked for: finding all takes about 10 µs each
THOROUGH = 10_000

_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=50_000)


@dataclass(frozen=True, slots=True)
class JsonContract:
    """A JSON Schema (2020-12 unless ``$schema`` says otherwise; drafts 4 to 2019-09 work, too), compiled.

    Decimals are checked exactly, ``format`` is asserted, patterns run in bounded time, and nothing is ever fetched.
    """

    name: str
    path: str
    validator: Any
    files: tuple[str, ...] = ()  #: the other schema files that it refers to, directly or not
    references: References | None = field(default=None, repr=False, compare=False)
    life: Life | None = None  #: when it was deprecated, when it is over

    @classmethod
    def compile(cls, name: str, schema: Any, path: str, others: Mapping[str, Any] = EMPTY, *, text: str = "") -> Self:
        """Compile ``schema``, the content of the file ``path`` (``text`` gives its problems their lines).

        ``others`` are the other local schemas by their path, in the same form as ``path``; a ``$ref`` finds them by ``$id`` or
        by relative path. Raises ConfigError: ESB307 for a bad schema, ESB302 for a missing file, ESB308 for a remote ``$ref``.
        """
        where = Where(path, text)
        problems = shape_problems(schema, where)
        if problems:
            raise ConfigError(problems)
        references = References(path, schema, others)
        problems = [*references.twins(where), *references.collect(where)]
        problems += [where.problem((word,), "ESB307", words) for word, words in life_problems(schema)]
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
            raise ConfigError(schema_problems(schema, error, where)) from None
        except (jsonschema_rs.ReferencingError, ValueError) as error:
            problem = where.problem((), "ESB307", f"the schema cannot be used: {first_line(error)}")
            raise ConfigError([problem]) from None
        return cls(name, path, validator, references.files, references, Life.of(schema))

    def shape(self, place: Callable[[str, tuple[str | int, ...]], Position | None]) -> Shape:
        """What is known of a value that fulfils it. ``place`` tells where a JSON pointer stands in a schema file."""
        if self.references is None:
            return UNKNOWN

        def origin(spot: Spot) -> Origin:
            stem = PurePosixPath(spot.path).stem
            entity = stem.rpartition(".v")[0] if not spot.parts else ""
            return Origin(f"contract {stem}", lambda: place(spot.path, spot.parts), entity)

        return Schema(self.references.root(), self.references, origin)

    def check(self, body: Any) -> None:
        """Raise Invalid with every violation (at most 50), each with its JSON pointer."""
        try:
            if self.validator.is_valid(body):
                return
        except ValueError as error:
            detail = "is raw bytes" if isinstance(body, bytes) else f"has no JSON form ({first_line(error)})"
            hint = "`parse` it first" if isinstance(body, bytes) else ""
            message = f"contract {self.name}: the body {detail}"
            raise Invalid(message, hint=hint, violations=(Violation("", detail),)) from None
        raise self._broken(body)

    def _broken(self, body: Any) -> Invalid:
        found: list[Violation] = []
        if _is_large(body):
            try:
                self.validator.validate(body)
            except jsonschema_rs.ValidationError as error:
                found = list(violations_of([error], body))
            count = "the first one found; the body is too large to list all"
        else:
            found = list(violations_of(self.validator.iter_errors(body), body))
            count = "1 violation" if len(found) == 1 else f"{len(found)} violations"
            if len(found) > LISTED:
                count += f", {LISTED} listed"
        words = f"`{found[0].pointer}` {found[0].detail}" if found[0].pointer else f"the body {found[0].detail}"
        return Invalid(f"contract {self.name}: {words} ({count})", violations=found[:LISTED])


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
