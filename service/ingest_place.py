"""Where a video comes from, as a person says it and as FFmpeg takes it. Opens nothing."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp")
SCHEMES = ("http", "https", *LIVE_SCHEMES)
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation"}  # that FFmpeg reads cameras by


@dataclass(frozen=True)
class Place:
    """Where a video comes from.

    url: as FFmpeg takes it. name: for a person, without a password. format: of FFmpeg; None: it finds out.
    is_live: whether frames come when they come, and wait for nobody.
    """

    url: str
    name: str
    kind: Literal["file", "camera", "network"]
    format: str | None = None
    is_live: bool = False

    @classmethod
    def read(cls, text: str) -> Place:
        """A file, `camera:0` or /dev/video0, or a URL. Raises ValueError, naming what is allowed."""
        if camera := re.fullmatch(r"camera:(\d+)|/dev/video(\d+)", text):
            number = camera[1] or camera[2]
            if (kind := CAMERA_FORMATS.get(sys.platform)) is None:
                raise ValueError(
                    f"{text}: cameras can be read on {', '.join(CAMERA_FORMATS)}, and this is {sys.platform}"
                )
            url = f"/dev/video{number}" if kind == "v4l2" else f"{number}:none"
            return cls(url, text, "camera", kind, is_live=True)
        parts = urlsplit(text)
        if "://" not in text:
            if not Path(text).exists():
                raise ValueError(
                    f"{text} is not a file; allowed: a file, camera:0, or a URL ({'://, '.join(SCHEMES)}://)"
                )
            return cls(text, Path(text).name, "file")
        if parts.scheme not in SCHEMES:
            raise ValueError(f"the scheme of the video is {parts.scheme!r}; allowed: {', '.join(SCHEMES)}")
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return cls(text, shown, "network", is_live=parts.scheme in LIVE_SCHEMES)
