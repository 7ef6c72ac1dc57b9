"""A customer: its authority, and what that issues to edges, control planes and operators."""

from pathlib import Path

from certs.authority import Authority
from certs.bundle import EdgeBundle
from certs.credentials import TlsMaterial, load_tls_material
from certs.identity import Role


class Customer:
    """A customer's authority and the files that it issued."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "ca", name)

    def bundle(self, edge: str, port: int, server_name: str = "127.0.0.1") -> Path:
        """Stamp an edge."""
        directory = self.directory / edge
        bundle = EdgeBundle(
            directory, self.authority.customer, edge, f"127.0.0.1:{port}", server_name
        )
        bundle.write(self.authority.certificate_pem, self.authority.issue_edge(edge))
        return directory

    def server(self) -> TlsMaterial:
        """Return the control plane's credentials."""
        files = self.directory / "server.pem", self.directory / "server.key"
        self.authority.issue_server(["127.0.0.1", "gateway.example.com"]).write(*files)
        return load_tls_material(self.directory / "ca/ca.pem", *files, Role.CONTROL_PLANE)

    def edge(self, name: str) -> TlsMaterial:
        """Stamp an edge and return what it dials with."""
        bundle = EdgeBundle(
            self.directory / name, self.authority.customer, name, "127.0.0.1:1", "127.0.0.1"
        )
        bundle.write(self.authority.certificate_pem, self.authority.issue_edge(name))
        return bundle.tls_material()

    def material(self, role: Role) -> TlsMaterial:
        """Return the control plane's or an operator's credentials."""
        certificate, key = (self.directory / f"{role.value}{end}" for end in (".pem", ".key"))
        issue = {
            Role.CONTROL_PLANE: lambda: self.authority.issue_server(["127.0.0.1"]),
            Role.OPERATOR: lambda: self.authority.issue_operator("ann"),
        }[role]
        issue().write(certificate, key)
        return load_tls_material(self.authority.directory / "ca.pem", certificate, key, role)
