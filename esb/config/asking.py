"""``verify`` of a sink: which target asks, where the target that it speaks of is named by a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from esb.endpoints.http_verify import Verify
from esb.spec import MISSING, Node, Reader
from esb.steps.base import OnTimeout, Target

if TYPE_CHECKING:
    from esb.config.resources import Resources


def verify_of(sink: Any) -> Verify | None:
    """How the target of a sink is asked, None where it is not."""
    found = getattr(sink, "verify", None)
    return found if isinstance(found, Verify) else None


def with_question(target: Target, resources: Resources, reader: Reader) -> Any:
    """The target and what asks it where its sink has `verify`; MISSING after a problem with that was reported."""
    verify = verify_of(target.sink)
    if verify is None:
        return target
    if verify.to is None:
        asks = replace(target, name=f"{target.name}/verify", sink=target.sink.question(verify))
    elif target.protocol != target.name:  # of a connector, which a site may have under another name
        operation = str(verify.to.value).partition(".")[2]
        name = f"{target.name.partition('.')[0]}.{operation}"
        asks = resources.operation(replace(verify.to, position=target.position), name, reader)
    else:
        asks = resources.operation(verify.to, str(verify.to.value), reader)
    if asks is MISSING:
        return MISSING
    return replace(target, on_timeout=OnTimeout(verify=asks, done_when=verify.done_when))


def check_questions(name: str, operations: Mapping[str, Any], reader: Reader) -> None:
    """Report what `verify` of the operations of the connector ``name`` asks that is none of its other operations."""
    for own, sink in operations.items():
        verify = verify_of(sink)
        if verify is not None and verify.to is not None:
            _check(name, own, verify.to, str(verify.to.value), operations, reader)


def _check(name: str, own: str, at: Node, text: str, operations: Mapping[str, Any], reader: Reader) -> None:
    connector, dot, operation = text.partition(".")
    if not dot and text in operations:
        reader.problem("ESB301", f"`{text}` is no whole name of an operation", at, hint=f"write `{name}.{text}`")
    elif connector != name:
        hint = "name an operation of this one; another system is asked by `on_timeout` beside the step"
        reader.problem("ESB301", f"`{text}` is no operation of connector `{name}`", at, hint=hint)
    elif operation not in operations:
        hint = reader.nearest(operation, operations) or f"add `{operation}` under `operations`"
        reader.problem("ESB301", f"connector `{name}` has no operation `{operation}`", at, hint=hint)
    elif operation == own:
        hint = "name the operation that reads what this one writes"
        reader.problem("ESB301", f"`{text}` would be sent to ask whether it was sent", at, hint=hint)
