"""The standard streams of the process: there from the beginning, and never the end of a bus that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

#: 128 and the number of SIGPIPE.
READER_LEFT = 141


def secure() -> None:
    """Put the null device in the place of each of stdin, stdout and stderr that the caller has closed.

    Else the first file that is opened gets its number: whatever a library says on stderr would stand in that file, and the
    event loop ends the process over it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def encode(windows: bool = os.name == "nt") -> None:
    """A console that lacks a sign must not break a command; files and programs get UTF-8, as JSON must be, on Windows, too."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            ours = windows and "PYTHONIOENCODING" not in os.environ and not stream.isatty()
            reconfigure(encoding="utf-8" if ours else None, errors="backslashreplace")


def tell(text: str, *, err: bool = False) -> None:
    """A line for whoever started the bus; where it cannot be written (a full disk, a reader that left) the bus goes on."""
    stream, number = (sys.stderr, 2) if err else (sys.stdout, 1)
    try:
        click.echo(text, err=err)
        stream.flush()
    except OSError:
        _to_nobody(number)


@contextmanager
def piped() -> Iterator[None]:
    """Where the reader of the output has left (`esb messages ls | head -1`) the command ends as other programs do: without a word,
    and with the code that a shell gives for it."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        for number in (1, 2):
            _to_nobody(number)
        raise click.exceptions.Exit(READER_LEFT) from None


def _to_nobody(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)  # what is left in the buffer has somewhere to go
    os.close(null)
