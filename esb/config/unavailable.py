"""What the route language has but this version does not do yet: a clear answer instead of "unknown"."""

from __future__ import annotations

from collections.abc import Mapping

#: family → word → what to do meanwhile
NOT_YET: Mapping[str, Mapping[str, str]] = {
    "step": {
        "enrich": "use `to: connector.operation` with `into: vars.name`",
        "aggregate": "let the receiving system collect, or send each message by itself",
        "resequence": "use the route's `key`, which keeps the order of acceptance",
        "throttle": "set `rate` in the connector's file",
        "claim": "keep the whole body in the message",
        "fetch": "keep the whole body in the message",
        "compensate": "put the steps under `on_error`",
        "python": "write a step of your own in connectors/*.py",
    },
    "source": {
        "sftp": "let the SFTP server share its folder and use `file`",
        "amqp": "use `http` or `file`",
        "sql": "let the system send by `http`, or export to a folder and use `file`",
    },
    "sink": {
        "sftp": "write to a shared folder with `file`",
        "amqp": "use `http` or `file`",
        "sql": "use `http` or `file`",
        "smtp": "use `http` to a mail gateway",
    },
    "connection": {
        "sftp": "use `file` or a connector of `type: http`",
        "amqp": "use a connector of `type: http`",
        "sql": "use a connector of `type: http`",
        "smtp": "use a connector of `type: http`",
    },
    "format": {
        "fixed": "use `text` and cut with `substr`",
        "excel": "export as `csv`",
        "edifact": "use `text`, or let a converter give `json` or `xml`",
        "x12": "use `text`, or let a converter give `json` or `xml`",
        "idoc": "use `xml`",
    },
    "modifier": {
        "on_timeout": "the delivery id is sent as Idempotency-Key, so the target can tell a repeat",
    },
    "route": {
        "expect": "take it out",
        "kpis": "take it out",
    },
    "connector": {
        "params": "write the values, or `${NAME}` of the environment",
        "maintenance": "retries wait in the store; raise `retry.within` for the window",
    },
    "document": {
        "template": "write the routes out",
        "site": "put the values under `site:` in esb.yaml",
    },
}


def not_yet(family: str, word: str) -> str | None:
    """What to do instead of a word that this version does not have yet; None for every other word."""
    return NOT_YET.get(family, {}).get(word)
