"""Adapter folders, kept once and for ever under the digest of their contents, with a signed manifest; and the pictures
of what they were made of and measured on.

In: an adapter folder, or pictures. Out: its digest, by which it is found, verified and served. What is outside the
adapter profile is not taken in, and a flipped byte in any file of an entry is noticed by `verify`; in a picture, when
it is read. It knows files only: no models, no database.

    store/<digest>/adapter_config.json
                   adapter_model.safetensors
                   manifest.json             {"files": {name: SHA-256}}
                   manifest.sig              Ed25519 over manifest.json
    store/pictures/<digest>                  the bytes of a picture, as they came
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prompt2lora.adapter import folder as adapter_folder
from prompt2lora.custody.signing import Signer
from prompt2lora.errors import DamagedFile, Unavailable, UsageError, cause, readable_now
from prompt2lora.ground.files import file_digest, new_folder, write_bytes
from prompt2lora.ground.pictures import Picture, picture_digest

_PICTURES = "pictures"
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_ENTRY = (*adapter_folder.FILES, _MANIFEST, _SIGNATURE)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Store:
    """The folder `root`; entries are only ever added, or put back as they were."""

    root: Path
    signer: Signer

    def put(self, folder: Path) -> str:
        """Copy an adapter folder in; returns its digest. The same contents are kept once; an entry that is
        not sound any more is put back by them.

        Raises DamagedFile for a folder outside the adapter profile; nothing of it is kept then.
        """
        card = adapter_folder.beside(folder)  # for people; it is not kept
        manifest = _manifest(folder, (*adapter_folder.FILES, *card))
        digest = hashlib.sha256(manifest).hexdigest()
        place = self.root / digest
        if not place.exists() or not self.is_sound(digest):
            shutil.rmtree(place, ignore_errors=True)
            with new_folder(place) as aside:
                for name in adapter_folder.FILES:
                    shutil.copyfile(folder / name, aside / name, follow_symlinks=False)
                if _manifest(aside) != manifest:
                    raise DamagedFile(f"{folder} changed while it was copied; try again")
                adapter_folder.read(aside)
                (aside / _MANIFEST).write_bytes(manifest)
                (aside / _SIGNATURE).write_bytes(self.signer.sign(manifest))
        return digest

    def path(self, digest: str) -> Path:
        """Where an entry lies. Raises UsageError for what is no digest, DamagedFile for an entry that is gone,
        Unavailable if that cannot be told now."""
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"an adapter is found by its SHA-256, and {digest[:80]!r} is not one; see `registry list`")
        place = self.root / digest
        try:
            there, away = place.is_dir(), not self.root.is_dir()
        except OSError as error:
            raise Unavailable(
                f"adapter {digest[:12]} cannot be accessed now ({cause(error)}); restore access to it"
            ) from error
        if away:
            raise Unavailable(f"{self.root} is not there now, where the adapters lie; mount it, or put the backup back")
        if not there:
            raise DamagedFile(f"the adapter {digest[:12]} is gone from {self.root}; put the backup back or roll back")
        return place

    def verify(self, digest: str) -> None:
        """Raises DamagedFile unless every file is what the signed manifest says, and nothing lies beside them;
        Unavailable if that cannot be told now, since the system does not let them be read or the key is not there."""
        with readable_now(f"adapter {digest[:12]}"):
            place = self.path(digest)
            adapter_folder.check_files(
                place, _ENTRY
            )  # what is a link or no file is no file of ours, however it is read
            try:
                manifest = (place / _MANIFEST).read_bytes()
                signature = (place / _SIGNATURE).read_bytes()
            except OSError as error:
                raise DamagedFile(
                    f"the adapter {digest[:12]} has lost its manifest ({cause(error)}); roll back"
                ) from error
            try:
                signed = self.signer.holds(signature, manifest)
            except DamagedFile as error:  # of the key, which tells nothing of the adapter
                raise Unavailable(
                    f"it cannot be checked now whether adapter {digest[:12]} is sound: {error}"
                ) from error
            if hashlib.sha256(manifest).hexdigest() != digest or not signed:
                raise DamagedFile(
                    f"the manifest of adapter {digest[:12]} was altered or signed by another key; roll back"
                )
            if _manifest(place, _ENTRY) != manifest:
                raise DamagedFile(f"the files of adapter {digest[:12]} are not those of its manifest; roll back")

    def is_sound(self, digest: str) -> bool:
        """Whether `verify` finds nothing wrong. Raises Unavailable if that cannot be told now."""
        try:
            self.verify(digest)
        except DamagedFile:
            return False
        return True

    def put_pictures(self, pictures: Iterable[Picture]) -> None:
        """Keep pictures, each once."""
        for picture in pictures:
            place = self.root / _PICTURES / picture.digest
            if not place.is_file() or file_digest(place) != picture.digest:
                write_bytes(place, picture.read())

    def picture(self, digest: str) -> Picture:
        """A kept picture, which is read when it is looked at; raises DamagedFile then, if it is gone or altered."""
        return Picture(digest, partial(self._read, digest), f"the picture {digest[:12]}")

    def _read(self, digest: str) -> bytes:
        place = self.root / _PICTURES / digest
        try:
            data = place.read_bytes() if _DIGEST.fullmatch(digest) else b""
        except OSError as error:
            raise DamagedFile(f"the picture {digest[:12]} is gone ({cause(error)}); put the backup back") from error
        if picture_digest(data) != digest:
            raise DamagedFile(f"the picture {digest[:12]} was altered; put the backup of {place} back")
        return data

    def digests(self) -> list[str]:
        """Of the adapters."""
        return sorted(place.name for place in self.root.glob("*") if _DIGEST.fullmatch(place.name))


def _manifest(folder: Path, names: Collection[str] = adapter_folder.FILES) -> bytes:
    """The manifest that the folder's present contents deserve; it has to hold files of these names."""
    adapter_folder.check_files(folder, names)
    files = {name: file_digest(folder / name) for name in adapter_folder.FILES}
    return json.dumps({"files": files}, sort_keys=True).encode()
