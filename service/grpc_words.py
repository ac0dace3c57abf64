"""The words of dependency maps and streams as the enumerations of proto/pose.proto; server and client share them."""

from __future__ import annotations

from typing import Any

from model.levels import Level, Mode
from service.pb import pose_pb2 as pb
from service.streaming import Pace

# With what a field that is left out means.
LEVEL_OF_NUMBER: dict[int, Level] = {
    pb.DEPENDENCY_LEVEL_UNSPECIFIED: "encoder",
    pb.DEPENDENCY_LEVEL_MHSA: "mhsa",
    pb.DEPENDENCY_LEVEL_ENCODER: "encoder",
}
MODE_OF_NUMBER: dict[int, Mode] = {
    pb.DEPENDENCY_MODE_UNSPECIFIED: "dependency",
    pb.DEPENDENCY_MODE_DEPENDENCY: "dependency",
    pb.DEPENDENCY_MODE_AFFECT: "affect",
}
IS_PICTURE_OF_NUMBER: dict[int, bool] = {
    pb.DEPENDENCY_FORMAT_UNSPECIFIED: True,
    pb.DEPENDENCY_FORMAT_MAP: False,
    pb.DEPENDENCY_FORMAT_PNG: True,
}
PACE_OF_NUMBER: dict[int, Pace] = {
    pb.STREAM_PACE_UNSPECIFIED: "every_frame",
    pb.STREAM_PACE_EVERY_FRAME: "every_frame",
    pb.STREAM_PACE_LIVE: "live",
}
# The generated code has types of its own for these numbers. Of two with the same meaning, the last is sent.
NUMBER_OF_LEVEL: dict[Level, Any] = {level: number for number, level in LEVEL_OF_NUMBER.items()}
NUMBER_OF_MODE: dict[Mode, Any] = {mode: number for number, mode in MODE_OF_NUMBER.items()}
NUMBER_OF_FORMAT: dict[bool, Any] = {is_picture: number for number, is_picture in IS_PICTURE_OF_NUMBER.items()}
NUMBER_OF_PACE: dict[Pace, Any] = {pace: number for number, pace in PACE_OF_NUMBER.items()}
