"""What of a route needs a payload as a whole, so that a large one cannot be worked through piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from esb.blob import Blob
from esb.config.model import Limits, RouteSpec
from esb.config.routes import RouteDoc
from esb.durations import format_size
from esb.endpoints.file_options import FolderSource
from esb.errors import Position, Problem
from esb.formats.content_types import by_content_type
from esb.formats.unread import OutlineCodec, StreamingCodec, Unread
from esb.registry import Registry
from esb.spec import MapNode
from esb.steps.base import Block
from esb.steps.unread import begins_unread, first_reader, touches_body


@dataclass(frozen=True, slots=True)
class Reads:
    """``what`` needs all of a payload (empty: nothing that could be named), and ``hint`` says what to write instead."""

    what: str
    hint: str


def rule_that_reads(spec: RouteSpec, contract: Any) -> Reads | None:
    """What of the route itself looks into the body before the message is accepted; None where nothing does."""
    if contract is not None:
        return Reads("the `contract` of the source", "check its items instead: `validate` inside of a `split`")
    rules = {"key": spec.key, "order.overtake": spec.order.overtake}
    rules |= {"dedupe": spec.dedupe.key if spec.dedupe is not None else None}
    rules |= {f"track.{name}": rule for name, rule in spec.track.items()}
    for name, rule in rules.items():
        if rule is not None and touches_body(rule):
            hint = f"take `{name}` from `meta` or `headers`, such as `meta.file_name`"
            own = f"; a `split` may have a `{name}` of its own, which sees one item"
            return Reads(f"`{name}: {rule.text}`", hint + (own if name in ("key", "dedupe") else ""))
    return None


def step_that_reads(block: Block, body: Unread) -> Reads | None:
    """The step that needs the body as a whole; None where the steps work through it piece by piece."""
    node, begins = first_reader(block, body), begins_unread(block, body)
    if node is None and begins:
        return None
    what = f"step `{node.id}`" if node is not None else ""
    if not isinstance(body.codec, StreamingCodec):
        return Reads(what, "its format is read as a whole only: send smaller files")
    if begins:
        before = ", or `remove` its messages before" if isinstance(body.codec, OutlineCodec) else ""
        return Reads(what, f"leave the body alone behind the step that works through it{before}")
    each = getattr(body.codec, "each", "body")
    return Reads(what, f"let the route's first step be `split` with `each: {each}`, which reads it piece by piece")


def check_whole(docs: Sequence[RouteDoc], registry: Registry, limits: Limits) -> Iterator[Problem]:
    """A warning for every source that lets in files which its route cannot hold in memory."""
    for doc in docs:
        if doc.spec is not None:
            yield from doc.tell(_beyond_memory(doc, doc.spec, registry, limits))


def _beyond_memory(doc: RouteDoc, spec: RouteSpec, registry: Registry, limits: Limits) -> Iterator[Problem]:
    options = spec.source.options
    if not isinstance(options, FolderSource) or (most := options.max_size) <= limits.in_memory:
        return
    codec = options.format or by_content_type(registry, "", PurePath(options.path.text).suffix)
    if codec is None:
        return
    reads = rule_that_reads(spec, options.contract)
    reads = reads or step_that_reads(spec.steps, Unread(Blob.named("", most), codec))
    if reads is None:
        return
    why = f"{reads.what} needs all of it" if reads.what else "no step works through it piece by piece"
    yield Problem(
        "ESB611",
        f"a file of up to {format_size(most)} is let in, but more than {format_size(limits.in_memory)}"
        f" (`limits.in_memory`) cannot be held in memory, and {why}: its message is dead at once",
        _place(doc),
        reads.hint,
        label="more than can be read",
        severity="warning",
    )


def _place(doc: RouteDoc) -> Position:
    """Where the size stands."""
    assert doc.spec is not None
    source = doc.node.get("from")
    for _, options in source.entries if isinstance(source, MapNode) else ():
        if isinstance(options, MapNode) and (size := options.get("max_size")) is not None:
            return size.position
    return doc.spec.position


__all__ = ["Reads", "check_whole", "rule_that_reads", "step_that_reads"]
