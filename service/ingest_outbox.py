"""Frames on their way from the source through the service: each waits, is sent and unanswered, or is over.

Three threads meet here: the source's puts frames in, the one that sends takes them, and the one that has the answers
settles them. Every frame but those that a live stream gives up stays until it is answered, so that it can be sent again
over another connection. Knows nothing of gRPC or of files.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from service.client_frames import MAX_AHEAD, Frame
from service.ingest_source import SourceFrame

READ_AHEAD = 4  # frames of a file that are decoded before there is room to send them
HELD_BYTES = 256 * 2**20  # of the pixels of unanswered frames, about
MIN_HELD = 4  # frames, however large they are


@dataclass(eq=False)
class Outgoing:
    """A frame, and what was made of it to be sent; kept, since it may be sent again."""

    frame: SourceFrame
    message: Frame | None = None


class Outbox:
    """See the module.

    Args:
        is_live: whether only the newest frame waits, and those that a connection leaves unanswered are given up.
    """

    def __init__(self, *, is_live: bool) -> None:
        self._is_live = is_live
        self._changed = threading.Condition()
        self._waiting: deque[Outgoing] = deque()
        self._unanswered: dict[int, Outgoing] = {}  # by number, in the order of sending
        self._connection = 0
        self._closed = self._stopped = False
        self._failure: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing waits, nothing is unanswered, and nothing more will come."""
        with self._changed:
            return self._closed and not self._waiting and not self._unanswered

    @property
    def has_unanswered(self) -> bool:
        """Whether something was sent and not answered."""
        with self._changed:
            return bool(self._unanswered)

    @property
    def failure(self) -> Exception | None:
        """What ended the source before its end."""
        return self._failure

    def put(self, frame: SourceFrame) -> bool:
        """One more frame of the source; waits until there is room. False: no more are wanted."""
        with self._changed:
            if self._is_live:
                self._waiting.clear()
            self._changed.wait_for(lambda: len(self._waiting) < READ_AHEAD or self._stopped)
            if self._stopped:
                return False
            self._waiting.append(Outgoing(frame))
            self._changed.notify_all()
            return True

    def close(self, failure: Exception | None = None) -> None:
        """The source has ended, or has failed."""
        with self._changed:
            self._closed, self._failure = True, failure
            self._changed.notify_all()

    def stop(self) -> None:
        """Take and send nothing more; what was sent may still be answered."""
        with self._changed:
            self._stopped = self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def connect(self) -> int:
        """A new connection; its number is for `take`. What has no answer waits again; of a live source it is over."""
        with self._changed:
            if not self._is_live and not self._stopped:
                self._waiting.extendleft(reversed(self._unanswered.values()))
            self._unanswered.clear()
            self._connection += 1
            self._changed.notify_all()
            return self._connection

    def take(self, connection: int) -> Outgoing | None:
        """The next frame to send; waits for it. None: there are no more, or there is a newer connection."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_due() or connection != self._connection)
            if connection != self._connection or not self._waiting:
                return None
            outgoing = self._waiting.popleft()
            self._unanswered[outgoing.frame.number] = outgoing
            self._changed.notify_all()
            return outgoing

    def settle(self, number: int) -> SourceFrame:
        """A frame that was answered. It is over, and so are those before it, which were dropped."""
        with self._changed:
            frame = self._unanswered[number].frame
            for earlier in [one for one in self._unanswered if one <= number]:
                del self._unanswered[earlier]
            self._changed.notify_all()
            return frame

    def _is_due(self) -> bool:
        if not self._waiting:
            return self._closed
        picture = self._waiting[0].frame.picture
        most = max(MIN_HELD, HELD_BYTES // (3 * picture.width * picture.height))
        return len(self._unanswered) < (most if self._is_live else min(most, MAX_AHEAD))
