"""Which device and which precision a command runs with."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`. Raises ValueError for anything else."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}; this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`fp32`, `bf16`, or `auto`: bf16 where the hardware multiplies in it. Raises ValueError for anything else."""
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; allowed: auto, fp32, bf16")
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies faster in bf16 than in float32.

    Intel's multiply bf16 in tiles (AMX). Without them, as in many virtual machines, their avx512_bf16 has half the rate
    of their float32: OpenVINO and torch then take 1.5 to 1.7 times as long for a crop. AMD's has twice the rate.
    """
    read = getattr(torch.cpu, "get_capabilities", None)  # not in older versions of torch
    capabilities = read() if read else {}
    if "Intel" in str(capabilities.get("cpu_name", "")):
        return bool(capabilities.get("amx_bf16", False))
    return bool(capabilities.get("avx512_bf16", False))


def pick_devices(names: str) -> list[torch.device]:
    """`pick_device` of each name between commas. Raises ValueError as it does, and for one twice or CPU beside CUDA."""
    devices = [pick_device(name.strip()) for name in names.split(",")]
    places = [(device.type, device.index or 0) for device in devices]
    if len(set(places)) < len(places) or len({kind for kind, _ in places}) > 1:
        raise ValueError(f"device is {names!r}; allowed: auto, cpu, cuda, or cuda:N,cuda:M,... with each once")
    return devices
