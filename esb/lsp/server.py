"""The language server over stdio: diagnostics with the codes of `esb lint`, completion, hover, definitions, fixes, formatting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from esb import __version__
from esb.config.fixes import fix_of
from esb.config.formatting import formatted
from esb.errors import Position, Problem
from esb.lsp.answers import Answers, Choice
from esb.lsp.desk import Desk, root_of

#: seconds without a keystroke before a workspace is read again
QUIET = 0.15
_KINDS: Mapping[str, types.CompletionItemKind] = {
    "key": types.CompletionItemKind.Property,
    "value": types.CompletionItemKind.EnumMember,
    "field": types.CompletionItemKind.Field,
    "function": types.CompletionItemKind.Function,
    "name": types.CompletionItemKind.Reference,
}


class Server(LanguageServer):
    """Keeps a desk for every workspace that a file is open of."""

    def __init__(self) -> None:
        super().__init__("esb", __version__)
        self._desks: dict[Path, Answers] = {}
        self._reading: dict[Path, asyncio.Task[None]] = {}
        self._told: dict[Path, set[str]] = {}

    # -- files ----------------------------------------------------------------------------------------------------------
    def place(self, uri: str) -> tuple[Answers, str] | None:
        """The workspace of a file and its path in there; None for files of no workspace."""
        parts = urlsplit(uri)
        if parts.scheme != "file":
            return None
        path = Path(unquote(parts.path)).resolve()
        root = root_of(path)
        if root is None:
            return None
        answers = self._desks.setdefault(root, Answers(Desk(root)))
        return answers, path.relative_to(root).as_posix()

    def text(self, uri: str) -> str:
        return self.workspace.get_text_document(uri).source

    def changed(self, uri: str, *, closed: bool = False) -> None:
        """A file was opened, edited, saved or closed: its workspace is read again once it is quiet."""
        found = self.place(uri)
        if found is None:
            return
        answers, path = found
        if closed:
            answers.desk.open.pop(path, None)
        else:
            answers.desk.open[path] = self.text(uri)
        self.look(answers.desk.root)

    def look(self, root: Path) -> None:
        before = self._reading.get(root)
        if before is not None:
            before.cancel()
        self._reading[root] = asyncio.ensure_future(self._look(root))

    async def _look(self, root: Path) -> None:
        await asyncio.sleep(QUIET)
        desk = self._desks[root].desk
        loaded = await asyncio.to_thread(desk.read)
        by_file: dict[str, list[types.Diagnostic]] = {path: [] for path in self._told.get(root, ())}
        by_file |= {path: [] for path in desk.open}
        for problem in loaded.problems:
            by_file.setdefault(problem.position.path, []).append(self._diagnostic(desk, problem))
        for path, items in by_file.items():
            uri = (root / path).as_uri()
            self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri=uri, diagnostics=items))
        self._told[root] = {path for path, items in by_file.items() if items}

    # -- places ---------------------------------------------------------------------------------------------------------
    def range(self, lines: Sequence[str], at: Position) -> types.Range:
        """A place of a diagnostic in the units of the editor."""
        start = types.Position(at.line - 1, at.column - 1)
        end = types.Position(at.line - 1, at.column - 1 + at.length)
        codec = self.workspace.position_codec
        return codec.range_to_client_units(list(lines) or [""], types.Range(start, end))

    def cursor(self, uri: str, position: types.Position) -> tuple[int, int]:
        """A place of the editor as line and column in characters, from 0."""
        lines = self.workspace.get_text_document(uri).lines
        at = self.workspace.position_codec.position_from_client_units(lines, position)
        return at.line, at.character

    def _diagnostic(self, desk: Desk, problem: Problem) -> types.Diagnostic:
        at = problem.position
        related = [
            types.DiagnosticRelatedInformation(
                types.Location((desk.root / other.path).as_uri(), self.range(desk.lines(other.path), other)), words
            )
            for other, words in problem.related
        ]
        error = problem.severity == "error"
        return types.Diagnostic(
            range=self.range(desk.lines(at.path), at),
            message=problem.message + (f"\n{problem.hint}" if problem.hint else ""),
            severity=types.DiagnosticSeverity.Error if error else types.DiagnosticSeverity.Warning,
            code=problem.code,
            source="esb",
            related_information=related or None,
        )

    def location(self, root: Path, at: Position) -> types.Location:
        desk = self._desks[root].desk
        return types.Location((root / at.path).as_uri(), self.range(desk.lines(at.path), at))


def make_server() -> Server:
    """The server with everything that it answers; ``start_io`` runs it."""
    server = Server()
    _follow(server)
    _answer(server)
    return server


def _follow(server: Server) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: types.DidSaveTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        server.changed(params.text_document.uri, closed=True)

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def elsewhere(params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            found = server.place(change.uri)
            if found is not None:
                server.look(found[0].desk.root)


def _answer(server: Server) -> None:
    options = types.CompletionOptions(trigger_characters=[".", " ", ":", "{"])

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, options)
    async def complete(params: types.CompletionParams) -> types.CompletionList | None:
        choices = await _asked(server, params, lambda answers: answers.complete)
        return None if choices is None else types.CompletionList(False, list(map(_item, choices)))

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    async def hover(params: types.HoverParams) -> types.Hover | None:
        words = await _asked(server, params, lambda answers: answers.hover)
        return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, words)) if words else None

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    async def definition(params: types.DefinitionParams) -> list[types.Location] | None:
        places = await _asked(server, params, lambda answers: answers.definition)
        found = server.place(params.text_document.uri)
        return [server.location(found[0].desk.root, at) for at in places] if places and found else None

    @server.feature(types.TEXT_DOCUMENT_CODE_ACTION)
    def actions(params: types.CodeActionParams) -> list[types.CodeAction]:
        return list(_fixes(server, params))

    @server.feature(types.TEXT_DOCUMENT_FORMATTING)
    def layout(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        found = server.place(params.text_document.uri)
        before = server.text(params.text_document.uri)
        if found is None or not found[1].endswith((".yaml", ".yml")):
            return None
        result = formatted(before.encode(), found[1], found[0].desk.registry)
        if result.problems or result.kept or result.text == before:
            return None
        whole = types.Range(types.Position(0, 0), types.Position(before.count("\n") + 1, 0))
        return [types.TextEdit(whole, result.text)]


async def _asked(server: Server, params: Any, choose: Callable[[Answers], Callable[..., Any]]) -> Any:
    """The answer for the place of a request, worked out beside the loop; None for files of no workspace."""
    uri = params.text_document.uri
    found = server.place(uri)
    if found is None:
        return None
    answers, path = found
    (line, column), text = server.cursor(uri, params.position), server.text(uri)
    answers.desk.open.setdefault(path, text)
    return await asyncio.to_thread(choose(answers), path, text, line, column)


def _item(choice: Choice) -> types.CompletionItem:
    snippet = "$0" in choice.text
    return types.CompletionItem(
        label=choice.label,
        kind=_KINDS[choice.kind],
        detail=choice.detail or None,
        documentation=types.MarkupContent(types.MarkupKind.Markdown, choice.doc) if choice.doc else None,
        insert_text=choice.text or None,
        insert_text_format=types.InsertTextFormat.Snippet if snippet else types.InsertTextFormat.PlainText,
    )


def _fixes(server: Server, params: types.CodeActionParams) -> Any:
    """What can be put right at the places that the editor asks about."""
    uri = params.text_document.uri
    found = server.place(uri)
    if found is None:
        return
    answers, path = found
    desk = answers.desk
    for problem in desk.known().problems:
        if problem.position.path != path:
            continue
        where = server.range(desk.lines(path), problem.position)
        edit = fix_of(problem, desk.lines)
        if edit is None or where.end < params.range.start or params.range.end < where.start:
            continue
        place = server.range(desk.lines(path), Position(path, edit.line, edit.column, edit.length))
        change = types.WorkspaceEdit(changes={uri: [types.TextEdit(place, edit.text)]})
        yield types.CodeAction(
            f"write `{edit.text}`", kind=types.CodeActionKind.QuickFix, edit=change, is_preferred=True
        )
