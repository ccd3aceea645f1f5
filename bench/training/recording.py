"""A training step recorded once as a CUDA graph and replayed: small networks cost launches, not arithmetic."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM_STEPS = 5
"""Steps taken as usual before the recording: allocations and lazy initialisation must lie behind."""


class Recorded:
    """``step(batch) -> losses`` as a graph of kernels that reads a fixed buffer, from the step after ``WARM_STEPS`` on.

    Every step counts: the warm ones are ordinary steps, and recording itself computes nothing. The operations must be
    the same at every step (``Model.steady``) and read no number that lives on the host: learning rates are tensors.
    Randomness comes from the device's generator, whose state a replay moves on as the step itself would. A step that
    CUDA refuses to record is warned of and taken as it is, then and ever after.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self.step = step
        self.stream = torch.cuda.Stream()
        self.warm = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.refused = False
        self.seconds = 0.0  # that recording took

    def __call__(self, batch: Tensor) -> Tensor:
        if self.graph is None and self.warm == WARM_STEPS and not self.refused:
            self._record(batch)
        if self.graph is None:
            self.warm = min(self.warm + 1, WARM_STEPS)
            return self._aside(batch)
        self.batch.copy_(batch)
        self.graph.replay()
        return self.losses

    def _aside(self, batch: Tensor) -> Tensor:
        """One step on the stream that will record, as its allocations must belong there."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            losses = self.step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return losses

    def _record(self, batch: Tensor) -> None:
        gc.collect()  # an earlier graph that is freed while this one is recorded would spoil it
        torch.cuda.synchronize()
        started = time.perf_counter()
        self.batch, graph = batch.clone(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.losses = self.step(self.batch)
        except RuntimeError as error:
            self.refused = True
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"the training step cannot be recorded and is taken step by step: {reason}", stacklevel=2)
            return
        torch.cuda.synchronize()
        self.graph, self.seconds = graph, time.perf_counter() - started
