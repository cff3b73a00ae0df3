"""From a filter to the places of its messages, in SQLAlchemy Core so that every database can answer.

The query starts where the fewest rows are: in ``pending`` for open messages, in ``outcome`` (by its partial index) for
everything but ``done``, else in ``message``. Who they are and what became of them is read in a second step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, func, literal_column, or_, select, union

from esb.message import OPEN_STATES, State
from esb.store.base import Filter
from esb.store.codes import CODES, SPAN
from esb.store.tables import NOTABLE, message, outcome, pending, span, track
from esb.store.values import find_mid, micros

LARGEST_PAGE = 10_000


def places(filter_: Filter, route: int | None) -> Select[Any]:
    """The seqs of a filter's messages, newest first unless it says otherwise. ``route`` is the number of its route."""
    anchor = _anchor(filter_)
    order = anchor.c.seq.asc() if filter_.oldest_first else anchor.c.seq.desc()
    limit = max(0, min(filter_.limit, LARGEST_PAGE))
    return _narrow(select(anchor.c.seq), anchor, filter_, route).order_by(order).limit(limit)


def dead_groups(filter_: Filter, route: int | None) -> Select[Any]:
    """Group, number, earliest and latest end, newest seq of the filter's dead messages, whatever states it names."""
    only_dead = replace(filter_, states=(State.DEAD,))
    o = outcome.c
    columns = (o.grp, func.count(), func.min(o.finished), func.max(o.finished), func.max(o.seq))
    return _narrow(select(*columns).select_from(outcome), outcome, only_dead, route).group_by(o.grp)


def _anchor(filter_: Filter) -> Table:
    states = set(filter_.states)
    if filter_.ids:
        return message
    if filter_.group:
        return outcome
    if states and states <= OPEN_STATES:
        return pending
    if states and State.DONE not in states and not states & OPEN_STATES:
        return outcome
    return message


def _narrow(query: Select[Any], anchor: Table, filter_: Filter, route: int | None) -> Select[Any]:
    seq = anchor.c.seq
    if filter_.ids:
        query = query.where(seq.in_(_of_ids(filter_.ids)))
        return _in_states(query, anchor, filter_.states) if anchor is outcome else query
    query = _in_states(query, anchor, filter_.states)
    if route is not None:
        # where something rarer is named, too, the index of the route must not win: a route may have millions of messages
        query = query.where((anchor.c.route + 0 if _is_rare(filter_) else anchor.c.route) == route)
    if filter_.group:
        either = or_(outcome.c.grp == filter_.group, outcome.c.dead_letter == filter_.group)
        query = _in_states(query, anchor, (State.DEAD,)).where(either)
    for found in _sets(filter_):
        query = query.where(seq.in_(found))
    if filter_.before_seq is not None:
        query = query.where(seq < filter_.before_seq)
    return _in_time(_of_key(query, anchor, filter_), anchor, filter_)


def _is_rare(filter_: Filter) -> bool:
    """Whether the filter names something that few messages have."""
    return bool(filter_.key is not None or filter_.track or filter_.text or filter_.correlations)


def _in_states(query: Select[Any], anchor: Table, states: Sequence[State]) -> Select[Any]:
    if not states:
        return query
    open_codes = [CODES[state] for state in states if state in OPEN_STATES]
    ended_codes = [CODES[state] for state in states if state not in OPEN_STATES]
    if anchor is pending:
        return query.where(pending.c.state.in_(open_codes))
    if anchor is outcome:
        return query.where(_one_of(ended_codes), NOTABLE)
    if open_codes and ended_codes and CODES[State.DONE] not in ended_codes:
        few = union(
            select(pending.c.seq).where(pending.c.state.in_(open_codes)),
            select(outcome.c.seq).where(_one_of(ended_codes), NOTABLE),
        )
        return query.where(message.c.seq.in_(few))
    conditions: list[ColumnElement[bool]] = []
    if open_codes:
        query = query.outerjoin(pending, pending.c.seq == message.c.seq)
        conditions.append(pending.c.state.in_(open_codes))
    if ended_codes:
        query = query.outerjoin(outcome, outcome.c.seq == message.c.seq)
        conditions.append(outcome.c.state.in_(ended_codes))
    return query.where(or_(*conditions))


def _one_of(codes: Sequence[int]) -> ColumnElement[bool]:
    """One state alone is compared, not searched in a list: then the index gives the order, too."""
    if len(codes) == 1:
        return outcome.c.state == literal_column(str(codes[0]))
    return outcome.c.state.in_(codes)


def _of_key(query: Select[Any], anchor: Table, filter_: Filter) -> Select[Any]:
    if filter_.key is None:
        return query
    if anchor is outcome:
        return query.where(outcome.c.seq.in_(select(message.c.seq).where(message.c.key == filter_.key)))
    return query.where(anchor.c.key == filter_.key)


def _in_time(query: Select[Any], anchor: Table, filter_: Filter) -> Select[Any]:
    """The exact bounds, and before them the stretches of the order in which such messages can be."""
    bounds: list[ColumnElement[bool]] = []
    if filter_.since is not None:
        since = micros(filter_.since)
        earliest = select(func.min(span.c.n)).where(span.c.last >= since).scalar_subquery()
        bounds += [anchor.c.seq >= earliest * SPAN, message.c.created >= since]
    if filter_.until is not None:
        until = micros(filter_.until)
        latest = select(func.max(span.c.n)).where(span.c.first < until).scalar_subquery()
        bounds += [anchor.c.seq < (latest + 1) * SPAN, message.c.created < until]
    if not bounds:
        return query
    if anchor is not message:
        query = query.join(message, message.c.seq == anchor.c.seq)
    return query.where(and_(*bounds))


# -- sets of messages that an index gives ---------------------------------------------------------------------------------
def _sets(filter_: Filter) -> list[Any]:
    t = track.c
    sets: list[Any] = [select(t.seq).where(t.value == value, t.name == name) for name, value in filter_.track]
    if filter_.correlations:
        sets.append(_of_correlations(filter_.correlations))
    if filter_.text:
        sets.append(_of_text(filter_.text))
    return sets


def _of_ids(ids: Sequence[str]) -> Select[Any]:
    mids = [mid for id_ in ids[:LARGEST_PAGE] if (mid := find_mid(id_)) is not None]
    return select(message.c.seq).where(message.c.mid.in_(mids))


def _of_correlations(correlations: Sequence[str]) -> Any:
    """A message whose correlation id is its own stores none."""
    found = select(message.c.seq).where(message.c.correlation.in_(correlations))
    mids = [mid for correlation in correlations if (mid := find_mid(correlation)) is not None]
    if not mids:
        return found
    return union(found, select(message.c.seq).where(message.c.mid.in_(mids), message.c.correlation.is_(None)))


def _of_text(text: str) -> Any:
    t = track.c
    parts = [
        select(message.c.seq).where(message.c.key == text),
        select(message.c.seq).where(message.c.correlation == text),
        select(t.seq).where(t.value == text),
    ]
    if (mid := find_mid(text)) is not None:
        parts.append(select(message.c.seq).where(message.c.mid == mid))
    return union(*parts)
