"""Flags and environment, and what is said when they are wrong."""

from __future__ import annotations

import pytest

from service.__main__ import main, read_settings
from service.settings import BUNDLED_CHECKPOINT


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("BTRANSPOSE_"):
            monkeypatch.delenv(name)


def test_defaults_serve_the_bundled_checkpoint_on_loopback():
    settings = read_settings([])
    assert settings.checkpoint == BUNDLED_CHECKPOINT
    assert (settings.host, settings.http_port, settings.device, settings.runtime) == ("127.0.0.1", 8000, "auto", "auto")


def test_flags_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("BTRANSPOSE_HTTP_PORT", "9000")
    monkeypatch.setenv("BTRANSPOSE_MAX_BATCH", "3")
    settings = read_settings(["--http-port", "9001"])
    assert (settings.http_port, settings.max_batch) == (9001, 3)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--http-port", "hello"], "http_port"),
        (["--http-port", "70000"], "65535"),
        (["--max-batch", "0"], "max_batch"),
        (["--max-waiting", "5"], "allowed: at least max_persons = 100"),
        (["--runtime", "magic"], "magic"),
        (["--unknown", "1"], "--unknown"),
    ],
)
def test_wrong_flags_exit_with_2_and_name_themselves(flags, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        read_settings(flags)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_missing_checkpoint_is_one_clear_line(capsys, tmp_path):
    assert main(["--checkpoint", str(tmp_path / "none.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "none.safetensors" in said
    assert "Traceback" not in said


def test_an_impossible_device_is_one_clear_line(capsys):
    assert main(["--device", "tpu"]) == 2
    assert "device is 'tpu'; allowed: auto, cpu, cuda, cuda:N" in capsys.readouterr().err
