"""Numbers that stand in the rows of a store; they are part of the file format."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from esb.message import State

SCHEMA_VERSION = 6
#: "ESB1" in the header of the file, so that no other SQLite file is taken for a store.
APPLICATION_ID = 0x45534231

QUEUED, RUNNING, WAITING, HELD, DONE, DEAD, EXPIRED, DUPLICATE, SUPERSEDED, DISCARDED = range(10)
#: Rows of ``counter`` that are not states.
ACCEPTED, PURGED = 100, 101

CODES: Mapping[State, int] = MappingProxyType(
    {
        State.QUEUED: QUEUED,
        State.RUNNING: RUNNING,
        State.WAITING: WAITING,
        State.HELD: HELD,
        State.DONE: DONE,
        State.DEAD: DEAD,
        State.EXPIRED: EXPIRED,
        State.DUPLICATE: DUPLICATE,
        State.SUPERSEDED: SUPERSEDED,
        State.DISCARDED: DISCARDED,
    }
)
STATES: tuple[State, ...] = tuple(CODES)
#: States up to this code are open (a row in ``pending``).
LAST_OPEN = HELD

#: Messages in a row that share one row of ``span``.
SPAN = 4096

#: The reason of a part that went into an aggregate begins with this; its id follows.
ABSORBED = "aggregated into "
