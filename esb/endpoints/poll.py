"""Polling a system over HTTP: what it has to say is asked for, page by page, again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from esb.endpoints._http.urls import UrlKind, UrlTemplate
from esb.endpoints.base import RunningSource, SourceContext
from esb.endpoints.http_auth import check_header_name
from esb.endpoints.http_login import OutboundAuth
from esb.formats.base import CodecKind
from esb.formats.json import Json
from esb.formats.odata import OData
from esb.language import Expression, TextTemplate
from esb.message import EMPTY
from esb.registry import source
from esb.spec import MapNode, Node, Reader, option
from esb.spec.kinds import Size
from esb.steps.base import ContractRef

Format = Annotated[Any, CodecKind()]
Path = Annotated[UrlTemplate, UrlKind(whole=False)]


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages by number, where the system gives no link to the next one."""

    size: int = option(doc="Items of a page; a page with fewer is the last.", example=100, minimum=1, maximum=10_000)
    skip: str = option(default="$skip", doc="Query field for how many items to leave out.", example="offset")
    top: str = option(default="$top", doc="Query field for how many items to give.", example="limit")


@dataclass(frozen=True, slots=True)
class After:
    """A value that only grows: items beyond the last one are new."""

    value: Expression = option(
        doc="The value of an item (`body`); the list must be in its order.", example="body.ChangedAt", shorthand=True
    )
    first: str = option(doc="What the first look begins after.", example="2026-01-01T00:00:00Z")


@source("poll")
@dataclass(frozen=True, slots=True)
class PollSource:
    """Asks an HTTP system again and again; each item of its answer is one message.

    Next links (`@odata.nextLink`, `__next`, `Link: rel=next`) are followed, as long as they stay on the connector's host. What is new is
    told by the system (`delta`), by a value that grows (`after`), or else by memory: an item is a message when its content is new.
    The position moves only once the items before it are stored with an fsync.
    """

    needs_connector: ClassVar[bool] = True
    connects: ClassVar[str] = "http"

    path: Path = option(
        doc="Path below the connector's `base_url`; may use `meta.after` and `site`.",
        example="/A_InspectionLot?$select=InspectionLot",
    )
    query: Mapping[str, TextTemplate] = option(
        default=EMPTY,
        doc="Fields of the query.",
        example='{ $filter: "ChangedAt ge {{ meta.after }}", $orderby: ChangedAt }',
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Headers of the request.", example="{ Prefer: odata.maxpagesize=100 }"
    )
    every: timedelta = option(
        default=timedelta(minutes=1), doc="Pause between two looks.", example="1m", aliases=("interval", "delay")
    )
    items: Expression | None = option(
        default=None,
        doc="The list in the answer (`body`); by default where OData keeps it, the answer itself where it is a list, else the whole answer.",
        example="body.data.lots",
    )
    id: Expression | None = option(
        default=None,
        doc="What tells an item (`body`) from the others; by default its OData address, its `id`, else its content.",
        example="body.InspectionLot",
    )
    next: Expression | None = option(
        default=None,
        doc="Where the answer has the link to the next page, if it is none of the usual places.",
        example="body.paging.next",
    )
    pages: Pages | None = option(default=None, doc="Pages by number.", example="{ size: 100 }")
    delta: bool = option(
        default=False,
        doc="Ask for a delta link (`@odata.deltaLink`, `__delta`) and then only for what has changed since. After an edit of `path`,"
        " `query`, `headers` or `items` everything is asked for again, as new.",
        example=True,
    )
    after: After | None = option(
        default=None,
        doc="Ask for items beyond the last one by `{{ meta.after }}` in path or query.",
        example="{ value: body.ChangedAt, first: '2026-01-01' }",
    )
    conditional: bool = option(
        default=True,
        doc="Ask with `If-None-Match` or `If-Modified-Since` where the answer was one page and had an `ETag` or `Last-Modified`.",
        example=False,
    )
    format: Format = option(
        default=None,
        doc="How items are read: JSON by default, `odata` for plain entities. With another format the whole answer is one message.",
        example="odata",
    )
    contract: ContractRef = option(
        default=None, doc="Contract that an item must keep; else its message is a dead letter.", example="lot.v1"
    )
    auth: OutboundAuth | None = option(default=None, doc="Credentials, instead of the connector's.")
    timeout: timedelta = option(
        default=timedelta(seconds=30), doc="Longest wait for one page.", example="30s", positive=True
    )
    max_response: Size = option(default=10_000_000, doc="Largest page, decoded.", example="5MB")
    max_pages: int = option(default=1_000, doc="Most pages of one look.", example=100, minimum=1, maximum=100_000)

    def check(self, node: Node, reader: Reader) -> None:
        ways = [name for name, given in (("delta", self.delta), ("after", self.after), ("pages", self.pages)) if given]
        if len(ways) > 1:
            both = " and ".join(f"`{name}`" for name in ways)
            reader.problem("ESB107", f"`poll` has {both}", node, hint="what is new is told in one way only")
        templates: list[Any] = [self.path, *self.query.values(), *self.headers.values()]
        names = {name for text in templates for name in text.names}
        asks = any(name == "meta.after" or name.startswith("meta.after.") for name in names)
        if asks != (self.after is not None):
            at = (node.get("after") if isinstance(node, MapNode) else None) or node
            words = "`after` needs `{{ meta.after }}` in path or query" if self.after else "`meta.after` needs `after`"
            reader.problem("ESB102", words, at, hint="write `after: { value: body.ChangedAt, first: '2026-01-01' }`")
        for name in self.headers:
            check_header_name(name, node, reader)
        if not self.in_parts:
            for name in ("items", "id", "next", "pages", "delta", "after"):
                if getattr(self, name):
                    at = (node.get(name) if isinstance(node, MapNode) else None) or node
                    words = f"`{name}` needs an answer in JSON; in other formats the whole answer is one message"
                    reader.problem("ESB107", words, at, hint="take it out, and `split` the message")

    @property
    def in_parts(self) -> bool:
        """Whether each item is a message; an answer that is not JSON is one message, whole."""
        return self.format is None or isinstance(self.format, (Json, OData))

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._http.poll import HttpPoller  # noqa: PLC0415 - the client library loads when it is used

        return HttpPoller(self, context)
