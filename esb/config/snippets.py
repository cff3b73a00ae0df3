"""What an editor offers to begin with: a document, a step, an endpoint, with places to fill in.

The texts are YAML with the places of the language server protocol (``${1:body.lot}``); the values in them are the examples of the
options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from esb.registry import Component, Family, Registry
from esb.spec import OptionSpec, kind_of, options_of

_DOCUMENTS = {
    "route": (
        "A route",
        """route: ${1:lot-hold}
description: ${2:What it is for, in a line}
owner: ${3:quality-it}
key: ${4:body.lot}
from:
  http: { path: /${5:holds}, method: POST }
steps:
  - to: ${6:erp.hold}
on_error:
  - { for: any, dead_letter: ${7:erp} }
""",
    ),
    "connector": (
        "A named system with its operations",
        """connector: ${1:erp}
type: http
base_url: ${2:https://erp.example.com}
operations:
  ${3:hold}: { path: /${4:holds} }
""",
    ),
    "site": (
        "A plant, and all that is different there",
        """site: ${1:P20}
timezone: ${2:Europe/Vienna}
locale: ${3:de-AT}
use:
  - template: ${4:hold-sync}
    params: {}
""",
    ),
    "bus": ("Settings of the bus (esb.yaml)", "bus: ${1:plant-graz}\ntimezone: ${2:Europe/Vienna}\n"),
}
_SPECIAL = re.compile(r"([\\$}])")


def document_snippets() -> list[dict[str, Any]]:
    """A document of each kind."""
    return [{"label": name, "description": words, "body": text} for name, (words, text) in _DOCUMENTS.items()]


def component_snippets(registry: Registry, family: Family) -> list[dict[str, Any]]:
    """Every component of a family with what it needs."""
    found = registry.family(family)
    return [
        {"label": name, "description": found[name].summary, "body": "\n".join(_lines(found[name]))}
        for name in sorted(found)
    ]


def _lines(component: Component) -> Iterator[str]:
    specs, places = options_of(component.cls), count(1)
    rest = next((spec for spec in specs if spec.rest), None)
    needed = [spec for spec in specs if spec.required]
    short = next((spec for spec in specs if spec.shorthand), None)
    if rest is not None:
        yield f"{component.name}: {_place(rest, places)}"
    elif short is not None and needed in ([short], []):
        yield f"{component.name}: {_place(short, places)}"
    elif needed:
        yield f"{component.name}:"
        for spec in needed:
            yield f"  {spec.name}: {_place(spec, places)}"
    else:
        yield f"{component.name}: {{}}"


def _place(spec: OptionSpec, places: count[int]) -> str:
    example = spec.example if isinstance(spec.example, str) else str(spec.example).lower()
    if spec.example is None:
        example = "[]" if kind_of(spec.annotation).schema().get("$ref") == "#/$defs/steps" else spec.name
    return f"${{{next(places)}:{_SPECIAL.sub(lambda found: chr(92) + found[0], example)}}}"


__all__ = ["component_snippets", "document_snippets"]
