"""``${NAME}``, ``${NAME:-default}`` and ``${secret:name}`` in the values of a workspace; ``$${`` stands for ``${``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from esb.config.secrets import SecretMissing, Secrets
from esb.config.yaml import Filled
from esb.errors import Position, Problem
from esb.secret import Secret

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Expander:
    """Fills references in. With ``resolve=False`` nothing is looked up: an unknown value becomes a placeholder.

    ``unknown`` collects the places whose value is not known, so that no second problem is reported about them.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        secrets: Secrets,
        report: Callable[[Problem], None],
        *,
        resolve: bool = True,
        need_secrets: bool = True,
    ) -> None:
        self._environ, self._secrets, self._report, self._resolve = environ, secrets, report, resolve
        self._need_secrets = need_secrets
        self.unknown: set[Position] = set()
        self.secrets_used: dict[str, list[Position]] = {}

    def __call__(self, text: str, at: Position) -> Filled:
        """The text with everything filled in, a Secret where it holds one."""
        parts: list[str] = []
        secret_name = ""
        changed = False
        end = 0
        for found in _REFERENCE.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            reference = found[1]
            if reference is None:
                parts.append("${")
                continue
            changed = True
            place = self._inside(at, text, found.start(), found.end())
            if reference.startswith("secret:"):
                secret = self._secret(reference.removeprefix("secret:"), place, at)
                secret_name = secret_name or secret.name
                parts.append(secret.reveal())
            else:
                parts.append(self._variable(reference, place, at))
        whole = "".join((*parts, text[end:]))
        return Filled(Secret(whole, secret_name) if secret_name else whole, changed, at in self.unknown)

    @staticmethod
    def _inside(at: Position, text: str, start: int, end: int) -> Position:
        """The place of the reference itself; exact where the value is written in one line without escapes."""
        if "\n" in text or end > at.length:
            return at
        quote = 1 if at.length == len(text) + 2 else 0
        return Position(at.path, at.line, at.column + quote + start, end - start)

    def _secret(self, name: str, place: Position, at: Position) -> Secret:
        self.secrets_used.setdefault(name, []).append(at)
        if not self._resolve:
            return Secret(f"placeholder of {name}", name)
        try:
            return self._secrets.find(name)
        except SecretMissing as error:
            severity: Literal["error", "warning"] = "error" if self._need_secrets else "warning"
            message = error.message if self._need_secrets else f"{error.message}; `esb run` does not start without it"
            self._report(Problem("ESB503", message, place, hint=error.hint, severity=severity))
            return Secret(f"missing: {name}", name or "?")

    def _variable(self, reference: str, place: Position, at: Position) -> str:
        name, has_default, default = reference.partition(":-")
        if not _NAME.fullmatch(name):
            self.unknown.add(at)
            self._report(
                Problem(
                    "ESB006",
                    f"`${{{reference}}}` is no name of the environment",
                    place,
                    hint="a value of the message is an expression (`body.x`), in a text `{{ body.x }}`; "
                    "for the characters themselves write `$${`",
                )
            )
            return ""
        value = self._environ.get(name) if self._resolve else None
        if value:
            return value
        if has_default:
            return default
        if value is None and self._resolve:
            self.unknown.add(at)
            self._report(
                Problem(
                    "ESB006",
                    f"the environment variable {name} is not set",
                    place,
                    hint=f"set it, or give a default: `${{{name}:-value}}`",
                )
            )
        if value is None:
            self.unknown.add(at)
        return value or ""
