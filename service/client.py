"""The client of the service: `connect` and `connect_async` for programs, `python -m service.client` for a terminal.

    with connect("grpc://localhost:50051") as client:
        result = client.estimate(Path("photo.jpg"))

The address says the protocol: http://, https://, grpc:// or grpcs://. Both give the same answers and raise the same
errors, those of `service.errors`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from model.levels import COLORMAPS, LEVELS, MODES
from service.client_base import AsyncPoseClient, PoseClient
from service.client_credentials import add_credentials, credentials
from service.client_endpoint import Endpoint
from service.client_errors import UnexpectedAnswer
from service.client_frames import Frame, FrameAnswer, checked_boxes
from service.client_grpc import AsyncGrpcPoseClient, GrpcPoseClient
from service.client_http import ENDS_STREAM, AsyncHttpPoseClient, HttpPoseClient
from service.client_options import Smoothing, StreamOptions
from service.client_questions import MapOptions, PictureOptions, asked_keypoint
from service.client_show import map_summary, poses_png, poses_table
from service.errors import InvalidParameter, PoseServiceError
from service.http_dependency import DependencyBody
from service.http_schemas import PosesBody, parse_boxes
from service.poses import ALL_KEYPOINTS, Box

__all__ = [
    "AsyncPoseClient",
    "Frame",
    "FrameAnswer",
    "PoseClient",
    "Smoothing",
    "StreamOptions",
    "UnexpectedAnswer",
    "connect",
    "connect_async",
]


def connect(
    address: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 30.0,
    ca_cert: Path | None = None,
    client_cert: Path | None = None,
    client_key: Path | None = None,
) -> PoseClient:
    """A client of the service at an address. The connection is made with the first call.

    Args:
        address: http://host:port, https://..., grpc://host:port or grpcs://...; HTTP may have a path.
        api_key: where the service asks for one.
        timeout_s: how long an answer may take, unless a call says otherwise.
        ca_cert: a PEM file of the authorities that may have signed the service's certificate. None: the usual ones.
        client_cert: a PEM file with the client's own certificate, where the service asks for it (mutual TLS).
        client_key: a PEM file with its private key.

    Raises ValueError for what cannot be used, naming it and what is allowed; OSError for an unreadable certificate.
    """
    endpoint = Endpoint(
        address=address,
        api_key=api_key,
        timeout_s=timeout_s,
        ca_cert=ca_cert,
        client_cert=client_cert,
        client_key=client_key,
    )
    return GrpcPoseClient(endpoint) if endpoint.uses_grpc else HttpPoseClient(endpoint)


def connect_async(
    address: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 30.0,
    ca_cert: Path | None = None,
    client_cert: Path | None = None,
    client_key: Path | None = None,
) -> AsyncPoseClient:
    """As `connect`, for asyncio: to be called, and the client to be used, where the event loop runs."""
    endpoint = Endpoint(
        address=address,
        api_key=api_key,
        timeout_s=timeout_s,
        ca_cert=ca_cert,
        client_cert=client_cert,
        client_key=client_key,
    )
    return AsyncGrpcPoseClient(endpoint) if endpoint.uses_grpc else AsyncHttpPoseClient(endpoint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask for the poses of pictures and show them. 0; 1 if the service could not answer; 2 for a bad command line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        boxes = checked_boxes(parse_boxes(given.boxes))
        client = connect(given.address, timeout_s=given.timeout_s, **credentials(given))
        _check_files(given)
        _check_dependency(given, boxes)
    except (ValueError, OSError, InvalidParameter) as error:
        parser.error(str(error))
    failed = False
    with client:
        for path in given.images:
            try:
                if given.dependency or given.figure:
                    _explain(given, client, path, boxes)
                else:
                    _estimate(given, client, path, boxes)
                sys.stdout.flush()  # here, where a reader that is gone is no news
            except PoseServiceError as error:
                print(f"{path}: {error}", file=sys.stderr)
                failed = True
                if isinstance(error, ENDS_STREAM):
                    break  # the others would fare no better
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; end without a word
                return 1
            except OSError as error:
                parser.error(str(error))
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.client",
        description="The poses of the persons in pictures, and what they depend on, from a running service.",
    )
    add = parser.add_argument
    add("images", type=Path, nargs="+", metavar="IMAGE", help="a JPEG, PNG or WebP file")
    add(
        "--address",
        default="http://127.0.0.1:8000",
        help="http://, https://, grpc:// or grpcs:// (default: %(default)s)",
    )
    add("--boxes", metavar="JSON", help="an array of [x, y, width, height], one for each person of every IMAGE")
    add("--flip-test", action="store_true", help="also look at the mirrored picture; twice the work")
    add("--timeout-s", type=float, default=30.0, metavar="S", help="how long an answer may take (default: %(default)g)")
    add("--json", action="store_true", help="print what the service answers over HTTP, one line for each IMAGE")
    add("--draw", type=Path, metavar="OUT.png", help="write the picture with its skeletons; takes one IMAGE")
    _add_dependency(parser)
    add_credentials(parser)
    return parser


def _add_dependency(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the network looked at, of one person (--boxes has one box, or is absent)")
    add = group.add_argument
    add("--dependency", metavar="KEYPOINT", help="name or index; --draw writes its map over the picture")
    add("--figure", type=Path, metavar="OUT.png", help="write the maps of all keypoints as one figure")
    add("--level", choices=LEVELS, default="encoder", help="middle or top of the network (default: %(default)s)")
    add("--layer", type=int, metavar="N", help="from 0; absent: the last, or in a figure of the encoder all")
    add("--head", type=_head, metavar="N|mean", help="from 0; absent: the mean, or in a figure of mhsa all")
    add("--mode", choices=MODES, default="dependency", help="what the keypoint looked at, or who looked at it")
    add("--threshold", type=float, default=0.0, metavar="P", help="do not draw less than this part of the maximum")
    add("--colormap", choices=COLORMAPS, default=COLORMAPS[0], help="default: %(default)s")


def _head(text: str) -> int | str:
    if text != "mean" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no head; allowed: a number from 0, or mean")
    return text if text == "mean" else int(text)


def _check_files(given: argparse.Namespace) -> None:
    """Raises ValueError for what would only fail after some of the work is done."""
    for path in given.images:
        if not path.is_file():
            raise ValueError(f"{path} is not a file")
    for option, out in (("--draw", given.draw), ("--figure", given.figure)):
        if out and len(given.images) > 1:
            raise ValueError(f"{option} takes one IMAGE")
        if out and not out.absolute().parent.is_dir():
            raise ValueError(f"{option} {out}: there is no such folder")


def _check_dependency(given: argparse.Namespace, boxes: Sequence[Box] | None) -> None:
    """Raises ValueError for options that do not go together, InvalidParameter for a keypoint that is not one."""
    if not (given.dependency or given.figure):
        asked = (given.level, given.layer, given.head, given.mode, given.threshold, given.colormap)
        if asked != ("encoder", None, None, "dependency", 0.0, COLORMAPS[0]):
            raise ValueError(
                "--level, --layer, --head, --mode, --threshold and --colormap go with --dependency and --figure"
            )
    if given.layer is not None and given.layer < 0:
        raise ValueError(f"--layer is {given.layer}; allowed: a number from 0")
    if given.figure and not given.dependency and (given.draw or given.json):
        raise ValueError("--figure goes with --draw or --json only beside --dependency")
    if (given.dependency or given.figure) and boxes and len(boxes) > 1:
        raise ValueError(f"--boxes has {len(boxes)} boxes; allowed with --dependency and --figure: one")
    if (given.dependency or given.figure) and given.flip_test:
        raise ValueError("--flip-test goes with poses only")
    if given.dependency is not None and asked_keypoint(given.dependency) is None:
        raise ValueError("--dependency all: use --figure OUT.png")


def _estimate(given: argparse.Namespace, client: PoseClient, path: Path, boxes: Sequence[Box] | None) -> None:
    image = path.read_bytes()
    result = client.estimate(image, boxes_xywh=boxes, flip_test=given.flip_test)
    if given.json:
        print(PosesBody.of(result).model_dump_json())
    if given.draw or not given.json:
        model = client.model()  # which keypoints these are
        if not given.json:
            print(poses_table(str(path), result, model))
        if given.draw:
            given.draw.write_bytes(poses_png(image, result, model))


def _explain(given: argparse.Namespace, client: PoseClient, path: Path, boxes: Sequence[Box] | None) -> None:
    image = path.read_bytes()
    which: MapOptions = {
        "box_xywh": boxes[0] if boxes else None,
        "level": given.level,
        "layer": given.layer,
        "head": given.head,
        "mode": given.mode,
    }
    drawn: PictureOptions = {**which, "threshold": given.threshold, "colormap": given.colormap}
    if given.dependency:
        found = client.dependency(image, given.dependency, **which)
        print(DependencyBody.of(found).model_dump_json() if given.json else map_summary(str(path), found))
        if given.draw:
            given.draw.write_bytes(client.dependency_png(image, given.dependency, **drawn))
    if given.figure:
        given.figure.write_bytes(client.dependency_png(image, ALL_KEYPOINTS, **drawn))
        if not given.json:
            print(f"{path}: the figure of all keypoints is in {given.figure}")


if __name__ == "__main__":
    sys.exit(main())
