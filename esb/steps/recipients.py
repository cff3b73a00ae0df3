"""Receivers that the data names, out of those that the route declares: nothing is sent to a place that nobody wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from esb.errors import Invalid, Unmapped
from esb.language import Expression
from esb.language.base import ExpressionKind
from esb.language.values import describe
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode
from esb.steps.base import Target, TargetKind


def names_of(value: Any, what: str) -> list[str]:
    """The names in a value, each once: a text, or a list of texts; null is none. Raises Invalid for everything else."""
    listed = value if isinstance(value, (list, tuple)) else [] if value is None or value == "" else [value]
    for one in listed:
        if not isinstance(one, str):
            raise Invalid(f"`{what}` gives {describe(one)}; it must give names")
    return list(dict.fromkeys(listed))


def unknown(names: Iterable[str], known: Iterable[str], what: str) -> Unmapped:
    """The error for names that are none of those that the route declares."""
    wrong = ", ".join(f"`{name}`" for name in names)
    return Unmapped(f"`{what}` names {wrong}, which is not declared", hint="declared are: " + ", ".join(known))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several targets, by a name that the message gives."""

    by: Expression
    targets: Mapping[str, Target]

    def of(self, scope: Mapping[str, Any]) -> Target:
        """The one that the message names: by its operation, or by its connector where only one of them is of it.

        Raises Unmapped for a name that is none of them, Invalid for no name or several.
        """
        what = f"by: {self.by.text}"
        names = names_of(self.by(scope), what)
        if len(names) != 1:
            raise Invalid(
                f"`{what}` gives {len(names)} names; one is wanted", hint="for several receivers use `fanout`"
            )
        name = names[0]
        found = [target for known, target in self.targets.items() if name in (known, target.connector)]
        if name in self.targets:
            return self.targets[name]
        if len(found) != 1:
            raise unknown(names, self.targets, what)
        return found[0]


class ToKind(TargetKind):
    """A target, or ``{ any_of: [erp.order, mes.order], by: expression }``."""

    label = "a connector's operation, an endpoint, or `any_of` several with `by`"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode) or node.key("any_of") is None:
            return super().read(node, reader)
        wrong = [key for key, _ in node.entries if key.text not in ("any_of", "by")]
        for key in wrong:
            hint = reader.nearest(key.text, ("any_of", "by"))
            reader.problem(
                "ESB101", f"unknown key `{key.text}` beside `any_of`", key, hint=hint, label="not known here"
            )
        given, listed = node.get("by"), node.get("any_of")
        assert listed is not None
        targets = self._targets(listed, reader)
        if given is None:
            return reader.problem(
                "ESB102", "`any_of` needs `by`", node, hint="write `by: vars.system`: the name of one of them"
            )
        with reader.inside("by"):
            by = ExpressionKind().read(given, reader)
        return MISSING if wrong or by is MISSING or targets is MISSING else AnyOf(by, targets)

    def _targets(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ListNode) or not node.items:
            return reader.problem(
                "ESB103", "`any_of` is a list of operations", node, hint="write `[erp.order, mes.order]`"
            )
        found: dict[str, Any] = {}
        for item in node.items:
            if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
                found[f"wrong at {item.position}"] = reader.problem(
                    "ESB103", f"`any_of` has operations (`connector.operation`), not {item.what}", item,
                    hint="for an endpoint of its own use `choose`",
                )  # fmt: skip
            else:
                found[item.value] = super().read(item, reader)
        return reader.unless_missing(found, found.values())

    def schema(self) -> dict[str, Any]:
        several = {
            "type": "object",
            "properties": {
                "any_of": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "by": {"type": "string"},
            },
            "required": ["any_of", "by"],
            "additionalProperties": False,
        }
        return {"anyOf": [*super().schema()["anyOf"], several]}


__all__ = ["AnyOf", "ToKind", "names_of", "unknown"]
