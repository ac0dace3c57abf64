"""The commands under torchrun: two processes train, one is killed, the run goes on as if nothing was, is evaluated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from drawings import draw_coco

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
STEPS = 12  # 6 epochs of 2


def torchrun(*command, restarts=0):
    """Start a command in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher += ["--max-restarts", str(restarts), "--monitor-interval", "0.2", "-m"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process):
    """What a process printed, once it ended well."""
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out[-4000:]
    return out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("coco"), persons=9)


def train(drawn, run_dir, **options):
    return torchrun(
        "training.train", "--train", *drawn, "--val", *drawn, "--run-dir", run_dir, "--variant", "c2a1-4",
        "--input", "64x48", "--epochs", "6", "--val-every", "6", "--batch-size", "4", "--accumulate", "2",
        "--learning-rate", "1e-3", "--ema-decay", "0.9", "--precision", "fp32", "--device", "cpu", "--workers", "0",
        "--minutes-between-saves", "0", **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(drawn, tmp_path_factory):
    """A run that nothing happened to."""
    run_dir = tmp_path_factory.mktemp("whole")
    out = finished(train(drawn, run_dir))
    assert "2 processes: 9 persons, 2 steps of 4 an epoch, 6 epochs" in out
    assert out.count("best AP on annotations.json") == 1, "only the first process talks"
    return run_dir


def saved_step(path):
    """The step of a state; -1 while there is none, or while it is being replaced."""
    try:
        with safe_open(path, framework="pt") as stored:
            return json.loads(stored.metadata()["facts"])["step"]
    except (OSError, SafetensorError):
        return -1


def workers_of(launcher):
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"training.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes to kill in /proc")
def test_a_killed_process_restarts_and_the_run_ends_as_it_would_have_ended(drawn, whole, tmp_path):
    run_dir = tmp_path / "killed"
    launcher = train(drawn, run_dir, restarts=1)
    deadline = time.monotonic() + 200
    while saved_step(run_dir / "last.safetensors") < 3 and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    victims = workers_of(launcher)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    killed_at = saved_step(run_dir / "last.safetensors")
    assert 3 <= killed_at < STEPS, "killed too late to show anything"
    out, _ = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, out[-4000:]
    assert "resumed at step" in out
    for name in ("last.safetensors", "best.safetensors"):
        got, expected = load_file(run_dir / name), load_file(whole / name)
        assert got.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in got.items()), name
    assert saved_step(run_dir / "last.safetensors") == STEPS


def test_two_processes_evaluate_to_the_figures_of_one(drawn, whole, tmp_path):
    command = ["training.evaluate", "--checkpoint", whole / "best.safetensors", "--annotations", drawn[0]]
    command += ["--images", drawn[1], "--device", "cpu", "--runtime", "torch", "--precision", "fp32"]
    out = finished(torchrun(*command, "--out", tmp_path / "two.json"))
    assert out.count("9 poses, boxes gt, flip test") == 1
    alone = [sys.executable, "-m", *map(str, command), "--out", str(tmp_path / "one.json")]
    subprocess.run(alone, cwd=ROOT, check=True, capture_output=True, timeout=120)
    two, one = (json.loads((tmp_path / name).read_text()) for name in ("two.json", "one.json"))
    assert two.keys() == one.keys()
    for name, value in one.items():
        assert two[name] == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value), name


def test_two_processes_pre_train(drawn, tmp_path):
    out = finished(
        torchrun(
            "training.pretrain", "--images", drawn[1], "--run-dir", tmp_path / "dino", "--variant", "c2a1-4",
            "--global-view", "64x48", "--local-view", "32x24", "--epochs", "2", "--batch-size", "4", "--out-dim", "32",
            "--warmup-epochs", "1", "--device", "cpu", "--precision", "fp32", "--workers", "0",
        )
    )  # fmt: skip
    assert "2 processes: 5 pictures, 1 steps of 4 an epoch" in out
    assert out.count("the teacher's backbone is") == 1
    rows = [json.loads(line) for line in (tmp_path / "dino" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert (tmp_path / "dino" / "dino.safetensors").exists()
