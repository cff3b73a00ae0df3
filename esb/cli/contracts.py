"""``esb contracts``: which there are, what changed between two of them, and whether a change needs a new version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.places import workspace_folder


@click.group()
def contracts() -> None:
    """Contracts of a workspace: the files schemas/<entity>.v<major>.json."""


@contracts.command("ls")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def ls(directory: Path, as_json: bool) -> None:
    """Every contract: who uses it, and whether it is deprecated or over."""
    from esb.cli.output import emit_json, table
    from esb.config.loader import read_workspace
    from esb.contracts.life import Life

    root = workspace_folder(directory, "contracts ls")
    loaded = read_workspace(root, resolve_env=False, need_secrets=False)
    users: dict[str, list[str]] = {}
    for doc in loaded.docs:
        for path in doc.scope.used:
            users.setdefault(path, []).append(doc.name)
    items: list[dict[str, Any]] = []
    for path, schema in sorted(_schemas(_texts_in(root)).items()):
        life = Life.of(schema) or Life()
        over = life.is_over(datetime.now(UTC))
        state = "over" if over else "deprecated" if life.deprecated else "in use" if users.get(path) else "not used"
        items.append(
            {
                "name": Path(path).stem,
                "path": path,
                "state": state,
                "sunset": life.sunset.date().isoformat() if life.sunset else None,
                "successor": life.successor or None,
                "routes": sorted(set(users.get(path, ()))),
            }
        )
    if as_json:
        emit_json({"kind": "ContractList", "items": items})
        return
    shown = [{**item, "routes": ", ".join(item["routes"] or ()) or "–"} for item in items]
    table(
        shown,
        [("CONTRACT", "name"), ("STATE", "state"), ("SUNSET", "sunset"), ("THEN", "successor"), ("ROUTES", "routes")],
        empty="no contracts in schemas/",
    )


@contracts.command("diff")
@click.argument("old")
@click.argument("new")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
def diff(old: str, new: str, directory: Path) -> None:
    """What changes from the contract OLD to NEW (names, or files), and for whom that breaks something. Exit code 1 where it does."""
    from esb.contracts.compat import changes

    root = workspace_folder(directory, "contracts diff")
    found = changes(_one(root, old), _one(root, new))
    _show(found)
    sys.exit(exits.NO if any(change.breaks != "nobody" for change in found) else exits.DONE)


@contracts.command("check")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--against", default="HEAD", show_default=True, help="A folder with the released workspace, or a revision of git."
)
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def check(directory: Path, against: str, as_json: bool) -> None:
    """Whether contracts that were released are changed in a way that needs a new version: a file <entity>.v<next>.json.

    Breaking is what refuses messages that were right before, and what takes away fields that readers knew. Exit code 0 or 1.
    """
    from esb.cli.output import emit_json
    from esb.contracts.compat import changes

    root = workspace_folder(directory, "contracts check")
    released = _schemas(_texts_in(Path(against)) if Path(against).is_dir() else _texts_of_git(root, against))
    now = _schemas(_texts_in(root))
    items: list[dict[str, Any]] = []
    for path in sorted(released):
        if path not in now:
            items.append({"path": path, "pointer": "/", "change": "the contract is gone", "breaks": "senders"})
            continue
        for change in changes(released[path], now[path]):
            facts = {"pointer": change.where, "change": change.words, "breaks": change.breaks}
            items.append({"path": path, **facts})
    breaking = [item for item in items if item["breaks"] != "nobody"]
    if as_json:
        emit_json({"kind": "ContractChanges", "items": items})
    else:
        for item in items:
            mark = "✗" if item["breaks"] != "nobody" else "·"
            whom = f"  (breaks {item['breaks']})" if item["breaks"] != "nobody" else ""
            click.echo(f"{mark} {item['path']} {item['pointer']}: {item['change']}{whom}")
        for path in dict.fromkeys(item["path"] for item in breaking):
            click.echo(f"  = help: leave {path} as it was and write {_next(path)} beside it")
        new = sorted(now.keys() - released.keys())
        click.echo(f"{len(released)} released, {len(new)} new, {len(breaking)} breaking changes")
    sys.exit(exits.NO if breaking else exits.DONE)


def _next(path: str) -> str:
    stem, dot, major = path.removesuffix(".json").rpartition(".v")
    return f"{stem}.v{int(major) + 1}.json" if dot and major.isdigit() else "a new version"


def _show(found: list[Any]) -> None:
    for change in found:
        mark = "✗" if change.breaks != "nobody" else "·"
        whom = f"  (breaks {change.breaks})" if change.breaks != "nobody" else ""
        click.echo(f"{mark} {change.where}: {change.words}{whom}")
    if not found:
        click.echo("no difference that matters")


def _one(root: Path, name: str) -> Any:
    places = (Path(name), root / name, root / "schemas" / name, root / "schemas" / f"{name}.json")
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise exits.Exit(f"no contract {name}", exits.MISSING, hint="esb contracts ls")
    return _read(place.read_bytes(), str(place))


def _schemas(texts: Mapping[str, bytes]) -> dict[str, Any]:
    return {path: _read(data, path) for path, data in texts.items()}


def _read(data: bytes, path: str) -> Any:
    from esb.contracts import read_schema
    from esb.errors import ConfigError

    try:
        return read_schema(data, path)
    except ConfigError as error:
        raise exits.Exit(str(error), exits.BAD_CONFIG) from None


def _texts_in(root: Path) -> dict[str, bytes]:
    return {
        place.relative_to(root).as_posix(): place.read_bytes() for place in sorted((root / "schemas").rglob("*.json"))
    }


def _texts_of_git(root: Path, revision: str) -> dict[str, bytes]:
    """The contracts of a revision, by their paths in the workspace."""
    names = _git(root, "ls-tree", "-r", "--name-only", "--", revision, "schemas").decode().splitlines()
    return {name: _git(root, "show", f"{revision}:./{name}") for name in names if name.endswith(".json")}


def _git(root: Path, *words: str) -> bytes:
    arguments = list(_quiet(words))
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True)  # noqa: S603, S607 - no shell
    except FileNotFoundError:
        raise exits.Exit("git is not installed", exits.MISSING, hint="give a folder: --against DIR") from None
    except subprocess.CalledProcessError as error:
        words_ = error.stderr.decode("utf-8", "replace").strip().splitlines()
        hint = "give a folder with the released workspace: --against DIR"
        raise exits.Exit(words_[0] if words_ else "git failed", exits.MISSING, hint=hint) from None
    return done.stdout


def _quiet(words: tuple[str, ...]) -> Iterator[str]:
    """A revision is data: what begins with a dash would be an option of git."""
    for word in words:
        if word == "--":
            continue
        if word.startswith("-") and word not in ("-r", "--name-only"):
            raise exits.Exit(f"{word} is no revision", exits.USAGE)
        yield word
