"""Choices of which some are words of the route language that this version does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esb.spec import Node, Reader, ScalarNode
from esb.spec.kinds import ChoiceKind


class SoonKind(ChoiceKind):
    """One of ``choices``; a word of ``soon`` is answered with what to do meanwhile."""

    def __init__(self, choices: Sequence[str], soon: Mapping[str, str]) -> None:
        super().__init__(choices)
        self._soon = soon

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value in self._soon:
            return reader.problem(
                "ESB113",
                f"`{reader.where}: {node.value}` is not available in this version",
                node,
                label="not yet",
                hint=self._soon[node.value],
            )
        return super().read(node, reader)
