"""The tools that every attempt of a route shares."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from esb.clock import Clock, Deadlines
from esb.config.model import Connector
from esb.observe.indicators import Observer
from esb.runtime.answers import Answers
from esb.runtime.away import Away
from esb.runtime.settle import Chance
from esb.runtime.targets import Targets
from esb.runtime.throttles import Throttles
from esb.store.base import Store


class Logs(Protocol):
    def __call__(self, level: str, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """The tools that every attempt of a route shares."""

    clock: Clock
    store: Store
    targets: Targets
    connectors: Mapping[str, Connector]
    workspace: Path
    site: Mapping[str, Any]
    step_limit: float
    log: Logs
    timezone: str = "UTC"
    answers: Answers = field(default_factory=Answers)
    throttles: Throttles = field(default_factory=Throttles)
    deadlines: Deadlines = field(default_factory=Deadlines)
    chance: Chance = random.random  #: what the jitter of retries is drawn from
    observer: Observer = field(default_factory=Observer)  #: what messages say about indicators
    away: Away | None = None  #: the worker processes; None where there are none, and everything runs on the loop
