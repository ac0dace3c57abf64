"""Both faces of the client behind one, so that each test is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.client import AsyncPoseClient, FrameAnswer, PoseClient, connect, connect_async
from service.poses import DependencyMap, ModelInfo, PoseResult


@contextmanager
def opened(surface: str, address: str, **options: Any) -> Iterator[Any]:
    """A client of either surface, `sync` or `async`, with the calls of the first."""
    if surface == "sync":
        with connect(address, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:

        async def make() -> AsyncPoseClient:
            return connect_async(address, **options)

        client = runner.run(make())
        try:
            yield _Blocking(client, runner.run)
        finally:
            runner.run(client.aclose())


class _Blocking(PoseClient):
    def __init__(self, client: AsyncPoseClient, run: Callable[..., Any]) -> None:
        self._client = client
        self._run = run

    def estimate(self, *arguments: Any, **options: Any) -> PoseResult:
        return self._run(self._client.estimate(*arguments, **options))

    def dependency(self, *arguments: Any, **options: Any) -> DependencyMap:
        return self._run(self._client.dependency(*arguments, **options))

    def dependency_png(self, *arguments: Any, **options: Any) -> bytes:
        return self._run(self._client.dependency_png(*arguments, **options))

    def explain(self, *arguments: Any, **options: Any) -> DependencyMap | bytes:
        return self._run(self._client.explain(*arguments, **options))

    def stream(self, *arguments: Any, **options: Any) -> Iterator[FrameAnswer]:
        answers = self._client.stream(*arguments, **options)
        try:
            while (answer := self._run(anext(answers, None))) is not None:
                yield answer
        finally:
            self._run(answers.aclose())

    def is_ready(self) -> bool:
        return self._run(self._client.is_ready())

    def model(self) -> ModelInfo:
        return self._run(self._client.model())

    def close(self) -> None:
        self._run(self._client.aclose())
