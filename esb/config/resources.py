"""What the kinds of options refer to: the workspace under construction, as ``Reader.resources`` offers it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from esb.config.aliases import SINKS, SOURCES, Word, words_of
from esb.config.asking import with_question
from esb.config.assets import BROKEN, Assets
from esb.config.functions import Functions
from esb.config.model import Connector, SourceSpec
from esb.config.reader import Levels, WorkspaceReader
from esb.config.scope import Reading, RecordingLanguage, Scope, Unfilled
from esb.config.steps import Frame, StepsReader, Weave
from esb.errors import Position
from esb.language import Language
from esb.message import EMPTY
from esb.registry import Component, Family, Registry
from esb.spec import MISSING, MapNode, Node, Reader, ScalarNode, read_options
from esb.spec.kinds import DurationKind
from esb.spec.options import options_of
from esb.steps.base import RetryPolicy, Target, WhenDown

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


class Resources:
    """Finds connectors, contracts, tables, transforms and components by name, and says what is wrong where it cannot."""

    def __init__(self, registry: Registry, language: Language, assets: Assets) -> None:
        self.registry = registry
        self.scope = Scope()
        self.plain_language = language
        self.language = RecordingLanguage(language, lambda names: self.scope.readings.append(Reading(names)))
        self.assets = assets
        self.levels = Levels()
        self.connectors: dict[str, Connector] = {}
        #: connectors that exist but have faults: a reference to them is no second fault
        self.broken: set[str] = set()
        #: where each operation and connector is declared
        self.places: dict[str, Position] = {}
        self.base_retry = RetryPolicy()
        #: the document of each connector
        self.connector_nodes: dict[str, MapNode] = {}
        #: the names that each operation reads
        self.operation_names: dict[str, frozenset[str]] = {}
        self.functions = Functions()
        #: connectors that cannot be made here, because parameters of theirs are not filled in: what to say of them
        self.unfilled: dict[str, Unfilled] = {}
        #: what the routes of this site's templates are called here, by the name in the template
        self.route_names: Mapping[str, str] = EMPTY
        #: the site that these are the resources of, empty for those of the whole workspace
        self.site = ""
        #: may put steps of its own between those of a list, given with the list's id
        self.weave: Weave | None = None
        self._frame = Frame()
        self._steps = StepsReader(self)

    def exists(self, path: str) -> bool:
        """Whether the workspace has this file."""
        return self.assets.files.exists(path)

    def lacks(self, path: str) -> bool:
        """Whether a file that the bus reads when it starts is not on this machine."""
        return self.assets.files.lacks(path)

    # -- scopes -------------------------------------------------------------------------------------------------------
    @contextmanager
    def document(self) -> Iterator[Scope]:
        """Collect blocks, names and references of one document."""
        before, self.scope = self.scope, Scope()
        try:
            yield self.scope
        finally:
            self.scope = before
            self.base_retry = RetryPolicy()

    @contextmanager
    def inside(self, frame: Frame) -> Iterator[None]:
        """Read the options of one step: lists of steps in them are called after it."""
        before, self._frame = self._frame, frame
        try:
            yield
        finally:
            self._frame = before

    def claim_step(self, name: str, node: MapNode, reader: Reader) -> bool:
        """Take a step's own name; False after reporting that another step of the route has it."""
        given = node.get("name")
        assert given is not None
        first = self.scope.step_names.setdefault(name, given.position)
        if first == given.position:
            return True
        reader.problem(
            "ESB109",
            f"two steps of this route are named `{name}`",
            given,
            hint="give each step a name of its own",
            related=((first, "the other one"),),
        )
        return False

    # -- steps --------------------------------------------------------------------------------------------------------
    def steps(self, node: Node, reader: Reader) -> Any:
        block = self._steps.block(node, self._frame.block_id(node), reader)
        if block is not MISSING:
            self.scope.blocks[block.id] = block
        return block

    def when_down(self, node: Node, reader: Reader) -> Any:
        label = "`queue`, `reject: <status>`, `fallback: <steps>` or `drop_after: <duration>`"
        if isinstance(node, ScalarNode) and node.value == "queue":
            return WhenDown()
        if isinstance(node, ScalarNode):
            return reader.problem("ESB103", f"`when_down` is {label}, not {node.what}", node, hint="write `queue`")
        if not isinstance(node, MapNode) or len(node.entries) != 1:
            return reader.problem("ESB107", f"`when_down` is exactly one of {label}", node)
        key, value = node.entries[0]
        with reader.inside(key.text):
            match key.text:
                case "fallback":
                    block = self.steps(value, reader)
                    return MISSING if block is MISSING else WhenDown("fallback", block=block)
                case "drop_after":
                    after = DurationKind().read(value, reader)
                    return MISSING if after is MISSING else WhenDown("drop_after", drop_after=after)
                case "reject":
                    status = value.value if isinstance(value, ScalarNode) else None
                    if isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599:
                        return WhenDown("reject", status=status)
                    return reader.problem(
                        "ESB106", "`reject` is an HTTP status from 400 to 599", value, hint="write 503"
                    )
        hint = reader.nearest(key.text, ("reject", "fallback", "drop_after"))
        return reader.problem(
            "ESB101", f"unknown key `{key.text}` in `when_down`", key, hint=hint, label="not known here"
        )

    # -- endpoints ----------------------------------------------------------------------------------------------------
    def target(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            named = self.operation(node, node.value, reader)
            return MISSING if named is MISSING else with_question(named, self, reader)
        if not isinstance(node, MapNode):
            return reader.problem(
                "ESB103", f"a target is `connector.operation` or an endpoint, not {node.what}", node, hint=_TARGET_HINT
            )
        found = self._endpoint("sink", node, reader)
        if found is MISSING:
            return MISSING
        name, connector, sink = found
        if not self._can_stand_alone(sink, bool(connector), node, name, reader):
            return MISSING
        if name == "route" and sink.route in self.route_names:
            sink = replace(sink, route=self.route_names[sink.route])
        return with_question(Target(name, name, connector, sink, _endpoint_place(node), self.site), self, reader)

    @staticmethod
    def _can_stand_alone(sink: Any, shared: bool, node: MapNode, name: str, reader: Reader) -> bool:
        """An inline endpoint has a whole address, or shares a connector's connection."""
        own = getattr(sink, "own_connection", None)
        if own is None or (own() is None) == shared:
            return True
        key = node.key(name) or node
        if shared:
            reader.problem("ESB107", f"`{name}` has a connector and an address of its own", key, hint="give its `path`")
        else:
            hint = "give a whole `url`, or `connector: name` beside the path; better an operation of a connector"
            reader.problem("ESB102", f"`{name}` does not say which system", key, hint=hint)
        return False

    def source(self, node: Node, reader: Reader) -> Any:
        """The one source of ``from``."""
        if not isinstance(node, MapNode):
            word = str(node.value) if isinstance(node, ScalarNode) and node.value is not None else ""
            known = self.registry.get("source", word)
            hint = f"write `{word}: {{ … }}`" if known else "write it like `http: { path: /orders, method: POST }`"
            return reader.problem("ESB103", f"`from` is one source with its options, not {node.what}", node, hint=hint)
        found = self._endpoint("source", node, reader)
        if found is MISSING:
            return MISSING
        name, connector, options = found
        if getattr(options, "needs_connector", False) and not connector:
            hint = f"write `{name}: {{ connector: name, … }}`, and the connector in connectors/name.yaml"
            return reader.problem("ESB102", f"`{name}` does not say which system", node.key(name) or node, hint=hint)
        return SourceSpec(name, options, connector, _endpoint_place(node))

    def operation(self, node: ScalarNode, text: str, reader: Reader) -> Any:
        """The target that ``text`` (``connector.operation``) names, without what asks it."""
        if _URL.match(text):
            return reader.problem(
                "ESB301", "a target is not a URL", node, hint=f"write `to: {{ http: {{ url: {text!r} }} }}`"
            )
        name, dot, operation = text.partition(".")
        connector = self.connectors.get(name)
        if name in self.broken:
            return MISSING
        if connector is None:
            return self._no_connector(node, text, name, reader)
        connector_name = connector.name
        if not dot:
            known = ", ".join(f"`{name}.{other}`" for other in list(connector.operations)[:6])
            return reader.problem(
                "ESB301", f"`{name}` is a connector: name its operation, too", node, hint=known and f"it has {known}"
            )
        sink = connector.operations.get(operation)
        if sink is None:
            hint = reader.nearest(operation, connector.operations)
            return reader.problem(
                "ESB301",
                f"connector `{name}` has no operation `{operation}`",
                node,
                hint=_with_prefix(hint, f"{name}.")
                or f"add `{operation}` under `operations` in {connector.position.path}",
                label="not declared",
                related=((self._near_place(hint, name, connector), "the connector is declared here"),),
            )
        self.scope.connectors.add(name)
        names = self.operation_names.get(text, frozenset())
        self.scope.readings.append(Reading(names, node.position, f"`{text}`"))
        return Target(text, connector.type, connector_name, sink, node.position, self.site)

    def _near_place(self, hint: str, name: str, connector: Connector) -> Position:
        found = re.search(r"did you mean `([^`]+)`", hint)
        return self.places.get(f"{name}.{found[1]}", connector.position) if found else connector.position

    def _no_connector(self, node: ScalarNode, text: str, name: str, reader: Reader) -> Any:
        if name in self.unfilled:
            return self.unfilled[name].report(node.position, reader)
        if self.registry.get("sink", name):
            hint = f"`{name}` is an endpoint: write `to: {{ {name}: {{ … }} }}`"
        elif words := words_of(SINKS, name):
            hint = words[1]
        else:
            hint = reader.nearest(text, self.places)
            if not hint.startswith("did you mean"):
                hint = reader.nearest(name, self.connectors) or f"declare it in connectors/{name or 'name'}.yaml"
        found = re.search(r"did you mean `([^`]+)`", hint)
        place = self.places.get(found[1]) if found else None
        return reader.problem(
            "ESB301",
            f"connector `{name}` does not exist",
            node,
            hint=hint,
            label="not declared",
            related=((place, "declared here"),) if place else (),
        )

    def is_operation(self, word: str) -> bool:
        return "." in word and word in self.places

    def _endpoint(self, family: Family, node: MapNode, reader: Reader) -> Any:
        """Name, connector and options of the one endpoint in ``node``."""
        known = self.registry.family(family)
        named = [key for key, _ in node.entries if key.text in known]
        if len(named) > 1:
            return reader.problem(
                "ESB107",
                f"exactly one {family}, not both `{named[0].text}` and `{named[1].text}`",
                named[1],
                label=f"a second {family}",
                hint="write a second route" if family == "source" else "write a second step",
                related=((named[0].position, "the first"),),
            )
        if not named:
            return self._unknown_endpoint(family, node, known, reader)
        key = named[0]
        for stranger, _ in node.entries:
            if stranger is not key:
                self._beside_endpoint(stranger, key, known[key.text], reader)
        value = node.get(key.text)
        assert value is not None
        connector, value = self._connector_of(value, key, known[key.text], reader)
        with reader.inside(key.text):
            options = read_options(known[key.text].cls, value, reader)
        if options is MISSING or connector is MISSING or len(node.entries) > 1:
            return MISSING
        if connector:
            check_beside(self.connectors[connector].connection, options, value, reader)
        return key.text, connector, options

    def _beside_endpoint(self, stranger: ScalarNode, key: ScalarNode, component: Component, reader: Reader) -> None:
        assert isinstance(reader, WorkspaceReader)
        own = {spec.name for spec in options_of(component.cls)}
        outer = next((level for level in self.levels if stranger.text in level.names), None)
        if stranger.text in own:
            reader.too_high(stranger, f"`{reader.where}`", key.text)
        elif outer is not None:
            reader.too_deep(stranger, f"`{reader.where}`", outer)
        else:
            reader.problem(
                "ESB101",
                f"unknown key `{stranger.text}` beside `{key.text}`",
                stranger,
                label="not known here",
                hint=reader.nearest(stranger.text, own),
            )

    def _unknown_endpoint(self, family: Family, node: MapNode, known: Mapping[str, Component], reader: Reader) -> Any:
        assert isinstance(reader, WorkspaceReader)
        if not node.entries:
            return reader.problem("ESB102", f"`{reader.where}` names no {family}", node, hint=_hint_for(family))
        key = node.entries[0][0]
        table: Mapping[str, Word] = SOURCES if family == "source" else SINKS
        label, hint = words_of(table, key.text) or (f"not a {family}", reader.nearest(key.text, known))
        other = "sink" if family == "source" else "source"
        if key.text in self.registry.family("sink" if family == "source" else "source"):
            hint = f"`{key.text}` is a {other} only; {hint}"
        elif key.text in self.connectors and family == "sink":
            hint = f"an operation is a text: `{key.text}.<operation>`"
        return reader.problem("ESB204", f"unknown {family} `{key.text}`", key, label=label, hint=hint)

    def _connector_of(self, value: Node, key: ScalarNode, component: Component, reader: Reader) -> tuple[Any, Node]:
        """The connector an endpoint shares, and the endpoint's options without that key."""
        own = {spec.name for spec in options_of(component.cls)}
        wanted = getattr(component.cls, "connects", key.text)
        if not isinstance(value, MapNode) or "connector" in own or self.registry.get("connection", wanted) is None:
            return "", value
        given = value.get("connector")
        if given is None:
            return "", value
        rest = value.without("connector")
        name = given.value if isinstance(given, ScalarNode) else None
        if not isinstance(name, str):
            return reader.problem("ESB103", f"`connector` is a name, not {given.what}", given), rest
        if name in self.broken:
            return MISSING, rest
        connector = self.connectors.get(name)
        if connector is None:
            return self._unknown_connector(name, given, reader), rest
        if connector.type != wanted:
            return (
                reader.problem(
                    "ESB301",
                    f"connector `{name}` is of type `{connector.type}`, `{key.text}` needs one of type `{wanted}`",
                    given,
                    related=((connector.position, "declared here"),),
                ),
                rest,
            )
        self.scope.connectors.add(name)
        return connector.name, rest

    def _unknown_connector(self, name: str, node: Node, reader: Reader) -> Any:
        if name in self.unfilled:
            return self.unfilled[name].report(node.position, reader)
        hint = reader.nearest(name, self.connectors) or f"declare it in connectors/{name}.yaml"
        return reader.problem("ESB301", f"connector `{name}` does not exist", node, hint=hint, label="not declared")

    def inbound(self, node: Node, reader: Reader) -> Any:
        """The credentials that the named connector's system shows when it calls; None where it has none."""
        name = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(name, str):
            return reader.problem("ESB103", f"`{reader.where}` is the name of a connector, not {node.what}", node)
        if name in self.broken:
            return MISSING
        connector = self.connectors.get(name)
        if connector is None:
            return self._unknown_connector(name, node, reader)
        self.scope.connectors.add(name)
        return getattr(connector.connection, "inbound", None)

    # -- files --------------------------------------------------------------------------------------------------------
    def contract(self, node: Node, reader: Reader) -> Any:
        return self._asset("contract", node, reader)

    def table(self, node: Node, reader: Reader) -> Any:
        return self._asset("table", node, reader)

    def transform(self, node: Node, reader: Reader) -> Any:
        return self._asset("transform", node, reader)

    def function(self, node: Node, reader: Reader) -> Any:
        found = self.functions.find(node, reader)
        if found is not MISSING:
            self.scope.used.add(found.path)
        return found

    def _asset(self, family: str, node: Node, reader: Reader) -> Any:
        name = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(name, str):
            return reader.problem("ESB103", f"expected the name of a {family}, not {node.what}", node)
        found = self.assets.find(family, name)
        if found is None:
            return self.assets.missing(family, name, node, reader)
        if found.value is BROKEN:
            return MISSING
        self.scope.used.update(found.paths)
        if family == "transform":
            self.scope.readings.append(Reading(found.value.names, node.position, f"`{found.paths[0]}`"))
        return found.value


_TARGET_HINT = "write `erp.create-order`, or `{ http: { url: … } }`"


def _hint_for(family: str) -> str:
    return "write `http: { path: /orders, method: POST }`" if family == "source" else _TARGET_HINT


def _endpoint_place(node: MapNode) -> Position:
    """The name of an endpoint; its value where that is one word (``{ topic: lot.blocked }``)."""
    key, value = node.entries[0]
    return value.position if isinstance(value, ScalarNode) and value.value is not None else key.position


def _with_prefix(hint: str, prefix: str) -> str:
    """A hint about an operation with the whole name to write."""
    return re.sub(r"`([^`]+)`", lambda found: f"`{prefix}{found[1]}`", hint) if hint.startswith("did you") else ""


def check_beside(connection: Any, endpoint: Any, node: Node, reader: Reader) -> None:
    """What an endpoint asks for and its connection cannot do; ``node`` are the options of the endpoint."""
    check = getattr(connection, "check_beside", None)
    if check is not None:
        check(endpoint, node, reader)
