"""The runtime for CUDA on a CUDA device: skipped where there is none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from drawings import lively_network, tiny_config
from model.cuda_runtime import CudaGraph, CudaRuntime, take_own_stream
from model.estimator import PoseEstimator
from model.pick_runtime import pick_runtime
from model.runtime import TorchRuntime, drift, noise_crops

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CUDA = torch.device("cuda:0")
HW = tiny_config().input_hw


def test_every_size_is_recorded_and_answers_as_the_cpu_does():
    net = lively_network(tiny_config())
    runtime = CudaRuntime(net, CUDA, max_batch=8)
    assert all(isinstance(recorded, CudaGraph) for recorded in runtime._recorded.values())
    exact = TorchRuntime(net)
    for persons in (1, 2, 3, 5, 8, 11, 19):
        crops = noise_crops(HW, persons)
        torch.testing.assert_close(runtime.heatmaps(crops).cpu(), exact.heatmaps(crops), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_picked_and_drifts_as_little_as_allowed(dtype):
    net = lively_network(tiny_config())
    runtime = pick_runtime("auto", net, CUDA, dtype, checkpoint_sha256="0" * 64, max_batch=4)
    assert (runtime.name, runtime.device, runtime.precision) == ("torch", CUDA, str(dtype).removeprefix("torch."))
    assert drift(runtime, TorchRuntime(lively_network(tiny_config())), HW, persons=4) < 0.05


def test_a_flip_test_does_not_overwrite_what_is_still_being_copied():
    net = lively_network(tiny_config())
    exact = PoseEstimator(lively_network(tiny_config()))
    on_cuda = PoseEstimator(net, CUDA, runtime=CudaRuntime(net, CUDA, max_batch=8))
    crops = list(noise_crops(HW, 8))
    expected = exact.estimate(crops, flip_test=True)
    for _ in range(20):
        for one, other in zip(on_cuda.estimate(crops, flip_test=True), expected, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


def test_two_threads_with_streams_of_their_own_do_not_disturb_each_other():
    net = lively_network(tiny_config())
    crops = noise_crops(HW, 12)
    expected = TorchRuntime(net).heatmaps(crops)
    runtimes = [CudaRuntime(net, CUDA, max_batch=4) for _ in range(2)]
    wrong: list[float] = []

    def run(runtime: CudaRuntime, first: int) -> None:
        take_own_stream(CUDA)
        for number in range(200):
            start = (first + number) % 8
            found = runtime.heatmaps(crops[start : start + 4]).cpu()
            wrong.append(float((found - expected[start : start + 4]).abs().max()))

    threads = [threading.Thread(target=run, args=(runtime, number)) for number, runtime in enumerate(runtimes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 400
    assert max(wrong) < 1e-3
