"""What a record says of the code and the machine that made it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from bench.paths import ROOT
from bench.sources import training_sources

COMPUTING = ("bench", "models", "recipes", "config")  # an edited README makes no other number
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torchdiffeq")


@cache
def code() -> dict:
    """Commit, whether what computes results differs from it, and a hash of the sources that do."""
    return {"commit": _git("rev-parse", "HEAD"), "dirty": _dirty(), "source_sha256": source_hash()}


def source_hash() -> str:
    total = hashlib.sha256()
    for path in training_sources():
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _dirty() -> bool | None:
    status = _git("status", "--porcelain", "--untracked-files=no", "--", *COMPUTING)
    return None if status is None else bool(status)


def environment(device: torch.device) -> dict:
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: metadata.version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": cuda and torch.backends.cuda.matmul.allow_tf32,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
