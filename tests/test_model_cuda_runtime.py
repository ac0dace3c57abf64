"""The runtime for CUDA, as far as a machine without it can tell: sizes, staging, what a graph may hold, the fallback.

`Eager` stands in for a recorded graph: it runs the same network on the same memory.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from drawings import lively_network, tiny_config
from model import cuda_runtime
from model.cuda_runtime import CudaGraph, CudaRuntime, Eager, Staging, pick_buckets, record_graph
from model.expected_oks import KeypointDecoder
from model.folding import folded
from model.runtime import FromPixels, TorchRuntime, drift, noise_crops

HW = tiny_config().input_hw


class Watched(Eager):
    """Notes how many crops each run was for."""

    runs: list[int] = []  # noqa: RUF012 (emptied by a fixture)

    def run(self):
        self.runs.append(len(self.pixels))
        return super().run()


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    Watched.runs.clear()
    Addresses.nets.clear()


def runtime_on_cpu(net=None, dtype=torch.float32, **options):
    return CudaRuntime(net or lively_network(tiny_config()), "cpu", dtype, record=Watched, **options)


def test_sizes_are_powers_of_two_and_the_largest_that_is_asked_for():
    assert pick_buckets(64) == (1, 2, 4, 8, 16, 32, 64)
    assert pick_buckets(16) == (1, 2, 4, 8, 16)
    assert pick_buckets(20) == (1, 2, 4, 8, 16, 20)
    assert pick_buckets(100) == (1, 2, 4, 8, 16, 32, 64, 100)
    assert pick_buckets(1024)[-3:] == (256, 512, 1024)
    assert pick_buckets(1) == (1,)
    with pytest.raises(ValueError, match="max_batch is 0; allowed: at least 1"):
        pick_buckets(0)


@pytest.mark.parametrize("persons", [1, 2, 3, 4, 5, 6, 9])
def test_it_answers_as_torch_does_however_many_there_are(persons):
    net = lively_network(tiny_config())
    crops = noise_crops(HW, persons)
    expected = TorchRuntime(net).heatmaps(crops)
    found = runtime_on_cpu(net, max_batch=4).heatmaps(crops)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_batch_runs_in_the_smallest_size_that_holds_it_and_in_parts_beyond_the_largest():
    runtime = runtime_on_cpu(max_batch=4)
    for persons in (1, 2, 3, 4, 9):
        runtime.heatmaps(noise_crops(HW, persons))
    assert Watched.runs == [1, 2, 4, 4, 4, 4, 1]


class Addresses:
    """Keeps no more than a graph does: where things are, not the network that they belong to."""

    nets: list[weakref.ref] = []  # noqa: RUF012 (emptied by a fixture)

    def __init__(self, net, pixels):
        self.pixels = pixels
        self.nets.append(weakref.ref(net))


def test_the_weights_live_as_long_as_the_graphs_that_read_them():
    runtime = CudaRuntime(lively_network(tiny_config()), "cpu", record=Addresses, max_batch=2)
    gc.collect()
    assert len(Addresses.nets) == 2
    assert all(net() is not None for net in Addresses.nets)
    del runtime
    gc.collect()
    assert all(net() is None for net in Addresses.nets)


def test_what_one_call_answered_is_not_changed_by_the_next():
    runtime = runtime_on_cpu(max_batch=2)
    one, other = noise_crops(HW, 2)[:1], noise_crops(HW, 2)[1:]
    first = runtime.heatmaps(one)
    kept = first.clone()
    assert not torch.equal(runtime.heatmaps(other), kept)
    assert torch.equal(first, kept)


def test_crops_may_be_changed_once_they_were_sent():
    staging = Staging((2, *HW, 3), torch.device("cpu"))
    crops = noise_crops(HW, 2)
    sent = torch.zeros(2, *HW, 3, dtype=torch.uint8)
    expected = crops.copy()
    staging.send(crops, sent)
    crops[:] = 0
    assert np.array_equal(sent.numpy(), expected)


def test_the_network_that_it_is_made_of_stays_as_it_was():
    net = lively_network(tiny_config())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    runtime_on_cpu(net, torch.bfloat16).heatmaps(noise_crops(HW, 1))
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_bfloat16_answers_nearly_as_float32_and_says_so():
    net = lively_network(tiny_config())
    runtime = runtime_on_cpu(net, torch.bfloat16, max_batch=2)
    assert (runtime.name, runtime.precision) == ("torch", "bfloat16")
    assert 0 < drift(runtime, TorchRuntime(net), HW) < 0.05
    assert runtime.heatmaps(noise_crops(HW, 1)).dtype == torch.float32


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r"dtype is torch.float16; allowed: torch.float32, torch.bfloat16"):
        runtime_on_cpu(dtype=torch.float16)


class OnTheHost(TorchDispatchMode):
    """Notes operations that touch memory of the host, which a recorded graph must not."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.found.append(str(function))
        return result


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_nothing_between_pixels_and_keypoints_waits_for_the_host(position):
    config = tiny_config(position=position)
    net = FromPixels(folded(lively_network(config)).to(torch.bfloat16), torch.bfloat16).to("meta")
    decode = KeypointDecoder(config)
    decode(torch.empty(1, len(config.skeleton), *config.heatmap_hw, device="meta"))  # now its tables are there
    with torch.no_grad(), OnTheHost() as watch:
        decode(net(torch.empty(2, *HW, 3, dtype=torch.uint8, device="meta")))
    assert watch.count > 100
    assert watch.found == []


def test_that_check_sees_a_constant_that_comes_from_the_host():
    with OnTheHost() as watch:
        torch.empty(2, device="meta") * torch.tensor([1.0, 2.0]).to("meta")
    assert watch.found


class FakeCuda:
    """What recording asks of torch.cuda, in order."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def current_stream(self, device):
        return self.Stream(device, "current")

    class Stream:
        def __init__(self, device, name="side") -> None:
            self.name = name

        def wait_stream(self, other) -> None:
            self.waits_for = other.name

    @contextmanager
    def stream(self, stream):
        self.told.append(f"on {stream.name}")
        yield
        self.told.append("off")

    @contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        self.told.append(("record", pool, stream.name, capture_error_mode))
        yield
        self.told.append("recorded")

    def CUDAGraph(self):  # noqa: N802 (torch's)
        return SimpleNamespace(replay=lambda: self.told.append("replay"))

    def synchronize(self, device) -> None:
        self.told.append("synchronize")


def test_a_graph_is_recorded_after_warm_up_on_one_side_stream_and_replayed(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)

    def net(pixels):
        cuda.told.append("run")
        return pixels.sum()

    recorded = CudaGraph(net, torch.ones(2), SimpleNamespace(stream=cuda.Stream("cpu"), pool=(0, 7)))
    warm_up = ["on side", "run", "run", "run", "off"]
    assert cuda.told == [*warm_up, ("record", (0, 7), "side", "thread_local"), "run", "recorded", "synchronize"]
    assert recorded.run() == 2
    assert cuda.told[-1] == "replay"


def test_where_no_graph_can_be_recorded_the_network_runs_without_and_says_so(monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_runtime, "CudaGraph", fails)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    net = FromPixels(lively_network(tiny_config()).eval())
    pixels = torch.from_numpy(noise_crops(HW, 2))
    recorded = record_graph(net, pixels, shared=SimpleNamespace(pool=(0, 0)))
    assert isinstance(recorded, Eager)
    with torch.no_grad():
        assert torch.equal(recorded.run(), net(pixels))
    assert "no CUDA graph for 2 persons, which run more slowly: operation not permitted" in caplog.text


def test_more_persons_than_fit_into_memory_are_refused_by_name(monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda_runtime, "CudaGraph", fails)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    with pytest.raises(ValueError, match="5 persons at a time do not fit into the memory of cpu; try a smaller --max"):
        record_graph(None, torch.zeros(5), shared=None)


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_a_folded_network_has_norms_only_after_attention_and_answers_the_same(position):
    net = lively_network(tiny_config(position=position)).eval()
    found = folded(net)
    left = [name for name, module in found.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left
    assert all(name.startswith("backbone.mhsa_groups") and name.endswith("norm2") for name in left)
    crops = torch.randn(2, 3, *HW)
    with torch.no_grad():
        torch.testing.assert_close(found(crops), net(crops), atol=2e-5, rtol=0)
