"""Items of answers that the running bus gives: outcomes, problems of files, steps."""

from __future__ import annotations

import base64
from typing import Any

from esb.config.model import RouteSpec
from esb.endpoints.base import Outcome
from esb.errors import Problem
from esb.steps.base import StepNode


def outcome_item(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"finished": False}
    item: dict[str, Any] = {"finished": True, "state": outcome.state, "error": outcome.error}
    if outcome.response is not None:
        status, headers, body = outcome.response
        item["response"] = {"status": status, "headers": dict(headers), "body": _plain(body)}
    return item


def _plain(body: Any) -> Any:
    return {"base64": base64.b64encode(body).decode()} if isinstance(body, bytes) else body


def problem_item(problem: Problem) -> dict[str, Any]:
    position = problem.position
    return {
        "code": problem.code,
        "severity": problem.severity,
        "path": position.path,
        "line": position.line,
        "column": position.column,
        "message": problem.message,
        "hint": problem.hint,
    }


def spec_item(spec: RouteSpec) -> dict[str, Any]:
    """What the file of a route says of it as a whole."""
    return {
        "source": spec.source.protocol,
        "owner": spec.owner,
        "criticality": spec.criticality,
        "description": spec.description,
        "within_seconds": spec.within.total_seconds() if spec.within is not None else None,
        "file": spec.position.path,
        "site": spec.place.site if spec.place is not None else "",
        "template": spec.place.template if spec.place is not None else "",
    }


def step_item(node: StepNode) -> dict[str, Any]:
    timeout = node.timeout.total_seconds() if node.timeout is not None else None
    return {"step": node.id, "kind": node.kind, "line": node.position.line, "timeout_seconds": timeout}
