"""Poses of a video as it comes: a file, a camera or a stream on the network, through a running service.

    python -m service.ingest clip.mp4 --server localhost:50051 --out annotated.mp4 --jsonl poses.jsonl
    python -m service.ingest camera:0 --server localhost:50051 --jsonl -

Needs `pip install '.[ingest]'`. docs/ingest.md says what comes out, and what happens when the service is slow or away.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import FrameType

# gRPC writes lines of its own to stderr, also of what is no more than another try.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when it is imported

try:
    import av  # noqa: F401
    import tqdm  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}; try: pip install '.[ingest]'", name=error.name) from error

from service.client import PoseClient, connect
from service.client_credentials import credentials
from service.client_options import StreamOptions
from service.errors import InvalidParameter, PoseServiceError
from service.ingest_backoff import BackOff
from service.ingest_options import (
    asked_options,
    asked_place,
    asked_playing,
    asked_sending,
    check_files,
    expected_frames,
    make_parser,
    server_address,
)
from service.ingest_outbox import Outbox
from service.ingest_output import JsonLines, OutputFailed
from service.ingest_progress import Progress
from service.ingest_reader import Playing, Reader
from service.ingest_source import SourceFailed, Video
from service.ingest_stream import GaveUp, Ingest, Sending
from service.ingest_video import AnnotatedVideo

READER_END_S = 2.0  # for the source to close; a camera that gives nothing is left where it is


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a command line comes to."""

    connect: Callable[[], PoseClient]
    reopen: Callable[[], Video]
    playing: Playing
    sending: Sending
    options: StreamOptions
    tries: int
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """The files that are asked for."""

    lines: JsonLines | None
    video: AnnotatedVideo | None

    def close(self) -> None:
        with ExitStack() as stack:  # the second also where the first fails
            for one in (self.lines, self.video):
                if one is not None:
                    stack.callback(one.close)


class _Stop:
    """The first SIGINT or SIGTERM lets what was sent be answered, the second one does not wait for it.

    by: the first of them.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.by: int | None = None
        self._heard: SimpleQueue[int | None] = SimpleQueue()

    @contextmanager
    def on_signals(self, stop: Callable[[], None], hurry: Callable[[], None]) -> Iterator[None]:
        """Call `stop` when a signal comes, and `hurry` when another one does; in a thread, since they take locks."""

        def listen() -> None:
            if (number := self._heard.get()) is not None:
                self.by = number
                self.event.set()
                stop()
            if self._heard.get() is not None:
                hurry()

        thread = threading.Thread(target=listen, name="signals", daemon=True)
        thread.start()
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for _ in range(2):
                self._heard.put(None)
            thread.join()

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._heard.put(number)  # which a handler may do at any time


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask for the poses of a video and write them.

    0; 1 if the service, the source or a file failed, or a frame had no poses; 2 for a bad command line or a video that
    cannot be opened; 128 + its number if a signal ended a file before its end (for a camera that is the usual end: 0).
    """
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        asked = _asked(given)
        video = asked.reopen()
    except (ValueError, OSError, InvalidParameter, SourceFailed) as error:
        parser.error(str(error))
    try:
        outputs = _outputs(given, video)
    except OutputFailed as error:
        video.close()
        parser.error(str(error))
    return _run(asked, video, outputs)


def _asked(given: argparse.Namespace) -> _Asked:
    """Raises ValueError, OSError, InvalidParameter."""
    place = asked_place(given)
    playing = asked_playing(given, place)
    check_files(given, place)
    asked = _Asked(
        connect=partial(connect, server_address(given.server), timeout_s=given.timeout_s, **credentials(given)),
        reopen=partial(Video, place, options=dict(given.source_option), start_s=playing.start_s),
        playing=playing,
        sending=asked_sending(given),
        options=asked_options(given, place),
        tries=given.tries,
        timeout_s=given.timeout_s,
    )
    asked.connect().close()  # whose errors are those of the command line
    return asked


def _outputs(given: argparse.Namespace, video: Video) -> _Outputs:
    """Raises OutputFailed."""
    is_live = video.place.is_live
    lines = None if given.jsonl is None else JsonLines(given.jsonl, tells_when=is_live)
    if given.out is None:
        return _Outputs(lines=lines, video=None)
    return _Outputs(
        lines=lines,
        video=AnnotatedVideo(given.out, frame_rate=video.frame_rate, sample_aspect_ratio=video.sample_aspect_ratio),
    )


def _run(asked: _Asked, video: Video, outputs: _Outputs) -> int:
    stop, outbox = _Stop(), Outbox(is_live=video.place.is_live)
    progress = Progress(video.place.name, expected_frames(video, asked.playing))
    reader = Reader(
        video,
        asked.reopen,
        asked.playing,
        outbox,
        back_off=BackOff(asked.tries),
        stopped=stop.event,
        tell=progress.tell,
    )
    ingest = Ingest(
        asked.connect,
        asked.options,
        asked.sending,
        outbox,
        every=asked.playing.every,
        answer_s=asked.timeout_s,
        back_off=BackOff(asked.tries),
        stopped=stop.event,
        tell=progress.tell,
    )
    with stop.on_signals(outbox.stop, ingest.hurry):
        reader.start()
        try:
            failure = _failure_of(ingest, outbox, outputs, progress)
        finally:
            stop.event.set()
            outbox.stop()
            reader.join(READER_END_S)
            failure_of_closing = _failure_of_closing(outputs)
            progress.close()
    failure = failure or failure_of_closing
    progress.tell(progress.summary(broken=reader.broken, connections=ingest.connections))
    if failure is not None:
        if str(failure):
            progress.tell(f"error: {failure}")
        return 1
    if stop.by is not None and not asked.playing.is_endless:
        return 128 + stop.by
    return int(progress.failed > 0)


def _failure_of(ingest: Ingest, outbox: Outbox, outputs: _Outputs, progress: Progress) -> Exception | None:
    """Answers into files until there are no more; what ended it before its time."""
    try:
        for answered in ingest.answers():
            progress.count(answered)
            if outputs.lines is not None:
                outputs.lines.write(answered)
            if outputs.video is not None:
                outputs.video.write(answered, ingest.model)
    except BrokenPipeError:
        return OutputFailed("")  # nobody reads on; end without a word
    except (GaveUp, PoseServiceError, OutputFailed, OSError) as error:
        return error
    if outbox.failure is not None and not isinstance(outbox.failure, SourceFailed):
        raise outbox.failure
    return outbox.failure


def _failure_of_closing(outputs: _Outputs) -> Exception | None:
    try:
        outputs.close()
    except OutputFailed as error:
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
