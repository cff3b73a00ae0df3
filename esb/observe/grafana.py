"""A Grafana dashboard and Prometheus alert rules for a workspace: plain JSON and YAML, the same for the same files."""

from __future__ import annotations

import hashlib
from typing import Any

from esb.config.model import Workspace

#: The columns of a dashboard.
_WIDE = 24


def dashboard(workspace: Workspace) -> dict[str, Any]:
    """The dashboard of a bus, with a panel for each of its indicators; its ``uid`` stays, so that a new version replaces it."""
    bus = workspace.settings.bus
    panels: list[dict[str, Any]] = []

    def row(title: str) -> None:
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(panels, _WIDE, 1)})

    def add(
        title: str, *queries: tuple[str, str], kind: str = "timeseries", unit: str = "short", width: int = 8
    ) -> None:
        targets = [
            {"refId": chr(65 + number), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for number, (query, legend) in enumerate(queries)
        ]
        panels.append(
            {
                "type": kind,
                "title": title,
                "datasource": _SOURCE,
                "targets": targets,
                "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
                "gridPos": _place(panels, width, 8 if kind == "timeseries" else 4),
            }
        )

    row("What needs a person")
    add("Dead letters", ("sum(esb_dead_letters) or vector(0)", "dead"), kind="stat", width=6)
    add("Oldest open message", ("max(esb_oldest_open_seconds)", "age"), kind="stat", unit="s", width=6)
    add("Differences between systems", ("sum(esb_differences)", "open"), kind="stat", width=6)
    add("Alerts that hold", ("sum(esb_alert_firing)", "rules"), kind="stat", width=6)
    row("Indicators")
    for kpi in workspace.kpis.values():
        name = kpi.name
        if kpi.kind == "pair":
            add(f"{name}: open and overdue", (f'sum(esb_kpi_open_pairs{{kpi="{name}"}})', "open"), (f'esb_kpi_overdue{{kpi="{name}"}}', "overdue"))  # fmt: skip
        elif kpi.kind == "counter":
            rate = f'sum(increase(esb_kpi_count_total{{kpi="{name}"}}[1h]))'
            of = f'clamp_min(sum(increase(esb_kpi_of_total{{kpi="{name}"}}[1h])), 1)'
            share = bool(kpi.options.of)
            add(name, (f"{rate} / {of}" if share else rate, "an hour"), unit="percentunit" if share else "short")
        else:
            add(f"{name} {kpi.options.unit}".strip(), (f'sum(esb_kpi_level_weight{{kpi="{name}"}})', "weight"), (f'sum(esb_kpi_level{{kpi="{name}"}})', "level"))  # fmt: skip
    row("Traffic")
    add(
        "Accepted a second",
        ('sum by (route) (rate(esb_messages_total{status="accepted"}[5m]))', "{{route}}"),
        unit="ops",
    )
    add("Attempts that failed", ('sum by (route, error) (rate(esb_attempts_total{error!=""}[5m]))', "{{route}} {{error}}"), unit="ops")  # fmt: skip
    add("Open messages", ('sum by (route) (esb_messages{state=~"queued|running|waiting|held"})', "{{route}}"))
    for title, metric, by in (
        ("From acceptance to the end, p95", "esb_message_duration_seconds", "route"),
        ("Deliveries, p95", "esb_delivery_duration_seconds", "target"),
    ):
        query = f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket[5m])))"
        add(title, (query, f"{{{{{by}}}}}"), unit="s", width=12)
    return {
        "uid": hashlib.sha256(f"esb:{bus}".encode()).hexdigest()[:12],
        "title": f"esb {bus}",
        "tags": ["esb"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


_SOURCE = {"type": "prometheus", "uid": "${source}"}


def _place(panels: list[dict[str, Any]], width: int, height: int) -> dict[str, int]:
    """Beside the last panel, or below it where the row is full."""
    if not panels:
        return {"x": 0, "y": 0, "w": width, "h": height}
    last = panels[-1]["gridPos"]
    x = last["x"] + last["w"]
    if x + width <= _WIDE and panels[-1]["type"] != "row" and width != _WIDE:
        return {"x": x, "y": last["y"], "w": width, "h": height}
    return {"x": 0, "y": last["y"] + last["h"], "w": width, "h": height}


def rules(workspace: Workspace) -> dict[str, Any]:
    """Alert rules for Prometheus: the bus itself, its routes by their targets of latency, its indicators."""
    found = [
        _rule(
            "EsbDown",
            "absent(esb_up) or esb_up == 0",
            "1m",
            "critical",
            "The bus is down, or a route of it is not live",
        ),
        _rule(
            "EsbDeadLetters",
            "sum by (route) (esb_dead_letters) > 0",
            "5m",
            "warning",
            "{{ $labels.route }} has dead letters",
        ),
        _rule(
            "EsbDifferences",
            "sum by (route) (esb_differences) > 0",
            "1h",
            "warning",
            "{{ $labels.route }}: systems do not agree",
        ),
        _rule(
            "EsbRuleFaults",
            "increase(esb_kpi_faults_total[1h]) > 0",
            "5m",
            "info",
            "A rule of {{ $labels.kpi }} fails on messages",
        ),
    ]
    for spec in workspace.routes.values():
        if spec.within is not None and spec.enabled:
            seconds = max(60, round(spec.within.total_seconds()))
            query = f'esb_oldest_open_seconds{{route="{spec.name}"}} > {seconds}'
            severity = "critical" if spec.priority == "high" else "warning"
            found.append(_rule("EsbLate", query, "1m", severity, f"{spec.name} keeps messages longer than {seconds} s"))
    for kpi in workspace.kpis.values():
        if kpi.kind == "pair" and kpi.options.within is not None:
            query = f'esb_kpi_overdue{{kpi="{kpi.name}"}} > 0'
            found.append(_rule("EsbOverdue", query, "0s", "critical", f"{kpi.name}: {kpi.options.description}"))
    return {"groups": [{"name": f"esb-{workspace.settings.bus}", "rules": found}]}


def _rule(name: str, query: str, for_: str, severity: str, words: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": query,
        "for": for_,
        "labels": {"severity": severity},
        "annotations": {"summary": words},
    }
