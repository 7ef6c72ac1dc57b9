"""Errors of keys and certificates; each message is for a person."""

from pathlib import Path


class CertificateError(Exception):
    """Base of all errors of this package; the text is for a person."""


class CertificateFileError(CertificateError):
    """A key, certificate, bundle or index file is missing, unreadable or wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class AuthorityExistsError(CertificateFileError):
    """There is an authority already; overwriting it would invalidate every edge it has stamped."""


class IdentityError(CertificateError):
    """A certificate does not say who its holder is in the form that this authority uses."""


class InvalidNameError(CertificateError):
    """A customer, edge or host name that is not valid in a certificate."""
