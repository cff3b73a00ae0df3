"""The language of one workspace: compiles expressions and templates against its tables, time zone and clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from esb.clock import Clock, SystemClock
from esb.language.base import Expression, ExpressionError, TextTemplate
from esb.language.catalogue import functions
from esb.language.checks import check
from esb.language.codegen import generate
from esb.language.declare import Function
from esb.language.lookups import Table
from esb.language.parsing import parse
from esb.language.source_text import without_comments
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
    ) -> None:
        self._functions = functions(tables, timezone, clock or SystemClock())
        self._templates = Templates(self._functions, include)
        self._known: dict[str, Expression] = {}

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
