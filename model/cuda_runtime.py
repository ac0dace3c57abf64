"""The network on a CUDA device: a recorded graph for each of a few batch sizes, and crops sent through pinned memory.

A graph launches the whole network at once, which matters most for one person: the device would otherwise wait for
Python between hundreds of small kernels. A batch runs in the smallest graph that holds it. Everything is ordered by the
current stream of the calling thread: two runtimes in two threads, each with a stream of its own, overlap, so that one
copies its crops while the other computes.

Needs no compiler, as torch.compile does, for a server's image has none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from model.btranspose import BTranspose
from model.crop import Pixels
from model.folding import folded
from model.runtime import FromPixels

log = logging.getLogger(__name__)

LARGEST = 64  # persons in a batch, unless it is said otherwise
WARM_UPS = 3  # runs before recording, in which libraries choose their kernels
STAGINGS = 2  # one is filled while the other is being copied


class Recorded(Protocol):
    """The network, ready to run on as many crops as `pixels` holds: [bucket, H, W, 3] uint8, to be written first."""

    pixels: Tensor

    def run(self) -> Tensor:
        """[bucket, K, H/4, W/4] float32; the next run may overwrite it."""


class CudaRuntime:
    """See the module.

    Args:
        net: the network, on the CPU; left as it is.
        device: a CUDA device.
        dtype: torch.float32 or torch.bfloat16, in which its copy's weights are kept.
        max_batch: the most persons that are usually asked for at a time; more run in parts.
        record: makes what runs one batch size.
    """

    name = "torch"

    def __init__(
        self,
        net: BTranspose,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        *,
        max_batch: int = LARGEST,
        record: Callable[[FromPixels, Tensor], Recorded] | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}; allowed: torch.float32, torch.bfloat16")
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # by default convolutions "in float32" keep ten bits
        self.device = torch.device(device)
        self.precision = str(dtype).removeprefix("torch.")
        runs = FromPixels(folded(net).to(dtype), dtype)  # the constants of the normalisation stay in float32
        runs = runs.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._net = runs  # graphs know its weights by their addresses alone: without it, others' memory is there
        self._buckets = pick_buckets(max_batch)
        shape = (self._buckets[-1], *net.config.input_hw, 3)
        self._stagings = [Staging(shape, self.device) for _ in range(STAGINGS)]
        with torch.inference_mode():
            pixels = torch.zeros(shape, dtype=torch.uint8, device=self.device)
            make = record or partial(record_graph, shared=SharedByGraphs(self.device))
            # The largest first: the memory that it takes serves the others, too.
            self._recorded = {size: make(runs, pixels[:size]) for size in reversed(self._buckets)}

    @torch.inference_mode()
    def heatmaps(self, crops: Pixels) -> Tensor:
        largest = self._buckets[-1]
        parts = [self._run(crops[first : first + largest]) for first in range(0, len(crops), largest)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, crops: Pixels) -> Tensor:
        persons = len(crops)
        recorded = self._recorded[next(size for size in self._buckets if size >= persons)]
        staging = self._stagings.pop(0)
        self._stagings.append(staging)
        staging.send(crops, recorded.pixels[:persons])
        return recorded.run()[:persons].clone()


def pick_buckets(max_batch: int) -> tuple[int, ...]:
    """Batch sizes to record: powers of two below the largest that is asked for, and it. Raises ValueError below 1."""
    if max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}; allowed: at least 1")
    return (*(2**power for power in range((max_batch - 1).bit_length())), max_batch)


class Staging:
    """Pinned memory through which crops reach the device without a copy of the driver's own.

    Args:
        shape: of the most crops that are sent at a time, [B, H, W, 3].
        device: on which they are wanted.
    """

    def __init__(self, shape: Sequence[int], device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self._host = torch.empty(*shape, dtype=torch.uint8, pin_memory=on_cuda)
        self._sent = torch.cuda.Event() if on_cuda else None  # type: ignore[no-untyped-call]

    def send(self, crops: Pixels, to: Tensor) -> None:
        """Have the current stream copy crops to the device; they may be changed as soon as this returns."""
        if self._sent is not None:
            self._sent.synchronize()  # the copy before may still read from here
        host = self._host[: len(crops)]
        host.numpy()[:] = crops
        to.copy_(host, non_blocking=True)
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(to.device))


class SharedByGraphs:
    """What graphs that never run at the same time share: memory for what lies between the layers, and the stream they
    are recorded on, for memory is used again only on the stream that it was taken on.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool: Any = torch.cuda.graph_pool_handle()


class CudaGraph:
    """The network recorded for one batch size.

    Args:
        net: on the device.
        pixels: [bucket, H, W, 3] uint8, read by every run.
        shared: with the graphs of other sizes.

    Raises RuntimeError where it cannot be recorded.
    """

    def __init__(self, net: FromPixels, pixels: Tensor, shared: SharedByGraphs) -> None:
        self.pixels = pixels
        current = torch.cuda.current_stream(pixels.device)
        shared.stream.wait_stream(current)
        with torch.cuda.stream(shared.stream):
            for _ in range(WARM_UPS):
                net(pixels)
        current.wait_stream(shared.stream)
        self._graph = torch.cuda.CUDAGraph()
        # Its own stream, because torch's default for recording belongs to whichever device came first. Thread-local:
        # what other threads do on the device meanwhile is no concern of this recording.
        with torch.cuda.graph(self._graph, pool=shared.pool, stream=shared.stream, capture_error_mode="thread_local"):
            self._heatmaps = net(pixels)
        torch.cuda.synchronize(pixels.device)  # whichever thread and stream runs it first

    def run(self) -> Tensor:
        self._graph.replay()
        return self._heatmaps


class Eager:
    """The network, launched kernel by kernel: where no graph can be recorded."""

    def __init__(self, net: FromPixels, pixels: Tensor) -> None:
        self.pixels = pixels
        self._net = net

    def run(self) -> Tensor:
        return self._net(self.pixels)


def take_own_stream(device: torch.device) -> None:
    """Give the calling thread a stream of its own on a CUDA device, which waits for no other thread."""
    torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def record_graph(net: FromPixels, pixels: Tensor, *, shared: SharedByGraphs) -> Recorded:
    """A graph, or, with a warning, the network as it is. Raises ValueError where so many persons do not fit at all."""
    current = torch.cuda.current_stream(pixels.device)
    try:
        return CudaGraph(net, pixels, shared)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{len(pixels)} persons at a time do not fit into the memory of {pixels.device}; "
            "try a smaller --max-batch, or --lanes 1"
        ) from error
    except RuntimeError as error:
        torch.cuda.set_stream(current)  # a recording that fails may leave its own in place
        shared.pool = torch.cuda.graph_pool_handle()  # and its memory marked as being recorded
        log.warning("no CUDA graph for %d persons, which run more slowly: %s", len(pixels), error)
        return Eager(net, pixels)
