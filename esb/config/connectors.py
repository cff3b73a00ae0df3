"""``connectors/<name>.yaml``: a named system, its transport settings and its operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from esb.config.aliases import SINKS, words_of
from esb.config.asking import check_questions
from esb.config.digest import canonical, digest, secrets_mark
from esb.config.model import Connector, ConnectorSettings
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources, check_beside
from esb.config.steps import Frame, places_of
from esb.registry import Component
from esb.secret import Secret
from esb.spec import MISSING, ListNode, MapNode, Node, ScalarNode, options_of, read_options, to_plain
from esb.spec.nodes import scalars

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_OPERATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COMMON = frozenset(spec.name for spec in options_of(ConnectorSettings))
_OWN = ("connector", "type", "operations", "params")
#: Beside the options of an operation: what is sent and what is answered, in any shape, for who reads the catalogue.
EXAMPLES = "examples"


def read_connector(node: MapNode, resources: Resources, reader: WorkspaceReader) -> Connector | None:
    """The connector, None after every problem in it was reported."""
    before = len(reader.problems)
    name = _name(node, reader)
    component = _type(node, resources, reader)
    if component is None:
        return None
    own = frozenset(spec.name for spec in options_of(component.cls))
    sink = resources.registry.get("sink", component.name)
    inside = (
        dict.fromkeys((*(spec.name for spec in options_of(sink.cls)), EXAMPLES), "operations: <name>") if sink else {}
    )
    label = Level("the connector", own | _COMMON | set(_OWN), node.position, "connector", inside)
    with resources.document() as scope, resources.levels.within(label):
        settings, connection = _options(node, component, own, resources, reader)
        operations = _operations(node, name or "", component.name, sink, resources, reader)
        for operation, made in (operations or {}).items() if connection is not MISSING else ():
            given = node.get("operations")
            assert isinstance(given, MapNode)
            check_beside(connection, made, given.get(operation) or given, reader)
        used = sorted(scope.used)
    errors = any(problem.severity == "error" for problem in reader.problems[before:])
    if errors or name is None or MISSING in (settings, connection) or operations is None:
        return None
    texts = [resources.assets.files.text(path) or "" for path in used]
    return Connector(
        name=name,
        type=component.name,
        position=_position(node),
        settings=settings,
        connection=connection,
        operations=operations,
        examples=_examples(node),
        digest=digest([canonical(node), *texts, secrets_mark(node)]),
    )


def _position(node: MapNode) -> Any:
    given = node.get("connector")
    return given.position if given is not None else node.position


def _name(node: MapNode, reader: WorkspaceReader) -> str | None:
    given = node.get("connector")
    if not isinstance(given, ScalarNode) or not isinstance(given.value, str):
        reader.problem("ESB103", "`connector` is a name", given or node, hint="write `connector: erp`")
        return None
    if not NAME.fullmatch(given.value):
        reader.problem(
            "ESB110",
            f"`{given.value}` is no name for a connector",
            given,
            hint=f"use small letters, digits and `-`: `{kebab(given.value)}`",
        )
        return None
    return given.value


def _type(node: MapNode, resources: Resources, reader: WorkspaceReader) -> Component | None:
    known = resources.registry.family("connection")
    given = node.get("type")
    if given is None:
        reader.problem(
            "ESB102",
            "a connector needs a `type`",
            node.key("connector") or node,
            hint="known: " + ", ".join(sorted(known)),
        )
        return None
    word = given.value if isinstance(given, ScalarNode) else None
    if not isinstance(word, str):
        reader.problem("ESB103", f"`type` is the name of a protocol, not {given.what}", given)
        return None
    component = known.get(word)
    if component is None:
        words = words_of(SINKS, word)
        hint = reader.nearest(word, known) or (words[1] if words else "")
        reader.problem("ESB204", f"unknown type of connector `{word}`", given, label="not known here", hint=hint)
    return component


def _options(
    node: MapNode, component: Component, own: frozenset[str], resources: Resources, reader: WorkspaceReader
) -> tuple[Any, Any]:
    """The common settings, and the connection's own options (every key that is not common)."""
    common = MapNode(node.position, tuple(e for e in node.entries if e[0].text in _COMMON))
    rest = MapNode(node.position, tuple(e for e in node.entries if e[0].text not in _COMMON and e[0].text not in _OWN))
    with reader.inside("connector"):
        settings = read_options(ConnectorSettings, common, reader)
    known = [entry for entry in rest.entries if entry[0].text in own]
    strangers = [entry for entry in rest.entries if entry[0].text not in own]
    every = (*options_of(component.cls), *options_of(ConnectorSettings))
    for key, _ in strangers:
        with reader.inside("connector"):
            reader.unknown_key(key, every)
    at = MapNode(_position(node), tuple(known))
    with reader.inside(f"connector of type {component.name}"):
        connection = read_options(component.cls, at, reader) if not strangers else MISSING
    return settings, connection


def _operations(
    node: MapNode, name: str, kind: str, sink: Component | None, resources: Resources, reader: WorkspaceReader
) -> dict[str, Any] | None:
    given = node.get("operations")
    if given is None:
        return {}
    if sink is None:
        reader.problem("ESB101", f"a connector of type `{kind}` has no operations", given)
        return None
    if not isinstance(given, MapNode):
        reader.problem("ESB103", f"`operations` is a mapping of names to options, not {given.what}", given)
        return None
    found: dict[str, Any] = {}
    with resources.inside(Frame("operations", places_of(given))):
        for key, value in given.entries:
            before = len(resources.scope.readings)
            found[key.text] = _operation(key, value, sink, reader)
            read = [reading.names for reading in resources.scope.readings[before:]]
            resources.operation_names[f"{name}.{key.text}"] = frozenset[str]().union(*read)
    check_questions(name, found, reader)
    return None if any(value is MISSING for value in found.values()) else found


def _operation(key: ScalarNode, value: Node, sink: Component, reader: WorkspaceReader) -> Any:
    if not _OPERATION.fullmatch(key.text):
        return reader.problem(
            "ESB110", f"`{key.text}` is no name for an operation", key, hint=f"write it like `{kebab(key.text)}`"
        )
    with reader.inside(key.text):
        if isinstance(value, MapNode) and (given := value.get(EXAMPLES)) is not None:
            _check_examples(given, reader)
            value = MapNode(value.position, tuple(entry for entry in value.entries if entry[0].text != EXAMPLES))
        if isinstance(value, MapNode) and (wrapped := value.key(sink.name)) is not None and len(value.entries) == 1:
            hint = f"leave `{sink.name}:` out: the connector says so for all of its operations"
            return reader.problem(
                "ESB101", f"`{sink.name}` stands around the options of `{key.text}`", wrapped, hint=hint
            )
        return read_options(sink.cls, value, reader)


def _check_examples(given: Node, reader: WorkspaceReader) -> None:
    if not isinstance(given, (ListNode, MapNode)):
        hint = "write `examples: [ { body: { lot: L1 }, answer: { booked: true } } ]`"
        reader.problem(
            "ESB103", f"`examples` is a list, or a mapping of names to them, not {given.what}", given, hint=hint
        )
    for scalar in scalars(given):
        if isinstance(scalar.value, Secret):
            hint = "write a word such as `KEY` for it: people read examples"
            reader.problem("ESB502", "a secret may not stand in an example", scalar, hint=hint)


def _examples(node: MapNode) -> dict[str, Mapping[str, Any]]:
    """By operation, where it has some, and by name; those of a list have none."""
    found: dict[str, Mapping[str, Any]] = {}
    operations = node.get("operations")
    for key, value in operations.entries if isinstance(operations, MapNode) else ():
        if isinstance(value, MapNode) and (given := value.get(EXAMPLES)) is not None:
            found[key.text] = _named(to_plain(given))
    return found


def _named(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {str(number): one for number, one in enumerate(given, 1)}


def operation_places(node: MapNode) -> dict[str, Any]:
    """Where a connector and its operations are declared, by the names that routes use."""
    given = node.get("connector")
    name = given.value if isinstance(given, ScalarNode) else None
    if not isinstance(name, str):
        return {}
    operations = node.get("operations")
    found = {name: _position(node)}
    if isinstance(operations, MapNode):
        found.update({f"{name}.{key.text}": key.position for key, _ in operations.entries})
    return found


def kebab(text: str) -> str:
    """A name as we write names: ``HoldToERP`` becomes ``hold-to-erp``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", text)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-") or "name"
