"""Encryption of what leaves this machine, by age: for the public keys that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.errors import SettingsError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.settings.settings import Settings

_INSTALL = "install backset with its extra age, or the package pyrage beside it"
_NAME_IT = "set backup_identity to the file of the private key"


@dataclass(frozen=True, slots=True)
class Sealing:
    """Who can open new backups, and with which key old ones are opened.

    recipients: public keys; without any, backups are written as they are. identity: a file, which
    is read when something is to be opened.
    """

    recipients: Sequence[str]
    identity: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Sealing:
        """Return what the settings say."""
        said = settings.backup_identity
        where = settings.root / Path(said).expanduser() if said else None
        return cls(settings.backup_recipients, where)

    def seal(self, content: bytes) -> bytes:
        """Return a file of age with that content. Raises SettingsError for a key that is none."""
        if not self.recipients:
            return content
        age = _imported()
        return bytes(age.encrypt(content, [_recipient(age, each) for each in self.recipients]))

    def open(self, content: bytes, where: str) -> bytes:
        """Return what is in a file of age. Raises StepFailedError where our key does not fit."""
        age = _imported()
        try:
            return bytes(age.decrypt(content, self._identities(age, where)))
        except age.DecryptError as error:
            what = f"{where} is not opened by {self.identity}: {error}"
            raise StepFailedError(what, "name the key of one of its recipients") from None

    def _identities(self, age: Any, where: str) -> list[Any]:  # noqa: ANN401  (a module)
        if self.identity is None:
            raise StepFailedError(f"{where} is encrypted, and no key is known for it", _NAME_IT)
        try:
            text = self.identity.read_bytes()
            if b"-----BEGIN" in text:
                return [age.ssh.Identity.from_buffer(text)]
            lines = text.decode().splitlines()
            return [age.x25519.Identity.from_str(each) for each in lines if each.startswith("AGE-")]
        except OSError as error:
            what = f"{self.identity} cannot be read: {error.strerror}"
            raise StepFailedError(what, _NAME_IT) from None
        except (age.IdentityError, ValueError):  # which may show what it has read
            raise StepFailedError(f"{self.identity} has no key of age or SSH", _NAME_IT) from None


def _recipient(age: Any, text: str) -> Any:  # noqa: ANN401  (a module, and its own type)
    kind = age.ssh if text.startswith("ssh-") else age.x25519
    try:
        return kind.Recipient.from_str(text)
    except age.RecipientError as error:
        what = f"backup_recipients has {text[:20]}…, which is no public key: {error}"
        raise SettingsError(
            [(what, "copy it whole, from the first character to the last")]
        ) from None


def _imported() -> Any:  # noqa: ANN401  (a module without types)
    try:
        import pyrage  # noqa: PLC0415  (few encrypt their backups themselves)
    except ImportError:
        raise SettingsError([("backups by age need the package pyrage", _INSTALL)]) from None
    return pyrage
