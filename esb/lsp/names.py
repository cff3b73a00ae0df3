"""What the values of a workspace may name: operations, contracts, tables, files, presets; and where each is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esb.config.loader import Loaded
from esb.config.routes import fixed_text
from esb.errors import Position

#: which family of names a value is of, by its key
_FAMILIES: Mapping[str, str] = {
    "to": "operation", "enrich": "operation", "tap": "operation", "target": "operation", "verify": "operation",
    "contract": "contract", "validate": "contract", "table": "table", "transform": "transform", "file": "transform",
    "criticality": "criticality", "alert": "alert", "auth": "connector", "connector": "connector", "topic": "topic",
    "publish": "topic", "route": "route", "template": "template", "use": "template",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Name:
    """Something that can be named: what it is in a line, and where it is declared."""

    text: str
    what: str
    at: Position | None = None


def family_of(key: str) -> str:
    """The family of names that the values of a key are of, empty for none."""
    return _FAMILIES.get(key, "")


def names_of(family: str, loaded: Loaded) -> Iterator[Name]:
    """Every name of a family."""
    resources, settings = loaded.resources, loaded.settings
    if resources is None:
        return
    match family:
        case "operation":
            for name, connector in resources.connectors.items():
                for operation in connector.operations:
                    text = f"{name}.{operation}"
                    yield Name(text, f"operation of `{name}` ({connector.type})", resources.places.get(text))
            for text, at in resources.places.items():
                if text.partition(".")[0] in resources.unfilled and "." in text:
                    yield Name(text, "operation of a connector that each site fills in", at)
        case "connector":
            for name, connector in resources.connectors.items():
                yield Name(name, f"connector of type `{connector.type}`", connector.position)
        case "contract" | "table" | "transform":
            for name, path in resources.assets.names(family).items():
                yield Name(name, f"{family} {path}", Position(path))
        case "criticality":
            yield from (Name(name, "criticality of esb.yaml") for name in (settings.criticality if settings else ()))
        case "alert":
            yield from (Name(name, "alert of esb.yaml") for name in (settings.alerts if settings else ()))
        case "template":
            known = loaded.workspace.templates if loaded.workspace is not None else {}
            yield from (Name(name, "template", template.position) for name, template in known.items())
        case "route":
            yield from (Name(doc.name, "route", doc.spec.position if doc.spec else None) for doc in loaded.docs)
        case "topic":
            yield from _topics(loaded)


def _topics(loaded: Loaded) -> Iterator[Name]:
    for doc in loaded.docs:
        if doc.spec is not None:
            yield from (
                Name(topic, f"topic, published by `{doc.name}`", doc.spec.position) for topic in doc.spec.topics
            )
            if doc.spec.source.protocol == "topic":
                topic = fixed_text(getattr(doc.spec.source.options, "topic", None))
                yield Name(topic, f"topic, read by `{doc.name}`", doc.spec.position)


def declared(family: str, text: str, loaded: Loaded) -> Name | None:
    """What a name stands for; None where it stands for nothing that is known."""
    plain = text.removeprefix("./").removeprefix("transforms/").removeprefix("schemas/").removesuffix(".json")
    return next((name for name in names_of(family, loaded) if name.text in (text, plain)), None)
