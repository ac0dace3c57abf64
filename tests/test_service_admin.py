"""The admin socket: what an operator may ask over it, who can open it, and what `python -m service.admin` says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from callers import play, serving, until
from fakes import BrightestPixel
from http_clients import assert_problem, client_of, make_counted
from reload_scenes import OTHER_SIZE, sha256_of, sized
from service.admin import main
from service.http_admin import admin_beside, create_admin_app
from service.network import Network
from service.reloading import Reloads

SERVING = "0" * 64


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "v2.safetensors").write_bytes(b"")
    return tmp_path


def load(path: Path) -> Network:
    if path.stem not in ("start", "v2"):
        raise ValueError(f"{path.name} is damaged")
    return sized(0.7, OTHER_SIZE)


def ask_admin(
    use: Callable[[httpx.AsyncClient], Awaitable[None]],
    *,
    folder: Path | None = None,
    load: Callable[[Path], Network] = load,
    keys: Callable[[], int] = lambda: 3,
) -> None:
    async def story() -> None:
        async with serving(BrightestPixel()) as service:
            reloads = Reloads(service, load, checkpoint=Path("start.safetensors"), folder=folder)
            transport = httpx.ASGITransport(create_admin_app(reloads, keys), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin:
                await use(admin)
            await until(lambda: not reloads.is_loading)

    play(story)


def test_it_says_what_serves_loads_rolls_back_and_says_how_it_went(folder):
    async def use(admin: httpx.AsyncClient) -> None:
        told = (await admin.get("/")).json()
        assert (told["serving"]["checkpoint_sha256"], told["before"], told["last"]) == (SERVING, None, None)
        for sent in ({}, {"json": {}}, {"json": {"checkpoint": None}}, {"json": {"checkpoint": "v2.safetensors"}}):
            answer = await admin.post("/reload", **sent)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert told == (await admin.get("/")).json()
            assert told["serving"]["checkpoint_sha256"] == sha256_of(0.7)
            assert told["serving"]["input"] == {"width": 64, "height": 96}
            assert told["before"]["checkpoint_sha256"] == SERVING
            assert (told["loading"], told["last"]["outcome"]) == (False, "ok")
            assert "000000000000 () goes on" not in told["last"]["detail"]
        told = (await admin.post("/rollback")).json()
        assert (told["serving"]["checkpoint_sha256"], told["last"]["outcome"]) == (SERVING, "rolled_back")

    ask_admin(use, folder=folder)


def test_what_is_refused_or_fails_is_a_problem_in_words(folder):
    (folder / "v3.safetensors").write_bytes(b"")

    async def use(admin: httpx.AsyncClient) -> None:
        assert_problem(await admin.post("/rollback"), 409, "there is no network to go back to")
        outside = {"checkpoint": "../v2.safetensors"}
        assert_problem(await admin.post("/reload", json=outside), 422, "allowed: NAME.safetensors in ")
        damaged = {"checkpoint": "v3.safetensors"}
        assert_problem(await admin.post("/reload", json=damaged), 422, "v3.safetensors is damaged; C3A1(4) 0000")
        for body in (b"x", b"[]", b'{"checkpoint": 3}', b'{"chekpoint": "v2.safetensors"}'):
            assert_problem(await admin.post("/reload", content=body), 422, 'allowed: {"checkpoint": NAME}')
        assert_problem(await admin.get("/pose"), 404, "Not Found")
        assert_problem(await admin.get("/reload"), 405, "Method Not Allowed")
        assert (await admin.get("/")).json()["serving"]["checkpoint_sha256"] == SERVING

    ask_admin(use, folder=folder)


def test_while_one_is_being_loaded_another_is_refused_and_the_status_says_so():
    gate = asyncio.Event()

    async def use(admin: httpx.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        holding.append(lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30))
        loading = asyncio.create_task(admin.post("/reload"))
        await until(lambda: bool(begun))
        assert (await admin.get("/")).json()["loading"]
        assert_problem(await admin.post("/reload"), 409, "a network is being loaded; allowed: one at a time")
        assert_problem(await admin.post("/rollback"), 409, "a network is being loaded; allowed: one at a time")
        gate.set()
        assert (await loading).status_code == 200

    def slow(path: Path) -> Network:
        begun.append(path)
        holding[0]()
        return load(path)

    holding: list[Callable[[], object]] = []
    begun: list[Path] = []
    ask_admin(use, load=slow)


def test_keys_are_read_again_or_it_is_said_why_not():
    def broken() -> int:
        raise ValueError("keys.txt has no API keys")

    async def reads(admin: httpx.AsyncClient) -> None:
        assert (await admin.post("/keys")).json() == {"keys": 3}

    async def fails(admin: httpx.AsyncClient) -> None:
        assert_problem(await admin.post("/keys"), 422, "keys.txt has no API keys")

    ask_admin(reads)
    ask_admin(fails, keys=broken)


def test_nothing_of_it_is_on_the_ports_of_the_service():
    async def run() -> None:
        service, metrics = make_counted()
        async with client_of(service, metrics) as client:
            for path in ("/reload", "/rollback", "/keys", "/admin"):
                assert (await client.post(path)).status_code == 404
            paths = (await client.get("/openapi.json")).json()["paths"]
            assert {"/pose", "/model"} < set(paths)
            assert not {"/reload", "/rollback", "/keys"} & set(paths)

    asyncio.run(run())


@asynccontextmanager
async def on_a_socket(path: Path) -> AsyncIterator[None]:
    async with serving(BrightestPixel()) as service:
        reloads = Reloads(service, load, checkpoint=Path("start.safetensors"), folder=path.parent)
        async with admin_beside(create_admin_app(reloads, lambda: 2), path):
            yield
        await until(lambda: not reloads.is_loading)


async def said(*argv: object) -> int:
    return await asyncio.to_thread(main, [str(part) for part in argv])


def test_only_the_owner_of_the_process_can_open_the_socket_and_it_is_gone_in_the_end(tmp_path):
    path = tmp_path / "admin.sock"

    async def story() -> None:
        mask = os.umask(0)
        try:
            async with on_a_socket(path):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert os.umask(0) == 0, "the mask is as it was"
                assert await said(path, "status") == 0
        finally:
            os.umask(mask)

    play(story)
    assert not path.exists()


def test_what_a_process_that_was_killed_left_is_removed_but_nothing_else(tmp_path):
    path, file = tmp_path / "admin.sock", tmp_path / "file"
    file.write_text("keep me")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async def story() -> None:
        async with on_a_socket(path):
            assert await said(path, "status") == 0
            with pytest.raises(ValueError, match=f"admin_socket is {path}, which cannot be used: address"):
                async with on_a_socket(path):
                    pass
            assert await said(path, "status") == 0, "the one that was there goes on"
        for wrong, words in ((file, "already in use"), (tmp_path / "no" / "a", "no such file"), (tmp_path, "in use")):
            with pytest.raises(ValueError, match=words):
                async with on_a_socket(wrong):
                    pass
        with pytest.raises(ValueError, match="too long"):
            async with on_a_socket(tmp_path / ("x" * 120)):
                pass

    play(story)
    assert file.read_text() == "keep me"


def test_the_command_line_says_what_the_service_says(folder, capsys):
    path = folder / "admin.sock"

    async def story() -> None:
        async with on_a_socket(path):
            assert await said(path, "reload", "--checkpoint", "v2.safetensors") == 0
            assert json.loads(capsys.readouterr().out)["serving"]["checkpoint_sha256"] == sha256_of(0.7)
            assert await said(path, "rollback") == 0
            assert json.loads(capsys.readouterr().out)["serving"]["checkpoint_sha256"] == SERVING
            assert await said(path, "keys") == 0
            assert json.loads(capsys.readouterr().out) == {"keys": 2}
            assert await said(path, "reload", "--checkpoint", "/etc/passwd") == 1
            assert "python -m service.admin: checkpoint is '/etc/passwd'; allowed:" in capsys.readouterr().err
        assert await said(path, "status") == 2
        assert f"no answer at {path}" in capsys.readouterr().err

    play(story)


def test_a_checkpoint_is_for_reload_only(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["admin.sock", "rollback", "--checkpoint", "v2.safetensors"])
    assert stop.value.code == 2
    assert "--checkpoint is for reload, not for rollback" in capsys.readouterr().err


def test_a_socket_that_fails_does_not_end_the_service(tmp_path, monkeypatch, caplog):
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("service.http_server.HttpServer.serve", fail)

    async def story() -> None:
        async with on_a_socket(tmp_path / "admin.sock"):
            await until(lambda: "the admin socket failed" in caplog.messages)

    play(story)
    assert [one.levelno for one in caplog.records if one.name == "service.http_admin"][-1] == logging.ERROR
