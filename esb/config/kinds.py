"""What kind of document one is: told by its first key, and by the folder that it lies in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esb.config.aliases import plain
from esb.config.reader import WorkspaceReader
from esb.config.resources import Resources
from esb.config.yaml import Document
from esb.errors import Position, Problem
from esb.spec import MapNode, Node, ScalarNode

KINDS = ("route", "connector", "bus", "template", "site", "kpi")
#: kinds that stand in routes/ and kpis/ beside the route
_BESIDE = ("template", "site", "kpi")
_HOMES = {
    "route": "routes/",
    "connector": "connectors/",
    "bus": "esb.yaml",
    "template": "routes/",
    "site": "routes/sites/",
    "kpi": "kpis/",
}


def first_key(node: Node) -> ScalarNode | None:
    """The key that a document begins with; None where it is no mapping, or an empty one."""
    return node.entries[0][0] if isinstance(node, MapNode) and node.entries else None


@dataclass(frozen=True, slots=True)
class Kinds:
    """Tells the kinds of documents; what is wrong goes to ``_report``."""

    _report: Callable[..., None]

    def of(self, document: Document, expected: str) -> str:
        """The kind of a document by its first key, empty where it has none; a kind in the wrong folder is an error."""
        first = first_key(document.node)
        if first is None:
            self._report(
                "ESB108",
                f"a document is a mapping that begins with `{expected}:`, not {document.node.what}",
                document.node.position,
                hint=f"write `{expected}: name` in its first line",
            )
            return ""
        if first.text == expected or (expected == "route" and first.text in _BESIDE):
            return first.text
        if first.text in KINDS:
            self.misplaced(first)
            return ""
        assert isinstance(document.node, MapNode)
        return self._late_kind(document.node, first, expected)

    def _late_kind(self, node: MapNode, first: ScalarNode, expected: str) -> str:
        kinds = (expected, *_BESIDE) if expected == "route" else (expected,)
        late = next((key for kind in kinds if (key := node.key(kind)) is not None), None)
        if late is not None:
            self._report("ESB108", f"a document begins with its kind: `{late.text}:` comes first", late.position,
                         hint="move this line to the top of the document")  # fmt: skip
        elif first.text == "cases":
            self._report("ESB108", "tests stand in a file <name>.test.yaml", first.position, hint="rename the file")
        else:
            reader = WorkspaceReader(Resources.__new__(Resources))
            words = {"id": "route", "name": "route", "from": "route", "steps": "route"}
            near = words.get(plain(first.text)) if expected == "route" else None
            hint = f"begin with `{near}: name`" if near else reader.nearest(first.text, kinds)
            self._report("ESB108", f"`{first.text}:` is no kind of document", first.position,
                         hint=hint or f"begin with `{expected}: name`")  # fmt: skip
        return ""

    def misplaced(self, first: ScalarNode) -> None:
        here = first.position.path.rpartition("/")[0]
        self._report(
            "ESB108",
            f"a `{first.text}:` document does not belong {f'in {here}/' if here else 'here'}",
            first.position,
            hint=f"move it to {_HOMES[first.text]}",
        )


def twice(name: str, at: Position, other: Position, what: str = "connectors") -> Problem:
    """The fault of two documents with one name."""
    return Problem(
        "ESB109",
        f"two {what} are called `{name}`, the other one in {other}",
        at,
        hint=f"give each {what.removesuffix('s')} a name of its own",
        related=((other, "the other one"),),
    )
