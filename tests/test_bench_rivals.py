"""The comparison with other servers: what its figures are made of, without starting one of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # no package: its scripts import each other by name
load, patch_triton, bench_of_rivals, kinds, processes, turns, rivals = map(
    importlib.import_module,
    ("load", "patch_triton", "rival_bench", "rival_kinds", "rival_processes", "rival_turns", "rivals"),
)

ASLEEP = "import time; print('asleep', flush=True); time.sleep(60)"
SLEEPER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASLEEP!r}])"
TALKER = """
import http.server, sys
class Talker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"keypoints": [[1, 2, 0.5]]}'
        self.send_response(200 if self.headers.get("Key") else 500)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Talker).serve_forever()
"""


def python(code: str, *arguments: str, folder: Path) -> processes.Processes:
    return processes.Processes([sys.executable, "-c", code, *arguments], env={}, cwd=folder, log=folder / "log")


def sleeping(sleepers: processes.Processes, folder: Path) -> list[int]:
    """The two processes of `SLEEPER`, when the inner one runs: held before that, the outer one still waits for it."""
    until(lambda: "asleep" in (folder / "log").read_text())
    pids = processes.tree(sleepers.pid)
    assert len(pids) == 2
    return pids


def state(pid: int) -> str:
    """As /proc tells it; nothing if there is no such process."""
    return "".join(processes._stat(pid)[:1])


def until(condition) -> None:
    """Signals take their time."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.01)


def measured(name: str, rates: list[float], *, errors: int = 0) -> turns.Row:
    entry = turns.Entry(name=name, start=lambda _: pytest.fail("started"))
    tally = load.Tally(taken=[0.1, 0.2, 0.3], refused=errors)
    row = turns.Row(name, turns.Started(entry, None, 0, 4.25, b""))
    row.rates, row.tallies, row.memory_bytes = (
        {1: [1.0], 16: rates},
        {1: load.Tally(taken=[0.05]), 16: tally},
        5 * 2**20,
    )
    return row


def test_a_ratio_is_of_the_same_round_and_the_median_of_all():
    assert turns.ratio(measured("a", [10.0, 2.0, 9.0]), measured("b", [5.0, 1.0, 1.0]), 16) == 2.0
    assert turns.ratio(measured("a", [10.0]), measured("b", [0.0]), 16) == float("inf")
    assert math.isnan(turns.ratio(turns.Row("a", failed="it ended"), measured("b", [1.0]), 16))


def test_a_table_has_a_row_for_each_server_and_says_who_is_missing(tmp_path):
    rows = [
        measured("ours", [10.0, 12.0]),
        measured("slow", [5.0, 4.0], errors=2),
        turns.Row("gone", failed="it ended: x|y"),
    ]
    table = rivals.tabled("torch", rows, 2)
    table.write(tmp_path)
    ours, slow, gone = json.loads((tmp_path / "rivals-torch.json").read_text())["rows"]
    assert list(ours.values()) == ["ours", "4.2", "50.0", "11.00", "200", "300", "0 of 4", "5", "1.00"]
    assert (slow["errors"], slow["ours to it"], slow["16 clients: images/s"]) == ("2 of 6", "2.50", "4.50")
    assert gone["ready after s"] == "does not take part: it ended: x/y"


def test_without_scripts_and_environments_it_says_what_to_install_and_ends_well(tmp_path):
    options = ["--peers", tmp_path / "a", "--venv", tmp_path / "b", "--triton-venv", tmp_path / "c"]
    command = [sys.executable, ROOT / "bench" / "rivals.py", *options]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0
    assert str(tmp_path / "a") in ended.stdout
    for packages in ("bench/rivals.txt", "bench/rivals-triton.txt"):
        assert f"pip install --requirement {packages}" in ended.stdout
        assert (ROOT / packages).is_file()
    assert f"{tmp_path / 'c'}/bin/python bench/patch_triton.py" in ended.stdout


def test_only_what_a_choice_of_rivals_needs_is_missing(tmp_path):
    (tmp_path / "peer_common.py").touch()
    naive = tuple(rival for rival in kinds.RIVALS if rival.key == "naive")
    lines = kinds.missing(peers=tmp_path, venv=tmp_path / "b", triton_venv=tmp_path / "c", rivals=naive)
    assert not any("triton" in line for line in lines)
    (tmp_path / "b" / "bin").mkdir(parents=True)
    (tmp_path / "b" / "bin" / "python").touch()
    assert not kinds.missing(peers=tmp_path, venv=tmp_path / "b", triton_venv=tmp_path / "c", rivals=naive)


@pytest.mark.parametrize("rival", kinds.RIVALS, ids=lambda rival: rival.key)
def test_a_rival_gets_our_network_and_tells_nobody(rival):
    env = kinds.rival_env(rival, factory="torch_net", threads=2)
    assert env["MODEL_FACTORY"] == "rival_models:torch_net"
    assert (env["TORCH_THREADS"], env["MAX_BATCH"]) == ("2", "16")
    assert (env["RAY_USAGE_STATS_ENABLED"], env["BENTOML_DO_NOT_TRACK"]) == ("0", "True")
    command = kinds.rival_command(rival, venv=Path("/v"), peers=Path("/with space/p"), port=1234)
    assert command[0].startswith("/v/bin/")
    assert "1234" in command
    assert any(part.startswith("/with space/p") for part in command)


def test_confidences_are_read_from_both_forms_of_answers():
    points = np.arange(51, dtype="<f4").reshape(17, 3)
    expected = points[:, 2].tolist()
    assert turns.confidences(json.dumps({"keypoints": points.tolist()}).encode()) == expected
    assert turns.confidences(b'{"model_name":"pose"}' + points.tobytes()) == expected


def test_memory_is_between_what_is_its_own_and_all_that_it_sees():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    pss, rss = (int(rollup.split(f"{name}:")[1].split()[0]) * 1024 for name in ("Pss", "Rss"))
    own = processes.memory_bytes([os.getpid()])
    assert 0.9 * pss <= own <= 1.1 * rss
    assert processes.memory_bytes([]) == 0


def test_held_processes_stand_still_go_on_and_end_all_together(tmp_path):
    sleepers = python(SLEEPER, folder=tmp_path)
    try:
        pids = sleeping(sleepers, tmp_path)
        sleepers.hold()
        until(lambda: {state(pid) for pid in pids} == {"T"})
        sleepers.go_on()
        until(lambda: "T" not in {state(pid) for pid in pids})
        sleepers.hold()
    finally:
        sleepers.stop()
    assert {state(pid) for pid in pids} <= {"", "Z"}


def test_memory_that_processes_share_is_counted_once(tmp_path):
    sleepers = python(SLEEPER, folder=tmp_path)
    try:
        pids = sleeping(sleepers, tmp_path)
        sleepers.hold()
        apart = sum(processes.memory_bytes([pid]) for pid in pids)
        assert processes.memory_bytes(pids[:1]) < sleepers.memory_bytes() < apart
    finally:
        sleepers.stop()


def test_a_server_that_ends_is_reported_with_its_last_words(tmp_path):
    entry = turns.Entry(name="x", start=lambda _: python("raise SystemExit('why not')", folder=tmp_path))
    with pytest.raises(turns.Failed, match="it ended: why not"):
        asyncio.run(turns.start(entry, b""))


def test_a_server_that_is_not_there_is_reported(tmp_path):
    def gone(_: int) -> processes.Processes:
        return processes.Processes(["/nowhere/python"], env={}, cwd=tmp_path, log=tmp_path / "log")

    with pytest.raises(turns.Failed, match="/nowhere/python"):
        asyncio.run(turns.start(turns.Entry(name="x", start=gone), b""))


def test_a_rival_with_other_answers_takes_no_part_and_leaves_nothing(tmp_path):
    bench = bench_of_rivals.Bench("openvino", None, folder=tmp_path, checkpoint=tmp_path)
    answers = {"first": 0.5, "alike": 0.52, "other": 0.6}
    code = {name: TALKER.replace("0.5]", f"{value}]").replace("Key", "Host") for name, value in answers.items()}

    async def begin(stack: contextlib.ExitStack) -> dict[str, str]:
        entries = [
            turns.Entry(
                name=name, start=partial(lambda name, port: python(code[name], str(port), folder=tmp_path), name)
            )
            for name in answers
        ]
        return {row.name: row.failed for entry in entries for row in await bench._started(entry, stack)}

    with contextlib.ExitStack() as stack:
        failed = asyncio.run(begin(stack))
    assert (failed["first"], failed["alike"]) == ("", "")
    assert "by 0.100 in a confidence" in failed["other"]


def test_an_answer_without_keypoints_is_reported():
    for answer in (b"<html>", b'{"poses": []}', b'{"model_name":"short"}'):
        with pytest.raises(turns.Failed, match="does not answer with keypoints"):
            turns.confidences(answer)


def test_a_server_is_measured_and_its_errors_counted(tmp_path):
    entry = turns.Entry(name="x", start=lambda port: python(TALKER, str(port), folder=tmp_path), headers={"Key": "1"})

    async def measure() -> None:
        started = await turns.start(entry, b"picture")
        try:
            assert turns.confidences(started.answer) == [0.5]
            row = turns.Row("x", started)
            await row.turn(b"picture", 4, seconds=0.1)
            assert row.rates[4][0] > 0
            assert row.tallies[4].errors.total() == 0
            assert row.memory_bytes > 2**20
            until(lambda: state(started.processes.pid) == "T")
            started.processes.go_on()
            entry.headers.clear()  # from now on each answer is an error
            tally = load.Tally()
            assert await turns.load(started, b"picture", clients=2, seconds=0.1, tally=tally) == 0
            assert tally.errors["500"] >= 2
        finally:
            started.processes.stop()

    asyncio.run(measure())


def test_ports_are_free_and_next_to_each_other():
    assert 1024 < turns.free_ports() < 65534


def test_triton_is_mended_once_and_only_where_it_fits():
    source = "import threading\n" + patch_triton.BEFORE
    mended = patch_triton.patched(source)
    assert patch_triton.patched(mended) == mended
    assert mended.index("_CountingLock()") < mended.index("LOGGER")
    compile(mended, "data.py", "exec")
    with pytest.raises(ValueError, match="nvidia-pytriton"):
        patch_triton.patched("import threading\n")
