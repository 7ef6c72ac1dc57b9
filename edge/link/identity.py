"""This edge's identity: its bundle, read at every dial so that a renewed one is used."""

import dataclasses
import datetime
from pathlib import Path

from certs.bundle import EdgeBundle, parse_address
from certs.credentials import TlsMaterial
from certs.errors import CertificateError
from edge.errors import BundleError


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A bundle that is valid now."""

    bundle: EdgeBundle
    material: TlsMaterial

    @property
    def name(self) -> str:
        """The edge's name, as in its certificate."""
        return self.bundle.edge

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the control plane."""
        return parse_address(self.bundle.control_plane)


def load_identity(directory: Path, now: datetime.datetime) -> Identity:
    """Read and check the bundle in ``directory``.

    Raises ``BundleError`` when a file is missing or damaged, when files do not belong together, or
    when the certificate is not valid at ``now`` (UTC).
    """
    try:
        bundle = EdgeBundle.load(directory)
        material = bundle.tls_material()
        parse_address(bundle.control_plane)
    except CertificateError as error:
        raise BundleError(
            f"{error}; stamp the edge with `vsg-certs stamp` and copy the bundle here"
        ) from error
    identity = material.identity
    if now >= identity.not_after:
        raise BundleError(
            f"{directory}: the certificate of edge {identity.name} expired on "
            f"{identity.not_after:%Y-%m-%d %H:%M} UTC; stamp the edge again with `vsg-certs stamp`"
        )
    if now < identity.not_before:
        raise BundleError(
            f"{directory}: the certificate of edge {identity.name} is valid from "
            f"{identity.not_before:%Y-%m-%d %H:%M} UTC on and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M}; set the clock"
        )
    return Identity(bundle, material)
