"""What an error of a database means for a message: again later, or no for good."""

from __future__ import annotations

from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)

from esb.errors import InternalFault, MessageError, Rejected, Unavailable

#: SQLSTATE classes and codes that pass: connection, resources, serialization, deadlock, lock, operator's shutdown
_PASSING = ("08", "53", "57", "40", "55P03", "25006", "58")
#: MySQL, SQL Server and Oracle numbers of the same kind
_PASSING_NUMBERS = frozenset({1040, 1205, 1213, 2002, 2003, 2006, 2013, 1222, 60, 54, 3113, 3114, 12541, 1033, 1089})
_SQLITE_PASSING = ("locked", "busy", "disk i/o", "full", "unable to open")


def fault_of(name: str, error: Exception) -> MessageError:
    """The error by which the runtime decides, in the words of the database without its parameters."""
    if isinstance(error, MessageError):
        return error
    words = f"{name}: {_words(error)}"
    if isinstance(error, DisconnectionError):
        return Unavailable(words)
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or _passes(error):
            return Unavailable(words)
        return Rejected(words)
    # sqlite3 has no error of its own for a number that is too large
    if isinstance(error, (StatementError, OverflowError)):
        return Rejected(words, hint="a value does not fit its parameter")
    if isinstance(error, (SQLAlchemyError, OSError)):
        return Unavailable(words)
    return InternalFault(f"{words} ({type(error).__name__})")


def _passes(error: DBAPIError) -> bool:
    original = error.orig
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_PASSING)
    arguments = getattr(original, "args", ())
    if type(original).__module__.startswith("sqlite3"):
        text = str(original).lower()
        return isinstance(error, OperationalError) and any(word in text for word in _SQLITE_PASSING)
    if arguments and isinstance(arguments[0], int):
        return arguments[0] in _PASSING_NUMBERS
    return isinstance(error, (OperationalError, InterfaceError))


def _words(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    text = " ".join(str(original).split())
    return text[:500] or type(original).__name__
