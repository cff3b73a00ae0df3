"""Whom a client believes over TLS."""

from __future__ import annotations

import ssl


def trusting(authorities: str | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authorities of a file, or those of this machine. Raises OSError where it cannot be read.

    Since 3.13 Python's own default also refuses an authority that lacks extensions which RFC 5280 asks for. Those of plants are
    older than that, so a bus that gets another Python believes whom it did before.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
