"""``choose``: the first branch whose condition is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import Kind, ListNode, MapNode, Node, Reader, option, read_options
from esb.steps.base import Block, Context, Enter


@dataclass(frozen=True, slots=True)
class Case:
    """A branch with a condition."""

    when: Expression = option(
        doc="The branch is taken where this is true.",
        example="body.result == 'REJECT'",
        aliases=("if", "case", "condition", "test"),
    )
    steps: Block = option(doc="The steps of the branch.", aliases=("then", "do"))


class CasesKind(Kind):
    """A list of ``when`` branches, with ``otherwise`` last."""

    label = "a list of `when` branches"
    takes_mapping = True  # a single branch without its dash is read here, to say so

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ListNode):
            hint = "write `- when: expression` with `steps` under it, and `- otherwise:` last"
            return reader.wrong_type(node, self, hint=hint)
        found = [self._branch(item, index, reader) for index, item in enumerate(node.items)]
        found += self._misplaced(node, reader)
        cases = [branch for branch in found if isinstance(branch, Case)]
        otherwise = next((branch for branch in found if isinstance(branch, Block)), None)
        if all(isinstance(item, MapNode) and item.key("otherwise") is not None for item in node.items):
            found.append(
                reader.problem("ESB102", "`choose` needs a `when`", node, hint="write `- when: expression` first")
            )
        return reader.unless_missing(Cases(tuple(cases), otherwise), found)

    def _branch(self, node: Node, index: int, reader: Reader) -> Any:
        where = f"choose[{index}]"
        with reader.inside(where):
            if isinstance(node, MapNode) and node.key("otherwise") is not None:
                return self._otherwise(node, reader)
            if not isinstance(node, MapNode):
                return reader.problem(
                    "ESB103",
                    f"a branch is a mapping, not {node.what}",
                    node,
                    hint="write `- when: …` and `steps: [ … ]`",
                )
            return read_options(Case, node, reader)

    @staticmethod
    def _otherwise(node: MapNode, reader: Reader) -> Any:
        other = next((key for key, _ in node.entries if key.text != "otherwise"), None)
        if other is not None:
            words = (
                "put the steps under `otherwise:` itself: `- otherwise: [ … ]`"
                if other.text == "steps"
                else "a branch has `when` or `otherwise`; begin another one with `- `"
            )
            return reader.problem("ESB107", f"`otherwise` and `{other.text}` in one branch", other, hint=words)
        value = node.get("otherwise")
        assert value is not None
        return reader.resources.steps(value, reader)

    @staticmethod
    def _misplaced(node: ListNode, reader: Reader) -> list[Any]:
        """A problem for every ``otherwise`` but one at the end."""
        found = []
        keys = [item.key("otherwise") if isinstance(item, MapNode) else None for item in node.items]
        for index, key in enumerate(keys[:-1]):
            if key is not None:
                again = any(other is not None for other in keys[index + 1 :])
                words = "two `otherwise` in one `choose`" if again else "`otherwise` must be the last branch"
                found.append(reader.problem("ESB107", words, key, hint="what stands after it can never be taken"))
        return found

    def schema(self) -> dict[str, Any]:
        steps = {"$ref": "#/$defs/steps"}
        case = {
            "type": "object",
            "properties": {"when": {"type": "string"}, "steps": steps},
            "required": ["when", "steps"],
            "additionalProperties": False,
        }
        rest = {
            "type": "object",
            "properties": {"otherwise": steps},
            "required": ["otherwise"],
            "additionalProperties": False,
        }
        return {"type": "array", "items": {"anyOf": [case, rest]}, "minItems": 1}


@dataclass(frozen=True, slots=True)
class Cases:
    """The compiled branches."""

    kind = CasesKind()
    cases: tuple[Case, ...]
    otherwise: Block | None = None


@step("choose", pattern="Content-Based Router")
@dataclass(frozen=True, slots=True)
class Choose:
    """Run the steps of the first branch whose `when` is true, else those of `otherwise`.

    Exactly one branch runs; where none fits and there is no `otherwise`, the message goes on unchanged. What the branch
    did to the message stays after it.
    `[ { when: "body.qty > `100`", steps: [ … ] }, { otherwise: [ … ] } ]`
    """

    branches: Cases = option(
        doc="`when` and `steps` of each branch; `otherwise` may be the last.",
        example="[ { when: body.blocked, steps: [ { reject: blocked } ] }, { otherwise: [ { to: erp.order } ] } ]",
        shorthand=True,
    )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of steps inside this step."""
        rest = (self.branches.otherwise,) if self.branches.otherwise is not None else ()
        return (*(case.steps for case in self.branches.cases), *rest)

    def apply(self, message: Message, context: Context) -> Enter | Message:
        scope = context.scope(message)
        for case in self.branches.cases:
            if case.when.truth(scope):
                context.note(branch=case.when.text)
                return Enter(case.steps, message)
        if self.branches.otherwise is not None:
            context.note(branch="otherwise")
            return Enter(self.branches.otherwise, message)
        context.note(branch="none")
        return message
