"""Where the value of ``${secret:name}`` comes from: environment, a file of the secrets folder, a systemd credential."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esb.secret import Secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_BYTES = 64_000


class SecretMissing(Exception):
    """No place holds the secret, or what it holds cannot be used. The text says which and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def environment_name(name: str) -> str:
    """``erp-password`` is ``ESB_SECRET_ERP_PASSWORD``."""
    return "ESB_SECRET_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


@dataclass(frozen=True, slots=True)
class Secrets:
    """Finds secrets by name. ``folder`` holds one file per secret; ``environ`` is the process environment."""

    folder: Path
    environ: Mapping[str, str]
    folder_name: str = ".secrets"

    def find(self, name: str) -> Secret:
        """The secret; one newline at the end of a file is not part of it. Raises SecretMissing."""
        if not NAME.fullmatch(name):
            raise SecretMissing(f"`{name}` is not a name of a secret", "use letters, digits, `-`, `_` and `.`")
        value = self.environ.get(environment_name(name))
        if value is None:
            value = self._from_files(name)
        if not value:
            raise SecretMissing(
                f"the secret `{name}` is {'not set' if value is None else 'empty'}",
                f"set {environment_name(name)}, or write it to the file {self.folder_name}/{name}",
            )
        return Secret(value, name)

    def _from_files(self, name: str) -> str | None:
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        places = [self.folder / name] + ([Path(credentials) / name] if credentials else [])
        for place in places:
            try:
                data = place.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                reason = (error.strerror or "error").lower()
                raise SecretMissing(
                    f"the file of the secret `{name}` cannot be read: {reason}", f"check {place}"
                ) from error
            if len(data) > _MAX_BYTES:
                raise SecretMissing(f"the file of the secret `{name}` is larger than 64 KB", f"check {place}")
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise SecretMissing(f"the file of the secret `{name}` is not UTF-8", f"check {place}") from error
            return text.removesuffix("\n").removesuffix("\r")
        return None
