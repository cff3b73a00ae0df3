"""Headers that a step writes by templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from esb.errors import InternalFault
from esb.language import TextTemplate
from esb.spec import MapNode, Node, Reader

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def check_names(headers: Iterable[str], node: Node, reader: Reader) -> None:
    """Report names that no header may have, at the place where they stand under ``headers``."""
    written = node.get("headers") if isinstance(node, MapNode) else None
    for name in headers:
        if not _TOKEN.fullmatch(name):
            at = (written.key(name) if isinstance(written, MapNode) else None) or node
            reader.problem("ESB110", f"`{name}` is no name for a header", at, hint="use letters, digits and `-`")


def render_headers(headers: Mapping[str, TextTemplate], scope: Mapping[str, Any]) -> dict[str, str]:
    """The headers as text. Raises InternalFault for one that would hold a line break or another control character."""
    rendered = {}
    for name, template in headers.items():
        text = template.render(scope).strip()
        if _CONTROL.search(text):
            raise InternalFault(
                f"header `{name}` would hold a line break or another control character",
                hint="take it out of the value with `replace`",
            )
        rendered[name] = text
    return rendered
