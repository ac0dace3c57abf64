"""Files of a job in a folder or a bucket: whatever fsspec knows. Knows nothing of what is in them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Folder:
    """A place for files that are whole or not there.

    Args:
        url: a path, or a URL of fsspec (s3://bucket/folder with s3fs installed, gs://, ...).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Whoever reads, now or after a crash, finds all of it or what was there before."""
        path = self._path(name)
        if not self._is_local:
            self._fs.pipe_file(path, content)  # an object of a bucket is there when it is complete
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        unfinished = f"{path}.{uuid.uuid4().hex[:8]}.new"
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    def write_json(self, name: str, content: Any) -> None:
        """As `write`."""
        self.write(name, json.dumps(content, indent=1).encode() + b"\n")

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> Any:
        """The content of a file; None where there is none."""
        content = self.read(name)
        return None if content is None else json.loads(content)

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files in a folder, without it; none where there is none. Unfinished ones are left out."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return
        for entry in entries:
            name = str(entry).rstrip("/").rsplit("/", 1)[-1]
            if not name.endswith(".new"):
                yield name

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
