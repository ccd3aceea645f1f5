"""The device that a run uses, and its clock."""

from __future__ import annotations

import time

import torch

from bench.errors import UserError


def select_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one; asking for one that is not there is the user's mistake."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for and torch sees no GPU here; use device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def synchronised_seconds(device: torch.device) -> float:
    """The clock, after the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
