"""Who a process is, as torchrun tells it; without processes beside it."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import distributed as dist

from training import world as world_module
from training.world import World, joined_world


def test_without_torchrun_there_is_one_process():
    with joined_world("cpu") as world:
        assert (world.rank, world.size, world.first, world.device) == (0, 1, True, torch.device("cpu"))
        assert world.gather("x") == ["x"]
        assert world.share("x") == "x"
        assert world.average(torch.tensor([3.0])) == 3
        assert list(world.part(range(5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_each_item_belongs_to_one_process(size, count):
    items = list(range(count))
    parts = [World(device=torch.device("cpu"), rank=rank, size=size).part(items) for rank in range(size)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_a_process_takes_the_gpu_with_its_number(asked):
    assert world_module._device_of(asked, 3) == torch.device("cuda:3")
    assert world_module._device_of("cpu", 3) == torch.device("cpu")


@pytest.mark.usefixtures("four_gpus")
def test_processes_do_not_share_a_gpu():
    with pytest.raises(ValueError, match=r"device is 'cuda:1'; allowed for several processes: auto, cpu, cuda"):
        world_module._device_of("cuda:1", 0)
    with pytest.raises(ValueError, match="this machine has 4 CUDA devices"):
        world_module._device_of("cuda", 4)


@pytest.fixture
def _dead_first_process(monkeypatch):
    """The launcher's store names a port at which nobody listens any more."""
    launchers = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(launchers.port))
    monkeypatch.setattr(world_module, "CONNECTING", timedelta(seconds=0.2))
    with socket.socket() as dead:  # bound, and not listening
        dead.bind(("127.0.0.1", 0))
        launchers.set(world_module.OWN_STORE, str(dead.getsockname()[1]))
        yield


@pytest.mark.usefixtures("_dead_first_process")
def test_processes_that_are_started_again_meet_each_other_and_not_the_dead():
    with ThreadPoolExecutor() as threads:
        second = threads.submit(world_module._own_store, 1)
        with pytest.raises(TimeoutError):
            second.result(timeout=1)
        first = world_module._own_store(0)
        first.set("key", "of this attempt")
        assert second.result(timeout=30).get("key") == b"of this attempt"


@pytest.mark.usefixtures("_dead_first_process")
def test_a_first_process_that_never_comes_is_not_waited_for_without_end(monkeypatch):
    clock_s = count(0.0, 400.0)  # of ten minutes, after which it is given up
    monkeypatch.setattr(world_module, "time", SimpleNamespace(monotonic=lambda: next(clock_s)))
    with pytest.raises(dist.DistNetworkError):
        world_module._own_store(1)
