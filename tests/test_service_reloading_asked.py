"""Who may ask for another network, when, and for which: one at a time, from one folder, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from callers import until
from reload_scenes import Scene, play_reloads, sized
from service.network import Network
from service.reloading import NotAllowed, ReloadRefused, Reloads


def test_the_one_before_serves_again_at_once_and_again_the_other():
    async def story(it: Scene) -> None:
        with pytest.raises(ReloadRefused, match="there is no network to go back to"):
            it.reloads.roll_back(asked_by="a test")
        await it.reloads.reload(asked_by="a test")
        it.reloads.roll_back(asked_by="a test")
        assert await it.score == 0.5
        it.reloads.roll_back(asked_by="a test")
        assert await it.score == 0.7
        assert it.reloads.last.outcome == "rolled_back"

    told = play_reloads(story, {"start": sized(0.7)})
    assert told.news == ["ok of 0.7", "rolled back to ", "rolled back to of 0.7"]


def test_the_same_checkpoint_once_more_is_loaded_but_does_not_take_the_place_of_the_one_before():
    async def story(it: Scene) -> None:
        await it.reloads.reload(asked_by="a test")
        it.files["start"] = sized(0.7)
        again = await it.reloads.reload(asked_by="a test")
        assert it.service.network is again is it.files["start"]
        it.reloads.roll_back(asked_by="a test")
        assert await it.score == 0.5

    play_reloads(story, {"start": sized(0.7)})


def test_one_at_a_time_and_the_old_one_serves_meanwhile():
    async def story(it: Scene) -> None:
        it.gate.clear()
        loading = asyncio.create_task(it.reloads.reload(asked_by="a test"))
        await until(lambda: it.reloads.is_loading)
        for more in (it.reloads.reload(asked_by="another"), _rolled_back(it.reloads)):
            with pytest.raises(ReloadRefused, match="a network is being loaded"):
                await more
        assert await it.score == 0.5
        it.gate.set()
        await loading
        assert await it.score == 0.7

    assert play_reloads(story, {"start": sized(0.7)}).news == ["ok of 0.7"]


async def _rolled_back(reloads: Reloads) -> None:
    reloads.roll_back(asked_by="another")


def test_it_goes_on_when_whoever_asked_is_gone():
    async def story(it: Scene) -> None:
        it.gate.clear()
        loading = asyncio.create_task(it.reloads.reload(asked_by="a test"))
        await until(lambda: it.reloads.is_loading)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        assert it.reloads.is_loading
        it.gate.set()
        await until(lambda: not it.reloads.is_loading)
        assert await it.score == 0.7

    assert play_reloads(story, {"start": sized(0.7)}).news == ["ok of 0.7"]


def test_signals_while_one_is_being_loaded_are_one_more_afterwards():
    async def story(it: Scene) -> None:
        asked = asyncio.Event()
        following = asyncio.create_task(it.reloads.follow(asked, asked_by="SIGHUP"))
        it.gate.clear()
        asked.set()
        await until(lambda: it.reloads.is_loading)
        for _ in range(3):
            asked.set()
            await asyncio.sleep(0)
        it.files["start"] = sized(0.9)
        it.gate.set()
        await until(lambda: len(it.told.news) == 2)
        it.files["start"] = ValueError("broken")
        asked.set()
        await until(lambda: len(it.told.news) == 3)
        it.files["start"] = sized(0.8)
        asked.set()
        await until(lambda: len(it.told.news) == 4)
        following.cancel()

    assert play_reloads(story, {"start": sized(0.7)}).news == ["ok of 0.9", "ok of 0.9", "failed", "ok of 0.8"]


def test_a_service_that_stops_takes_no_other_network():
    async def story(it: Scene) -> None:
        it.gate.clear()
        loading = asyncio.create_task(it.reloads.reload(asked_by="a test"))
        await until(lambda: it.reloads.is_loading)
        it.service.stop()
        it.gate.set()
        with pytest.raises(ReloadRefused, match="shutting down"):
            await loading
        with pytest.raises(ReloadRefused, match="shutting down"):
            await it.reloads.reload(asked_by="a test")
        assert it.service.info.checkpoint_sha256 == "0" * 64

    assert play_reloads(story, {"start": sized(0.7)}).news == []


def named(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_checkpoint_may_be_named_that_lies_in_the_folder(tmp_path):
    folder = tmp_path / "models"
    named(folder, "a.safetensors", "more/b.safetensors")
    (folder / "link.safetensors").symlink_to("a.safetensors")

    async def story(it: Scene) -> None:
        for name in ("a.safetensors", "more/b.safetensors", str(folder / "a.safetensors"), "link.safetensors"):
            await it.reloads.reload(name, asked_by="a test")
            assert await it.score == 0.7

    files: Any = dict.fromkeys(("a.safetensors", "b.safetensors", "link.safetensors"), sized(0.7))
    assert play_reloads(story, files, folder=folder).news == ["ok of 0.7"] * 4


@pytest.mark.parametrize(
    "name", ["../out.safetensors", "/etc/passwd", "out/out.safetensors", "a.json", "", ".", "nul\0.safetensors"]
)
def test_no_other_may_be_named(name, tmp_path):
    folder = tmp_path / "models"
    named(folder, "a.json")
    named(tmp_path, "out.safetensors")
    (folder / "out").symlink_to(tmp_path)

    async def story(it: Scene) -> None:
        with pytest.raises(NotAllowed, match=r"allowed: NAME.safetensors in "):
            await it.reloads.reload(name, asked_by="a test")
        assert await it.score == 0.5

    assert play_reloads(story, {}, folder=folder).news == []


def test_without_a_folder_none_may_be_named():
    async def story(it: Scene) -> None:
        with pytest.raises(NotAllowed, match="allowed: none, because there is no --checkpoint-dir"):
            await it.reloads.reload("a.safetensors", asked_by="a test")

    assert play_reloads(story, {}).news == []


def test_who_watches_does_not_change_what_happens(caplog):
    async def story(it: Scene) -> None:
        def broken(_: Network) -> None:
            raise RuntimeError("broken")

        it.told.on_reloaded = broken
        await it.reloads.reload(asked_by="a test")
        assert await it.score == 0.7

    play_reloads(story, {"start": sized(0.7)})
    assert "an observer failed" in caplog.messages
