"""Steps inside of steps."""

from __future__ import annotations

from collections.abc import Iterator

from esb.steps.base import Block, StepNode


def steps_in(block: Block) -> Iterator[StepNode]:
    """Every step of a block, with those of the blocks inside of its steps and of their fallbacks."""
    for node in block.nodes:
        yield node
        for inner in getattr(node.step, "blocks", ()):
            yield from steps_in(inner)
        if node.when_down is not None and node.when_down.block is not None:
            yield from steps_in(node.when_down.block)


def is_in(node: StepNode, block: Block) -> bool:
    """Whether it is one of those steps, not one that is only written alike."""
    return any(one is node for one in steps_in(block))
