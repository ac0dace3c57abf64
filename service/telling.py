"""Telling observers what happens."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def tell(news: Callable[[], None]) -> None:
    """Call an observer. Who watches must not change what happens: what it raises is logged."""
    try:
        news()
    except Exception:
        log.exception("an observer failed")
