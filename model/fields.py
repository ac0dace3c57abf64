"""What a field that is wrong is answered with, the same words everywhere: name, value, and what is allowed."""

from __future__ import annotations


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raises ValueError unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")
