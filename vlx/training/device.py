"""The device: which precision it really has, and one accelerator for it."""

import logging
from pathlib import Path

import torch
from accelerate import Accelerator

log = logging.getLogger("vlx")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def pick_precision(wanted: str) -> str:
    """`auto` and `bf16` -> bf16 only where the device computes in it; bf16 on another CPU trains 25 times slower."""
    able = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else cpu_has_bf16()
    if wanted == "bf16" and not able:
        log.warning("precision=bf16: this device has no bf16 units; computing in fp32.")
    return "bf16" if able and wanted != "fp32" else "fp32"


def cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return any(flag in flags.split() for flag in BF16_FLAGS)


def accelerator_for(precision: str) -> Accelerator:
    """accelerate's handle on devices, processes and precision."""
    return Accelerator(mixed_precision="bf16" if pick_precision(precision) == "bf16" else "no")
