"""The key that signs what this installation made: Ed25519, made once, readable by its owner only.

In: bytes. Out: signatures, and whether one holds. A key that is gone is never replaced: what it signed could not be
checked any more. It knows neither files of others nor what it signs.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prompt2lora.errors import DamagedFile, OutputError, cause

_BYTES = 32


@dataclass(frozen=True)
class Signer:
    """Signs with the key in `file`."""

    file: Path

    def make(self) -> None:
        """Make the key if there is none; of two processes that do so at once, both end with the same one."""
        if self.file.exists():
            return
        aside = self.file.with_name(f".{secrets.token_hex(8)}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            aside.touch(0o600, exist_ok=False)
            with aside.open("wb") as stream:
                stream.write(Ed25519PrivateKey.generate().private_bytes_raw())
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):
                os.link(aside, self.file)
        except OSError as error:
            raise OutputError(
                f"cannot write the key {self.file} ({cause(error)}); free space or name another home"
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    @property
    def _key(self) -> Ed25519PrivateKey:
        try:
            raw = self.file.read_bytes()
        except OSError as error:
            raise DamagedFile(
                f"the signing key {self.file} cannot be read ({cause(error)}); put its backup back"
            ) from error
        if len(raw) != _BYTES:
            raise DamagedFile(f"{self.file} must hold {_BYTES} bytes and holds {len(raw)}; put the key's backup back")
        return Ed25519PrivateKey.from_private_bytes(raw)

    @property
    def public(self) -> str:
        """The public key in hexadecimal: what an auditor needs to check signatures."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def holds(self, signature: bytes, data: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, data)
        except InvalidSignature:
            return False
        return True
