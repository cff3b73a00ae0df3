"""What a workspace wants to know of itself: its indicators and the rules of its alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from esb.config.alert_rules import Alert, check_alerts, read_alerts
from esb.config.checks import nearest
from esb.config.kpis import Kpi, by_name, check_kpis, read_kpi
from esb.config.reader import WorkspaceReader
from esb.config.resources import Resources
from esb.config.routes import RouteDoc
from esb.config.yaml import Document
from esb.errors import Problem
from esb.spec import MapNode, Node


def read_observed(
    settings: Node | None,
    documents: Sequence[Document],
    docs: Sequence[RouteDoc],
    resources: Resources,
    guarded: Callable[[Callable[[], Any]], Any],
    whole: bool,
) -> tuple[list[Kpi], list[Alert], list[Problem]]:
    """Indicators, alerts with rules, and what is wrong with them; ``whole`` says that every file could be read."""
    problems: list[Problem] = []
    kpis = [kpi for doc in docs if doc.spec is not None for kpi in doc.spec.kpis]
    for document in documents:
        assert isinstance(document.node, MapNode)
        reader = WorkspaceReader(resources, where="kpi")
        with resources.document():
            kpi = guarded(partial(read_kpi, document.node, reader, document.text))
        problems += reader.problems
        kpis += [kpi] if kpi is not None else []
    names = [doc.name for doc in docs]
    complete = whole and all(doc.spec is not None for doc in docs) and not problems
    problems += check_kpis(kpis, names, complete, nearest)
    reader = WorkspaceReader(resources, where="alerts")
    alerts = read_alerts(settings, reader)
    problems += reader.problems
    problems += check_alerts(alerts, names, by_name(kpis), complete, nearest)
    return kpis, alerts, problems
