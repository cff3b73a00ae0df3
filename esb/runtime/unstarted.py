"""A route whose source cannot start, as a fault of its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from esb.config.model import RouteSpec
from esb.errors import ConfigError, EsbError, InternalFault, Problem, StoreError


def cannot_start(spec: RouteSpec, error: EsbError) -> Problem:
    """ESB801 at the source. What fails while it is filled in (a template) has no message to read from."""
    hint = error.hint
    if not hint and isinstance(error, InternalFault):
        hint = "what a source names is filled in at its start, from `site` in esb.yaml or from the values of the site"
    return Problem("ESB801", f"route `{spec.name}` cannot start: {error}", spec.source.position, hint)


@contextmanager
def placed(spec: RouteSpec) -> Iterator[None]:
    """At the start of the bus such a route ends it: raises ConfigError with the place. A store that fails is no fault of it."""
    try:
        yield
    except (ConfigError, StoreError):
        raise
    except EsbError as error:
        raise ConfigError([cannot_start(spec, error)]) from error
