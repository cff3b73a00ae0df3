"""A system with lots and a source that polls it, for the tests of ``poll``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from esb.clock import SystemClock
from esb.endpoints._http.poll import HttpPoller
from esb.endpoints._http.recall import digest
from esb.endpoints._http.urls import UrlTemplate
from esb.endpoints.base import ConnectionContext, RunningSource, SourceContext
from esb.endpoints.http import HttpConnection
from esb.endpoints.poll import After, Pages, PollSource
from esb.language import TextTemplate
from esb.language.workspace import WorkspaceLanguage
from tests.contracts.source_contract import SourceRig
from tests.contracts.sql_rigs import OneColumn, State, expression
from tests.servers.lots import Lots

EVERY = timedelta(milliseconds=20)


def text(template: str) -> TextTemplate:
    """A real template of the language."""
    return WorkspaceLanguage().template(template)


def address(path: str) -> UrlTemplate:
    """A path without values."""
    return UrlTemplate(path, (path,))


class Closing(HttpPoller):
    """A poller that takes its connection with it."""

    async def stop(self) -> None:
        await super().stop()
        await self._live.close()


async def poller(options: PollSource, lots: Lots, context: SourceContext, **connector: Any) -> Closing:
    """A source of that system, not started."""
    connection = HttpConnection(base_url=lots.url + connector.pop("below", ""), **connector)
    live = await connection.open(ConnectionContext("erp", SystemClock(), Path("/"), lambda *_, **__: None))
    return Closing(options, dataclasses.replace(context, connection=live))


class LotsRig(SourceRig):
    """Offers items of a list; content that cannot be read is an item without a number."""

    def __init__(self, lots: Lots, way: str) -> None:
        self.lots, self.way = lots, way
        self.state = State()

    async def offer(self, name: str, body: bytes) -> None:
        self.lots.put(name, n=None if body == self.bad else json.loads(body)["n"])

    async def held(self) -> int:
        position = self.state.values.get("position") or {}
        if self.way == "delta":
            since = int(str(position.get("start", "")).rpartition("since=")[2] or 0)
            return sum(item["seq"] > since for item in self.lots.items)
        if self.way == "after":
            return sum(item["seq"] > int(position.get("mark") or 0) for item in self.lots.items)
        known = {id_ for name, piece in self.state.values.items() if name[:6] == "items-" for id_ in piece}
        return sum(digest(json.dumps(item["id"]).encode())[:24] not in known for item in self.lots.items)

    def options(self) -> PollSource:
        match self.way:
            case "delta":
                return PollSource(path=address("/changes"), delta=True, every=EVERY)
            case "after":
                after = After(value=expression("body.seq"), first="0")
                return PollSource(
                    path=address("/since"), query={"after": text("{{ meta.after }}")}, after=after, every=EVERY
                )
            case "pages":
                return PollSource(path=address("/numbered"), pages=Pages(size=3), every=EVERY)
        return PollSource(path=address("/lots" if self.way == "list" else "/paged"), every=EVERY)

    async def bind(self, context: SourceContext) -> RunningSource:
        own = dataclasses.replace(context, state=self.state, intake=OneColumn(context.intake))
        return await poller(self.options(), self.lots, own)

    async def crash(self, source: RunningSource) -> None:
        dying: Any = source
        dying._task.cancel()  # a process that dies ends in the middle, and its connections end with it
        await asyncio.gather(dying._task, return_exceptions=True)
        await dying._live.close()
