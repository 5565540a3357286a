"""The key that signs what this installation made: Ed25519, made at first use, readable by its owner only.

In: bytes. Out: signatures, and whether one holds. It knows neither files of others nor what it signs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prompt2lora.errors import DamagedFile
from prompt2lora.files import write_bytes

_BYTES = 32


@dataclass(frozen=True)
class Signer:
    """Signs with the key in `file`."""

    file: Path

    @property
    def _key(self) -> Ed25519PrivateKey:
        if not self.file.exists():
            write_bytes(self.file, Ed25519PrivateKey.generate().private_bytes_raw())
            os.chmod(self.file, 0o600)
        raw = self.file.read_bytes()
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
