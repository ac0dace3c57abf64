"""What happens to the batcher, and what it wants done: plain values, so that tests can state and compare them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

JobId = int


@dataclass(frozen=True)
class Arrive:
    """A job asks for room. `deadline_s`: when its answer is of no more use, in the clock of `step`'s `now_s`."""

    job: JobId
    persons: int
    group: Hashable = None
    deadline_s: float = float("inf")
    patient: bool = False


@dataclass(frozen=True)
class Supply(Generic[Item]):
    """The items of an admitted job are ready to run: one for each person."""

    job: JobId
    items: Sequence[Item]


@dataclass(frozen=True)
class Leave:
    """Nobody waits for this job any more. A job that is not known, because it was answered, is no mistake."""

    job: JobId


@dataclass(frozen=True)
class BatchDone(Generic[Result]):
    """A lane ran its batch: one result for each item, in order."""

    results: Sequence[Result]
    lane: int = 0


@dataclass(frozen=True)
class BatchFailed:
    """A lane could not run its batch. `rests`: it gets no other one before it is `Rested`."""

    lane: int = 0
    rests: bool = False


@dataclass(frozen=True)
class Rested:
    """A lane that rested may be given batches again."""

    lane: int


Event = Arrive | Supply[Item] | Leave | BatchDone[Result] | BatchFailed | Rested


@dataclass(frozen=True)
class Admitted:
    """The job has room, and may be supplied."""

    job: JobId


@dataclass(frozen=True)
class Refused:
    """There is no room for the job; `persons` are before it."""

    job: JobId
    persons: int


@dataclass(frozen=True)
class Run(Generic[Item]):
    """A lane is to run these items together, and to report BatchDone or BatchFailed; never two at a time."""

    items: tuple[Item, ...]
    group: Hashable
    started: tuple[JobId, ...]  # jobs whose first person is among them
    lane: int = 0


@dataclass(frozen=True)
class Answered(Generic[Result]):
    """All persons of the job have run; the results are in the order of its items."""

    job: JobId
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Failed:
    """A batch with persons of this job failed."""

    job: JobId


@dataclass(frozen=True)
class Dropped:
    """Persons that were admitted and will not be computed. Because `late`: the job is to be told, even if it was never
    admitted (0 persons). `gone`, `failed`: nobody is.
    """

    job: JobId
    persons: int
    because: str


Effect = Admitted | Refused | Run[Item] | Answered[Result] | Failed | Dropped
