"""Who takes part in `bench/rivals.py`: how each server is started, and how it is asked.

The rivals' own scripts are not part of this repository: they lie in a folder of their own (`--peers`) and answer a raw
JPEG by POST. All take their batches up to 16 as our service does; the window of 5 ms is that of their scripts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rival_models import CACHE_VARIABLE

from service.settings import default_cache_dir

ROOT = Path(__file__).resolve().parents[1]
MAX_BATCH = 16
TRITON_MODEL = "/v2/models/pose/infer"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
# Its own limit of three seconds is shorter than a full batch by torch takes on two cores.
MOSEC = "{bin}/python {peers}/mosec_server.py --address 127.0.0.1 --port {port} --timeout 60000"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One way to serve the network.

    key: names it on the command line. command: {bin}, {peers} and {port} are filled in. torch_threads: of the network
    by torch; `--try-threads` finds which of 1 and 2 gives more images a second. triton: lives in Triton's environment.
    """

    key: str
    name: str
    command: str
    torch_threads: int = 2
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = "/pose"
    headers: dict[str, str] = field(default_factory=dict)
    triton: bool = False


RIVALS = (
    Rival(
        key="naive",
        name="naive FastAPI, threadpool",
        command="{bin}/python {peers}/naive_fastapi_server.py {port}",
        torch_threads=1,  # its pool runs several requests at a time
    ),
    Rival(
        key="naive-batch",
        name="naive FastAPI, eager batches",
        command="{bin}/python {peers}/naive_fastapi_server.py {port}",
        env={"NAIVE_MODE": "batch", "MAX_DELAY_MS": "0"},
    ),
    Rival(key="litserve", name="LitServe", command="{bin}/python {peers}/litserve_server.py {port}"),
    Rival(key="mosec", name="mosec, one stage", command=MOSEC),
    Rival(key="mosec-2", name="mosec, two stages", command=MOSEC, env={"PRE_WORKERS": "1"}),
    Rival(
        key="bentoml",
        name="BentoML, tuned",
        command="{bin}/bentoml serve bentoml_server:Front --host 127.0.0.1 --port {port} --working-dir {peers}",
        env={"BENTO_MAX_LATENCY_MS": "60000"},  # the script's ten seconds are too short on a busy machine
    ),
    Rival(key="rayserve", name="Ray Serve", command="{bin}/python {peers}/rayserve_server.py {port}"),
    Rival(
        key="triton",
        name="Triton by pytriton",
        command="{bin}/python {peers}/triton_server.py {port}",
        path=TRITON_MODEL,
        headers={"Inference-Header-Content-Length": "0"},
        triton=True,
    ),
)


def rival_command(rival: Rival, *, venv: Path, peers: Path, port: int) -> list[str]:
    """What starts it."""
    return [part.format(bin=venv / "bin", peers=peers, port=port) for part in rival.command.split()]


def rival_env(rival: Rival, *, factory: str, threads: int) -> dict[str, str]:
    """Its environment: our network on its path, its own settings, and nobody told of its use."""
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bench")]),
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder of its script is not ours
        "MODEL_FACTORY": f"rival_models:{factory}",
        "MAX_BATCH": str(MAX_BATCH),
        "TORCH_THREADS": str(threads),
        "DEVICE": "cpu",
        CACHE_VARIABLE: str(default_cache_dir() / "rivals"),
    }
    return {**os.environ, **QUIET, **own, **rival.env}


def our_command(checkpoint: Path, *, http_port: int, grpc_port: int, flags: tuple[str, ...] = ()) -> list[str]:
    """What starts our service."""
    ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    return [
        *(sys.executable, "-m", "service", *ports, "--detector", "none"),  # which the others have not, either
        *("--max-batch", str(MAX_BATCH), "--checkpoint", str(checkpoint), *flags),
    ]


def missing(*, peers: Path, venv: Path, triton_venv: Path, rivals: tuple[Rival, ...]) -> list[str]:
    """What is not here and how to get it, a line each; nothing if all is here."""
    lines = []
    if not (peers / "peer_common.py").is_file():
        lines.append(f"the rivals' server scripts are not in {peers}; give their folder with --peers")
    for path, option, wanted in ((venv, "--venv", False), (triton_venv, "--triton-venv", True)):
        needed = any(rival.triton == wanted for rival in rivals)
        if needed and not (path / "bin" / "python").exists():
            lines.append(f"there is no {path}; try: make rivals-setup, or give another with {option}. By hand:")
            lines += install_commands(path, triton=wanted)
    return lines


def install_commands(venv: Path, *, triton: bool) -> list[str]:
    """What sets one environment up, for a shell in the repository's root."""
    python, packages = venv / "bin" / "python", "rivals-triton.txt" if triton else "rivals.txt"
    commands = [f"  python3 -m venv {venv}", f"  {python} -m pip install --requirement bench/{packages}"]
    return [*commands, f"  {python} bench/patch_triton.py"] if triton else commands
