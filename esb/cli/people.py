"""``esb users`` and ``esb tokens``: who may come to the admin listener, and with what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, table

ROLE_HELP = (
    "A role (viewer, operator, engineer, auditor, admin) or a right, at one site as `operator@P10`; may be repeated."
)


@click.group()
def users() -> None:
    """Users of the pages and the API: add, list, disable, change password and roles.

    As soon as there is one, nobody reads over the admin listener without a login; this command line goes on with the token in
    `.esb/bus.lock`, which only the bus's own user can read.
    """


@users.command("ls")
@workspace_option
@json_option
def users_ls(root: Path, as_json: bool) -> None:
    """Every user with its roles."""
    found = Gateway(root).get("/users")
    if as_json:
        emit_json(found)
        return
    rows = [
        {
            **item,
            "held": " ".join(item["roles"]),
            "state": "disabled" if item["disabled"] else "active",
            "since": clock(item["created"]),
        }
        for item in found["items"]
    ]
    columns = [("USER", "user"), ("NAME", "full_name"), ("STATE", "state"), ("FROM", "origin"), ("SINCE", "since")]
    table(rows, [*columns, ("ROLES", "held")], empty="no users: the API is open to reading on this machine")


def _password_options(command: Any) -> Any:
    for decorate in (
        click.option("--generate", is_flag=True, help="Make up a password and print it once."),
        click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
    ):
        command = decorate(command)
    return command


def _password(name: str, from_stdin: bool, generate: bool) -> tuple[str, str]:
    """The password of a user, and what of it is to be printed."""
    if generate:
        from esb.access.passwords import made_up

        made = made_up(name)
        return made, made
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), ""
    if not sys.stdin.isatty():
        raise click.UsageError("No terminal to ask for the password: give --password-stdin or --generate.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)), ""


def _done(found: dict[str, Any], as_json: bool, said: str, shown: str = "") -> None:
    if as_json:
        items = [{**item, **({"password": shown} if shown else {})} for item in found["items"]]
        emit_json({**found, "items": items})
    else:
        click.echo(said)
        if shown:
            click.echo(f"password (shown this once): {shown}")


_reason = click.option("--reason", default="", help="Why; kept in the audit.")


@users.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help=ROLE_HELP)
@click.option("--full-name", default="", help="As it stands beside signatures.")
@_password_options
@_reason
@workspace_option
@json_option
def users_add(
    name: str,
    roles: tuple[str, ...],
    full_name: str,
    password_stdin: bool,
    generate: bool,
    reason: str,
    root: Path,
    as_json: bool,
) -> None:
    """Make a user. There is no password by default: it is asked for, read from standard input, or made up."""
    password, shown = _password(name, password_stdin, generate)
    words = {"name": name, "roles": list(roles), "password": password, "full_name": full_name, "reason": reason}
    found = Gateway(root).post("/users", words)
    item = found["items"][0]
    _done(found, as_json, f"{item['user']} added: {', '.join(item['roles'])}", shown)


@users.command("roles")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help=ROLE_HELP)
@_reason
@workspace_option
@json_option
def users_roles(name: str, roles: tuple[str, ...], reason: str, root: Path, as_json: bool) -> None:
    """Give a user these roles instead of those it has; its sessions end."""
    found = Gateway(root).post(f"/users/{name}/roles", {"roles": list(roles), "reason": reason})
    _done(found, as_json, f"{name}: {', '.join(found['items'][0]['roles'])}")


@users.command("passwd")
@click.argument("name")
@_password_options
@_reason
@workspace_option
@json_option
def users_passwd(name: str, password_stdin: bool, generate: bool, reason: str, root: Path, as_json: bool) -> None:
    """Give a user another password; its sessions end."""
    password, shown = _password(name, password_stdin, generate)
    found = Gateway(root).post(f"/users/{name}/passwd", {"password": password, "reason": reason})
    _done(found, as_json, f"{name}: the password was changed", shown)


@users.command("disable")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let the user in again.")
@_reason
@workspace_option
@json_option
def users_disable(name: str, undo: bool, reason: str, root: Path, as_json: bool) -> None:
    """Let a user not in any more: its sessions and its tokens end at once. Users are never deleted: the audit names them."""
    verb = "enable" if undo else "disable"
    found = Gateway(root).post(f"/users/{name}/{verb}", {"reason": reason})
    _done(found, as_json, f"{name}: {verb}d")


@click.group()
def tokens() -> None:
    """API tokens: create, list, revoke. A token is shown once; the store has only its hash."""


@tokens.command("ls")
@workspace_option
@json_option
def tokens_ls(root: Path, as_json: bool) -> None:
    """Every token with its scopes, owner and end."""
    found = Gateway(root).get("/tokens")
    if as_json:
        emit_json(found)
        return
    rows = [
        {**item, "held": " ".join(item["scopes"]), "until": clock(item["expires"]), "since": clock(item["created"])}
        for item in found["items"]
    ]
    columns = [("TOKEN", "token"), ("STATE", "state"), ("OWNER", "owner"), ("SINCE", "since"), ("UNTIL", "until")]
    table(rows, [*columns, ("SCOPES", "held")], empty="no tokens")


@tokens.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help=ROLE_HELP)
@click.option("--owner", default="", help="User whose rights bound it, and with whom it ends.")
@click.option("--expires", default="90d", show_default=True, help="How long it is good, or `never`.")
@_reason
@workspace_option
@json_option
def tokens_create(
    name: str, scopes: tuple[str, ...], owner: str, expires: str, reason: str, root: Path, as_json: bool
) -> None:
    """Make a token for a program, with no more rights than it needs: `--scope read`, `--scope retry@P10`."""
    words = {"name": name, "scopes": list(scopes), "owner": owner, "expires": expires, "reason": reason}
    found = Gateway(root).post("/tokens", words)
    item = found["items"][0]
    if as_json:
        emit_json(found)
    else:
        click.echo(item["secret"])
        click.echo(f"shown this once; good until {clock(item['expires']) if item['expires'] else 'revoked'}", err=True)


@tokens.command("revoke")
@click.argument("name")
@_reason
@workspace_option
@json_option
def tokens_revoke(name: str, reason: str, root: Path, as_json: bool) -> None:
    """End a token at once."""
    _done(Gateway(root).post(f"/tokens/{name}/revoke", {"reason": reason}), as_json, f"{name}: revoked")
