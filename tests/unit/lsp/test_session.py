"""A session with the language server over stdio, as an editor has it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.lsp.client import LanguageClient

CONTRACT = """{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "id": { "type": "string" },
    "result": { "enum": ["ACCEPT", "REJECT"] },
    "lot": {
      "type": "object",
      "additionalProperties": false,
      "properties": { "number": { "type": "string" }, "plant": { "type": "string" } }
    },
    "lines": { "type": "array", "items": { "type": "object", "properties": { "pos": {}, "qty": { "type": "number" } } } }
  }
}
"""
FILES = {
    "esb.yaml": "bus: graz\ncriticality: { urgent: { within: 5s, alert: desk } }\n"
    "alerts: { desk: { http: { url: 'https://x.example/' } } }\n",
    "schemas/inspection.v1.json": CONTRACT,
    "connectors/erp.yaml": "connector: erp\ntype: http\nbase_url: https://erp.example.com\noperations:\n"
    "  create-order: { path: /orders }\n  hold: { path: /hold }\n",
    "transforms/hold.jmes": "{ lot: body.lot.number }\n",
    "routes/other.yaml": "route: other\nfrom: { http: { path: /o, contract: inspection.v1 } }\nsteps: [ { transform: hold.jmes } ]\n",
}
ROUTE = """route: inspection
criticality: urgent
owner: me
from: { http: { path: /i, contract: inspection.v1 } }
steps:
  - set: { vars.lot: body.lot }
  - filter: body.result == 'REJECT'
  - to: erp.hold
  - log: "lot {{ body.lot.number }} {{ vars.lot }}"
"""
HEAD = "".join(ROUTE.splitlines(keepends=True)[:6])


class Editor:
    """The client's side: opens and changes one file, waits for what the server says of it."""

    def __init__(self, client: LanguageClient, root: Path) -> None:
        self.client, self.root = client, root
        self.diagnostics: dict[str, list[types.Diagnostic]] = {}
        self._told = asyncio.Event()
        self._version = 0

        @client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def told(params: types.PublishDiagnosticsParams) -> None:
            self.diagnostics[params.uri] = list(params.diagnostics)
            self._told.set()

    def uri(self, path: str) -> str:
        return (self.root / path).as_uri()

    async def write(self, path: str, text: str) -> None:
        """Show this text in the editor, without saving it."""
        self._version += 1
        self._told.clear()
        if self._version == 1:
            item = types.TextDocumentItem(self.uri(path), "yaml", self._version, text)
            self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        else:
            name = types.VersionedTextDocumentIdentifier(self._version, self.uri(path))
            change = types.TextDocumentContentChangeWholeDocument(text)
            self.client.text_document_did_change(types.DidChangeTextDocumentParams(name, [change]))

    async def problems(self, path: str) -> list[types.Diagnostic]:
        await asyncio.wait_for(self._told.wait(), 60)
        return self.diagnostics[self.uri(path)]

    def at(self, path: str, text: str) -> dict[str, Any]:
        """The place of the mark ``|`` in a text."""
        before = text[: text.index("|")]
        column = len(before.rpartition("\n")[2].encode("utf-16-le")) // 2
        document = types.TextDocumentIdentifier(self.uri(path))
        return {"text_document": document, "position": types.Position(before.count("\n"), column)}

    async def complete(self, marked: str, path: str = "routes/r.yaml") -> dict[str, types.CompletionItem]:
        await self.write(path, marked.replace("|", "", 1))
        found = await self.client.text_document_completion_async(types.CompletionParams(**self.at(path, marked)))
        assert isinstance(found, types.CompletionList)
        return {item.label: item for item in found.items}

    async def hover(self, marked: str, path: str = "routes/r.yaml") -> str:
        await self.write(path, marked.replace("|", "", 1))
        found = await self.client.text_document_hover_async(types.HoverParams(**self.at(path, marked)))
        return found.contents.value if found else ""  # type: ignore[union-attr]  # it is Markdown

    async def definition(self, marked: str, path: str = "routes/r.yaml") -> list[str]:
        await self.write(path, marked.replace("|", "", 1))
        found = await self.client.text_document_definition_async(types.DefinitionParams(**self.at(path, marked)))
        places = found if isinstance(found, list) else []
        root = self.root.as_uri() + "/"
        return [
            f"{one.uri.removeprefix(root)}:{one.range.start.line + 1}:{one.range.start.character + 1}"
            for one in places
            if isinstance(one, types.Location)
        ]


@asynccontextmanager
async def editing(root: Path) -> AsyncIterator[Editor]:
    client = LanguageClient("tests", "1")
    await client.start_io(sys.executable, "-m", "esb", "lsp")
    editor = Editor(client, root)
    params = types.InitializeParams(types.ClientCapabilities(), root_uri=root.as_uri())
    answer = await client.initialize_async(params)
    assert answer.capabilities.completion_provider is not None
    client.initialized(types.InitializedParams())
    try:
        yield editor
    finally:
        await client.shutdown_async(None)
        client.exit(None)
        await client.stop()


@pytest.fixture(scope="module")
def session(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Callable[[Editor], Coroutine[Any, Any, Any]]], Any]]:
    """One server for all tests of this file; each gets the editor."""
    root = tmp_path_factory.mktemp("plant")
    for path, text in {**FILES, "routes/r.yaml": ROUTE}.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    with asyncio.Runner() as runner:
        manager = editing(root)
        editor = runner.run(manager.__aenter__())
        yield lambda scenario: runner.run(scenario(editor))
        runner.run(manager.__aexit__(None, None, None))


def test_problems_come_with_the_codes_of_lint_while_somebody_writes(session: Any) -> None:
    async def scenario(editor: Editor) -> None:
        await editor.write("routes/r.yaml", ROUTE)
        assert await editor.problems("routes/r.yaml") == []
        await editor.write(
            "routes/r.yaml", ROUTE.replace("  - to: erp.hold", "  - to: erp.hald  # 😀").replace(".number", ".numbr")
        )
        found = await editor.problems("routes/r.yaml")
        assert [
            (one.code, one.range.start.line, one.range.start.character, one.range.end.character) for one in found
        ] == [("ESB301", 7, 8, 16)]
        await editor.write("routes/r.yaml", ROUTE.replace('"lot {{ body.lot.number', '"😀 {{ body.lot.numbr'))
        (one,) = await editor.problems("routes/r.yaml")
        assert (one.code, one.range.start.character, one.range.end.character) == ("ESB402", 25, 30), (
            "in units of UTF-16"
        )
        assert one.related_information is not None
        assert one.related_information[0].location.uri == editor.uri("schemas/inspection.v1.json")

    session(scenario)


def test_a_fix_is_offered_and_layout_is_written(session: Any) -> None:
    async def scenario(editor: Editor) -> None:
        text = ROUTE.replace("erp.hold", "erp.hodl").replace("owner: me", "owner:    me")
        await editor.write("routes/r.yaml", text)
        (one,) = await editor.problems("routes/r.yaml")
        document = types.TextDocumentIdentifier(editor.uri("routes/r.yaml"))
        params = types.CodeActionParams(document, one.range, types.CodeActionContext([one]))
        (action,) = await editor.client.text_document_code_action_async(params) or []
        assert isinstance(action, types.CodeAction)
        assert action.edit is not None
        assert action.edit.changes is not None
        (edit,) = action.edit.changes[document.uri]
        assert (action.title, edit.new_text) == ("write `erp.hold`", "erp.hold")
        layout = types.DocumentFormattingParams(document, types.FormattingOptions(2, True))
        (whole,) = await editor.client.text_document_formatting_async(layout) or []
        assert "owner: me\n" in whole.new_text

    session(scenario)


@pytest.mark.parametrize(
    ("marked", "there", "not_there"),
    [
        (HEAD + "  - va|\n", {"validate", "map", "to", "if", "timeout"}, {"owner"}),
        (HEAD + "  - to: erp.hold\n    re|\n", {"retry", "timeout", "on_timeout"}, {"to", "validate"}),
        (HEAD + "  - lookup:\n      ta|\n", {"table", "by", "into"}, {"validate"}),
        (HEAD + "  - to: erp.hold\n    retry: { ma| }\n", {"max", "backoff", "jitter"}, {"to"}),
        (HEAD + "  - to: |\n", {"erp.create-order", "erp.hold"}, {"inspection.v1"}),
        (HEAD + "  - to: erp.cr|\n", {"erp.create-order", "erp.hold"}, set()),
        (HEAD + "  - validate: |\n", {"inspection.v1"}, {"erp.hold"}),
        (HEAD + "  - transform: |\n", {"hold.jmes"}, {"erp.hold"}),
        ("route: x\ncriticality: |\n", {"urgent"}, {"erp"}),
        ("route: x\npriority: |\n", {"low", "normal", "high"}, set()),
        ("route: x\nfrom: { ht| }\n", {"http", "timer", "file"}, {"smtp"}),
        ("route: x\nfrom: { http: { pa| } }\n", {"path", "contract", "reply"}, {"every"}),
        ("route: x\now|\n", {"owner", "steps", "on_error"}, {"base_url"}),
        ("|", {"route", "connector", "bus"}, set()),
        (HEAD + "  - filter: body.|\n", {"id", "lot", "lines", "result"}, {"number"}),
        (HEAD + "  - filter: body.lot.nu|\n", {"number", "plant"}, {"id"}),
        (HEAD + '  - log: "a {{ body.lot.| }}"\n', {"number", "plant"}, set()),
        (HEAD + "  - filter: vars.|\n", {"lot"}, set()),
        (HEAD + "  - map: { a: body.id }\n  - filter: body.|\n", {"a"}, {"id"}),
        (HEAD + '  - filter: "body.lines[?qty > `0`] && meta.|"\n', {"received_at", "message_id"}, set()),
        (HEAD + "  - split: { each: body.lines, key: body.|, steps: [ { log: x } ] }\n", {"pos", "qty"}, {"id"}),
        (HEAD + "  - filter: |\n", {"body", "vars", "coalesce"}, set()),
    ],
)  # fmt: skip
def test_what_may_stand_there_is_offered(session: Any, marked: str, there: set[str], not_there: set[str]) -> None:
    async def scenario(editor: Editor) -> None:
        found = await editor.complete(marked)
        assert there <= found.keys()
        assert not not_there & found.keys()

    session(scenario)


def test_fields_are_offered_in_a_file_of_another_language(session: Any) -> None:
    async def scenario(editor: Editor) -> None:
        await editor.write("routes/r.yaml", ROUTE)
        path, text = "transforms/hold.jmes", "{ lot: body.lot.| }\n"
        item = types.TextDocumentItem(editor.uri(path), "jmespath", 1, text.replace("|", ""))
        editor.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        params = types.CompletionParams(**editor.at(path, text))
        found = await editor.client.text_document_completion_async(params)
        assert isinstance(found, types.CompletionList)
        assert {"number", "plant"} <= {item.label for item in found.items}
        closed = types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(editor.uri(path)))
        editor.client.text_document_did_close(closed)

    session(scenario)


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        (HEAD + "  - to: erp.ho|ld\n", "`erp.hold`: operation of `erp` (http), declared in connectors/erp.yaml:6:3"),
        (HEAD + "  - to: erp.hold\n    time|out: 5s\n", "**timeout**: Longest time of the step"),
        (HEAD + "  - loo|kup: { table: plants, by: body.id }\n", "**lookup**: Find a value in a cross-reference table"),
        (HEAD + "  - filter: body.result|\n", "`body.result`: 'ACCEPT' or 'REJECT' (contract inspection.v1)"),
        (HEAD + "  - filter: body.lo|t.number\n", "`body.lot`: an object (contract inspection.v1)"),
        (HEAD + "  - set: { vars.x: upp|er(body.id) }\n", "**upper(text)**"),
        (HEAD + "  - filter: m|eta.key\n", "**meta**: what the bus knows of the message"),
    ],
)
def test_what_something_is_is_told(session: Any, marked: str, words: str) -> None:
    async def scenario(editor: Editor) -> None:
        assert words in await editor.hover(marked)

    session(scenario)


@pytest.mark.parametrize(
    ("marked", "places"),
    [
        (HEAD + "  - to: erp.ho|ld\n", ["connectors/erp.yaml:6:3"]),
        (HEAD + "  - validate: inspec|tion.v1\n", ["schemas/inspection.v1.json:1:1"]),
        (HEAD + "  - transform: ho|ld.jmes\n", ["transforms/hold.jmes:1:1"]),
        (HEAD + "  - filter: body.lot.num|ber\n", ["schemas/inspection.v1.json:10:33"]),
        (HEAD + "  - filter: vars.lo|t\n", ["routes/r.yaml:6:12"]),
        (HEAD + "  - to: { route: oth|er }\n", ["routes/other.yaml:1:8"]),
        (HEAD + "  - log: x|y\n", []),
    ],
)
def test_the_place_where_something_is_declared_is_found(session: Any, marked: str, places: list[str]) -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.definition(marked) == places

    session(scenario)
