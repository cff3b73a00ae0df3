"""The language of one workspace or site: compiles expressions and templates against its tables, zone, locale and clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from jinja2.nodes import Template

from esb.clock import Clock, SystemClock
from esb.language.base import Expression, ExpressionError, TextTemplate
from esb.language.catalogue import functions
from esb.language.checks import check
from esb.language.codegen import generate
from esb.language.declare import Function
from esb.language.inference import Finding, Inference, Seen
from esb.language.lookups import Table
from esb.language.parsing import Tree, parse
from esb.language.shapes import TEXT, Built, Origin, Shape
from esb.language.source_text import without_comments
from esb.language.template_shapes import TemplateInference
from esb.language.templates import Templates

NO_TABLES: Mapping[str, Table] = MappingProxyType({})


class WorkspaceLanguage:
    """Implements :class:`~esb.language.base.Language`; what it compiles is immutable and safe to share.

    ``include`` gives the text of a file beside a template (inside ``transforms/`` only), or None where there is none. Every
    method raises :class:`~esb.language.base.ExpressionError`; the constructor raises ValueError for an unknown time zone.
    """

    def __init__(
        self,
        tables: Mapping[str, Table] = NO_TABLES,
        timezone: str = "UTC",
        clock: Clock | None = None,
        include: Callable[[str], str | None] | None = None,
        locale: str = "c",
    ) -> None:
        self._functions = functions(tables, timezone, clock or SystemClock(), locale)
        self._templates = Templates(self._functions, include)
        self._known: dict[str, Expression] = {}
        self._trees: dict[str, Tree] = {}
        self._template_trees: dict[str, Template] = {}

    @property
    def functions(self) -> Mapping[str, Function]:
        """Every function by name."""
        return self._functions

    def expression(self, text: str) -> Expression:
        # routes repeat `body.lot.id` a lot, and compiling is what loading a workspace costs
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self._compile(text, text, "")
        return found

    def compile_file(self, text: str, name: str) -> Expression:
        """A ``.jmes`` file: one expression over any number of lines; lines that begin with ``#`` are comments."""
        return self._compile(text, without_comments(text), name)

    def look_into(
        self,
        part: Expression | TextTemplate,
        root: Shape,
        report: Callable[[Finding], None],
        made: Origin | None = None,
        trail: list[Seen] | None = None,
        files: dict[str, list[Finding]] | None = None,
    ) -> Shape:
        """Hold what ``part`` reads against the shape of the message (``root``), and give the shape of its own value.

        ``made`` says where an object that it makes is declared; ``trail`` takes down every field that is read, ``files`` what
        is found in each file that a template includes, by its name.
        """
        if isinstance(part, TextTemplate):
            if part.names:
                known = self._template_trees.get(part.text)
                if known is None:
                    known = self._template_trees[part.text] = self._templates.tree(part.text)
                TemplateInference(part.text, root, report, trail, self._templates.included, files).run(known)
            return TEXT
        tree = self._trees.get(part.text)
        if tree is None:
            tree = self._trees[part.text] = parse(without_comments(part.text) if part.name else part.text)
        shape = Inference(root, report, trail).shape(tree)
        return replace(shape, made=made) if made is not None and isinstance(shape, Built) else shape

    def template(self, text: str) -> TextTemplate:
        return self._templates.text(text)

    def file_template(self, text: str, name: str) -> TextTemplate:
        return self._templates.file(text, name)

    def _compile(self, text: str, code: str, name: str) -> Expression:
        tree = parse(code)
        names = check(code, tree, self._functions)
        try:
            return Expression(text, generate(tree, self._functions, name or text), names, name)
        except RecursionError:
            raise ExpressionError("ESB401", "the expression is nested too deeply", length=len(text)) from None
