"""``alerts:`` of esb.yaml: each becomes a small route from its topic to its target, with a queue and retries of its own.

The runtime publishes an alert to the topic ``alert.<name>``; routes of the workspace may read it, too.
"""

from __future__ import annotations

from esb.config.alert_rules import OWN
from esb.config.yaml import Document
from esb.errors import Position
from esb.spec import ListNode, MapNode, Node, ScalarNode

#: The first part of the names of these routes.
PREFIX = "alert-"
#: What a webhook is told unless its `text` says more.
WORDS = "concat('[', coalesce(body.state, 'firing'), '] ', body.alert, ', ', body.route, ': ', body.text)"
#: What a mail says unless its `subject` and `text` say more; what an alert has not (its key) is left out.
SUBJECT = "[{{ body.state | default('firing') }}] {{ body.alert }}: {{ body.route }}"
TEXT = """\
{{ body.text }}

{% for name, value in body | dictsort %}{% if value and name not in ("text", "alert", "state") -%}
{{ name }}: {{ value if value is string else value | tojson }}
{% endif %}{% endfor %}"""
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
        if isinstance(target, MapNode) and any(pair[0].text not in OWN for pair in target.entries)
    ]


def _route(key: ScalarNode, entry: MapNode) -> MapNode:
    at = key.position
    target = MapNode(entry.position, tuple(pair for pair in entry.entries if pair[0].text not in OWN))
    before, target = _as_webhook(_as_mail(target))
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
                ("key", _text(at, "join('|', [body.route, body.step, body.class, coalesce(body.incident, '')])")),
                ("window", _text(at, WINDOW)),
            ),
        ),
        ("steps", ListNode(at, (*before, sent))),
    )


def _as_webhook(target: MapNode) -> tuple[list[Node], MapNode]:
    """``webhook``: the chat programs' own form, ``{"text": …}`` by HTTP; the steps before it, and the HTTP target."""
    given = target.get("webhook")
    if given is None or len(target.entries) != 1:
        return [], target
    at = given.position
    options = given if isinstance(given, MapNode) else _map(at, ("url", given))
    text = options.get("text")
    rest = MapNode(at, tuple(pair for pair in options.entries if pair[0].text != "text"))
    if isinstance(text, ScalarNode) and isinstance(text.value, str):
        words = _text(
            text.position, '{"text": {% set words %}' + text.value + "{% endset %}{{ words | string | tojson }}}"
        )
        step = _map(at, ("transform", _map(at, ("jinja", words), ("format", _text(at, "json")))))
    else:
        step = _map(at, ("map", _map(at, ("text", _text(at, WORDS)))))
    return [step], _map(target.position, ("http", rest))


def _as_mail(target: MapNode) -> MapNode:
    """``smtp`` with the words of an alert where it has none of its own; whose mail it is without `from`: that of its first reader."""
    given = target.get("smtp")
    if not isinstance(given, MapNode) or len(target.entries) != 1:
        return target
    at, named = given.position, {name.text for name, _ in given.entries}
    more: list[tuple[ScalarNode, Node]] = []
    to = given.get("to") or given.get("recipients")
    reader = to.items[0] if isinstance(to, ListNode) and to.items else to
    if not named & {"from", "sender"} and reader is not None:
        more.append((_text(at, "from"), reader))
    if "subject" not in named:
        more.append((_text(at, "subject"), _text(at, SUBJECT)))
    if not named & {"text", "body", "message"}:
        more.append((_text(at, "text"), _text(at, TEXT)))
    return MapNode(target.position, ((target.entries[0][0], MapNode(at, (*given.entries, *more))),))


def _map(at: Position, *entries: tuple[str, Node]) -> MapNode:
    return MapNode(at, tuple((_text(at, name), value) for name, value in entries))


def _text(at: Position, text: str) -> ScalarNode:
    return ScalarNode(at, text, text)


def _number(at: Position, number: int) -> ScalarNode:
    return ScalarNode(at, number, str(number))
