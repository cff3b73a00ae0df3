"""What hangs on a thing of the workspace: who reads a field and who writes it, which routes use a contract, a table, a system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esb.config.flow import touched_by
from esb.config.loader import Loaded
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, fixed_text, steps_of, targets_of, topics_of
from esb.contracts import JsonContract
from esb.errors import Position
from esb.language.shapes import paths_of

KINDS = ("field", "contract", "connector", "operation", "table", "transform", "topic", "route")


@dataclass(frozen=True, slots=True)
class Touch:
    """One place: what of (a route, a contract), how (``reads``, ``writes``, ``declares``, ``sends``, …), and where."""

    what: str
    how: str
    detail: str
    at: Position


def impact(loaded: Loaded, kind: str, name: str) -> list[Touch]:
    """Every place in the workspace that has to do with a thing, by file and line."""
    resources = loaded.resources
    if resources is None:
        return []
    docs = [doc for doc in loaded.docs if doc.spec is not None]
    match kind:
        case "field":
            found = [*_declared(resources, name), *_fields(docs, resources, name)]
        case "contract" | "table" | "transform":
            found = list(_files(docs, resources, kind, name))
        case "connector" | "operation":
            found = list(_systems(docs, name))
        case "topic":
            found = list(_topics(docs, name))
        case _:
            found = list(_handed(docs, name))
    return sorted(dict.fromkeys(found), key=lambda one: (one.at.path, one.at.line, one.at.column, one.how))


# -- fields -----------------------------------------------------------------------------------------------------------------


def is_field(wanted: str, path: str, entity: str = "") -> bool:
    """Whether ``lot.status`` is meant by a path (``body.lot.status``), or by a field of an entity (``body.status`` of a lot)."""
    plain = path.replace("[]", "").removeprefix("body.")
    candidates = [plain, f"{entity}.{plain.rpartition('.')[2]}"] if entity else [plain]
    return any(one == wanted or one.endswith(f".{wanted}") for one in candidates)


def _fields(docs: Sequence[RouteDoc], resources: Resources, wanted: str) -> Iterator[Touch]:
    for one in touched_by(docs, resources):
        if one.path.startswith("body.") and is_field(wanted, one.path, one.entity):
            yield Touch(f"route {one.route}", one.how, one.path, one.at)
    for doc in docs:
        for step in steps_of(doc.spec.blocks if doc.spec is not None else {}):
            for target in targets_of(step):
                connector = resources.connectors.get(target.connector)
                operation = target.name.partition(".")[2]
                fields = connector.settings.writes.get(operation, ()) if connector is not None else ()
                for field in fields:
                    if is_field(wanted, field):
                        yield Touch(f"route {doc.name}", "writes", f"{field} in {target.connector}", target.position)


def _declared(resources: Resources, wanted: str) -> Iterator[Touch]:
    for name, path in resources.assets.names("contract").items():
        contract = resources.assets.load("contract", path)
        if not isinstance(contract, JsonContract):
            continue
        shape, entity = contract.shape(resources.assets.place_in), name.rpartition(".v")[0]
        for parts in paths_of(shape):
            plain = ".".join(part for part in parts if part != "[]")
            if plain == wanted or plain.endswith(f".{wanted}") or f"{entity}.{plain}" == wanted:
                inner = shape
                for part in parts:
                    inner = inner.items() if part == "[]" else inner.look(part).shape
                place = inner.origin.place() if inner.origin is not None else None
                yield Touch(f"contract {name}", "declares", plain, place or Position(path))


# -- other things -----------------------------------------------------------------------------------------------------------


def _files(docs: Sequence[RouteDoc], resources: Resources, kind: str, name: str) -> Iterator[Touch]:
    found = resources.assets.find(kind, name)
    if found is None:
        return
    path = found.paths[0]
    for doc in docs:
        assert doc.spec is not None
        if path not in doc.spec.files:
            continue
        uses = [step for step in steps_of(doc.spec.blocks) if _names(step.step, found.value)]
        for step in uses:
            yield Touch(f"route {doc.name}", "uses", step.kind, step.position)
        if getattr(doc.spec.source.options, "contract", None) is found.value:
            yield Touch(f"route {doc.name}", "takes", doc.spec.source.protocol, doc.spec.source.position)
        elif not uses:
            yield Touch(f"route {doc.name}", "needs", path, doc.spec.position)


def _names(step: object, value: object) -> bool:
    return any(getattr(step, name, None) is value for name in ("contract", "table", "file"))


def _systems(docs: Sequence[RouteDoc], name: str) -> Iterator[Touch]:
    for doc in docs:
        assert doc.spec is not None
        source = doc.spec.source
        if source.connector == name:
            yield Touch(f"route {doc.name}", "takes", source.protocol, source.position)
        elif name in doc.scope.connectors and doc.spec.system == name:
            yield Touch(f"route {doc.name}", "takes", f"{source.protocol}, by its login", source.position)
        for step in steps_of(doc.spec.blocks):
            for target in targets_of(step):
                if name in (target.connector, target.name):
                    how = "asks" if step.kind == "enrich" else "sends"
                    yield Touch(f"route {doc.name}", how, target.name, target.position)


def _topics(docs: Sequence[RouteDoc], name: str) -> Iterator[Touch]:
    for doc in docs:
        assert doc.spec is not None
        source = doc.spec.source
        if source.protocol == "topic" and fixed_text(getattr(source.options, "topic", None)) == name:
            yield Touch(f"route {doc.name}", "takes", name, source.position)
        for step in steps_of(doc.spec.blocks):
            if name in topics_of(step):
                yield Touch(f"route {doc.name}", "publishes", name, step.position)


def _handed(docs: Sequence[RouteDoc], name: str) -> Iterator[Touch]:
    for doc in docs:
        assert doc.spec is not None
        for step in steps_of(doc.spec.blocks):
            for target in targets_of(step):
                if target.protocol == "route" and fixed_text(getattr(target.sink, "route", None)) == name:
                    yield Touch(f"route {doc.name}", "hands over", name, target.position)
