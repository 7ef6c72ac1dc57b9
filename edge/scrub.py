"""Masks secrets in everything that is logged or reported."""

import re
import threading
from typing import Final

_MASK: Final = "***"
_SHORTEST = 4
"""A shorter password would mask half of every line."""
_SECRET_PATTERNS = (
    re.compile(
        r"(?i)(passw(?:or)?d|secret|token|authorization|vmware_soap_session)"
        r"(['\"]?\s?[=:]\s?['\"]?)(?:basic |bearer )?[^\s,;&'\"]+"
    ),
    re.compile(r"(://[^/\s:@]+)(:)[^/\s@]+(?=@)"),
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*-----|$)", re.DOTALL
)
_known_secrets: tuple[str, ...] = ()
"""Replaced, never changed: other threads go through it meanwhile."""
_adding = threading.Lock()


def remember_secret(secret: str) -> None:
    """Mask ``secret`` in every text from now on."""
    global _known_secrets
    with _adding:
        if len(secret) >= _SHORTEST and secret not in _known_secrets:
            _known_secrets = (*_known_secrets, secret)


def scrub(text: str) -> str:
    """Mask secrets that are known, and what looks like one."""
    for secret in _known_secrets:
        text = text.replace(secret, _MASK)
    text = _PRIVATE_KEY.sub(_MASK, text)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(rf"\1\2{_MASK}", text)
    return text
