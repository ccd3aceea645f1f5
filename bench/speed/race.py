"""Timing several functions in turn, so that a busy machine slows them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch


def race(functions: Mapping[str, Callable[[], object]], rounds: int, seconds: float = 0.2) -> dict[str, float]:
    """The best seconds per call of each function over ``rounds`` turns of about ``seconds`` each."""
    calls = {name: max(1, round(seconds / _once(function))) for name, function in functions.items()}
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                function()
            _finish()
            best[name] = min(best[name], (time.perf_counter() - started) / calls[name])
    return best


def _once(function: Callable[[], object]) -> float:
    function()  # the first call allocates
    _finish()
    started = time.perf_counter()
    function()
    _finish()
    return time.perf_counter() - started


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
