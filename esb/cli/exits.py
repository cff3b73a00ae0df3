"""Exit codes: small ones for people and scripts, sysexits for service managers."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

DONE, NO, USAGE, BAD_INPUT, MISSING, UNREACHABLE, BUG, AGAIN, NOT_ALLOWED, BAD_CONFIG = (
    0,
    1,
    2,
    65,
    66,
    69,
    70,
    75,
    77,
    78,
)


class Exit(click.ClickException):
    """Ends the command with a message on stderr and a code."""

    def __init__(self, message: str, code: int, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click reads it, and only reads it
        return self.code

    def show(self, file: object = None) -> None:
        click.echo(f"esb: {self.message}", err=True)
        if self.hint:
            click.echo(f"  = help: {self.hint}", err=True)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the errors of the bus into exit codes; anything else is a bug and says so."""
    from esb.errors import EsbError, StoreBusy, StoreCorrupt, StoreError

    try:
        yield
    except StoreBusy as error:
        _end(error, AGAIN)
    except StoreCorrupt as error:
        _end(error, BAD_INPUT)
    except StoreError as error:
        _end(error, BAD_CONFIG)
    except EsbError as error:
        _end(error, NO)
    except BrokenPipeError:
        sys.exit(0)
    except (click.exceptions.Exit, click.ClickException, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence turns a bug into its exit code
        traceback.print_exc()
        _end(error, BUG)


def _end(error: Exception, code: int) -> NoReturn:
    Exit(str(error), code, hint=getattr(error, "hint", "")).show()
    sys.exit(code)
