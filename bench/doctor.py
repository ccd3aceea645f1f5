"""``relaxbench doctor``: can this machine do the work? Each finding is (passed, one line)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bench.config import Config

PYTHON = ((3, 11), (3, 14))
FREE_GB = 2
EXTRAS = {"dvc": "pip install relaxbench[data]", "snakemake_executor_plugin_slurm": "pip install relaxbench[slurm]"}


def examine(config: Config) -> Iterator[tuple[bool, str]]:
    version = sys.version_info[:2]
    yield PYTHON[0] <= version < PYTHON[1], f"Python {sys.version.split()[0]} (3.11 to 3.13 are tested)"
    for name in ("torch", "numpy", "scipy", "scikit-learn", "torchdiffeq", "snakemake", "jsonschema"):
        yield _installed(name)
    for module, how in EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        yield True, f"{module}: {'installed' if found else f'not installed, not needed to run ({how})'}"
    yield True, f"{os.cpu_count()} cores; device {_device()}"
    free = shutil.disk_usage(_existing(config.results)).free / 1e9
    yield free > FREE_GB, f"{free:.0f} GB free for {config.results} (needs {FREE_GB})"
    yield from _data(config)


def _installed(name: str) -> tuple[bool, str]:
    try:
        return True, f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return False, f"{name} is missing; run `make reproduce` or `pip install -c constraints.txt -e .`"


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _data(config: Config) -> Iterator[tuple[bool, str]]:
    from bench.workflow import availability

    ready = availability(config)
    yield True, f"data sets at hand: {', '.join(name for name, here in ready.items() if here)}"
    if missing := [name for name, here in ready.items() if not here]:
        yield True, f"need a mirror (mirror=FOLDER) or a network (network=true): {', '.join(missing)}"
