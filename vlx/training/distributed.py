"""Devices, processes and precision, by accelerate."""

import logging
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState

log = logging.getLogger("vlx")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def supported_precision(precision: str) -> str:
    """Return bf16 or fp32: `auto` is bf16 on a GPU with bf16 units, `bf16` needs a device with such units.

    `auto` on a CPU is fp32: in bf16 a small model trains 4 times slower with the units, 25 times slower without.
    """
    gpu = torch.cuda.is_available()
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
    if precision == "bf16" and not has_bf16:
        log.warning("precision=bf16: this device has no bf16 units; computing in fp32.")
    requested = precision == "bf16" or (precision == "auto" and gpu)
    return "bf16" if requested and has_bf16 else "fp32"


def cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and not BF16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def accelerator_for(precision: str) -> Accelerator:
    """Return accelerate's handle on devices, processes and precision."""
    return Accelerator(mixed_precision="bf16" if supported_precision(precision) == "bf16" else "no")


def training_device() -> torch.device:
    """Return the device on which this process trains."""
    return PartialState().device
