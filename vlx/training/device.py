"""The device: which precision it really has, and one accelerator for it."""

import logging
from pathlib import Path

import torch
from accelerate import Accelerator

log = logging.getLogger("vlx")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def pick_precision(wanted: str) -> str:
    """`auto`: bf16 on a GPU that computes in it, else fp32. `bf16` on a device without such units falls back to fp32.

    A CPU gets it only when asked: with the units a small model trains 4 times slower in it, without them 25 times.
    """
    gpu = torch.cuda.is_available()
    able = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
    if wanted == "bf16" and not able:
        log.warning("precision=bf16: this device has no bf16 units; computing in fp32.")
    return "bf16" if able and (wanted == "bf16" or (wanted == "auto" and gpu)) else "fp32"


def cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and not BF16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def accelerator_for(precision: str) -> Accelerator:
    """accelerate's handle on devices, processes and precision."""
    return Accelerator(mixed_precision="bf16" if pick_precision(precision) == "bf16" else "no")
