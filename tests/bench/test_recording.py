"""When a step is recorded and what happens if it cannot be; on stand-ins for CUDA, so on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from bench.training.recording import WARM_STEPS, Recorded


class Graph:
    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand-ins for CUDA's streams and graphs; ``record`` False makes it refuse, as it does at a host's number."""
    said = SimpleNamespace(record=True, recording=False)

    @contextmanager
    def graph(*_: object, **__: object) -> Iterator[None]:
        said.recording = True
        yield
        said.recording = False
        if not said.record:
            raise RuntimeError("operation not permitted\n when stream is capturing")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "synchronize": lambda: None,
        "CUDAGraph": Graph,
        "graph": graph,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return said


def stepper(said: SimpleNamespace) -> tuple[Recorded, list[float]]:
    seen: list[float] = []

    def step(batch: Tensor) -> Tensor:
        if not said.recording:  # a recording computes nothing
            seen.append(float(batch))
        return batch

    return Recorded(step), seen


def test_after_the_warm_steps_the_recording_is_replayed(allowed: SimpleNamespace) -> None:
    recorded, seen = stepper(allowed)
    for i in range(WARM_STEPS + 3):
        recorded(torch.tensor(float(i)))
    assert seen == list(range(WARM_STEPS)) and recorded.graph.replayed == 3
    assert recorded.batch == WARM_STEPS + 2, "a replay reads the batch at hand"


def test_a_refused_recording_is_warned_of_once_and_no_step_is_lost(allowed: SimpleNamespace) -> None:
    allowed.record = False
    recorded, seen = stepper(allowed)
    with pytest.warns(UserWarning, match="taken step by step: operation not permitted when stream") as warned:
        for i in range(WARM_STEPS + 3):
            assert recorded(torch.tensor(float(i))) == i
    assert seen == list(range(WARM_STEPS + 3)) and len(warned) == 1 and recorded.graph is None
