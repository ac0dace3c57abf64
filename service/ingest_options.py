"""The command line of an ingest: what it takes, what goes together, and what it means for source, stream and files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from service.client_credentials import add_credentials
from service.client_options import Smoothing, StreamOptions
from service.ingest_output import STDOUT
from service.ingest_place import Place
from service.ingest_reader import Playing
from service.ingest_source import Video
from service.ingest_stream import Sending
from service.ingest_video import SUFFIX

JPEG_QUALITY = 90
TRIES = 10


def make_parser() -> argparse.ArgumentParser:
    """Of `python -m service.ingest`."""
    parser = argparse.ArgumentParser(
        prog="python -m service.ingest",
        description="The poses of a video from a running service, frame by frame, with an identity for each person.",
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a file, a camera (camera:0, /dev/video0), or a URL (rtsp://, http://, ...)")
    add("--server", required=True, metavar="HOST:PORT", help="the service's gRPC address; also grpc://, grpcs:// (TLS)")
    add("--out", type=Path, metavar="OUT.mp4", help="write the video with skeletons and identities")
    add("--jsonl", type=Path, metavar="OUT.jsonl", help="write a line of JSON for each frame; - is the standard output")
    _add_reading(parser)
    _add_asking(parser)
    group = parser.add_argument_group("how the service is reached")
    group.add_argument(
        "--tries",
        type=int,
        default=TRIES,
        metavar="N",
        help="failures in a row to give up after (%(default)s; 0: never)",
    )
    group.add_argument(
        "--timeout-s", type=float, default=30.0, metavar="S", help="how long the service may say nothing (%(default)g)"
    )
    add_credentials(parser)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is read").add_argument
    add("--live", action="store_true", help="drop frames that come too fast (always so of cameras and rtsp://)")
    add("--pace", choices=("source", "fast"), help="of a file: as it plays, or as fast as answers come (default)")
    add("--loop", action="store_true", help="begin a file again at its end")
    add("--every", type=int, default=1, metavar="N", help="only each N-th frame")
    add("--start", type=float, default=0.0, metavar="S", help="begin so many seconds into a file")
    add("--duration", type=float, metavar="S", help="end after so many seconds of the video")
    add(
        "--source-option",
        type=_key_and_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for FFmpeg's demuxer, such as video_size=1280x720 of a camera; may be repeated",
    )


def _add_asking(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is sent, and how it is answered").add_argument
    add("--jpeg-quality", type=int, metavar="Q", help=f"1 to 100 (default: {JPEG_QUALITY})")
    add("--raw", action="store_true", help="send pixels as they are: for a service on the same machine")
    add("--max-side", type=int, metavar="PIXELS", help="scale larger frames down to this; poses are scaled back")
    add("--plain", action="store_true", help="each frame by itself: nobody is followed, no identities")
    add(
        "--detect-every", type=int, metavar="N", help="look for persons at each N-th frame at least (the service's own)"
    )
    add("--smooth", action="store_true", help="smooth the joints of followed persons (One-Euro filter)")
    add("--min-cutoff-hz", type=float, metavar="HZ", help="of --smooth: lower is steadier at rest (the service's own)")
    add("--beta", type=float, metavar="B", help="of --smooth: higher lags less in motion (the service's own)")


def asked_place(given: argparse.Namespace) -> Place:
    """Where the video is. Raises ValueError for what cannot be, and for options that do not go with it."""
    place = Place.read(given.source)
    place = replace(place, is_live=place.is_live or given.live)
    of_files = {"--loop": given.loop, "--start": given.start, "--pace": given.pace}
    if place.kind != "file" and (wrong := [name for name, value in of_files.items() if value]):
        raise ValueError(f"{', '.join(wrong)} goes with a file only, and {place.name} is none")
    if given.live and given.pace == "fast":
        raise ValueError("--pace is fast; allowed with --live: source")
    return place


def asked_playing(given: argparse.Namespace, place: Place) -> Playing:
    """Which frames are read. Raises ValueError."""
    if given.every < 1:
        raise ValueError(f"--every is {given.every}; allowed: 1 or more")
    if not given.start >= 0:
        raise ValueError(f"--start is {given.start:g}; allowed: seconds from 0")
    if given.duration is not None and not given.duration > 0:
        raise ValueError(f"--duration is {given.duration:g}; allowed: seconds above 0")
    return Playing(
        every=given.every,
        start_s=given.start,
        duration_s=given.duration,
        loop=given.loop,
        at_own_pace=place.kind == "file" and (given.live or given.pace == "source"),
        is_endless=place.kind != "file" and place.is_live,
    )


def asked_sending(given: argparse.Namespace) -> Sending:
    """How frames are sent. Raises ValueError."""
    if given.raw and given.jpeg_quality is not None:
        raise ValueError("--jpeg-quality does not go with --raw")
    quality = JPEG_QUALITY if given.jpeg_quality is None else given.jpeg_quality
    if not 1 <= quality <= 100:
        raise ValueError(f"--jpeg-quality is {quality}; allowed: 1 to 100")
    if given.max_side is not None and given.max_side < 1:
        raise ValueError(f"--max-side is {given.max_side}; allowed: 1 pixel or more")
    return Sending(jpeg_quality=None if given.raw else quality, max_side=given.max_side)


def asked_options(given: argparse.Namespace, place: Place) -> StreamOptions:
    """How the stream is to be answered. Raises ValueError, InvalidParameter."""
    if not given.smooth and (given.min_cutoff_hz is not None or given.beta is not None):
        raise ValueError("--min-cutoff-hz and --beta go with --smooth")
    smoothing = Smoothing(min_cutoff_hz=given.min_cutoff_hz, beta=given.beta) if given.smooth else None
    return StreamOptions(
        plain=given.plain,
        pace="live" if place.is_live else "every_frame",
        smoothing=smoothing,
        detect_every=given.detect_every,
    )


def check_files(given: argparse.Namespace, place: Place) -> None:
    """Raises ValueError for what would only fail after some of the work is done, or would write over the source."""
    for option, out in (("--out", given.out), ("--jsonl", given.jsonl)):
        if out is None or (option == "--jsonl" and str(out) == STDOUT):
            continue
        if not out.absolute().parent.is_dir():
            raise ValueError(f"{option} {out}: there is no such folder")
        if place.kind == "file" and out.exists() and out.samefile(place.url):
            raise ValueError(f"{option} {out} is the video itself")
    if given.out is not None and given.out.suffix.lower() != SUFFIX:
        raise ValueError(f"--out {given.out}; allowed: a name that ends in {SUFFIX}")
    if given.tries < 0:
        raise ValueError(f"--tries is {given.tries}; allowed: 0 or more")


def server_address(text: str) -> str:
    """HOST:PORT as an address of gRPC. Raises ValueError for another protocol."""
    address = text if "://" in text else f"grpc://{text}"
    if not address.startswith(("grpc://", "grpcs://")):
        raise ValueError(f"--server has the scheme {text.partition('://')[0]!r}; allowed: host:port, grpc://, grpcs://")
    return address


def expected_frames(video: Video, playing: Playing) -> int | None:
    """How many frames will be answered; None where it is not known, or where some may be dropped."""
    if playing.loop or video.place.is_live or not video.frame_count:
        return None
    count: float = video.frame_count
    if (rate := video.frame_rate) and (playing.start_s or playing.duration_s):
        count = max(0.0, count - playing.start_s * float(rate))
        if playing.duration_s is not None:
            count = min(count, playing.duration_s * float(rate))
    return -(-round(count) // playing.every)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no option of FFmpeg; allowed: KEY=VALUE")
    return key, value
