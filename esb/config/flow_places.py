"""Where the expressions of a route stand: the mapping of a step, the scalar with a text, the character in it."""

from __future__ import annotations

from esb.errors import Position
from esb.spec import ListNode, MapNode, Node, ScalarNode
from esb.spec.nodes import scalars


class Places:
    """The places of one route document."""

    def __init__(self, top: MapNode) -> None:
        self.top = top
        self._steps: dict[tuple[int, int], MapNode] = {}
        self._note(top)

    def _note(self, node: Node) -> None:
        if isinstance(node, ListNode):
            for item in node.items:
                self._note(item)
        elif isinstance(node, MapNode):
            for key, value in node.entries:
                self._steps.setdefault((key.position.line, key.position.column), node)
                self._note(value)

    def of_step(self, at: Position) -> Node:
        """The mapping whose key stands at a place; the whole document where there is none."""
        return self._steps.get((at.line, at.column), self.top)

    @staticmethod
    def scalar(node: Node, text: str) -> ScalarNode | None:
        """The first value below ``node`` with this text."""
        return next((scalar for scalar in scalars(node) if scalar.value == text), None)


def character(node: ScalarNode, offset: int, length: int) -> Position:
    """Where a character of a value stands in its file."""
    at, text = node.position, str(node.value)
    if node.text.startswith("|\n"):  # a literal block: its lines are those of the file
        before = text[:offset]
        blank = len(text) - len(text.lstrip("\n"))
        column = offset - (before.rfind("\n") + 1)
        return Position(at.path, at.line + before.count("\n") - blank, at.column + column, max(1, length))
    if "\n" in node.text or node.expanded:
        return at
    return Position(at.path, at.line, at.column + (1 if node.quoted else 0) + offset, max(1, length))
