"""What numbers a base model is kept in: their names, their size, and what they need. Does not know torch or models.

The page asks here before a run starts, so nothing of torch may be loaded for it.
"""

from __future__ import annotations

import importlib.util
import shutil

# Bytes of one weight. NF4 is half a byte, and one float32 scale for 64 weights, itself kept in about 8 bits.
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
FOUR_BIT_BYTES = 0.516
FOUR_BIT = "4bit"


def has_nvidia_gpu() -> bool:
    """Say whether this machine seems to have an NVIDIA GPU, without loading torch."""
    return shutil.which("nvidia-smi") is not None


def likely_device(device: str) -> str:
    """Return the kind of device that `device` probably means here: "cuda", "mps" or "cpu", without loading torch."""
    kind = device.partition(":")[0]
    if kind == "auto":
        return "cuda" if has_nvidia_gpu() else "cpu"
    return kind


def four_bit_problem(device: str) -> str | None:
    """Say why a base cannot be kept in 4 bits, and what to do; None when it can.

    device: "cpu", "cuda", "cuda:1" or "mps", or "auto" while it is not known yet.
    """
    if device.partition(":")[0] in ("cpu", "mps"):
        return f"quantization 4bit needs an NVIDIA GPU, not {device}: set device to cuda, or quantization to none"
    if importlib.util.find_spec("bitsandbytes") is None:
        return (
            "quantization 4bit needs the package bitsandbytes: `pip install bitsandbytes`, or set quantization to none"
        )
    return None
