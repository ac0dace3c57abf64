"""Attempts at a shard, remembered beyond the process that makes them.

A picture that kills the process (a decoder's crash, memory) would kill each that tries again. So a shard that was begun
twice and not finished is gone through one picture at a time, each noted beforehand, and one that was the last thing
that two processes did becomes an error like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.annotate_folder import Folder
from deploy.annotate_plan import shard_name

CAREFUL_FROM = 3  # the attempt at a shard that goes one by one
DEATHS = 2  # at one picture, before it is left out
DEADLY = "deadly"


@dataclass(frozen=True)
class Failure:
    """Why a picture has no result: a reason of `service.errors`, `unreadable` or `deadly`."""

    reason: str
    message: str


class Attempt:
    """What is known of attempts at a shard that came to nothing."""

    def __init__(self, out: Folder, shard: int) -> None:
        self._out = out
        self._name = f"attempts/{shard_name(shard)}.json"
        self._known: dict[str, Any] = out.read_json(self._name) or {"begun": 0, "at": None, "deaths": {}, "deadly": []}

    @property
    def careful(self) -> bool:
        """Whether this one goes one by one."""
        return bool(self._known["begun"] >= CAREFUL_FROM)

    def deadly(self) -> dict[int, Failure]:
        """Pictures to be left out. To be asked before `begin`, for it learns from how the attempt before ended."""
        if (at := self._known["at"]) is not None:
            deaths = self._known["deaths"][str(at)] = self._known["deaths"].get(str(at), 0) + 1
            if deaths >= DEATHS and at not in self._known["deadly"]:
                self._known["deadly"].append(at)
        why = Failure(DEADLY, f"{DEATHS} processes ended while they were at this picture alone")
        return dict.fromkeys(self._known["deadly"], why)

    def begin(self) -> None:
        """Note that it has begun."""
        self._known["begun"] += 1
        self.at(None)

    def at(self, number: int | None) -> None:
        """Note which picture comes next."""
        self._known["at"] = number
        self._out.write_json(self._name, self._known)

    def forgive(self) -> None:
        """The attempt at hand was ended on purpose, and says nothing of its pictures."""
        self._known["begun"] -= 1
        self.at(None)

    def end(self) -> None:
        """The shard is done."""
        self._out.delete(self._name)
