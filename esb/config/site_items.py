"""Sites as plain data: what command line and API show of them. A secret shows as ``***``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from esb.config.model import RouteSpec, Workspace
from esb.config.sites import SiteSpec
from esb.secret import Secret


def site_items(workspace: Workspace) -> list[dict[str, Any]]:
    """Every site of a workspace, with its routes and what these are made of."""
    return [site_item(site, workspace) for site in workspace.sites.values()]


def site_item(site: SiteSpec, workspace: Workspace) -> dict[str, Any]:
    options = site.options
    return {
        "site": site.name,
        "description": options.description,
        "enabled": options.enabled,
        "timezone": site.timezone,
        "locale": site.locale,
        "values": shown(site.values),
        "templates": [{"template": use.template, "params": shown(use.params)} for use in options.use],
        "connectors": dict(site.connectors),
        "tables": dict(options.tables),
        "file": site.position.path,
        "routes": [_route(workspace.routes[name]) for name in site.routes],
    }


def _route(spec: RouteSpec) -> dict[str, Any]:
    place = spec.place
    assert place is not None
    overrides = [
        {"field": one.field, "template": shown(one.template), "site": shown(one.site), "at": str(one.position)}
        for one in place.overrides
    ]
    return {
        "route": spec.name,
        "template": place.template,
        "template_route": place.route,
        "digest": spec.digest,
        "overrides": overrides,
        "files": {path: fingerprint(text) for path, text in spec.files.items()},
    }


def fingerprint(text: str) -> str:
    """What tells two texts of a file apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def shown(value: Any) -> Any:
    """A value of a workspace as plain data without secrets."""
    match value:
        case Secret():
            return "***"
        case Mapping():
            return {str(key): shown(inner) for key, inner in value.items()}
        case list() | tuple():
            return [shown(inner) for inner in value]
        case None | bool() | int() | str() | Decimal():
            return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: shown(getattr(value, field.name)) for field in fields(value)}
    return str(value)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value below a mapping, by its dotted path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}".lstrip("."))
    else:
        yield path, value


def differences(first: SiteSpec, second: SiteSpec) -> list[dict[str, Any]]:
    """What is different between two sites, each with both values; None where one has none."""
    left, right = (dict(flat(_told(site))) for site in (first, second))
    names = dict.fromkeys((*left, *right))
    return [
        {"what": name, "first": left.get(name), "second": right.get(name)}
        for name in names
        if left.get(name) != right.get(name)
    ]


def _told(site: SiteSpec) -> dict[str, Any]:
    options = site.options
    fixed = {"id": site.name, "plant": site.name, "timezone": site.timezone, "locale": site.locale}
    own = {name: value for name, value in site.values.items() if fixed.get(name) != value}
    params: dict[str, Any] = {}
    for use in options.use:
        name = use.template
        while name in params:  # used more than once: by its place
            name += "+"
        params[name] = {"used": True, **shown(use.params)}
    return {
        "description": options.description,
        "enabled": options.enabled,
        "timezone": site.timezone,
        "locale": site.locale,
        "values": shown(own),
        "templates": params,
        "connectors": shown(options.connectors),
        "tables": dict(options.tables),
        "policies": shown(options.policies),
        "overrides": shown(options.overrides),
    }
