"""The authority's record of what it issued: one JSON object a line, only ever appended to."""

import dataclasses
import datetime
import json
from pathlib import Path

from certs.errors import CertificateFileError
from certs.identity import PeerIdentity, Role


class Index:
    """The file ``index.jsonl`` beside the authority's certificate.

    Each line has the serial, by which a later revocation refers to a certificate.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, issued: PeerIdentity) -> None:
        """Record a certificate; done before it is handed out. Raises ``CertificateFileError``."""
        entry = dataclasses.asdict(issued) | {
            "role": issued.role.value,
            "not_before": issued.not_before.isoformat(),
            "not_after": issued.not_after.isoformat(),
        }
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, sort_keys=True) + "\n")
        except OSError as error:
            raise CertificateFileError(self.path, f"cannot be written: {error.strerror}") from error

    def entries(self) -> list[PeerIdentity]:
        """Everything issued, oldest first. Raises ``CertificateFileError``."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise CertificateFileError(self.path, f"cannot be read: {error.strerror}") from error
        return [self._parse(number, line) for number, line in enumerate(lines, start=1)]

    def _parse(self, number: int, line: str) -> PeerIdentity:
        try:
            entry = json.loads(line)
            return PeerIdentity(
                customer=entry["customer"],
                role=Role(entry["role"]),
                name=entry["name"],
                serial=entry["serial"],
                not_before=datetime.datetime.fromisoformat(entry["not_before"]),
                not_after=datetime.datetime.fromisoformat(entry["not_after"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CertificateFileError(
                self.path, f"line {number} is not an entry of the index ({error!r})"
            ) from error
