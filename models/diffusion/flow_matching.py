"""Flow matching (Lipman et al. 2023, arXiv 2210.02747): a continuous flow trained by regression, without solving it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.base import StandardNormal
from models.flows.continuous import ContinuousFlow, ContinuousModel
from models.layer import Chain, Layer
from models.nets.time import stratified_times
from models.nets.unet import time_network
from models.preprocessing import preprocessing
from models.registry import DataSpec, register


class FlowMatching(ContinuousModel):
    """Noise at t = 0, data at t = 1, joined by conditional optimal-transport paths:

        x_t = (1 - (1 - σ) t) x_0 + t x_1,   target u = x_1 - (1 - σ) x_0,   x_0 ~ N(0, I)

    (eq. 20 to 23). The loss is E ||v(t, x_t) - u||² per element; the likelihood is the continuous flow's.
    """

    def __init__(self, data_end: Sequence[Layer], flow: ContinuousFlow, shape: Sequence[int], sigma: float) -> None:
        if not 0 <= sigma < 1:
            raise ValueError(f"sigma is {sigma}; the paths narrow to it, so it lies from 0 up to, not including, 1")
        super().__init__([Chain(data_end), flow], StandardNormal(shape))
        self.sigma = sigma

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        data_end, flow = self.chain.layers
        x1, _ = data_end.encode(x, context)
        x0, t = torch.randn_like(x1), stratified_times(len(x1), x1)
        along = t.reshape(-1, *[1] * (x1.dim() - 1))
        shrink = 1 - self.sigma
        path = (1 - shrink * along) * x0 + along * x1
        return (flow.field(t, path, context) - (x1 - shrink * x0)).square().mean()


@register("flow-matching")
def flow_matching(
    spec: DataSpec,
    *,
    hidden: Sequence[int] = (128, 128, 128),
    frequencies: int = 0,
    widths: Sequence[int] | None = None,
    sigma: float = 1e-4,
    sampling_steps: int | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    trace: str = "exact",
) -> FlowMatching:
    """Flow matching with an MLP of ``hidden`` or a U-Net of ``widths``; ``sampling_steps`` Euler steps, or adaptive."""
    field = time_network(spec.shape, hidden, frequencies, widths)
    flow = ContinuousFlow(field, t_data=1.0, t_noise=0.0, rtol=rtol, atol=atol, trace=trace)
    model = FlowMatching(preprocessing(spec), flow, spec.shape, sigma)
    model.sampling_steps = sampling_steps
    return model
