"""The HTTP ingress of a workspace as OpenAPI 3.1: paths, who may call, what is taken, what is answered.

It is written from the compiled routes, so that it says what the bus does. No secret is in it, and no value of a credential.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from esb import __version__
from esb.config.model import RouteSpec, Workspace
from esb.config.routes import steps_of
from esb.endpoints.http import HttpSource
from esb.endpoints.http_auth import BasicClient, BearerClient, HmacClient, KeyClient
from esb.endpoints.ingress import PathPattern
from esb.message import short_version
from esb.outline.schemas import Schemas

VERSION = "3.1.0"
#: What a source without a fixed format takes.
_TAKEN = ("application/json", "application/xml", "text/csv", "text/plain")
_TEXT = {"type": "string"}
_RECEIPT = {
    "type": "object",
    "required": ["message_id", "correlation_id", "state"],
    "properties": {
        "message_id": {"type": "string", "format": "uuid"},
        "correlation_id": _TEXT,
        "state": {"enum": ["queued", "known", "duplicate", "dead", "done"]},
        "duplicate_of": {"type": "string", "format": "uuid", "description": "The first message with this dedupe key."},
    },
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs."},
        "detail": {"type": "string", "description": "For people."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": _TEXT, "detail": _TEXT},
                "required": ["pointer", "detail"],
            },
        },
        "message_id": {"type": "string", "format": "uuid"},
    },
}
_PROBLEMS: Mapping[str, str] = {
    "400": "The body cannot be read.",
    "401": "No credentials, or wrong ones.",
    "409": "The Idempotency-Key was used before with other content.",
    "413": "The body is too large.",
    "415": "The content type is not taken.",
    "422": "The body breaks the contract; every violation is listed, up to 50. Nothing was stored.",
    "429": "Too many requests of this client, or too many wrong credentials.",
    "503": "The bus takes no more now.",
}
_RETRY_LATER = ("429", "503")
_HEADERS = (
    ("Idempotency-Key", "The same key again gives the first answer, and stores nothing."),
    ("X-Correlation-ID", "Taken over by every message that comes of this one."),
    ("traceparent", "W3C trace context, passed on to targets."),
)


def openapi(workspace: Workspace, url: str) -> dict[str, Any]:
    """The document for the enabled routes with an ``http`` source. ``url`` is where the ingress listens."""
    schemas = Schemas(workspace)
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[tuple[str, ...], str] = {}
    schemes: dict[str, Any] = {}
    specs = [spec for spec in workspace.routes.values() if spec.enabled and isinstance(spec.source.options, HttpSource)]
    for spec in specs:
        source = spec.source.options
        pattern = PathPattern.parse(source.path)
        path = shapes.setdefault(pattern.shape, source.path)
        paths.setdefault(path, {})[source.method.lower()] = _operation(spec, PathPattern.parse(path), schemas, schemes)
    components: dict[str, Any] = {
        "schemas": {"Receipt": _RECEIPT, "Problem": _PROBLEM, **schemas.components},
        "responses": {f"Problem{status}": _problem(status) for status in _PROBLEMS},
        "parameters": {
            name: {"name": name, "in": "header", "required": False, "description": doc, "schema": _TEXT}
            for name, doc in _HEADERS
        },
    }
    if schemes:
        components["securitySchemes"] = schemes
    return {
        "openapi": VERSION,
        "info": {
            "title": workspace.settings.bus,
            "version": version_of(specs),
            "description": f"What the routes of {workspace.settings.bus} take over HTTP. Written by esb {__version__} from the routes that are live.",
        },
        "servers": [{"url": url}],
        "paths": dict(sorted(paths.items())),
        "components": components,
    }


def version_of(specs: Iterable[RouteSpec]) -> str:
    """Changes where one of the routes does."""
    from esb.config.digest import digest  # noqa: PLC0415 - only here

    return short_version(digest(f"{spec.name} {''.join(spec.files.values())}" for spec in specs))


def _operation(spec: RouteSpec, pattern: PathPattern, schemas: Schemas, schemes: dict[str, Any]) -> dict[str, Any]:
    source: HttpSource = spec.source.options
    found: dict[str, Any] = {
        "operationId": spec.name,
        "summary": spec.description or spec.name,
        "tags": [spec.owner or "routes"],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in pattern.names.values()),
            *({"$ref": f"#/components/parameters/{name}"} for name, _ in _HEADERS),
        ],
        "responses": _responses(spec, source),
        "x-esb-route": spec.name,
        "x-esb-version": short_version(spec.digest),
    }
    if spec.criticality:
        found["x-esb-criticality"] = spec.criticality
    if source.method != "GET":
        found["requestBody"] = {"required": True, "content": _content(source, schemas)}
    if source.auth is not None:
        found["security"] = [{name: []} for name in _secure(source.auth.clients, schemes)]
    return found


def _content(source: HttpSource, schemas: Schemas) -> dict[str, Any]:
    fixed = getattr(source.format, "content_type", None)
    types = [str(fixed).partition(";")[0].strip()] if fixed else list(_TAKEN)
    schema = schemas.refer(source.contract)
    return {kind: {"schema": schema} if schema and (fixed or "json" in kind) else {} for kind in types}


def _responses(spec: RouteSpec, source: HttpSource) -> dict[str, Any]:
    receipt = {"application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}}
    found: dict[str, Any] = {}
    if source.reply == "accepted":
        found["202"] = {"description": "Stored, with an fsync; it is delivered from here on.", "content": receipt}
    elif source.reply == "none":
        found["204"] = {"description": "Stored, with an fsync."}
    else:
        statuses = {
            str(status)
            for step in steps_of(spec.blocks)
            if step.kind == "respond" and isinstance(status := getattr(step.step, "status", None), int)
        }
        for status in sorted(statuses | {"200"}):
            found[status] = {
                "description": "The message is done: what the route answers.",
                "content": {"application/json": {}},
            }
        if statuses:
            found["410"] = {"description": "A repeat whose answer was too large to be kept.", **_problem_content()}
        found["502"] = {"description": "A target could not be reached, or refused.", **_problem_content()}
        found["504"] = {"description": "Stored, and still being worked on.", **_problem_content()}
    left_out = {"401"} if source.auth is None else set()
    for status in _PROBLEMS:
        if status not in left_out and status not in found:
            found[status] = {"$ref": f"#/components/responses/Problem{status}"}
    return found


def _problem(status: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": _PROBLEMS[status], **_problem_content()}
    if status in _RETRY_LATER:
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


def _problem_content() -> dict[str, Any]:
    return {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _secure(clients: Iterable[Any], schemes: dict[str, Any]) -> list[str]:
    """The names of the schemes of these clients; how a client shows itself, never what."""
    names = []
    for client in clients:
        match client:
            case KeyClient():
                name, scheme = (
                    f"api-key-{client.header.lower()}",
                    {"type": "apiKey", "in": "header", "name": client.header},
                )
            case BasicClient():
                name, scheme = "basic", {"type": "http", "scheme": "basic"}
            case BearerClient():
                name, scheme = "bearer", {"type": "http", "scheme": "bearer"}
            case HmacClient():
                words = f"HMAC-{client.algorithm.upper()} of the body with a shared secret, in hexadecimal"
                if client.timestamp_header:
                    words = f"{words}; `<{client.timestamp_header}>.<body>` is signed"
                name = f"hmac-{client.header.lower()}"
                scheme = {"type": "apiKey", "in": "header", "name": client.header, "description": words}
            case _:
                continue
        schemes[name] = scheme
        names.append(name)
    return list(dict.fromkeys(names))
