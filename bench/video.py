"""How well the service follows people through a video: `python bench/video.py --help`.

Starts the service, streams clips of a virtual camera with 1, 2 and 8 people, and compares what comes back with what is
true: OKS beside that of the same network in the true box of each frame, identities, jitter and lag without and with
smoothing, frames a second, memory. Client and server share the machine's cores. Frames are encoded beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from results import Table, progress
from server import HOST, Server, started
from tracking_measures import MIN_OKS
from video_measured import Boxed, Measured, joint_chart, measure, measure_boxed, motion_table, tracking_table
from video_stream import (
    Shot,
    Smoothing,
    Streamed,
    encode,
    followed,
    followed_request,
    stream,
    with_boxes,
)
from virtual_camera import add_options, camera_of
from watch import Seen, memory_mib, watched

from service.pb import pose_pb2 as pb
from training.coco import AnnotationError
from training.curves import draw_chart

CHART_WH = (900, 380)
SAMPLE_S = 5.0  # between two looks at the memory
TRUE_BOXES, FOLLOWED, SMOOTHED = "true boxes", "followed", "followed, smoothed"


@dataclass(frozen=True)
class Speed:
    """One way through one clip: frames sent, poses answered, seconds, failed frames, and the service meanwhile."""

    frames: int
    poses: int
    seconds: float
    failed: int
    seen: Seen


@dataclass
class Clip:
    """One clip, and what came of it by each way that was asked."""

    people: int
    shots: list[Shot]
    boxed: Boxed | None = None
    found: dict[str, Measured] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)

    def ask(self, server: Server, way: str, answers: Callable[[str, Sequence[Shot]], Awaitable[Streamed]]) -> Streamed:
        """Send the clip one way, watching the service."""
        progress(f"{self.people} people: {way}")
        answered, seen = asyncio.run(watched(server, answers(f"{HOST}:{server.grpc_port}", self.shots)))
        poses = sum(map(len, answered.answers))
        self.speeds[way] = Speed(answered.sent, poses, answered.seconds, answered.failed, seen)
        return answered


def bench_clip(server: Server, clip: Clip, given: argparse.Namespace) -> None:
    """All ways, one after the other."""
    truths = [shot.truth for shot in clip.shots]
    boxed = clip.ask(server, TRUE_BOXES, with_boxes)
    clip.boxed = measure_boxed(zip(truths, boxed.answers, strict=True))
    for way, smoothing in ((FOLLOWED, None), (SMOOTHED, smoothing_of(given))):

        async def ask(address: str, shots: Sequence[Shot], smoothing: Smoothing | None = smoothing) -> Streamed:
            return await followed(address, shots, smoothing=smoothing, detect_every=given.detect_every)

        answered = clip.ask(server, way, ask)
        clip.found[way] = measure(zip(truths, answered.answers, strict=True), min_oks=given.min_oks)


def smoothing_of(given: argparse.Namespace) -> Smoothing:
    """As the options say."""
    if given.smoothing is None:
        return Smoothing()
    min_cutoff_hz, beta, derivative_cutoff_hz = given.smoothing
    return Smoothing(min_cutoff_hz=min_cutoff_hz, beta=beta, derivative_cutoff_hz=derivative_cutoff_hz)


def speed_table(title: str, clips: Sequence[Clip]) -> Table:
    """Frames a second, and what the service held."""
    columns = ["", "frames/s", "persons/s", "failed", "engine busy", "persons a batch", "peak PSS MiB", "peak RSS MiB"]
    table = Table("video-speed", title, columns)
    for clip in clips:
        for way, speed in clip.speeds.items():
            table.add(
                f"{clip.people}, {way}",
                f"{speed.frames / speed.seconds:.1f}",
                f"{speed.poses / speed.seconds:.1f}",
                speed.failed,
                f"{speed.seen.busy:.2f}",
                f"{speed.seen.persons_a_batch:.1f}",
                f"{speed.seen.pss_mib:.0f}",
                f"{speed.seen.rss_mib:.0f}",
            )
    return table


async def bench_memory(server: Server, shots: Sequence[Shot], given: argparse.Namespace) -> list[tuple[float, ...]]:
    """One stream for minutes: (seconds, PSS MiB, RSS MiB) of the service, every SAMPLE_S and at the end."""
    until = time.monotonic() + 60 * given.minutes
    began = time.monotonic()
    streaming = asyncio.create_task(
        stream(f"{HOST}:{server.grpc_port}", endless(shots, until, given), keep_answers=False)
    )
    rows: list[tuple[float, ...]] = []
    while not streaming.done():
        await asyncio.wait({streaming}, timeout=SAMPLE_S)
        rows.append((time.monotonic() - began, *await asyncio.to_thread(memory_mib, server.pid)))
        progress(f"{rows[-1][0]:5.0f} s  {rows[-1][2]:6.0f} MiB")
    await streaming
    return rows


def endless(shots: Sequence[Shot], until: float, given: argparse.Namespace) -> Iterator[pb.StreamPosesRequest]:
    """The clip over and over as one stream whose clock goes on, up to a moment of the monotonic clock."""
    options = smoothing_of(given)
    for number, shot in enumerate(itertools.cycle(shots)):
        if time.monotonic() > until:
            return
        time_s = number / given.fps
        yield followed_request(shot, number, time_s, smoothing=options, detect_every=given.detect_every)


def write_memory(rows: Sequence[tuple[float, ...]], path: Path) -> None:
    """As CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seconds", "pss_mib", "rss_mib"))
        writer.writerows([f"{value:.1f}" for value in row] for row in rows)


def memory_table(rows: Sequence[tuple[float, ...]], minutes: float) -> Table:
    """The first and the last quarter."""
    table = Table("video-memory", f"Memory over one stream of {minutes:g} minutes", ["", "PSS MiB", "RSS MiB"])
    quarter = max(1, len(rows) // 4)
    for name, part in (("most in the first quarter", rows[:quarter]), ("most in the last quarter", rows[-quarter:])):
        table.add(name, *(f"{max(row[column] for row in part):.0f}" for column in (1, 2)))
    return table


def write_chart(clips: Sequence[Clip], folder: Path, fps: float) -> None:
    """The path of the joint of an arm that was followed longest in any clip, or else in true boxes; only lines."""
    charts = [
        joint_chart(clip.found[FOLLOWED].paths, {"smoothed": clip.found[SMOOTHED].paths}, fps=fps)
        for clip in clips
        if clip.found
    ]
    if not any(charts):
        charts = [joint_chart(clip.boxed.paths, {}, fps=fps) for clip in clips if clip.boxed]
    if drawn := [chart for chart in charts if chart is not None]:
        longest = max(drawn, key=lambda chart: len(chart.lines[0].epochs))
        Image.fromarray(draw_chart(longest, CHART_WH)).save(folder / "video-path.png")


def write_tables(clips: Sequence[Clip], serves: str, given: argparse.Namespace) -> None:
    """All of them."""
    about = f"{given.scenes} scenes of {given.scene_seconds:g} s at {given.fps:g} frames/s, {given.size}: {serves}"
    results: Path | None = given.results
    followed_rows = [
        (f"{clip.people}, {way}", found, clip.boxed)
        for clip in clips
        for way, found in clip.found.items()
        if clip.boxed is not None
    ]
    tracking_table(f"People followed through {about}", followed_rows).write(results)
    moving: list[tuple[str, Measured | Boxed]] = []
    for clip in clips:
        if clip.boxed is not None:
            moving.append((f"{clip.people}, {TRUE_BOXES}", clip.boxed))
        moving += [(f"{clip.people}, {way}", found) for way, found in clip.found.items()]
    motion_table(f"Joints through {about}", moving, fps=given.fps).write(results)
    speed_table(f"One stream, as fast as it is answered: {about}", clips).write(results)


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    add = parser.add_argument
    add("--people", nargs="+", type=int, default=[1, 2, 8], metavar="N", help="of the clips (1 2 8)")
    smoothing = ("MIN_CUTOFF_HZ", "BETA", "DERIVATIVE_CUTOFF_HZ")
    add("--smoothing", nargs=3, type=float, metavar=smoothing, help="(as the service is set)")
    add("--detect-every", type=int, default=0, metavar="N", help="frames (0: as the service has it)")
    add("--min-oks", type=float, default=MIN_OKS, help=f"of an answer and the person that it is of ({MIN_OKS})")
    add("--minutes", type=float, default=0.0, help="of one stream whose memory is watched (0: none)")
    add("--service-flags", default="--detector embedded", metavar="FLAGS", help="more flags of the service, one text")
    add("--max-batch", type=int, default=16, help="most persons in one run of the network (16)")
    add("--input", metavar="HxW", help="crop size, if not the bundled checkpoint's")
    add("--results", type=Path, help="a folder for results as JSON and Markdown, CSV and PNG")
    return parser.parse_args()


def main() -> int:
    """Print the tables, and write them where results are kept; 2 if there are no such clips."""
    given = parsed()
    try:
        clips = []
        for people in given.people:
            progress(f"{people} people: making the clip")
            clips.append(Clip(people, [encode(frame) for frame in camera_of(given, people).frames()]))
    except (AnnotationError, ValueError, OSError) as error:
        progress(str(error))
        return 2
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
    with started(given, *shlex.split(given.service_flags)) as server:
        for clip in clips:
            bench_clip(server, clip, given)
        write_tables(clips, server.serves, given)
        if given.minutes:
            rows = asyncio.run(bench_memory(server, clips[-1].shots, given))
            memory_table(rows, given.minutes).write(given.results)
            if given.results:
                write_memory(rows, given.results / "video-memory.csv")
    if given.results:
        write_chart(clips, given.results, given.fps)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
