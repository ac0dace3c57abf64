"""Generates service/pb from pose.proto: `make proto`. With --check, fails if what is committed differs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("service/pb")
GENERATED = ("pose_pb2.py", "pose_pb2.pyi", "pose_pb2_grpc.py")


def generate(out: Path) -> None:
    """Write the generated modules under `out`/service/pb."""
    # The proto is named as if it lay in service/pb, so that the modules import each other by their real names.
    command = [
        "protoc",
        f"-I{PACKAGE}={ROOT / 'proto'}",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        str(PACKAGE / "pose.proto"),
    ]
    if protoc.main(command) != 0:
        raise SystemExit("proto/pose.proto could not be compiled")


def main() -> int:
    """Generate, or compare: 1 if the committed code is not what the proto gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        different = [
            name
            for name in GENERATED
            if not (ROOT / PACKAGE / name).exists()
            or (Path(folder) / PACKAGE / name).read_bytes() != (ROOT / PACKAGE / name).read_bytes()
        ]
    if different:
        print(f"not what proto/pose.proto gives: {', '.join(different)}; run: make proto", file=sys.stderr)
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
