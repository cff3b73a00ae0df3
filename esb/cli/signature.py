"""Signatures on the command line: from a person at a terminal, or from the environment of a shell without one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esb.config.model import Settings
    from esb.store.base import Store

_VARIABLES = {
    "user": "ESB_SIGN_USER",
    "password": "ESB_SIGN_PASSWORD",
    "proof": "ESB_SIGN_PROOF",
    "meaning": "ESB_SIGN_MEANING",
}


def of_environment() -> dict[str, str]:
    """``ESB_SIGN_USER``, ``ESB_SIGN_MEANING``, and ``ESB_SIGN_PASSWORD`` (or ``ESB_SIGN_PROOF``, or neither for who logs in at an identity
    provider); empty without a name."""
    found = {name: os.environ[variable] for name, variable in _VARIABLES.items() if os.environ.get(variable)}
    return found if found.get("user") else {}


def asked(why: str) -> dict[str, str]:
    """What the person at the terminal answers; empty where there is none."""
    if not sys.stdin.isatty():
        return {}
    click.echo(f"esb: {why}", err=True)
    return {
        "user": click.prompt("User", err=True),
        "password": click.prompt(
            "Password (empty: log in at the identity provider)",
            hide_input=True,
            err=True,
            default="",
            show_default=False,
        ),
        "meaning": click.prompt("Meaning of the signature", default="", show_default=False, err=True),
    }


def proof_of(detail: str) -> str:
    """Wait for the person to log in at the identity provider, as ``detail`` of the bus's answer says; empty without a terminal."""
    if not sys.stdin.isatty():
        return ""
    click.echo(f"esb: {detail} (a page of the admin listener)", err=True)
    click.prompt("Press Enter when you have", default="", show_default=False, err=True)
    return detail.rpartition("/")[2]


async def of_stopped(store: Store, settings: Settings | None, reason: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit keeps of who does something to the whole store of a stopped bus: signed where the bus is regulated.

    Raises NeedsSignature, WrongSignature, and NotAllowed for a user who may not purge (the right ``people``).
    """
    from esb.access.people import People
    from esb.access.roles import Right, all_rights
    from esb.admin.access import Access
    from esb.admin.assembly import is_regulated
    from esb.admin.by import By
    from esb.admin.signing import Signing
    from esb.clock import SystemClock
    from esb.operations import NotAllowed, Who, signed
    from esb.secret import Secret

    if not is_regulated(store) and not (settings is not None and settings.regulated):
        return {}
    clock = SystemClock()
    people = People(store, clock)
    signing = Signing(people, Access(Secret("offline"), None, (), clock, people), clock, regulated=True)
    sign = of_environment() or asked("this needs your password again, a reason and a meaning")
    by = By(all_rights("api", "local"), reason, "", "127.0.0.1", sign)
    who, detail = await signing.person(by, "db", known=True)
    if not who.everywhere(Right.PEOPLE):
        raise NotAllowed(f"{who.user} may not do this", hint="it takes an admin")
    return {"by": who.user, **signed(Who(who.user, reason, detail), record)}
