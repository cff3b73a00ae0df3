"""Exit codes: small ones for people and scripts, sysexits for service managers."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from esb.cli.streams import tell

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
_HERE = "who runs this may not; look at owner and permissions"
#: what whoever typed a path, or owns it, mends
_NAMED = {
    errno.EACCES: (NOT_ALLOWED, _HERE),
    errno.EPERM: (NOT_ALLOWED, _HERE),
    errno.EROFS: (NOT_ALLOWED, "give a path on a disk that can be written"),
    errno.ENOENT: (MISSING, "a folder of this path is not there"),
    errno.ENOTDIR: (MISSING, "a part of this path is a file"),
    errno.EISDIR: (USAGE, "name a file in it"),
    errno.EEXIST: (NO, "choose another name"),
    errno.ENAMETOOLONG: (USAGE, "choose a shorter name"),
}


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
        tell(f"esb: {self.message}", err=True)  # the code counts, also where nobody can read the words
        if self.hint:
            tell(f"  = help: {self.hint}", err=True)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the errors of the bus into exit codes; anything else is a bug and says so."""
    from esb.errors import FULL, ConfigError, EsbError, StoreBusy, StoreCorrupt, StoreError

    try:
        yield
    except StoreBusy as error:
        _end(error, AGAIN)
    except StoreCorrupt as error:
        _end(error, BAD_INPUT)
    except (StoreError, ConfigError) as error:
        _end(error, BAD_CONFIG)
    except EsbError as error:
        _end(error, NO)
    except OSError as error:
        if error.errno in FULL:
            what = f" {os.fsdecode(error.filename)}" if error.filename is not None else ""
            raise SystemExit(
                _said(f"cannot write{what}: {error.strerror}", AGAIN, "make room, then try again")
            ) from None
        if error.errno == errno.ENOENT and not _somewhere():
            raise SystemExit(_said("the current folder is gone", MISSING, "go to the workspace")) from None
        if error.filename is not None and error.errno in _NAMED:
            code, hint = _NAMED[error.errno]
            raise SystemExit(_said(f"{os.fsdecode(error.filename)}: {error.strerror}", code, hint)) from None
        traceback.print_exc()
        _end(error, BUG)
    except UnicodeEncodeError as error:
        if not any(_half(argument) for argument in sys.argv) or not _half(error.object):
            traceback.print_exc()
            _end(error, BUG)
        hint = "this terminal and `LANG` must be of one mind; for a payload take `--data @FILE`"
        raise SystemExit(_said("an argument is not UTF-8", USAGE, hint)) from None
    except (click.exceptions.Exit, click.ClickException, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence turns a bug into its exit code
        traceback.print_exc()
        _end(error, BUG)


def check_planted() -> None:
    """End with one line where ``ESB_FAILPOINTS`` (with ``ESB_TEST=1``) cannot be read: it is read when its module loads."""
    try:
        importlib.import_module("esb.failpoints")
    except ValueError as error:
        raise SystemExit(_said(str(error), USAGE, "")) from None


def _said(message: str, code: int, hint: str) -> int:
    Exit(message, code, hint=hint).show()
    return code


def _half(text: str) -> bool:
    """Whether bytes that were no text stand in it, as Python takes them from a command line."""
    return any("\udc80" <= char <= "\udcff" for char in text)


def _somewhere() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() is the same call
    except OSError:
        return False
    return True


def _end(error: Exception, code: int) -> NoReturn:
    Exit(str(error), code, hint=getattr(error, "hint", "")).show()
    sys.exit(code)
