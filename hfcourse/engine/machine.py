"""What the machine offers: allocator, precision, versions. Importing it costs nothing; torch loads where it is used."""

from __future__ import annotations

import atexit
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_VERSIONED = ("torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "tokenizers", "numpy")

_tuned = False


def tune_allocator() -> bool:
    """Tell glibc to keep freed memory for the next step instead of giving it back to the system.

    Every large tensor is otherwise mapped and faulted in anew at each step, which on CPU costs more than half of
    the time of training a small model. Call it before large tensors are made. Returns whether it took effect;
    on other systems, or with HFCOURSE_KEEP_MALLOC set, nothing happens.
    """
    if not sys.platform.startswith("linux") or os.environ.get("HFCOURSE_KEEP_MALLOC"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    global _tuned
    _tuned = all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 64 * 2**20)))
    return _tuned


def allocator() -> str:
    """One word for reports: how memory is handed out in this process."""
    return "tuned glibc" if _tuned else "system"


def has_bf16_units() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
    if "AMX" in cpu.upper():
        return True
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(unit in cpuinfo.read_text() for unit in ("amx_bf16", "avx512_bf16"))


def mixed_precision(asked: str) -> Literal["no", "bf16", "fp16"]:
    """accelerate's word for a setting of `TrainConfig.precision`."""
    if asked == "auto":
        return "bf16" if has_bf16_units() else "no"
    return "no" if asked == "fp32" else asked  # type: ignore[return-value]


def leave_processes_at_exit() -> None:
    """Have this process leave its group in order at its very end, so that several runs of one launch share the group.

    A process that still is in a gloo group when Python has gone now and then aborts ("terminate called without an
    active exception"). Asking twice does no harm.
    """
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def describe() -> dict[str, Any]:
    """Hardware and versions, for metrics.json."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "hardware": {
            "cpu": model,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
            "allocator": allocator(),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _VERSIONED},
        "commit": _commit(),
    }


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the package's own checkout; None for an installed wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return answer.stdout.strip() or None
