"""The catalogue of a workspace as static pages: routes in plain words, systems, contracts, OpenAPI and AsyncAPI.

The pages call nobody: they can be put on any file server, or opened from a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from esb.config.drafts import write_whole
from esb.config.model import RouteSpec, Workspace
from esb.errors import Invalid
from esb.formats.json import Json
from esb.message import short_version
from esb.outline import graph
from esb.outline.asyncapi import asyncapi
from esb.outline.openapi import openapi, version_of
from esb.outline.schemas import name_of
from esb.outline.words import about, explain, worst_cases


def site(workspace: Workspace, url: str) -> dict[str, str]:
    """Path to text of every file of the catalogue. ``url`` is where the ingress listens."""
    templates = Environment(loader=PackageLoader("esb.outline"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    specs = list(workspace.routes.values())
    frame = {"bus": workspace.settings.bus, "version": version_of(specs)}
    source, _, _ = templates.loader.get_source(templates, "catalogue.css") if templates.loader else ("", None, None)
    files = {
        "catalogue.css": source,
        "openapi.json": written(openapi(workspace, url)),
        "asyncapi.json": written(asyncapi(workspace)),
        "index.html": templates.get_template("index.html").render(
            frame,
            title="Catalogue",
            up="",
            routes=[_route(spec) for spec in specs],
            picture=Markup(graph.svg(graph.edges_of(workspace), to="#")),  # noqa: S704 - drawn and escaped there
            connectors=[_connector(one) for one in workspace.connectors.values()],
            contracts=_contracts(workspace),
        ),
    }
    for spec in specs:
        files[f"routes/{spec.name}.html"] = templates.get_template("route.html").render(
            frame,
            title=spec.name,
            up="../",
            digest=short_version(spec.digest),
            own_version=spec.version,
            words="\n".join(explain(workspace, spec)[1:]).strip(),
            cases=[
                {**one.as_item(), "waits": about(one.waits), "whole": about(one.whole)}
                for one in worst_cases(workspace, spec)
            ],
            files=[(path, text) for path, text in spec.files.items() if text],
        )
    files |= {path: text for path, text in workspace.texts.items() if path.startswith("schemas/")}
    return files


def build(workspace: Workspace, url: str, out: Path) -> list[str]:
    """Write the catalogue below ``out``; gives the paths. Raises OSError."""
    files = site(workspace, url)
    for path, text in files.items():
        place = out / path
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, text)
    return sorted(files)


def written(document: Any) -> str:
    """A document as JSON for people and programs; decimals keep their digits."""
    return msgspec.json.format(Json().encode(document), indent=2).decode() + "\n"


def _route(spec: RouteSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "enabled": spec.enabled,
        "source": " ".join(filter(None, [spec.source.protocol, spec.source.connector])),
        "to": [*spec.targets, *(f"topic {topic}" for topic in spec.topics)],
        "owner": spec.owner,
        "criticality": spec.criticality,
    }


def _connector(one: Any) -> dict[str, Any]:
    """What may be told of a system: no address, no credentials."""
    return {
        "name": one.name,
        "type": one.type,
        "description": one.settings.description,
        "operations": sorted(one.operations),
        "examples": [
            (operation, name, written(example).strip())
            for operation, found in sorted(one.examples.items())
            for name, example in found.items()
        ],
    }


def _contracts(workspace: Workspace) -> list[dict[str, Any]]:
    found = []
    for path, text in sorted(workspace.texts.items()):
        if not path.startswith("schemas/"):
            continue
        try:
            schema = Json().decode(text.encode())
        except Invalid:
            continue
        title = schema.get("title", "") if isinstance(schema, dict) else ""
        users = [spec.name for spec in workspace.routes.values() if path in spec.files]
        found.append({"name": name_of(path), "file": path.removeprefix("schemas/"), "title": title, "routes": users})
    return found
