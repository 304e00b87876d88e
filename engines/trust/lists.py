"""Two short signed lists beside the key: consents that were withdrawn, and unsigned identity files of before.

A list is one JSON file, signed as a whole. One that was changed by hand is refused, and with it every identity: who
may be worn cannot be told any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engines.errors import IdentityError
from engines.trust.key import LocalKey, is_signed
from engines.trust.records import canonical, records_trouble, write_whole

Entries = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class SignedList:
    """`purpose` names it in its signature, so that one list cannot stand in another's place."""

    path: Path
    purpose: str

    def read(self, key: LocalKey) -> Entries:
        """Empty where there is no file. Raises IdentityError for a file that this installation did not write."""
        try:
            values = json.loads(self.path.read_bytes())
            entries, signature = values["entries"], values["signature"]
            whole = set(values) == {"entries", "signature"} and isinstance(signature, str)
            genuine = whole and is_signed(key.public, self.purpose, canonical(entries), signature)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise IdentityError(records_trouble(self.path, error)) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IdentityError(f"{self.path}: damaged; no identity is loaded without it") from error
        if not genuine:
            raise IdentityError(f"{self.path}: was changed by somebody else; no identity is loaded with it")
        return {str(name): {str(k): str(v) for k, v in entry.items()} for name, entry in entries.items()}

    def write(self, key: LocalKey, entries: Entries) -> None:
        """Raises IdentityError where the disk does not take it; the list is then as it was."""
        signed = {"entries": entries, "signature": key.sign(self.purpose, canonical(entries))}
        try:
            write_whole(self.path, json.dumps(signed, indent=1).encode("ascii"))
        except OSError as error:
            raise IdentityError(f"cannot be written: {records_trouble(self.path, error)}") from error


def withdrawn(folder: Path) -> SignedList:
    """Origin of the identity (`Manifest.origin_sha256`) to when and why."""
    return SignedList(folder / "withdrawn.json", "withdrawn consents")


def of_before(folder: Path) -> SignedList:
    """Folder of identities to the unsigned files that lay in it when signatures came: name to sha256."""
    return SignedList(folder / "unsigned.json", "unsigned identities")
