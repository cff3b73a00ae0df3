"""What a route asks of the bus around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from esb.config.model import RouteSpec
from esb.endpoints.base import ReportingSource
from esb.runtime.bench import Bench
from esb.runtime.births import Birth, Births
from esb.runtime.turns import Turns
from esb.store.base import Accepted


class Hub(Protocol):
    """What a runner asks of the bus around it."""

    @property
    def turns(self) -> Turns: ...

    def receivers(self, kind: str, name: str) -> Iterable[RouteSpec]: ...

    def arrived(self, birth: Birth, accepted: Accepted) -> None: ...

    def ahead(self, birth: Birth, depth: int, until: float) -> Birth:
        """A message about to be born, worked off already where its route can (:mod:`esb.runtime.ahead`)."""
        ...

    def recall(self, route: str, digest: str) -> tuple[RouteSpec, Bench, Births] | None:
        """An old version of a route, made anew of what the store keeps of it; None, after a log line, where that cannot be done."""
        ...

    def reporter(self, route: str) -> ReportingSource | None:
        """The source of a route, where it can tell its senders what was not taken. Raises Unavailable while it is down."""
        ...
