"""``alerts:`` of esb.yaml: each becomes a small route from its topic to its target, with a queue and retries of its own.

The runtime publishes an alert to the topic ``alert.<name>``; routes of the workspace may read it, too.
"""

from __future__ import annotations

from esb.config.yaml import Document
from esb.errors import Position
from esb.spec import ListNode, MapNode, Node, ScalarNode

#: The first part of the names of these routes.
PREFIX = "alert-"
#: Alerts that say the same within this time are one: a storm of dead letters is one call to the on-call desk.
WINDOW = "5m"


def alert_routes(settings: Node | None) -> list[Document]:
    """The route documents for the alerts that name a target; their values stand where ``esb.yaml`` has them."""
    alerts = settings.get("alerts") if isinstance(settings, MapNode) else None
    if not isinstance(alerts, MapNode):
        return []
    return [
        Document(key.position.path, _route(key, target), "")
        for key, target in alerts.entries
        if isinstance(target, MapNode) and target.entries
    ]


def _route(key: ScalarNode, target: MapNode) -> MapNode:
    at = key.position
    sent = _map(at, ("to", target), ("retry", _map(at, ("max", _number(at, 20)), ("backoff", _text(at, "5s..5m")))))
    return _map(
        at,
        ("route", _text(at, PREFIX + key.text)),
        ("description", _text(at, f"The alert {key.text} of esb.yaml")),
        ("from", _map(at, ("topic", _text(at, f"alert.{key.text}")))),
        (
            "dedupe",
            _map(
                at,
                ("key", _text(at, "join('|', [body.route, body.step, body.class])")),
                ("window", _text(at, WINDOW)),
            ),
        ),
        ("steps", ListNode(at, (sent,))),
    )


def _map(at: Position, *entries: tuple[str, Node]) -> MapNode:
    return MapNode(at, tuple((_text(at, name), value) for name, value in entries))


def _text(at: Position, text: str) -> ScalarNode:
    return ScalarNode(at, text, text)


def _number(at: Position, number: int) -> ScalarNode:
    return ScalarNode(at, number, str(number))
