"""From nodes to typed options: reports every problem at its place and never stops at the first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from esb.errors import Position, Problem
from esb.secret import Secret
from esb.spec.kinds import Kind, OptionsKind, UnionKind, kind_of
from esb.spec.nodes import MapNode, Node, ScalarNode
from esb.spec.options import OptionSpec, options_of

T = TypeVar("T")

#: Where nothing is near, all that there is is named up to so many: keys of a place, and names of any other kind.
KEYS, NAMES = 30, 12


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


#: What a read gives after it reported a problem.
MISSING: Any = _Missing()


class Reader:
    """Collects problems and gives kinds what they need to resolve references.

    ``resources`` is whatever the caller's kinds expect (the workspace under construction); this layer does not look into
    it. ``where`` names what is being read, for the words of a message (``retry``, ``to``). ``aliases`` maps other tools'
    words to ours, for hints that beat edit distance.
    """

    def __init__(
        self, resources: Any = None, *, where: str = "", aliases: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.resources = resources
        self.where = where
        self.aliases = aliases or {}
        self.problems: list[Problem] = []

    # -- problems -----------------------------------------------------------------------------------------------------
    def problem(
        self,
        code: str,
        message: str,
        at: Node | Position,
        *,
        hint: str = "",
        label: str = "",
        severity: Any = "error",
        related: Sequence[tuple[Position, str]] = (),
    ) -> Any:
        """Report and give MISSING, so that a kind can ``return reader.problem(…)``."""
        position = at if isinstance(at, Position) else at.position
        self.problems.append(Problem(code, message, position, hint, label, severity, tuple(related)))
        return MISSING

    def wrong_type(self, node: Node, kind: Kind, *, hint: str = "") -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, Secret):
            words = "only options for passwords, tokens and keys take one: elsewhere it could be stored or shown"
            return self.problem("ESB502", "a secret may not stand here", node, hint=words)
        subject = f"`{self.where}` needs " if self.where else "expected "
        return self.problem("ESB103", f"{subject}{kind.label}, not {node.what}", node, hint=hint)

    def nearest(self, word: str, known: Iterable[str], family: str = "") -> str:
        """A hint that names the right word: an alias of another tool first, then the nearest spelling."""
        known = tuple(known)
        alias = self.aliases.get(family, {}).get(word.lower())
        if alias is not None:
            return alias
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.6) or difflib.get_close_matches(
            word.lower(), [name.lower() for name in known], n=1, cutoff=0.75
        )
        if close:
            right = next((name for name in known if name.lower() == close[0].lower()), close[0])
            return f"did you mean `{right}`?"
        if known and len(known) <= (KEYS if family == "keys" else NAMES):
            return "known here: " + ", ".join(sorted(known))
        return ""

    def unknown_key(self, key: ScalarNode, specs: Sequence[OptionSpec]) -> Any:
        """Report a key that is no option here. ``specs`` are the options that are."""
        where = f" in `{self.where}`" if self.where else ""
        right = next((spec.name for spec in specs if key.text in spec.aliases), None)
        hint = f"here it is `{right}`" if right else self.nearest(key.text, [spec.name for spec in specs], "keys")
        return self.problem("ESB101", f"unknown key `{key.text}`{where}", key, hint=hint, label="not known here")

    # -- trials (unions) ----------------------------------------------------------------------------------------------
    def trial(self) -> Reader:
        return type(self)(self.resources, where=self.where, aliases=self.aliases)

    def only_wrong_type(self, node: Node) -> bool:
        return (
            len(self.problems) == 1 and self.problems[0].code == "ESB103" and self.problems[0].position == node.position
        )

    def adopt(self, other: Reader) -> Any:
        self.problems.extend(other.problems)
        return MISSING

    @staticmethod
    def unless_missing(value: Any, parts: Iterable[Any]) -> Any:
        return MISSING if any(part is MISSING for part in parts) else value

    def inside(self, where: str) -> _Inside:
        """``with reader.inside("retry"): …`` names what is being read."""
        return _Inside(self, where)


class _Inside:
    def __init__(self, reader: Reader, where: str) -> None:
        self._reader, self._where, self._before = reader, where, reader.where

    def __enter__(self) -> None:
        self._reader.where = self._where

    def __exit__(self, *exc: object) -> None:
        self._reader.where = self._before


def read_options(cls: type[T], node: Node, reader: Reader) -> T | Any:
    """Read ``node`` as the options of ``cls``: the instance, or MISSING after reporting every problem.

    A node that is not a mapping goes to the option marked ``shorthand``; a mapping goes as a whole to the option marked
    ``rest``. ``cls`` may check what spans options in ``check(self, node, reader)``.
    """
    specs = options_of(cls)  # type: ignore[arg-type]  # mypy cannot see that a class is hashable
    values: dict[str, Any] = {}
    if not isinstance(node, MapNode):
        short = next((spec for spec in specs if spec.shorthand), None)
        if short is None and isinstance(node, ScalarNode) and node.value is None and not any(s.required for s in specs):
            return _build(cls, {}, node, reader)
        if short is None:
            return reader.wrong_type(node, OptionsKind(cls))
        values[short.field] = _read_option(short, node, reader, reader.where)
    else:
        rest = next((spec for spec in specs if spec.rest), None)
        if rest is not None and not _is_plain_options(node, specs, rest):
            values[rest.field] = _read_option(rest, node, reader, reader.where)
        elif (short := _shorthand_mapping(node, specs)) is not None:
            values[short.field] = _read_option(short, node, reader, reader.where)
        else:
            _read_entries(specs, node, values, reader)
    if any(value is MISSING for value in values.values()):
        return MISSING
    missing = [spec for spec in specs if spec.required and spec.field not in values]
    for spec in missing:
        what = f"`{reader.where}` needs `{spec.name}`" if reader.where else f"`{spec.name}` is missing"
        example = f"for example `{spec.name}: {spec.example}`" if spec.example is not None else ""
        reader.problem("ESB102", what, node, hint=f"{spec.doc.rstrip('.')}{'; ' + example if example else ''}")
    return MISSING if missing else _build(cls, values, node, reader)


def _is_plain_options(node: MapNode, specs: tuple[OptionSpec, ...], rest: OptionSpec) -> bool:
    """A mapping component is written out in options when it uses the ``rest`` option's own name.

    With ``rest`` as its only option it never is: ``map: { fields: body.x }`` maps to a field of that name.
    """
    names, written = {spec.name for spec in specs}, node.keys()
    return len(specs) > 1 and rest.name in written and names.issuperset(written)


def _shorthand_mapping(node: MapNode, specs: tuple[OptionSpec, ...]) -> OptionSpec | None:
    """A mapping with no word of ours may still be the shorthand, where that option reads mappings (``to: { http: … }``)."""
    short = next((spec for spec in specs if spec.shorthand), None)
    if short is None or not getattr(kind_of(short.annotation), "takes_mapping", False):
        return None
    names = {spec.name for spec in specs}
    return short if not any(key in names for key in node.keys()) else None  # noqa: SIM118 - keys() is ours


def _read_entries(specs: tuple[OptionSpec, ...], node: MapNode, values: dict[str, Any], reader: Reader) -> None:
    by_name = {spec.name: spec for spec in specs}
    for key, value in node.entries:
        spec = by_name.get(key.text)
        if spec is None:
            reader.unknown_key(key, specs)
            values[f"?{key.text}"] = MISSING
            continue
        values[spec.field] = _read_option(spec, value, reader)


def _read_option(spec: OptionSpec, node: Node, reader: Reader, where: str = "") -> Any:
    if isinstance(node, ScalarNode) and node.unknown:
        return MISSING
    # the name of a shorthand or `rest` option does not stand in the file: `where` is the word that does
    with reader.inside(where or spec.name):
        kind = kind_of(spec.annotation)
        if isinstance(node, ScalarNode) and node.value is None and not node.quoted and not isinstance(kind, UnionKind):
            if spec.default is None:
                return None
            if not isinstance(kind, OptionsKind) and kind.label != "any value":
                return reader.wrong_type(node, kind)
        value = kind.read(node, reader)
        if value is not MISSING and isinstance(value, int) and not isinstance(value, bool):
            low, high = spec.minimum, spec.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                bounds = f"at least {low}" if high is None else f"{low} to {high}"
                return reader.problem("ESB106", f"`{spec.name}` must be {bounds}, not {value}", node)
        if spec.positive and value == timedelta():
            return reader.problem(
                "ESB106", f"`{spec.name}` must be more than 0s", node, hint=f"write it like `{spec.example}`"
            )
        return value


def _build(cls: type[T], values: dict[str, Any], node: Node, reader: Reader) -> T | Any:
    instance = cls(**values)
    check = getattr(instance, "check", None)
    if check is None:
        return instance
    before = len(reader.problems)
    check(node, reader)
    errors = any(problem.severity == "error" for problem in reader.problems[before:])
    return MISSING if errors else instance
