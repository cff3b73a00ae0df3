"""The fields that a template reads, held against what is known of the message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes

from esb.language.base import SCOPE_NAMES
from esb.language.inference import PROBE, Finding, Inference, Known, Seen
from esb.language.shapes import UNKNOWN, Built, Shape
from esb.language.template_checks import fault_in_line, path_of

#: filters and functions for which a missing field counts as null
_MISSING_OK = frozenset({"default", "d", "coalesce", "not_null", "get"})
_LISTS = frozenset({"sort", "reverse", "unique", "list"})
Names = Mapping[str, Known]
#: Text and tree of an included file by its name, None where there is none.
Included = Callable[[str], tuple[str, nodes.Template] | None]


@dataclass(slots=True)
class TemplateInference:
    """Walks one template. ``root`` is the whole message; ``text`` gives findings their place, as far as Jinja tells it."""

    text: str
    root: Shape
    report: Callable[[Finding], None]
    trail: list[Seen] | None = None
    included: Included | None = None
    files: dict[str, list[Finding]] | None = None  #: takes what is found in each file that is included
    _maybe: set[str] = field(default_factory=set)

    def run(self, tree: nodes.Template, names: Names | None = None) -> None:
        """Report every field that cannot be there. ``names`` are those of the template that includes this one."""
        for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Call)):
            self._note_optional(node)
        self._all(tree.body, names or {name: Known(self.root.look(name).shape, name) for name in SCOPE_NAMES})

    def _enter(self, name: str, names: Names) -> None:
        """An included file sees what is known at the place where it is included."""
        found = self.included(name) if self.included is not None and self.files is not None else None
        if found is None or self.files is None:
            return
        text, tree = found
        report = self.files.setdefault(name, []).append
        TemplateInference(text, self.root, report, None, self.included, self.files).run(tree, names)

    def _note_optional(self, node: Any) -> None:
        """Fields that the template itself reckons may be missing."""
        asked: list[Any] = []
        if isinstance(node, nodes.Call):
            if isinstance(node.node, nodes.Name) and node.node.name in _MISSING_OK:
                asked = list(node.args)
        elif isinstance(node, nodes.Test) or node.name in _MISSING_OK:
            asked = [node.node]
        for inner in asked:
            path = path_of(inner) if inner is not None else None
            if path is not None:
                self._maybe.add(".".join(map(str, path)))

    # -- statements -----------------------------------------------------------------------------------------------------
    def _all(self, body: list[Any], names: Names) -> Names:
        for node in body:
            names = self._statement(node, names)
        return names

    def _statement(self, node: Any, names: Names) -> Names:
        match node:
            case nodes.Include(template=nodes.Const(value=str() as name), with_context=True):
                self._enter(name, names)
                return names
            case nodes.For():
                own = {**names, **_targets(node.target, self._element(node.iter, names))}
                self._all([*([node.test] if node.test is not None else []), *node.body], own)
                self._all(node.else_, names)
                return names
            case nodes.Assign():
                return {**names, **_targets(node.target, self._value(node.node, names))}
            case nodes.AssignBlock():
                self._all(node.body, names)
                return {**names, **_targets(node.target, Known(UNKNOWN))}
            case nodes.Macro() | nodes.CallBlock():
                self._all(node.body, {**names, **{arg.name: Known(UNKNOWN) for arg in node.args}})
                return names
            case nodes.With():
                own = dict(names)
                for target, value in zip(node.targets, node.values, strict=True):
                    own.update(_targets(target, self._value(value, names)))
                self._all(node.body, own)
                return names
            case nodes.If():
                self._value(node.test, names)
                for branch in (node.body, node.elif_, node.else_):
                    self._all(branch, names)
                return {**names, **_assigned(node)}
            case nodes.Stmt():
                inner = names
                for child in node.iter_child_nodes():
                    inner = self._statement(child, inner)
                return names
            case _:
                self._value(node, names)
                return names

    # -- values ---------------------------------------------------------------------------------------------------------
    def _value(self, node: Any, names: Names) -> Known:
        match node:
            case nodes.Name():
                return names.get(node.name, Known(UNKNOWN))
            case nodes.Getattr():
                return self._read(node, node.attr, names)
            case nodes.Getitem(arg=nodes.Const(value=str() as word)):
                return self._read(node, word, names)
            case nodes.Getitem():
                left = self._value(node.node, names)
                if isinstance(node.arg, nodes.Expr):
                    self._value(node.arg, names)
                return Known(left.shape.items() if left.shape.is_only("array") else UNKNOWN)
            case nodes.Call(node=nodes.Getattr() as method):  # the method of a value: `body.lot.upper()`
                self._value(method.node, names)
                self._children(node.args, names)
                return Known(UNKNOWN)
            case nodes.Filter():
                inner = self._value(node.node, names) if node.node is not None else Known(UNKNOWN)
                self._children(node.args, names)
                return inner if node.name in _LISTS else Known(UNKNOWN)
            case _:
                self._children(list(node.iter_child_nodes()), names)
                return Known(UNKNOWN)

    def _children(self, children: list[Any], names: Names) -> None:
        for child in children:
            self._value(child, names)

    def _element(self, node: Any, names: Names) -> Known:
        left = self._value(node, names)
        if not left.shape.is_only("array"):
            return Known(UNKNOWN)
        return Known(left.shape.items(), f"{left.path}[]" if left.path else "")

    def _read(self, node: Any, name: str, names: Names) -> Known:
        left = self._value(node.node, names)
        if left.shape is UNKNOWN and name != PROBE and self.trail is None:
            return Known(UNKNOWN)
        written = path_of(node)
        word = ".".join(map(str, written)) if written else name
        found: list[Finding] = []
        trail: list[Seen] = []
        inference = Inference(Built({"body": self.root.look("body").shape}, open=True), found.append, trail)
        result = inference.field({"type": "field", "children": [], "value": name, "at": 0}, left)
        if self.trail is not None:
            at = fault_in_line(self.text, "", "", node.lineno, word)
            self.trail += [Seen(seen.path, at.offset, at.length, seen.entity) for seen in trail]
        for finding in found:
            self._report_at(finding, node.lineno, word, name)
        return result

    def _report_at(self, finding: Finding, line: int, word: str, name: str) -> None:
        if finding.asked is not None:
            self.report(finding)
            return
        place = fault_in_line(self.text, finding.code, finding.message, line, word)
        offset, length = place.offset, place.length
        if self.text[offset : offset + length] == word:  # the field at the end of the path
            offset, length = offset + len(word) - len(name), len(name)
        self.report(
            Finding(
                finding.code, finding.message, finding.hint, offset, length, finding.warning,
                "never there" if not finding.warning else finding.label,
                finding.origin, word in self._maybe, finding.path,
            )
        )  # fmt: skip


def _assigned(node: nodes.Node) -> dict[str, Known]:
    """Names that are set somewhere below: what they are depends on the way taken."""
    return {name.name: Known(UNKNOWN) for name in node.find_all(nodes.Name) if name.ctx == "store"}


def _targets(target: Any, value: Known) -> dict[str, Known]:
    if isinstance(target, nodes.Name):
        return {target.name: value}
    return {name.name: Known(UNKNOWN) for name in target.find_all(nodes.Name)}
