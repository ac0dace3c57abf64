"""Who may ask: a list of keys, compared in constant time, never written anywhere."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from service.errors import Unauthenticated

MIN_KEY_LENGTH = 16


class ApiKeys:
    """The keys that are accepted. Only their digests are kept, so that no trace of a key is in memory or in a log."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises ValueError if there is none."""
        self._digests = tuple(_digest(key) for key in keys)
        if not self._digests:
            raise ValueError("there are no API keys; allowed: one or more")

    def __len__(self) -> int:
        return len(self._digests)

    def check(self, key: str | None) -> None:
        """Raises Unauthenticated unless the key is one of those accepted."""
        if key is None:
            raise Unauthenticated("there is no API key; send it as 'x-api-key'")
        digest = _digest(key)
        # All are compared, so that the time does not tell which one came close.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthenticated("the API key is not known")


def read_api_keys(path: Path) -> ApiKeys:
    """Keys from a file with one a line; empty lines and lines that begin with # are skipped.

    Raises ValueError, naming the file and the line but not what stands there.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the API keys in {path} cannot be read: {type(error).__name__}") from error
    keys = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if len(line) < MIN_KEY_LENGTH:
            raise ValueError(f"{path}, line {number}: the key is shorter than {MIN_KEY_LENGTH} characters")
        keys.append(line)
    if not keys:
        raise ValueError(f"{path} has no API keys; allowed: one a line, of at least {MIN_KEY_LENGTH} characters")
    return ApiKeys(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
