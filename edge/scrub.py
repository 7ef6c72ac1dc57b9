"""Blots secrets out of everything that is logged or reported."""

import re
import threading
from typing import Final

_BLOT: Final = "***"
_SHORTEST = 4
"""A shorter password would blot out half of every line, and gives little away by length."""
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
    """Blot ``secret`` out of every text from now on."""
    global _known_secrets
    with _adding:
        if len(secret) >= _SHORTEST and secret not in _known_secrets:
            _known_secrets = (*_known_secrets, secret)


def scrub(text: str) -> str:
    """Return ``text`` without secrets that are known or look like one."""
    for secret in _known_secrets:
        text = text.replace(secret, _BLOT)
    text = _PRIVATE_KEY.sub(_BLOT, text)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(rf"\1\2{_BLOT}", text)
    return text
