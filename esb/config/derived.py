"""What follows from the steps of a route."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from esb.errors import Position
from esb.formats.unread import MarkingCodec
from esb.steps.base import LOOK, Block, StepNode, WhenDown
from esb.steps.compensate import UNDO, Compensate, Undo
from esb.steps.split import Split
from esb.steps.split_stream import path_of


def marking(source: Any, steps: Block) -> Any:
    """The source, its format made to mark bad items where the first step sets them aside and nothing says otherwise."""
    options, first = source.options, next((node.step for node in steps.nodes if node.kind != LOOK), None)
    format_ = getattr(options, "format", None)
    if not isinstance(format_, MarkingCodec) or getattr(options, "contract", None) is not None:
        return source
    if not isinstance(first, Split) or first.on_item_error != "quarantine" or (path := path_of(first.each)) is None:
        return source
    marks = format_.marking(path)
    return source if marks is None else dataclasses.replace(source, options=dataclasses.replace(options, format=marks))


def undo_of(steps: list[StepNode], position: Position) -> Iterator[tuple[str, Block]]:
    """The block that compensations run in, where the route has any."""
    of = {node.id: node.step.steps for node in steps if isinstance(node.step, Compensate)}
    if of:
        yield UNDO, Block((StepNode(UNDO, "undo", Undo(of), position),), UNDO)


def branches_of(steps: list[StepNode]) -> Iterator[tuple[str, WhenDown]]:
    """What an outage means inside a branch that says it, by the branch's scope."""
    for node in steps:
        find: Any = getattr(node.step, "branch", None)
        for block in getattr(node.step, "blocks", ()) if find is not None else ():
            branch = find(block.id)
            if branch is not None and branch.when_down is not None:
                yield block.id, branch.when_down
