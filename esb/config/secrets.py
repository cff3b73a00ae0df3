"""Where the value of ``${secret:name}`` comes from: environment, a file of the secrets folder, a systemd credential, a keyring."""

from __future__ import annotations

import os
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
    """Finds secrets by name. ``folder`` holds one file per secret; ``environ`` is the process environment; ``keyring`` is the
    service under which the keyring of the operating system is asked last, empty for never."""

    folder: Path
    environ: Mapping[str, str]
    folder_name: str = ".secrets"
    keyring: str = ""

    def find(self, name: str) -> Secret:
        """The secret; one newline at the end of a file is not part of it. Raises SecretMissing."""
        if not NAME.fullmatch(name):
            raise SecretMissing(f"`{name}` is not a name of a secret", "use letters, digits, `-`, `_` and `.`")
        value = self.environ.get(environment_name(name))
        if value is None:
            value = self._from_files(name)
        if value is None and self.keyring:
            value = self._from_keyring(name)
        if not value:
            raise SecretMissing(
                f"the secret `{name}` is {'not set' if value is None else 'empty'}",
                f"set {environment_name(name)}, or write it to the file {self.folder_name}/{name}",
            )
        return Secret(value, name)

    def source(self, name: str) -> str:
        """Where a secret comes from: ``environment``, ``file``, ``credential`` or ``keyring``; else ``missing``, ``empty``,
        ``unreadable``, or ``file others may read``. Its value is not given."""
        if (given := self.environ.get(environment_name(name))) is not None:
            return "environment" if given else "empty"
        try:
            self.find(name)
        except SecretMissing as error:
            return next((word for word in ("not set", "empty") if word in error.message), "unreadable").replace(
                "not set", "missing"
            )
        for word, place in self._places(name):
            if place.exists():
                readable = os.name != "nt" and word == "file" and place.stat().st_mode & 0o007
                return "file others may read" if readable else word
        return "keyring"

    def place(self, name: str) -> str:
        """The variable or file that holds the secret, or would."""
        if environment_name(name) in self.environ:
            return environment_name(name)
        for word, place in self._places(name):
            if place.exists():
                return f"{self.folder_name}/{name}" if word == "file" else str(place)
        return f"keyring {self.keyring}" if self.keyring else f"{self.folder_name}/{name}"

    def _places(self, name: str) -> list[tuple[str, Path]]:
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        files = [("file", self.folder / name)]
        return [*files, ("credential", Path(credentials) / name)] if credentials else files

    def _from_keyring(self, name: str) -> str | None:
        try:
            import keyring  # noqa: PLC0415 - an extra, imported where it is asked
            from keyring.errors import KeyringError  # noqa: PLC0415 - the same
        except ImportError:
            raise SecretMissing(
                "`keyring:` in esb.yaml needs the keyring extra", "pip install 'plantbus[keyring]'"
            ) from None
        try:
            return keyring.get_password(self.keyring, name)
        except KeyringError as error:
            raise SecretMissing(
                f"the keyring cannot be asked for `{name}`: {error}",
                "is it unlocked, and of the user who runs the bus?",
            ) from error

    def _from_files(self, name: str) -> str | None:
        for _, place in self._places(name):
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
