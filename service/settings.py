"""Settings of the service: flags of `python -m service`, or `BTRANSPOSE_...` in the environment. Flags win."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BUNDLED_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "c3a1-4.safetensors"


def default_cache_dir() -> Path:
    """The user's folder for what can be made again (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "btranspose"


class ServiceSettings(BaseSettings):
    """Estimate human poses over HTTP and gRPC."""

    model_config = SettingsConfigDict(
        env_prefix="BTRANSPOSE_",
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    checkpoint: Path = Field(
        default=BUNDLED_CHECKPOINT,
        description="NAME.safetensors, with NAME.json beside it. SIGHUP reads it again, without a pause",
    )
    checkpoint_dir: Path | None = Field(
        default=None, description="a folder whose checkpoints may be named over the admin socket; with admin_socket"
    )
    device: str = Field(
        default="auto", description="auto (CUDA where there is one), cpu, cuda, cuda:N, or several as cuda:0,cuda:1"
    )
    lanes: int = Field(
        default=0, ge=0, le=16, description="batches at a time on each device; 0: 1 on a CPU, 2 on CUDA, which overlap"
    )
    runtime: Literal["auto", "torch", "openvino"] = Field(
        default="auto", description="what runs the network; auto: openvino on a CPU, torch on CUDA"
    )
    cache_dir: Path = Field(
        default_factory=default_cache_dir, description="where converted networks are kept, for a quick start"
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto",
        description="auto: bf16 where that is faster than fp32; int8: NAME.int8.xml, on a CPU",
    )
    detector: str = Field(
        default="embedded",
        description="finds persons where a request has no boxes: embedded, onnx:PATH, or none (all is one person)",
    )
    min_pose_score: float = Field(
        default=0.3, ge=0, le=1, description="a pose in a box that the detector found is told from this score on"
    )
    detect_every: int = Field(
        default=10, ge=1, le=1000, description="of a stream the detector looks at every n-th frame at least"
    )
    threads: int = Field(default=0, ge=0, le=1024, description="of the network on a CPU; 0: as torch chooses")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    http_port: int = Field(default=8000, ge=0, le=65535, description="0: any free port, named in the log")
    grpc_port: int = Field(default=50051, ge=0, le=65535, description="0: any free port, named in the log")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = Field(default="text", description="of the log, one line a request")
    max_batch: int = Field(
        default=0, ge=0, le=1024, description="most persons in one run of the network; 0: 16 on a CPU, 64 on CUDA"
    )
    max_persons: int = Field(default=100, ge=1, description="most boxes in one request")
    max_requests: int = Field(
        default=256, ge=1, description="most requests at a time, a stream being one; more are answered with 429"
    )
    max_dependencies: int = Field(
        default=4, ge=1, description="most dependency maps at a time; more are answered with 429"
    )
    max_waiting: int = Field(default=512, ge=1, description="most persons at a time; more are answered with 429")
    max_frames: int = Field(default=16, ge=1, description="most unanswered frames of one gRPC stream")
    max_image_bytes: int = Field(default=20 * 2**20, ge=1, description="most bytes of one picture")
    max_image_pixels: int = Field(default=50_000_000, ge=1, le=178_956_970, description="most pixels of one picture")
    max_held_bytes: int = Field(
        default=2**30, ge=1, description="most bytes of pictures held at a time; more are answered with 429"
    )
    timeout_s: float = Field(default=30.0, gt=0, description="longest that a request may take; later is answered 504")
    body_timeout_s: float = Field(default=30.0, gt=0, description="how long a request's body may take to arrive")
    stalled_after_s: float = Field(
        default=60.0,
        gt=0,
        description="not ready when one run of the network, or each of several lanes, takes longer than this",
    )
    drain_timeout_s: float = Field(default=30.0, gt=0, description="how long SIGTERM waits for requests to finish")
    drain_delay_s: float = Field(
        default=0.0, ge=0, description="how long after SIGTERM new requests are still answered, with 503, at least"
    )
    admin_socket: Path | None = Field(
        default=None, description="Unix socket, for the owner of the process only, to replace the network; see SIGHUP"
    )
    api_key_file: Path | None = Field(
        default=None, description="keys, one a line; requests must then show one. SIGHUP reads it again"
    )
    tls_cert: Path | None = Field(default=None, description="PEM chain, for both protocols; with tls_key")
    tls_key: Path | None = Field(default=None, description="PEM private key; with tls_cert")
    grpc_client_ca: Path | None = Field(
        default=None, description="PEM roots; gRPC clients must then show a certificate signed by one"
    )

    @model_validator(mode="after")
    def _whole_request_fits(self) -> Self:
        if self.max_waiting < self.max_persons:
            raise ValueError(f"max_waiting is {self.max_waiting}; allowed: at least max_persons = {self.max_persons}")
        if self.max_held_bytes < self.max_image_bytes:
            raise ValueError(
                f"max_held_bytes is {self.max_held_bytes}; allowed: at least max_image_bytes = {self.max_image_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _folder_is_of_use(self) -> Self:
        if self.checkpoint_dir is not None and self.admin_socket is None:
            raise ValueError("checkpoint_dir needs admin_socket")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: give both or none")
        if self.grpc_client_ca is not None and self.tls_cert is None:
            raise ValueError("grpc_client_ca needs tls_cert and tls_key")
        return self
