"""Prometheus text exposition of what the bus counts; labels are bounded by the number of routes.

Format: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(items: Sequence[Mapping[str, Any]], *, bus: str, uptime: float, ready: bool) -> str:
    """The metrics page for the items of ``views.status``."""
    lines = [
        *_family("esb_info", "gauge", "The running bus.", [({"bus": bus}, 1)]),
        *_family("esb_up", "gauge", "1 while every route is live.", [({}, int(ready))]),
        *_family("esb_uptime_seconds", "gauge", "Seconds since start.", [({}, round(uptime, 3))]),
        *_family(
            "esb_messages_accepted_total",
            "counter",
            "Messages accepted and stored.",
            [({"route": item["route"]}, item["accepted"]) for item in items],
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
            "esb_in_flight",
            "gauge",
            "Attempts that run now.",
            [({"route": item["route"]}, item.get("in_flight", 0)) for item in items],
        ),
    ]
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, doc: str, samples: Sequence[tuple[Mapping[str, str], float | int]]) -> list[str]:
    lines = [f"# HELP {name} {doc}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return lines


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
