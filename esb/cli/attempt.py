"""``esb try``: a transformation on a payload, once or in a local playground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.gateway import workspace_option
from esb.cli.output import emit_json, safe

if TYPE_CHECKING:
    from esb.testing.attempt import Tried


@click.command("try")
@click.argument("transform", default="")
@click.option("--data", "-d", default="", help="The payload, or @FILE (@- for standard input).")
@click.option(
    "--format",
    "form",
    default="",
    help='How the payload is read: csv, or { csv: { delimiter: ";" } }; by the name of its file without it.',
)
@click.option("--header", "-H", "header", multiple=True, metavar="K=V", help="A header of the message.")
@click.option("--vars", "variables", default="", metavar="JSON", help="`vars` of the message, as a JSON object.")
@click.option("--contract", default="", help="Contract that the payload must meet.")
@click.option("--serve", is_flag=True, help="A page on this machine to try transformations in; Ctrl-C ends it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page; a free one without it.")
@workspace_option
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def attempt(
    transform: str,
    data: str,
    form: str,
    header: tuple[str, ...],
    variables: str,
    contract: str,
    serve: bool,
    port: int,
    root: Path,
    as_json: bool,
) -> None:
    """Run TRANSFORM on a payload, and print what comes out.

    TRANSFORM is a file (x.jmes, x.j2; in transforms/ or anywhere), a JMESPath expression over `body headers vars meta site`, a Jinja text
    with `{{ … }}`, or the fields of a `map` in YAML. The payload is read as a route would read it. Exit code 1 where nothing comes
    out, 65 where the words or the payload have faults.
    """
    if serve:
        from esb.cli.playground import serve as run

        run(root.resolve(), port)
        return
    if not transform or not data:
        raise click.UsageError("Give TRANSFORM and --data, or --serve.")
    found, lines = _tried(root.resolve(), transform, data, form, header, variables, contract)
    if as_json:
        problems = [
            {"code": one.code, "at": str(one.position), "message": one.message, "hint": one.hint}
            for one in found.problems
        ]
        emit_json(
            {
                "kind": "Tried",
                "items": [{"good": found.good, "body": found.body, "error": found.error, "problems": problems}],
            }
        )
    else:
        click.echo(lines, err=not found.good)
    if found.problems or (found.error or {}).get("class") == "invalid":
        sys.exit(exits.BAD_INPUT)
    sys.exit(exits.DONE if found.good else exits.NO)


def _tried(
    root: Path, transform: str, data: str, form: str, header: tuple[str, ...], variables: str, contract: str
) -> tuple[Tried, str]:
    from esb.cli.operate import _payload
    from esb.testing import attempt as attempts

    headers = {}
    for pair in header:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"`{pair}`: write NAME=VALUE", param_hint="--header")
        headers[name.lower()] = value
    words, given = transform, _object(variables)
    extra: dict[str, str] = {}
    place = Path(transform)
    known = (root / "transforms" / transform, root / transform)
    of_workspace = not place.is_absolute() and any(os.path.isfile(one) for one in known)  # noqa: PTH113 - an expression may be no path at all
    if transform.endswith(attempts.ENDINGS) and not of_workspace:
        try:
            words, extra = attempts.beside(place)
        except (OSError, UnicodeDecodeError) as error:
            raise exits.Exit(f"cannot read {place}: {error}", exits.MISSING) from None
    name = data[1:] if data.startswith("@") and data != "@-" else ""
    found = attempts.attempt(
        root,
        words,
        _payload(data),
        name=Path(name).name,
        form=form,
        headers=headers,
        contract=contract,
        variables=given,
        extra=extra,
    )
    return found, shown(found)


def _object(text: str) -> dict[str, Any]:
    from esb.errors import Invalid
    from esb.formats.json import Json

    try:
        value = Json().decode(text.encode()) if text else {}
    except Invalid as error:
        raise click.BadParameter(f"no JSON: {error.message}", param_hint="--vars") from None
    if not isinstance(value, dict):
        raise click.BadParameter('write a JSON object: {"plant": "P10"}', param_hint="--vars")
    return value


def shown(found: Tried) -> str:
    """The result for people: JSON over several lines, a text as it is, or what is wrong and where."""
    import msgspec

    from esb.config.diagnostics import render_text
    from esb.formats.json import Json

    if found.problems:
        lines = found.lines or {}
        return safe(render_text(found.problems, lambda path: list(lines.get(path, ()))))
    if found.error is not None:
        more = "".join(f"\n  {one['pointer']}: {one['detail']}" for one in found.error.get("errors", ()))
        return safe(f"{found.error['class']} at {found.error.get('step', '')}: {found.error['message']}{more}")
    if isinstance(found.body, str):
        return safe(found.body)
    if isinstance(found.body, bytes):
        return repr(found.body)
    return msgspec.json.format(Json().encode(found.body), indent=2).decode()
