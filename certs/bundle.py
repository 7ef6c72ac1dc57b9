"""The bundle that stamps an edge: the control plane it may talk to, and its certificate."""

import dataclasses
import json
import tomllib
from pathlib import Path

from certs.authority import Credential
from certs.credentials import TlsMaterial, load_tls_material
from certs.errors import CertificateFileError, InvalidNameError
from certs.files import PUBLIC_MODE, write_file
from certs.identity import Role

BUNDLE_FILE = "bundle.toml"
CA_FILE = "ca.pem"
CERTIFICATE_FILE = "edge.pem"
KEY_FILE = "edge.key"
DEFAULT_PORT = 443


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeBundle:
    """The content of ``bundle.toml``; certificate and key lie in the same directory."""

    directory: Path
    customer: str
    edge: str
    """The edge's name, as in its certificate."""
    control_plane: str
    """``HOST:PORT`` that the edge dials."""
    server_name: str
    """DNS name or IP address that the control plane's certificate must have."""

    @classmethod
    def load(cls, directory: Path) -> "EdgeBundle":
        """Read a bundle. Raises ``CertificateFileError`` that names file and key."""
        path = directory / BUNDLE_FILE
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CertificateFileError(path, f"cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CertificateFileError(path, f"expected TOML: {error}") from error
        keys = ("customer", "edge", "control_plane", "server_name")
        for key in keys:
            if not isinstance(content.get(key), str) or not content[key]:
                raise CertificateFileError(path, f"key {key!r}: expected a text that is not empty")
        return cls(directory, *(content[key] for key in keys))

    def write(self, ca_pem: bytes, credential: Credential) -> None:
        """Write the bundle's four files. Raises ``CertificateFileError``."""
        credential.write(self.directory / CERTIFICATE_FILE, self.directory / KEY_FILE)
        write_file(self.directory / CA_FILE, ca_pem, PUBLIC_MODE)
        fields = {
            "customer": self.customer,
            "edge": self.edge,
            "control_plane": self.control_plane,
            "server_name": self.server_name,
        }
        # A JSON string is a TOML basic string.
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
        write_file(self.directory / BUNDLE_FILE, text.encode(), PUBLIC_MODE)

    def tls_material(self) -> TlsMaterial:
        """Load and check the edge's credentials. Raises ``CertificateFileError``."""
        material = load_tls_material(
            self.directory / CA_FILE,
            self.directory / CERTIFICATE_FILE,
            self.directory / KEY_FILE,
            Role.EDGE,
        )
        identity = material.identity
        if (identity.customer, identity.name) != (self.customer, self.edge):
            raise CertificateFileError(
                self.directory / CERTIFICATE_FILE,
                f"is edge {identity.name!r} of customer {identity.customer!r}, but {BUNDLE_FILE} "
                f"says edge {self.edge!r} of customer {self.customer!r}",
            )
        return material


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``; the port defaults to 443.

    Raises ``InvalidNameError``.
    """
    host, separator, port = text.rpartition(":")
    if not separator or (text.count(":") > 1 and not text.startswith("[")) or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidNameError(f"control plane {text!r}: expected HOST:PORT")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Join host and port again, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
