"""Jinja texts and files, compiled once at load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import TemplateNotFound

from esb.language.base import Evaluates, ExpressionError, TextTemplate
from esb.language.declare import Function
from esb.language.filters import filters_of, globals_of
from esb.language.quick import quick
from esb.language.sandbox import Sandbox, rewritten
from esb.language.template_checks import Findings, TemplateChecker, fault_in_line
from esb.language.template_syntax import syntax_fault
from esb.language.values import MAX_RESULT, MAX_TEXT

#: Longest template, in characters.
MAX_LENGTH = 1_000_000

NOTHING: frozenset[str] = frozenset()


class Templates:
    """Compiles the templates of one workspace. ``include`` gives the text of a file beside a template, or None."""

    def __init__(self, functions: Mapping[str, Function], include: Callable[[str], str | None] | None) -> None:
        self._functions = functions
        self._include = include
        self._sandbox = Sandbox(globals_of(functions), filters_of(functions), self._load)

    def text(self, text: str) -> TextTemplate:
        """A text of a route. Raises :class:`ExpressionError` (ESB403, ESB404, ESB406, ESB407)."""
        return self._compile(text, "", MAX_TEXT)

    def file(self, text: str, name: str) -> TextTemplate:
        """A whole file."""
        return self._compile(text, name, MAX_RESULT)

    def _compile(self, text: str, name: str, limit: int) -> TextTemplate:
        if not any(mark in text for mark in ("{{", "{%", "{#")):
            return TextTemplate(text, lambda scope: text, constant=True, name=name)
        tree = self.tree(text)
        try:
            findings = self._check(text, tree, NOTHING, (name,) if name else ())
            evaluate = quick(tree, self._sandbox.filters, self._functions, limit) or self._jinja(
                text, tree, name, limit
            )
        except RecursionError:
            raise ExpressionError("ESB406", "the template is nested too deeply") from None
        return TextTemplate(text, evaluate, names=findings.names, name=name)

    def tree(self, text: str) -> nodes.Template:
        """The syntax tree of a template. Raises :class:`ExpressionError` (ESB406)."""
        if len(text) > MAX_LENGTH:
            raise ExpressionError("ESB406", f"the template has {len(text)} characters; the most is {MAX_LENGTH}")
        try:
            return self._sandbox.tree(text)
        except TemplateSyntaxError as error:
            raise syntax_fault(text, error) from None
        except RecursionError:
            raise ExpressionError("ESB406", "the template is nested too deeply") from None
        except ValueError as error:
            raise ExpressionError("ESB406", f"the template cannot be read: {error}") from None

    def _check(self, text: str, tree: nodes.Template, allowed: frozenset[str], path: tuple[str, ...]) -> Findings:
        checker = TemplateChecker(text, tree, self._sandbox, self._functions, allowed)
        findings = checker.run()
        for name, node in findings.includes:
            if name in path:
                raise checker.fault("ESB406", f"`{name}` includes itself", node, name)
            included = self._load(name)
            if included is None:
                message = f"there is no file `{name}` to include"
                raise checker.fault("ESB406", message, node, name, "files lie in transforms/ and below it")
            try:
                inner = self._check(included, self.tree(included), allowed | findings.sets, (*path, name))
            except ExpressionError as error:
                message = f"in `{name}`, line {error.line}: {error.message}"
                raise fault_in_line(text, error.code, message, node.lineno, name, error.hint) from None
            findings = Findings(findings.names | inner.names, findings.includes, findings.sets)
        return findings

    def included(self, name: str) -> tuple[str, nodes.Template] | None:
        """Text and tree of a file that a template includes, None where there is none that can be read."""
        text = self._load(name)
        try:
            return (text, self.tree(text)) if text is not None else None
        except ExpressionError:
            return None

    def _load(self, name: str) -> str | None:
        """Only names within the folder reach the workspace; it decides about the rest."""
        parts = name.replace("\\", "/").split("/")
        if self._include is None or not name or ":" in name or name.startswith(("/", "\\")) or ".." in parts:
            return None
        return self._include(name)

    def _jinja(self, text: str, tree: nodes.Template, name: str, limit: int) -> Evaluates:
        try:
            code = self._sandbox.compile(rewritten(tree), name or None, name or "<template>")
        except TemplateSyntaxError as error:
            raise syntax_fault(text, error) from None
        except (SyntaxError, TemplateError) as error:
            raise ExpressionError("ESB406", f"the template cannot be compiled: {error}") from None
        used = {node.name for node in tree.find_all(nodes.Name)}
        # every rendering copies its globals: an include may ask for any, else the template's own names will do
        whole = next(tree.find_all((nodes.Include, nodes.Extends)), None) is not None
        names = {key: value for key, value in self._sandbox.globals.items() if whole or key in used}
        template = Template.from_code(self._sandbox, code, names, None)
        return _Rendering(template, self._sandbox, limit, "\n" in text)


class _Rendering:
    """A compiled template that counts what it writes and says in which line it failed."""

    __slots__ = ("_limit", "_lines", "_sandbox", "_template")

    def __init__(self, template: Template, sandbox: Sandbox, limit: int, lines: bool) -> None:
        self._template, self._sandbox, self._limit, self._lines = template, sandbox, limit, lines

    def __call__(self, scope: Mapping[str, Any]) -> str:
        self._sandbox.meter.start()
        try:
            context = self._template.new_context(dict(scope))
            return _within(self._template.root_render_func(context), self._limit)
        except TemplateNotFound as error:
            raise ValueError(f"there is no file `{error.name}` to include") from None
        except RecursionError:
            raise ValueError("macros or includes call each other without end") from None
        except Exception as error:
            where = _line_of(error) if self._lines else ""
            if not where:
                raise
            raise _in_line(where, error) from error


def _within(pieces: Iterable[str], limit: int) -> str:
    written: list[str] = []
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise ValueError(f"the text has more than {limit} characters")
        written.append(piece)
    return "".join(written)


def _in_line(where: str, error: Exception) -> Exception:
    from esb.errors import EsbError  # noqa: PLC0415 - only where a template failed

    return error if isinstance(error, EsbError) else ValueError(f"{where}: {error}")


def _line_of(error: Exception) -> str:
    """The innermost line of a template in a traceback: ``line 12``, or ``row.j2 line 3``."""
    where = ""
    step = error.__traceback__
    while step is not None:
        template = step.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            name = f"{template.name} " if template.name and where else ""
            where = f"{name}line {template.get_corresponding_lineno(step.tb_lineno)}"
        step = step.tb_next
    return where
