"""The example pages do what they say: each message that they tell to send runs through its route."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import require_workspace
from esb.formats.json import Json
from esb.message import Message
from esb.pipeline import StepFailed, run_block
from esb.steps.base import Block, Reply, Stop, Wait

PAGES = Path(__file__).parents[3] / "examples" / "steps"
SEND = re.compile(r"^# +(esb send .*)$", re.MULTILINE)
CURL = re.compile(r"^# +(curl .*)$", re.MULTILINE)

#: how a page's messages end, in the order of its lines, where they do not simply reach the end
ENDS = {
    "compensate": ["done", "rejected"],
    "resequence": ["resequenced", "resequenced", "resequenced"],
    "aggregate": ["aggregated", "aggregated"],
    "validate": ["done", "invalid"],
    "lookup": ["done", "unmapped", "waits"],
    "filter": ["done", "filtered: body.status == 'REL'"],
    "reject": ["rejected"],
    "delay": ["waits", "waits"],
    "await": ["waits", "done"],
}


def sends(page: Path) -> Iterator[tuple[str, Any]]:
    """Route and body of every message that a page tells its reader to send."""
    text = page.read_text(encoding="utf-8")
    for line in SEND.findall(text):
        words = shlex.split(line)
        yield words[2], Json().decode(words[words.index("--data") + 1].encode())
    for line in CURL.findall(text):
        words = shlex.split(line)
        yield f"try-{page.stem}", Json().decode(words[words.index("--json") + 1].encode())


def end_of(block: Block, message: Message, context: Any) -> str:
    """``done``, the reason of a stop, ``waits``, or the class of the error."""
    try:
        result = asyncio.run(run_block(block, message, context))
    except StepFailed as failed:
        return failed.error.error_class
    except Wait:
        return "waits"
    return result.reason if isinstance(result, Stop) else "done"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    shutil.copytree(PAGES, root / "routes", ignore=shutil.ignore_patterns("schemas", "transforms", "connectors"))
    for name in ("schemas", "transforms", "connectors"):
        shutil.copytree(PAGES / name, root / name)
    return require_workspace(root, environ={})


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in sorted(PAGES.glob("*.yaml"))])
def test_messages_of_a_page_run_through_its_route(page, workspace, context):
    context.site = {}
    ends = []
    for route, body in sends(page):
        spec = workspace.routes[route]
        context.answers = [Reply(200, {}, {"path": "x", "bytes": 1, "name": "x"}) for _ in range(9)]
        message = Message(body, meta={"message_id": "m", "route": route})
        ends.append(end_of(spec.steps, message, context))
        children = [handoff for handoff in context.emitted if handoff.kind in ("split", "branch")]
        context.emitted.clear()
        for child in children:
            assert end_of(spec.blocks[child.target], child.message, context) in ("done", "rejected", "waits")
    assert ends, "the page tells nothing to send"
    assert ends == ENDS.get(page.stem, ["done"] * len(ends))
    for target, sent in context.sent:
        if target.name == "file":
            assert target.sink.path.render(context.scope(sent)).startswith("var/out/")
