"""Writes ``docs/reference/*.md`` from the code. ``make docs`` runs it; a test fails where the files differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from esb.cli import COMMANDS, cli
from esb.config.catalogue import options_page, reference_markdown
from esb.registry import load
from esb.spec import options_of
from esb.testing.model import SuiteOptions

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def pages() -> dict[str, str]:
    """File name to text."""
    reference = {name: with_examples(name, text) for name, text in reference_markdown(load()).items()}
    found = {**reference, "cli.md": command_line(), "tests.md": route_tests()}
    return {"README.md": index(found), **found}


#: page of the reference → folder of the routes to try
_TRIED = {"steps.md": "steps", "sources.md": "endpoints", "sinks.md": "endpoints", "formats.md": "formats"}
#: format → standards that it reads, which have a route of their own
_STANDARDS = {"xml": ["b2mml", "qif"]}
#: format → folders with files of real systems
_REAL = {
    "aqdef": ["aqdef"],
    "csv": ["csv"],
    "edifact": ["edifact"],
    "idoc": ["idoc"],
    "json": ["catenax", "certificates"],
    "odata": ["odata", "sap_gateway_exchanges"],
    "x12": ["x12"],
    "xml": ["b2mml", "gs1xml", "idoc", "qif", "soap"],
}


def with_examples(name: str, text: str) -> str:
    """A page of components, each with the route that shows it and the files of real systems that a format has."""
    if name not in _TRIED:
        return text
    head, *sections = text.split("\n## `")
    return "\n## `".join([head, *(_with_example(section, name) for section in sections)])


def _with_example(section: str, page: str) -> str:
    component = section.partition("`")[0]
    names = [component, *(_STANDARDS.get(component, []) if page == "formats.md" else [])]
    links = [_link(Path("examples") / _TRIED[page] / f"{name}.yaml") for name in names]
    if page == "formats.md":
        links += [_link(Path("examples") / "data" / folder) for folder in _REAL.get(component, [])]
    return f"{section.rstrip()}\n\nTo try: {', '.join(links)}.\n"


def _link(path: Path) -> str:
    return f"[{path.as_posix()}](../../{path.as_posix()})"


def index(found: dict[str, str]) -> str:
    """The list of pages, each with the first sentence below its heading."""
    lines = ["# Reference", "", "Generated from the code by `make docs`.", ""]
    for name, text in sorted(found.items()):
        heading, _, rest = text.partition("\n")
        about = next((line for line in rest.splitlines() if line.strip()), "")
        lines.append(f"* [{heading.lstrip('# ')}]({name}): {about}")
    return "\n".join(lines) + "\n"


def route_tests() -> str:
    """The words of a route test."""
    return options_page(
        "Route tests",
        "A file routes/**/<name>.test.yaml holds one or more documents that begin with `route:`; see [Testing](../testing.md).",
        [("A document", "", options_of(SuiteOptions))],
    )


def command_line() -> str:
    """Every command with its help."""
    parts = ["# Command line", "", "Commands of `esb`, as `--help` prints them."]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts.extend(_help(command, f"esb {name}"))
    return "\n".join(parts) + "\n"


def _help(command: click.Command, path: str) -> list[str]:
    names = ["-h", "--help"]  # as `esb` itself says it; click keeps what it was asked for first
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100, help_option_names=names)
    parts = ["", f"## `{path}`", "", "```text", command.get_help(context).rstrip(), "```"]
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        assert inner is not None
        parts.extend(_help(inner, f"{path} {name}"))
    return parts


def main() -> None:
    if REFERENCE.exists():
        shutil.rmtree(REFERENCE)
    REFERENCE.mkdir(parents=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
