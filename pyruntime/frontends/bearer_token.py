"""A secret that callers show."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BearerToken"]


class BearerToken:
    """Expects `authorization: Bearer TOKEN` in a call's metadata."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def is_in(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether the metadata shows it; takes the same time for any wrong one."""
        for key, value in metadata or ():
            if key.lower() == "authorization":
                given = value.encode() if isinstance(value, str) else value
                return hmac.compare_digest(given, self._expected)
        return False
