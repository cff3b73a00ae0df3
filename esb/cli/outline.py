"""``esb explain`` and ``esb docs``: a workspace in plain words, and as a catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esb.cli import exits, names
from esb.cli.gateway import json_option, workspace_option
from esb.cli.output import emit_json, safe
from esb.cli.places import read_or_fail

if TYPE_CHECKING:
    from esb.config.model import Workspace

_CODE = re.compile(r"ESB\d{3}", re.IGNORECASE)


@click.command()
@click.argument("word", metavar="CODE|ROUTE", shell_complete=names.routes_and_codes)
@workspace_option
@json_option
def explain(word: str, root: Path, as_json: bool) -> None:
    """What a diagnostic CODE (such as ESB101) means and what to do, or what a ROUTE does, in plain words.

    Of a route it also says for how long a target is tried at worst, if every attempt takes all its time and every wait is the
    longest.
    """
    if _CODE.fullmatch(word):
        _code(word.upper(), as_json)
        return
    from esb.outline.words import explain as words_of
    from esb.outline.words import worst_cases

    workspace = read_or_fail(root, "explain ROUTE -C")
    spec = workspace.routes.get(word)
    if spec is None:
        import difflib

        close = difflib.get_close_matches(word, workspace.routes, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "codes look like ESB101; routes: esb routes ls"
        raise exits.Exit(f"neither a code nor a route: {word}", exits.MISSING, hint=hint)
    lines = words_of(workspace, spec)
    if as_json:
        cases = [case.as_item() for case in worst_cases(workspace, spec)]
        emit_json(
            {"kind": "RouteExplained", "items": [{"route": word, "text": "\n".join(lines), "worst_cases": cases}]}
        )
    else:
        click.echo(safe("\n".join(lines)))


def _code(code: str, as_json: bool) -> None:
    from esb.config.codes import CODES

    known = CODES.get(code)
    if known is None:
        raise exits.Exit(f"no code {code}", exits.MISSING, hint="codes look like ESB101; `esb lint` prints them")
    if as_json:
        emit_json({"kind": "Code", "items": [{"code": code, "title": known.title, "text": known.text}]})
    else:
        click.echo(f"{code}: {known.title}\n\n{known.text}")


@click.group()
def docs() -> None:
    """The catalogue of a workspace: routes, systems, contracts, OpenAPI, AsyncAPI."""


@docs.command("build")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("site"), show_default=True, help="Folder of the pages.")  # fmt: skip
@click.option("--url", default="", help="Where callers reach the ingress; the address of esb.yaml without it.")
@json_option
def docs_build(directory: Path, out: Path, url: str, as_json: bool) -> None:
    """Write the catalogue of DIRECTORY as static pages that call nobody, with openapi.json and asyncapi.json.

    It holds the texts of routes and contracts, and of the files that they use; no secret is in it.
    """
    from esb.outline.site import build

    workspace = read_or_fail(directory, "docs build")
    paths = build(workspace, url or _address(workspace), out)
    if as_json:
        emit_json({"kind": "Site", "items": [{"path": str(out / path)} for path in paths]})
    else:
        click.echo(f"{len(paths)} files in {out}; open {out / 'index.html'}")


@docs.command("serve")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the pages; a free one without it.")
@click.option("--url", default="", help="Where callers reach the ingress; the address of esb.yaml without it.")
def docs_serve(directory: Path, port: int, url: str) -> None:
    """Serve what `docs build` writes on this machine alone, built anew on every save; Ctrl-C ends.

    Nothing is written. While files have faults the pages stay as they were, and stderr says what is wrong.
    """
    from esb.cli.catalogue import serve
    from esb.outline.site import site

    def built() -> Mapping[str, str]:
        workspace = read_or_fail(directory, "docs serve")
        return site(workspace, url or _address(workspace))

    serve(directory.resolve(), built, port)


def _address(workspace: Workspace) -> str:
    """Where esb.yaml says that the ingress listens."""
    http = workspace.settings.http
    return f"{'https' if http.tls else 'http'}://{http.host}:{http.port}"
