"""The editor schema of routes, templates, sites, connectors and ``esb.yaml``, made from the same declarations that the reader uses.

A step is an object with exactly its known keys, never ``oneOf`` over all steps: an editor then says "unknown key" at the
key, and completes names.
"""

from __future__ import annotations

from typing import Any

from esb.config.catalogue import catalog, documents, reference_markdown
from esb.config.connectors import EXAMPLES
from esb.config.kpis import KpiDocument
from esb.config.model import ConnectorSettings, Settings
from esb.config.routes import RouteOptions
from esb.config.sites import SiteOptions, TemplateOptions
from esb.config.snippets import component_snippets, document_snippets
from esb.config.steps import Modifiers
from esb.registry import Family, Registry
from esb.spec import options_of
from esb.spec.schema import option_schema, options_schema

_DRAFT = "http://json-schema.org/draft-07/schema#"


def editor_schema(registry: Registry) -> dict[str, Any]:
    """One JSON Schema (2020-12 keywords that draft-07 has, too) for every document of a workspace."""
    schema = _schema(registry)
    schema["$defs"].update(_in_templates(schema["$defs"]))
    return schema


def _schema(registry: Registry) -> dict[str, Any]:
    return {
        "$schema": _DRAFT,
        "title": "esb workspace",
        "description": "A route, a template, a site, a connector, or the settings of the bus (esb.yaml).",
        "type": "object",
        "defaultSnippets": document_snippets(),
        "allOf": [
            _when("route", "#/$defs/route", unless=("cases", "template")),
            _when("template", "#/$defs/template", unless=("use",)),
            _when("site", "#/$defs/site", unless=("bus",)),
            _when("connector", "#/$defs/connector"),
            _when("bus", "#/$defs/settings"),
            _when("kpi", "#/$defs/kpi"),
        ],
        "anyOf": [{"required": [kind]} for kind in ("route", "template", "site", "connector", "bus", "kpi")],
        "$defs": {
            "route": _described(options_schema(RouteOptions), "A route."),
            "connector": _connector(registry),
            "template": _template(),
            "site": _described(_object(options_schema(SiteOptions)), "A plant, and all that is different there."),
            "kpi": _described(options_schema(KpiDocument), "An indicator over messages."),
            "settings": _described(_object(options_schema(Settings)), "Settings of the bus."),
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "description": "Steps, in order."},
            "step": _step(registry),
            "source": _one_of_names(registry, "source", "Where messages come from: exactly one."),
            "sink": _one_of_names(registry, "sink", "Where messages go to: exactly one."),
            "format": _format(registry),
            "mapping": {
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/mapped"},
                "description": "Target field: expression.",
            },
            "mapped": {
                "anyOf": [
                    {"type": "string"},
                    {"$ref": "#/$defs/mapping"},
                    {"type": "array", "items": {"$ref": "#/$defs/mapped"}},
                ]
            },
        },
    }


def _template() -> dict[str, Any]:
    """A template: its own words, and those of its one route where they stand beside them."""
    own = _object(options_schema(TemplateOptions))
    single = options_schema(RouteOptions)["properties"]
    own["properties"]["routes"]["items"] = {"$ref": "#/$defs/template.route"}
    beside = {name: _loose(schema) for name, schema in single.items()}
    return _described({**own, "properties": {**beside, **own["properties"]}}, "Routes that several plants share.")


def _in_templates(defs: dict[str, Any]) -> dict[str, Any]:
    """The definitions once more, with a parameter allowed wherever one value stands."""
    names = ("route", "steps", "step", "source", "sink", "format", "mapping", "mapped")
    return {f"template.{name}": _loose(defs[name]) for name in names}


_FILLED_IN = {"type": "string", "pattern": r"\{\{.*params"}


def _loose(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_loose(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {**schema, "$ref": schema["$ref"].replace("#/$defs/", "#/$defs/template.")}
    if schema.get("type") in ("integer", "number", "boolean") or {"enum", "const", "pattern"} & schema.keys():
        words = {word: schema[word] for word in ("description", "examples") if word in schema}
        return {**words, "anyOf": [schema, _FILLED_IN]}
    plain = ("description", "examples", "required", "default", "defaultSnippets")
    return {word: value if word in plain else _loose_part(word, value) for word, value in schema.items()}


def _loose_part(word: str, value: Any) -> Any:
    return {name: _loose(part) for name, part in value.items()} if word == "properties" else _loose(value)


def _when(key: str, ref: str, *, unless: tuple[str, ...] = ()) -> dict[str, Any]:
    condition: dict[str, Any] = {"required": [key]}
    if unless:
        condition["not"] = {"anyOf": [{"required": [word]} for word in unless]}
    return {"if": condition, "then": {"$ref": ref}}


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"description": text, **schema}


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """The object form of options that may be left out altogether."""
    return next((part for part in schema.get("anyOf", ()) if part.get("type") == "object"), schema)


def _step(registry: Registry) -> dict[str, Any]:
    names = registry.family("step")
    properties: dict[str, Any] = {}
    for name in sorted(names):
        component = names[name]
        properties[name] = _described(options_schema(component.cls), component.summary)
    for spec in options_of(Modifiers):
        properties[spec.name] = option_schema(spec)
    return {
        "type": "object",
        "description": "One step: exactly one of the step names, and what goes beside it.",
        "defaultSnippets": component_snippets(registry, "step"),
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
    }


def _with_connector(registry: Registry, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Endpoints of a protocol with connections may share a connector's."""
    if registry.get("connection", name) is None:
        return schema
    shared = {"type": "string", "description": "The connector whose connection is shared."}
    if "properties" in schema:
        return {**schema, "properties": {"connector": shared, **schema["properties"]}}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_connector(registry, name, part) for part in schema["anyOf"]]}
    return schema


def _one_of_names(registry: Registry, family: Family, text: str) -> dict[str, Any]:
    names = registry.family(family)
    return {
        "type": "object",
        "description": text,
        "defaultSnippets": component_snippets(registry, family),
        "properties": {
            name: _described(
                _with_connector(registry, getattr(component.cls, "connects", name), options_schema(component.cls)),
                component.summary,
            )
            for name, component in sorted(names.items())
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _format(registry: Registry) -> dict[str, Any]:
    names = registry.family("format")
    by_options = {name: _described(options_schema(names[name].cls), names[name].summary) for name in sorted(names)}
    return {
        "description": "A format, by name or with its options.",
        "anyOf": [
            {"enum": sorted(names)},
            {
                "type": "object",
                "properties": by_options,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    }


def _connector(registry: Registry) -> dict[str, Any]:
    """A connector: the common settings, and by its type the options of the connection and of its operations."""
    connections = registry.family("connection")
    common = {
        "connector": {"type": "string", "description": "Name of the connector: small letters, digits and `-`."},
        "params": {"type": "object", "description": "What a site must fill in: a JSON Schema by parameter."},
        "type": {"enum": sorted(connections), "description": "Its protocol."},
        **{spec.name: option_schema(spec) for spec in options_of(ConnectorSettings)},
    }
    own: dict[str, Any] = {}
    choices = []
    for name in sorted(connections):
        schema = _object(options_schema(connections[name].cls))
        options = {key: value for key, value in schema.get("properties", {}).items() if key not in common}
        sink = registry.get("sink", name)
        operation = _operation(sink.cls) if sink else {}
        operations = {
            "type": "object",
            "description": "Operations by name; routes send to `connector.operation`.",
            "additionalProperties": operation,
        }
        then: dict[str, Any] = {"properties": {**options, "operations": operations}}
        required = [key for key in schema.get("required", ()) if key not in common]
        if required:
            then["required"] = required
        choices.append({"if": {"properties": {"type": {"const": name}}}, "then": then})
        own.update({key: {} for key in options})
    return {
        "type": "object",
        "description": "A named system.",
        "properties": {**common, **own, "operations": {"type": "object"}},
        "required": ["connector", "type"],
        "additionalProperties": False,
        "allOf": choices,
    }


def _operation(sink: type) -> dict[str, Any]:
    schema = options_schema(sink)
    said = "What is sent and what is answered, in any shape: the catalogue of the bus shows it."
    _object(schema)["properties"][EXAMPLES] = {"type": ["array", "object"], "description": said}
    return schema


__all__ = ["catalog", "documents", "editor_schema", "reference_markdown"]
