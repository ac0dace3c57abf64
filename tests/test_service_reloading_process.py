"""`python -m service` whose checkpoint and keys are replaced under it: SIGHUP, the admin socket, what goes wrong."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from drawings import lively_network, tiny_config
from grpc_clients import estimate_request
from model.checkpoint import load_checkpoint, save_checkpoint
from pictures import jpeg
from processes import Process, served
from service.admin import main as admin
from service.pb import pose_pb2_grpc
from service.settings import BUNDLED_CHECKPOINT

JPEG = {"Content-Type": "image/jpeg"}
KEYS = "k-0123456789abcdef", "k-fedcba9876543210"


def put(folder: Path, *, seed: int, name: str = "current", **config: Any) -> str:
    """A checkpoint of a network that takes milliseconds; its SHA-256."""
    return save_checkpoint(
        folder / f"{name}.safetensors", lively_network(tiny_config(**config), seed=seed), training={}
    ).sha256


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")


def hang_up(service: Process) -> str:
    """Send SIGHUP, and wait until that has been dealt with; what was said about it."""
    there = len(ended(service))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: len(ended(service)) > there)
    return ended(service)[-1]


def ended(service: Process) -> list[str]:
    return [line for line in service.log if "reload asked by SIGHUP: " in line]


def serves(service: Process) -> str:
    return httpx.get(f"{service.http}/model").json()["checkpoint_sha256"]


def pose(service: Process, key: str = KEYS[0]) -> httpx.Response:
    return httpx.post(f"{service.http}/pose", content=jpeg(), headers={**JPEG, "x-api-key": key})


def metric(service: Process, name: str) -> list[str]:
    """The values of a metric's series, and their labels."""
    text = httpx.get(f"{service.http}/metrics").text
    return [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]


def test_sighup_and_the_admin_socket_replace_the_network_and_what_is_damaged_changes_nothing(tmp_path, capsys):
    folder, path, keys = tmp_path / "models", tmp_path / "admin.sock", tmp_path / "keys.txt"
    checkpoint = tmp_path / "current.safetensors"
    keys.write_text(KEYS[0])
    first, third = put(tmp_path, seed=0), put(folder, seed=2, name="v3")
    admin_flags = ("--admin-socket", path, "--checkpoint-dir", folder)
    flags = ("--checkpoint", checkpoint, "--api-key-file", keys, *admin_flags)
    with served(*map(str, flags), "--precision", "fp32", "--runtime", "torch", "--lanes", "2") as service:
        service.wait_until_ready()
        before = pose(service).json()
        second = put(tmp_path, seed=1, input_hw=(96, 64))
        assert ": ok: Tiny" in hang_up(service)
        assert serves(service) == second
        after = pose(service).json()
        assert after["poses"][0]["keypoints"] != before["poses"][0]["keypoints"]
        (model,) = metric(service, "btranspose_model_info")
        assert second in model

        content = checkpoint.read_bytes()
        for damage in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), None):
            checkpoint.unlink()
            if damage is not None:
                checkpoint.write_bytes(damage)
            said = hang_up(service)
            assert "ERROR" in said
            assert f"Tiny {second[:12]} ({checkpoint}) goes on" in said
            assert httpx.get(f"{service.http}/readyz").status_code == 200
            assert pose(service).json() == after
        assert metric(service, "btranspose_last_reload_failed ") == ["1.0"]
        assert metric(service, 'btranspose_reloads_total{outcome="failed"} ') == ["3.0"]

        put(tmp_path, seed=0)
        for asked, then in (
            (("reload", "--checkpoint", "v3.safetensors"), third),
            (("rollback",), second),
            (("reload",), first),
        ):
            assert admin([str(path), *asked]) == 0
            assert serves(service) == then == json.loads(capsys.readouterr().out)["serving"]["checkpoint_sha256"]
        assert metric(service, "btranspose_last_reload_failed ") == ["0.0"]
        assert pose(service).json() == before

        for written, then in (("\n".join(KEYS), [200, 200]), ("# none\n", [200, 200]), (KEYS[1], [401, 200])):
            keys.write_text(written)
            hang_up(service)
            assert [pose(service, key).status_code for key in KEYS] == then
        assert service.stop() == 0
    assert not path.exists()
    networks = re.findall(r"network=(\w+)", "".join(service.log))
    assert set(networks) == {first[:12], second[:12]}, "each line of a request tells its network"
    (failed,) = [line for line in service.log if "the keys of before are accepted" in line]
    assert "has no API keys" in failed
    assert not any(key in line for key in KEYS for line in service.log)


class Clients:
    """One of each protocol who ask without a pause; their answers as text."""

    def __init__(self, service: Process) -> None:
        self._service = service
        self._over = threading.Event()
        self.http: list[str] = []
        self.grpc: list[str] = []
        self._threads = [
            threading.Thread(target=self._post),
            threading.Thread(target=lambda: asyncio.run(self._call())),
        ]
        for thread in self._threads:
            thread.start()

    def _post(self) -> None:
        while not self._over.is_set():
            self.http.append(str(pose(self._service).json()["poses"][0]["keypoints"]))

    async def _call(self) -> None:
        async with grpc.aio.insecure_channel(self._service.grpc) as channel:
            stub = pose_pb2_grpc.PoseServiceStub(channel)
            while not self._over.is_set():
                (found,) = (await stub.EstimatePose(estimate_request(jpeg()))).poses
                self.grpc.append(str([(point.x, point.y, point.score) for point in found.keypoints]))

    def let_each_ask(self, times: int) -> None:
        there = len(self.http), len(self.grpc)
        until(lambda: len(self.http) >= there[0] + times and len(self.grpc) >= there[1] + times)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=30)


@pytest.mark.slow
def test_the_bundled_checkpoint_is_replaced_while_clients_ask_and_a_load_does_not_keep_it_from_ending(tmp_path):
    checkpoint = tmp_path / "current.safetensors"
    for suffix in (".safetensors", ".json"):
        shutil.copy(BUNDLED_CHECKPOINT.with_suffix(suffix), checkpoint.with_suffix(suffix))
    net, card = load_checkpoint(checkpoint)

    def another() -> str:
        for parameter in net.head.parameters():
            parameter.data *= 0.5
        return save_checkpoint(checkpoint, net, training={}).sha256

    with served("--checkpoint", str(checkpoint), "--cache-dir", str(tmp_path / "cache")) as service:
        service.wait_until_ready()
        clients = Clients(service)
        try:
            clients.let_each_ask(3)
            second = another()
            assert ": ok: C3A1(4)" in hang_up(service)
            clients.let_each_ask(3)
        finally:
            clients.end()
        assert serves(service) == second != card.sha256
        another()
        service.process.send_signal(signal.SIGHUP)
        until(lambda: sum("converting the network" in line for line in service.log) == 3)
        assert service.stop() == 0
    for found in (clients.http, clients.grpc):
        old, new = found[0], found[-1]
        assert old != new
        took_over = found.index(new)
        assert found == [old] * took_over + [new] * (len(found) - took_over), "each is of one of both, in order"
    assert not [line for line in service.log if " ERROR " in line or "Traceback" in line]
    assert set(re.findall(r"outcome=(\w+)", "".join(service.log))) == {"ok"}
