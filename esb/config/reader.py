"""The reader of a workspace: knows where else a misplaced key belongs, and what other tools call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from esb.config.aliases import KEYS, plain, reader_aliases
from esb.config.diagnostics import HIDDEN
from esb.errors import Position
from esb.spec import MISSING, Kind, Node, OptionSpec, Reader, ScalarNode, options_of
from esb.spec.kinds import OptionsKind

#: where a text of the wrong type may be a credential, it is not repeated
_SENSITIVE = re.compile(
    r"auth|basic|bearer|token|secret|passw|pwd|credential|api_?key|hmac|private_?key", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Level:
    """A mapping around the one being read: what it is called, its keys, and where they stand.

    ``inside`` names keys that belong one level deeper, with the words for where (``from: http``).
    """

    label: str
    names: frozenset[str]
    at: Position
    beside: str
    inside: Mapping[str, str] = field(default_factory=dict)

    def move_out(self, key: ScalarNode) -> str:
        """Where to move a key that belongs here."""
        if key.position.line == self.at.line:
            return f"move it out, beside `{self.beside}`"
        return f"move it out to column {self.at.column}, beside `{self.beside}`"


class Levels:
    """The mappings around the place that is being read, innermost last."""

    def __init__(self) -> None:
        self._stack: list[Level] = []

    @contextmanager
    def within(self, level: Level) -> Iterator[None]:
        self._stack.append(level)
        try:
            yield
        finally:
            self._stack.pop()

    def __iter__(self) -> Iterator[Level]:
        return reversed(self._stack)

    @property
    def nearest(self) -> Level | None:
        return self._stack[-1] if self._stack else None


class WorkspaceReader(Reader):
    """A :class:`~esb.spec.Reader` whose words for an unknown key say where it belongs."""

    def __init__(
        self, resources: Any = None, *, where: str = "", aliases: dict[str, dict[str, str]] | None = None
    ) -> None:
        super().__init__(resources, where=where, aliases=aliases if aliases is not None else reader_aliases())

    def wrong_type(self, node: Node, kind: Kind, *, hint: str = "") -> Any:
        if not hint and isinstance(kind, OptionsKind):
            hint = _example_of(kind.cls)
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and _SENSITIVE.search(self.where):
            message = f"`{self.where}` needs {kind.label}, not a text"
            return self.problem("ESB103", message, node, hint=hint, label=HIDDEN)
        return super().wrong_type(node, kind, hint=hint)

    def unknown_key(self, key: ScalarNode, specs: Sequence[OptionSpec]) -> Any:
        own = [spec.name for spec in specs]
        foreign = any(key.text in spec.aliases for spec in specs)
        if foreign or not (self._misplaced(key, own) or self._other_word(key, own)):
            super().unknown_key(key, specs)
        return MISSING

    def _misplaced(self, key: ScalarNode, own: Sequence[str]) -> bool:
        """ESB112 where the key exists one level up or down."""
        levels: Levels = self.resources.levels
        here = levels.nearest
        if here is not None and own and here.names.issuperset(own) and key.text in here.inside:
            self.too_high(key, here.label, here.inside[key.text])
            return True
        for level in levels:
            if key.text in level.names:
                self.too_deep(key, f"`{self.where}`" if self.where else "this", level)
                return True
        return False

    def too_high(self, key: ScalarNode, label: str, inside: str) -> None:
        """Report a key that belongs into a mapping beside it."""
        self.problem(
            "ESB112",
            f"`{key.text}` is one level too high",
            key,
            label=f"{label} has no key `{key.text}`, but `{inside}` has",
            hint=f"move it into `{inside}`",
        )

    def too_deep(self, key: ScalarNode, where: str, level: Level) -> None:
        """Report a key that belongs to a mapping around this one."""
        self.problem(
            "ESB112",
            f"`{key.text}` is one level too deep",
            key,
            label=f"{where} has no key `{key.text}`, but {level.label} has",
            hint=level.move_out(key),
        )

    def _other_word(self, key: ScalarNode, own: Sequence[str]) -> bool:
        """Another tool's word for a key of this place, or of a level around it; also a near spelling of the latter."""
        candidates = KEYS.get(plain(key.text), ())
        right = next((name for name in candidates if name in own), None)
        if right:
            self._unknown(key, f"here it is `{right}`")
            return True
        if difflib.get_close_matches(key.text, own, n=1, cutoff=0.6):
            return False
        for level in self.resources.levels:
            right = next((name for name in candidates if name in level.names), None)
            close = difflib.get_close_matches(key.text, sorted(level.names), n=1, cutoff=0.75)
            if right or close:
                words = f"here it is `{right}`" if right else f"did you mean `{close[0]}`"
                self._unknown(key, f"{words}, a key of {level.label} (beside `{level.beside}`)")
                return True
        return False

    def _unknown(self, key: ScalarNode, hint: str) -> None:
        where = f" in `{self.where}`" if self.where else ""
        self.problem("ESB101", f"unknown key `{key.text}`{where}", key, hint=hint, label="not known here")


def _example_of(cls: type) -> str:
    """How the options of ``cls`` are written: those that must be there, else the first few."""
    specs = [spec for spec in options_of(cls) if spec.example is not None]
    chosen = [spec for spec in specs if spec.required] or specs[:2]
    parts = ", ".join(f"{spec.name}: {spec.example}" for spec in chosen)
    return f"write it like `{{ {parts} }}`" if parts else ""
