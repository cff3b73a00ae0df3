"""Prometheus text exposition of what the bus counts; labels are bounded by the number of routes.

Format: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from esb import __version__
from esb.store.base import DeadGroup

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(
    items: Sequence[Mapping[str, Any]],
    *,
    bus: str,
    uptime: float,
    ready: bool,
    now: datetime,
    ended: Mapping[tuple[str, str], int] | None = None,
    dead: Sequence[DeadGroup] = (),
    more: Sequence[tuple[str, str, str, Sequence[tuple[Mapping[str, str], float | int]]]] = (),
) -> str:
    """The metrics page for the items of ``views.status``; ``ended`` are messages by route and end since the start, ``dead`` the groups of
    dead letters, ``more`` further families, as (name, type, words, samples)."""
    build = {"bus": bus, "version": __version__, "python": platform.python_version()}
    routes = {str(item["route"]) for item in items}
    unresolved = _unresolved(items, dead, now)
    lines = [
        *_family("esb_build_info", "gauge", "The running bus, and what it is made of.", [(build, 1)]),
        *_family("esb_up", "gauge", "1 while every route is live.", [({}, int(ready))]),
        *_family("esb_uptime_seconds", "gauge", "Seconds since start.", [({}, round(uptime, 3))]),
        *_family(
            "esb_messages_total",
            "counter",
            "Messages accepted ever, and those that ended since the start, by how: done, filtered, dead, expired.",
            [
                *(({"route": item["route"], "status": "accepted"}, item["accepted"]) for item in items),
                *(
                    ({"route": route, "status": end}, n)
                    for (route, end), n in sorted((ended or {}).items())
                    if route in routes
                ),
            ],
        ),
        *_family(
            "esb_messages",
            "gauge",
            "Messages by state; accepted is their sum plus what was purged.",
            [
                ({"route": item["route"], "state": state}, count)
                for item in items
                for state, count in item["states"].items()
            ],
        ),
        *_family(
            "esb_messages_purged_total",
            "counter",
            "Messages removed by retention.",
            [({"route": item["route"]}, item["purged"]) for item in items],
        ),
        *_family(
            "esb_oldest_open_seconds",
            "gauge",
            "Age of the oldest message that still has work to do.",
            [({"route": item["route"]}, item["oldest_age_seconds"] or 0) for item in items],
        ),
        *_family(
            "esb_oldest_unresolved_seconds",
            "gauge",
            "Age of the oldest message that has work to do, or has waited for a person since it died.",
            [({"route": route}, seconds) for route, seconds in unresolved.items()],
        ),
        *_family(
            "esb_dead_letters",
            "gauge",
            "Dead letters by error class.",
            [
                ({"route": route, "code": code}, n)
                for (route, code), n in sorted(_dead(dead).items())
                if route in routes
            ],
        ),
        *_family(
            "esb_in_flight",
            "gauge",
            "Attempts that run now.",
            [({"route": item["route"]}, item.get("in_flight", 0)) for item in items],
        ),
        *_family(
            "esb_expect_missed",
            "gauge",
            "1 while an arrival window of the route was missed and what it expects has not come.",
            [
                ({"route": item["route"]}, int(item["expect"]["state"] == "missed"))
                for item in items
                if item.get("expect") is not None
            ],
        ),
        *_family(
            "esb_expect_missed_total",
            "counter",
            "Arrival windows that were missed.",
            [({"route": item["route"]}, item["expect"]["missed"]) for item in items if item.get("expect") is not None],
        ),
        *(line for family in more for line in _family(*family)),
    ]
    return "\n".join(lines) + "\n"


def _dead(groups: Sequence[DeadGroup]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for group in groups:
        found[group.route, group.error_class] += group.count
    return found


def _unresolved(items: Sequence[Mapping[str, Any]], dead: Sequence[DeadGroup], now: datetime) -> dict[str, float]:
    found = {str(item["route"]): float(item["oldest_age_seconds"] or 0) for item in items}
    for group in dead:
        if group.route in found:
            found[group.route] = max(found[group.route], round((now - group.oldest).total_seconds(), 3))
    return found


def _family(name: str, kind: str, doc: str, samples: Sequence[tuple[Mapping[str, str], float | int]]) -> list[str]:
    lines = [f"# HELP {name} {doc}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return lines


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
