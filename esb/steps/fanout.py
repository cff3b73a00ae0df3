"""``fanout``: named branches that go on by themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option, part_of, read_options
from esb.steps.base import Block, Context, HandOff, WhenDown
from esb.steps.recipients import names_of, unknown

_NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Branch:
    """One receiver: its condition, its steps, and what an outage of its targets means."""

    steps: Block = option(doc="The steps of the branch.", shorthand=True, aliases=("do", "then"))
    if_: Expression | None = option(
        default=None,
        doc="The branch gets the message where this is true.",
        example="body.status == 'REL'",
        aliases=("when", "condition"),
    )
    when_down: WhenDown | None = option(
        default=None, doc="What an outage of its targets means for the branch.", example="{ drop_after: 1h }"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.steps.nodes:
            reader.problem(
                "ESB201",
                f"`{reader.where}` has no steps",
                part_of(node, "steps"),
                hint="put at least one under `steps`",
            )


class BranchesKind(Kind):
    """A mapping of names to branches."""

    label = "a mapping of branch names to their steps"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return reader.wrong_type(node, self, hint="write `mes: { steps: [ … ] }`, one line for each branch")
        if not node.entries:
            return reader.problem("ESB102", "`fanout` has no branch", node, hint="write `mes: { steps: [ … ] }`")
        found: dict[str, Any] = {}
        if (by := node.get("by")) is not None and isinstance(by, ScalarNode) and isinstance(by.value, str):
            hint = "write `by: …` and, on the next line, `branches:` with the branches below it"
            return reader.problem("ESB112", "`by` needs its branches under `branches`", node.key("by") or by, hint=hint)
        for key, value in node.entries:
            with reader.inside(key.text):
                branch = read_options(Branch, value, reader)
            if not _NAME.fullmatch(key.text):
                branch = reader.problem(
                    "ESB110", f"`{key.text}` is no name for a branch", key, hint="use small letters, digits and `-`"
                )
            found[key.text] = branch
        return reader.unless_missing(Branches(tuple(found.items())), found.values())

    def schema(self) -> dict[str, Any]:
        from esb.spec.schema import options_schema  # noqa: PLC0415 - the schema is asked for by docs and editors only

        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
            "additionalProperties": options_schema(Branch),
            "minProperties": 1,
        }


@dataclass(frozen=True, slots=True)
class Branches:
    """The compiled branches by name, in the order of the file."""

    kind = BranchesKind()
    entries: tuple[tuple[str, Branch], ...]


@step("fanout", pattern="Recipient List")
@dataclass(frozen=True, slots=True)
class Fanout:
    """Give the message to each named branch whose `if` is true (or that has none).

    A branch is a message of its own: durable queue, retries, dead letters and `when_down` of its own, and the same order per
    key. One that is down or slow leaves the others alone. All are stored in one transaction with the end of the step's
    message, which goes on with the next step. What a branch does to its message is not seen by the others.
    With `by` the message itself names its receivers: a text or a list of names of `branches`, each of which is checked at load; a
    name that is none of them ends as `unmapped` before any branch has the message, and no name is no receiver.
    `{ mes: { if: body.status == 'REL', steps: [ { to: mes.order } ] }, qms: { steps: [ { to: qms.order } ] } }`
    `{ by: vars.systems, branches: { mes: [ { to: mes.order } ], qms: [ { to: qms.order } ] } }`
    """

    by: Expression | None = option(
        default=None,
        doc="Beside `branches`: the names of those that get the message.",
        example="body.systems",
        aliases=("recipients", "to", "names"),
    )
    branches: Branches = option(
        doc="Name of the branch: `steps`, and if need be `if` and `when_down`.",
        example="{ mes: { if: body.released, steps: [ { to: mes.order } ] } }",
        rest=True,
        shorthand=True,
    )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of steps inside this step."""
        return tuple(branch.steps for _, branch in self.branches.entries)

    def branch(self, block_id: str) -> Branch | None:
        """The branch whose steps have this id (the scope of its messages)."""
        return next((branch for _, branch in self.branches.entries if branch.steps.id == block_id), None)

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        named = self._named(scope)
        taken = [name for name, branch in self.branches.entries if name in named and _takes(branch, scope)]
        context.note(branches=taken)
        for name, branch in self.branches.entries:
            if name in taken:
                context.emit(HandOff("branch", branch.steps.id, message, f"{context.step}/{name}"))
        return message

    def _named(self, scope: Mapping[str, Any]) -> Sequence[str]:
        """The branches that the message may go to. Raises Unmapped for a name that is none of them."""
        known = [name for name, _ in self.branches.entries]
        if self.by is None:
            return known
        names = names_of(self.by(scope), f"by: {self.by.text}")
        if wrong := [name for name in names if name not in known]:
            raise unknown(wrong, known, f"by: {self.by.text}")
        return names


def _takes(branch: Branch, scope: Mapping[str, Any]) -> bool:
    return branch.if_ is None or branch.if_.truth(scope)
