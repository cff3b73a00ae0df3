"""How routes, topics and systems hang together: as edges, in words, as Mermaid and as a picture."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any
from urllib.parse import quote

from esb.config.model import Workspace
from esb.config.routes import fixed_text, steps_of, targets_of, topics_of
from esb.message import EMPTY

#: Size of a box, space between boxes, and between columns, in pixels.
_HEIGHT, _GAP, _ACROSS, _CHAR = 30, 14, 90, 7.3
#: Longest name of a box, in characters; a longer one is cut and stands whole in its title.
_LONGEST = 40
_FILL = {"route": "#dbe9f6", "topic": "#e9e2f4", "": "#eeeeee"}


@dataclass(frozen=True, slots=True)
class Edge:
    """From one end to another, by which step. Ends are ``route x``, ``topic x``, ``erp.post`` or ``http POST /x``."""

    start: str
    end: str
    by: str = ""


def edges_of(workspace: Workspace) -> list[Edge]:
    """Every edge once, in the order of the routes."""
    return list(dict.fromkeys(_edges(workspace)))


def _edges(workspace: Workspace) -> Iterator[Edge]:
    for spec in workspace.routes.values():
        here = f"route {spec.name}"
        yield Edge(_source(spec.source), here)
        for step in steps_of(spec.blocks):
            for topic in topics_of(step):
                yield Edge(here, f"topic {topic}", step.id)
            for target in targets_of(step):
                called = fixed_text(getattr(target.sink, "route", None)) if target.protocol == "route" else ""
                if called:
                    yield Edge(here, f"route {called}", step.id)
                elif target.protocol != "topic":
                    yield Edge(here, target.system, step.id)


def _source(source: Any) -> str:
    options = source.options
    if source.protocol == "topic":
        return f"topic {fixed_text(options.topic)}"
    words = [getattr(options, name, None) for name in ("method", "path", "queue")]
    known = [fixed_text(word) or (word.text if hasattr(word, "text") else "") for word in words if word is not None]
    return " ".join(filter(None, [source.protocol, source.connector, *known]))


# -- written --------------------------------------------------------------------------------------------------------------
def text(edges: Sequence[Edge]) -> str:
    lines = []
    for start in dict.fromkeys(edge.start for edge in edges):
        lines.append(start)
        lines += [f"  → {edge.end}" + (f"  ({edge.by})" if edge.by else "") for edge in edges if edge.start == start]
    return "\n".join(lines)


def mermaid(edges: Sequence[Edge]) -> str:
    ids = {name: f"n{number}" for number, name in enumerate(_ends(edges))}
    lines = ["flowchart LR", *(f"  {id_}[{json.dumps(name)}]" for name, id_ in ids.items())]
    for edge in edges:
        arrow = f"-->|{edge.by}|" if edge.by else "-->"
        lines.append(f"  {ids[edge.start]} {arrow} {ids[edge.end]}")
    return "\n".join(lines)


def _ends(edges: Sequence[Edge]) -> list[str]:
    return list(dict.fromkeys(end for edge in edges for end in (edge.start, edge.end)))


# -- drawn ----------------------------------------------------------------------------------------------------------------
def svg(
    edges: Sequence[Edge],
    to: str | None = None,
    marks: Mapping[str, str] = EMPTY,
    loads: Mapping[str, int] = EMPTY,
    paused: Container[str] = (),
) -> str:
    """A picture that stands alone: no script, no font, nothing from elsewhere.

    Each route leads to its name behind ``to``, such as ``#`` or ``/routes/``; ``marks`` are the routes that stand out, each
    with the words that say why. The edges of a route are the wider the more messages ``loads`` has for it, and dashed where
    it is in ``paused``.
    """
    columns = _columns(edges)
    places, width, height = _places(columns)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' font-family="sans-serif" font-size="12" role="{"img" if to is None else "group"}">'
        ),
        "<title>Routes, topics and systems</title>",
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>'
        ),
    ]
    parts += [_curve(edge, places, loads, paused) for edge in edges]
    parts += [_box(name, places[name], to, marks) for name in places]
    return "\n".join([*parts, "</svg>"])


def _columns(edges: Sequence[Edge]) -> list[list[str]]:
    """Each end one column behind the last that leads to it; what goes round in a circle stays where it was met first."""
    rank = dict.fromkeys(_ends(edges), 0)
    for _ in range(len(rank)):
        moved = False
        for edge in edges:
            if edge.start != edge.end and rank[edge.end] <= rank[edge.start] < len(rank) - 1:
                rank[edge.end] = rank[edge.start] + 1
                moved = True
        if not moved:
            break
    numbers = {old: new for new, old in enumerate(sorted(set(rank.values())))}
    columns: list[list[str]] = [[] for _ in numbers]
    for name, place in rank.items():
        columns[numbers[place]].append(name)
    return columns


Place = tuple[float, float, float]


def _places(columns: Sequence[Sequence[str]]) -> tuple[dict[str, Place], int, int]:
    """Left, top and width of each box, and the size of the whole."""
    places: dict[str, Place] = {}
    left = 10.0
    tallest = max((len(names) for names in columns), default=0) * (_HEIGHT + _GAP) + 10
    for names in columns:
        width = max(len(_short(name)) for name in names) * _CHAR + 16
        for number, name in enumerate(names):
            places[name] = (left, 10.0 + number * (_HEIGHT + _GAP), width)
        left += width + _ACROSS
    return places, int(left - _ACROSS + 10) if columns else 20, int(tallest + 10)


def _box(name: str, place: Place, to: str | None, marks: Mapping[str, str]) -> str:
    left, top, width = place
    word, _, own = name.partition(" ")
    kind = word if word in _FILL else ""
    why = marks.get(own, "") if kind == "route" else ""
    edge = 'stroke="#a81c1c" stroke-width="3"' if why else 'stroke="#888"'
    box = (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="5" fill="{_FILL[kind]}" {edge}/>'
        f'<text x="{left + 8:.0f}" y="{top + 19:.0f}" fill="#1b2026">{escape(_short(name))}</text>'
    )
    if why or _short(name) != name:
        box = f"<g><title>{escape(f'{own}: {why}' if why else name)}</title>{box}</g>"
    return f'<a href="{escape(to + quote(own))}">{box}</a>' if to is not None and kind == "route" else box


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _curve(edge: Edge, places: Mapping[str, Place], loads: Mapping[str, int], paused: Container[str]) -> str:
    start, end = places[edge.start], places[edge.end]
    x1, y1 = start[0] + start[2], start[1] + _HEIGHT / 2
    x2, y2 = end[0], end[1] + _HEIGHT / 2
    bend = max(40.0, abs(x2 - x1) / 2)
    kind, _, own = (edge.end if edge.end.startswith("route ") else edge.start).partition(" ")
    load = loads.get(own, 0) if kind == "route" else 0
    words = ", ".join(filter(None, [edge.by, f"{load} messages" if load else ""]))
    tip = f"<title>{escape(words)}</title>" if words else ""
    look = f' stroke-width="{1 + min(4.0, log10(load)):.2g}"' if load else ""
    look += ' stroke-dasharray="6 4"' if kind == "route" and own in paused else ""
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}" fill="none"'
        f' stroke="#555"{look} marker-end="url(#tip)">{tip}</path>'
    )
