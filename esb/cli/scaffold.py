"""``esb init`` and ``esb new``: files that work at once."""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esb.cli import exits, names

if TYPE_CHECKING:
    from esb.config.model import RouteSpec

#: what a workspace is made of; everything else of the repository stays there
PARTS = ("routes", "schemas", "transforms", "connectors", "kpis")
SETTINGS = "esb.yaml"
#: what `esb init` can begin with; all but the first lie in starters/
REFERENCE, EMPTY = "reference", "empty"
BEGINNINGS = (REFERENCE, "file-drop", EMPTY)
_SECRET = re.compile(r"\$\{secret:([a-z0-9][a-z0-9._-]*)\}")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
IGNORE = ".esb/\n.secrets/\nvar/\n"

SETTINGS_TEXT = """\
# Settings of this bus; `esb explain CODE` and the reference say what else there is.
bus: {name}
timezone: UTC
"""
WORKFLOW = """\
# What must be true of every change of this workspace.
on: [push, pull_request]
jobs:
  esb:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: { python-version: "3.13" }
      - run: pip install plantbus
      - run: esb fmt --check .
      - run: esb lint --no-env --format github .
      - run: esb test . --junit esb-test.xml
"""
HOOKS = """\
# pre-commit: the same before a commit; `esb` must be on the path.
repos:
  - repo: local
    hooks:
      - { id: esb-fmt, name: esb fmt, language: system, entry: esb fmt ., pass_filenames: false }
      - { id: esb-lint, name: esb lint, language: system, entry: esb lint --no-env ., pass_filenames: false }
      - { id: esb-test, name: esb test, language: system, entry: esb test ., pass_filenames: false }
"""
CONTRACT = """\
{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "%s",
  "type": "object",
  "required": ["lot", "qty"],
  "properties": {
    "lot": { "type": "string", "minLength": 1 },
    "qty": { "type": "number", "minimum": 0 }
  }
}
"""

#: how a route may begin, by the endpoint's name
SOURCES = {
    "http": "http: {{ path: /{name}, method: POST }}",
    "file": 'file: {{ path: "var/in/{name}/*.json", every: 5s, done: {{ move: ../../done/ }} }}',
    "timer": "timer: {{ every: 5m }}",
    "topic": "topic: {name}",
    "sql": "sql: {{ connector: CONNECTOR, every: 15s, outbox: {{ table: esb_outbox }} }}",
    "amqp": "amqp: {{ connector: CONNECTOR, queue: {name} }}",
    "mqtt": "mqtt: {{ connector: CONNECTOR, topics: [plant/+/{name}] }}",
    "sftp": 'sftp: {{ connector: CONNECTOR, path: "in/*.json", every: 1m, done: {{ move: ../archive/ }} }}',
}
ROUTE = """\
route: {name}
description: What it is for, in a line
owner: who-is-asked
# key: body.lot                       # messages of one lot stay in order
from:
  {source}
steps:
  - log: "{{{{ meta.message_id }}}} came in"
  - to: {target}
    timeout: 10s
    retry: {{ max: 10, backoff: 1s..5m }}
on_error:
  - {{ for: any, dead_letter: {name} }}
"""
TEST = """\
route: {name}
cases:
  - name: what is proved, in a line
    send: {{ json: {{}} }}
{stubs}    expect: {{ state: done }}
"""
MAP = """\
{
  lot: body.lot,
  quantity: body.qty
}
"""
CONNECTORS = {
    "http": "base_url: http://127.0.0.1:9000\noperations:\n  post:\n    path: /\n",
    "sql": "url: sqlite:///var/{name}.db\n",
    "amqp": "url: amqp://127.0.0.1:5672/\n",
    "mqtt": "url: mqtt://127.0.0.1:1883\n",
    "smtp": "host: 127.0.0.1\nport: 25\nsecurity: none\n",
    "sftp": "host: 127.0.0.1\nuser: esb\npassword: ${{secret:{name}}}\nknown_hosts: connectors/{name}.known_hosts\n",
}


def reference_root() -> Path:
    """The reference workspace: in an installed program beside the code, in a checkout the repository's root."""
    package = Path(__file__).parents[1]
    shipped = package / "_workspace"
    return shipped if shipped.is_dir() else package.parent


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--template",
    "begin",
    type=click.Choice(BEGINNINGS),
    help="What to begin with: the reference ERP-QMS bus (without this option), CSV files from a folder to one system, or one small route.",
)
@click.option("--empty", is_flag=True, help="The same as --template empty.")
def init(directory: Path, begin: str | None, empty: bool) -> None:
    """Make a workspace in DIRECTORY that lints, passes its tests and runs. Existing files are never touched."""
    if empty and begin not in (None, EMPTY):
        raise click.UsageError(f"--empty is --template {EMPTY}: leave one of them out")
    parts = _parts(begin or (EMPTY if empty else REFERENCE))
    taken = [name for name in dict.fromkeys((*PARTS, *parts, SETTINGS)) if (directory / name).exists()]
    if taken:
        hint = "name an empty folder: esb init my-bus"
        raise exits.Exit(f"{directory / taken[0]} exists already", exits.NO, hint=hint)
    directory.mkdir(parents=True, exist_ok=True)
    for name, source in parts.items():
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file() and "__pycache__" not in file.parts:
                _write(directory / name / file.relative_to(source), file.read_bytes())
    for name, text in (
        (SETTINGS, SETTINGS_TEXT.format(name=_name_of(directory))),
        (".gitignore", IGNORE),
        (".github/workflows/esb.yml", WORKFLOW),
        (".pre-commit-config.yaml", HOOKS),
    ):
        if not (directory / name).exists():
            _write(directory / name, text)
    _for_editors(
        directory, [*directory.glob("*.yaml"), *(p for part in PARTS for p in (directory / part).rglob("*.yaml"))]
    )
    made = _secrets(directory)
    click.echo(
        f"made {directory.resolve()}" + (f", with {made} random secrets in .secrets/ to be replaced" if made else "")
    )
    click.echo(f"next: cd {directory}; esb lint; esb run" if directory != Path() else "next: esb lint; esb run")


def _parts(begin: str) -> dict[str, Path]:
    """What a workspace begins with: names in it, and the files and folders that are copied there."""
    if begin == REFERENCE:
        return {name: reference_root() / name for name in (*PARTS, SETTINGS)}
    return {path.name: path for path in sorted((Path(__file__).with_name("starters") / begin).iterdir())}


@click.group()
def new() -> None:
    """Write a file to begin with: a route, a connector, a contract, a mapping or a test."""


@new.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=click.Choice(sorted(SOURCES)),
    default="http",
    show_default=True,
    help="Where messages come from.",
)
@click.option("--to", "target", default="", help="`connector.operation`; a file in var/out/ without it.")
@click.option(
    "--connector", default="", help="Connector of the source, where it needs one.", shell_complete=names.connectors
)
@click.option(
    "--like", default="", metavar="ROUTE", help="Begin with a copy of this route instead.", shell_complete=names.routes
)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
def route(name: str, source: str, target: str, connector: str, like: str, directory: Path) -> None:
    """A route NAME in routes/NAME.yaml."""
    if like:
        _create(directory / "routes" / f"{_checked(name)}.yaml", _copy(directory, like, name), directory)
        return
    begins = SOURCES[source].format(name=_checked(name))
    if "CONNECTOR" in begins and not connector:
        raise exits.Exit(
            f"`{source}` needs a connector",
            exits.USAGE,
            hint=f"esb new connector NAME --type {source}, then --connector NAME",
        )
    ends = target or f'{{ file: {{ path: "var/out/{name}-{{{{ meta.message_id }}}}.json" }} }}'
    text = ROUTE.format(name=name, source=begins.replace("CONNECTOR", connector), target=ends)
    _create(directory / "routes" / f"{name}.yaml", text, directory)


@new.command()
@click.argument("name")
@click.option(
    "--type", "kind", type=click.Choice(sorted(CONNECTORS)), default="http", show_default=True, help="Its protocol."
)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
def connector(name: str, kind: str, directory: Path) -> None:
    """A connector NAME in connectors/NAME.yaml."""
    text = f"connector: {_checked(name)}\ntype: {kind}\n" + CONNECTORS[kind].format(name=name)
    _create(directory / "connectors" / f"{name}.yaml", text, directory)


@new.command()
@click.argument("name")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
def schema(name: str, directory: Path) -> None:
    """A contract NAME.v1 in schemas/NAME.v1.json."""
    _create(directory / "schemas" / f"{_checked(name)}.v1.json", CONTRACT % name)


@new.command("map")
@click.argument("name")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
def map_(name: str, directory: Path) -> None:
    """A mapping NAME in transforms/NAME.jmes, for `transform: NAME.jmes`; `esb try NAME.jmes` runs it on a file."""
    _create(directory / "transforms" / f"{_checked(name)}.jmes", MAP)


@new.command()
@click.argument("route_name", metavar="ROUTE", shell_complete=names.routes)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
def test(route_name: str, directory: Path) -> None:
    """A test of ROUTE beside it, with an answer for each of its targets."""
    spec = _spec(directory, route_name)
    answers = "".join(f"      {target}: {{ status: 200 }}\n" for target in spec.targets if _is_outside(spec, target))
    text = TEST.format(name=route_name, stubs=f"    stubs:\n{answers}" if answers else "")
    place = directory / spec.position.path
    _create(place.with_name(f"{route_name}.test.yaml"), text)


def _spec(directory: Path, name: str) -> RouteSpec:
    """A route of the workspace as it is. Exits where there is none."""
    from esb.config.checks import nearest
    from esb.config.loader import read_workspace

    loaded = read_workspace(directory, need_secrets=False)
    specs = {doc.spec.name: doc.spec for doc in loaded.docs if doc.spec is not None}
    if name not in specs:
        hint = nearest(name, specs) or "esb lint says what is wrong with a file"
        raise exits.Exit(f"no route `{name}`", exits.MISSING, hint=hint)
    return specs[name]


def _is_outside(spec: RouteSpec, name: str) -> bool:
    from esb.config.routes import steps_of, targets_of

    protocols = {one.protocol for step in steps_of(spec.blocks) for one in targets_of(step) if one.name == name}
    return not protocols & {"topic", "route"}


def _copy(directory: Path, like: str, name: str) -> str:
    """The document of a route under another name; a part of a path that is its name goes along."""
    spec = _spec(directory, like)
    text = next(iter(spec.files.values()))
    named = re.compile(rf"(^route:\s*|/){re.escape(like)}(?![\w.-])", re.MULTILINE)
    return named.sub(lambda found: found[1] + name, text).lstrip("-\n")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        hint = f"small letters, digits and `-`: {_kebab(name) or 'my-route'}"
        raise exits.Exit(f"`{name}` is no name", exits.USAGE, hint=hint)
    return name


def _create(path: Path, text: str, root: Path | None = None) -> None:
    """Write a new file; one of YAML in the workspace ``root`` gets its line for editors."""
    if path.exists():
        raise exits.Exit(f"{path} exists already", exits.NO, hint="choose another name, or edit it")
    _write(path, text)
    if root is not None:
        _for_editors(root, [path])
    click.echo(f"made {path}; check it: esb lint")


def _for_editors(root: Path, files: list[Path]) -> None:
    """Give files the line by which an editor finds the schema, and the workspace the schema where it has none."""
    from esb.config.editor import editor_schema
    from esb.config.fixes import SCHEMAS
    from esb.config.fixing import add_modelines
    from esb.registry import load

    if not any((root / name).is_file() for name in SCHEMAS):
        schema = json.dumps(editor_schema(load()), ensure_ascii=False, separators=(",", ":"), default=str)
        _write(root / SCHEMAS[-1], schema + "\n")
    paths = [path.relative_to(root).as_posix() for path in sorted(files) if not path.name.startswith(".")]
    add_modelines(root, [path for path in paths if not path.endswith(".test.yaml")])


def _write(path: Path, text: str | bytes) -> None:
    from esb.config.drafts import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def _name_of(directory: Path) -> str:
    return _kebab(directory.resolve().name) or "my-bus"


def _kebab(words: str) -> str:
    """Words as a name: `Werk Süd` is `werk-sued`."""
    german = words.lower().translate({0xE4: "ae", 0xF6: "oe", 0xFC: "ue", 0xDF: "ss"})
    plain = unicodedata.normalize("NFKD", german).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _secrets(directory: Path) -> int:
    """A random value for every secret that the files name and nobody has set; how many."""
    from esb.config.drafts import write_whole

    texts = [path.read_text(encoding="utf-8") for path in sorted(directory.rglob("*.yaml"))]
    names = {name for text in texts for name in _SECRET.findall(text)}
    folder = directory / ".secrets"
    made = 0
    for name in sorted(names):
        path = folder / name
        if not path.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, secrets.token_urlsafe(18), mode=0o600)
            made += 1
    return made
