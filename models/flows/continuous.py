"""Continuous normalizing flows: a bijection that is the solution of an ODE dx/dt = f(t, x).

One layer serves FFJORD, flow matching and the probability-flow ODEs of score models and DiffFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.base import StandardNormal
from models.layer import ChainModel, Layer, Likelihood, sum_rest
from models.nets.time import ConcatSquashMLP
from models.preprocessing import preprocessing
from models.registry import DataSpec, register

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
FIXED = ("euler", "midpoint", "rk4")
State = Tensor | tuple[Tensor, Tensor]


class ContinuousFlow(Layer):
    """z = x(t_noise), where dx/dt = f(t, x) starts from the data at t_data.

    log|det dz/dx| = ∫ tr(∂f/∂x) dt from t_data to t_noise: the instantaneous change of variables
    (Chen et al. 2018, arXiv 1806.07366, theorem 1; FFJORD, arXiv 1810.01367, eq. 4).

    ``field(t, x, context)`` returns dx/dt. In evaluation mode the adaptive ``method`` runs to ``rtol``, ``atol``
    with the ``trace`` "exact" (D vector-Jacobian products) or "hutchinson" (one Rademacher probe per solve: an
    unbiased estimate). In training mode ``train_method`` and ``train_trace`` do, by backpropagation through the
    solver; a fixed-step ``train_method`` takes ``train_steps`` steps. A coarse fixed grid does not give a noisy
    likelihood but an invalid one, so ``method`` must be adaptive.

    ``nfe`` counts the evaluations of the field in the latest solve.
    """

    steady = False  # the solver looks at its times and errors

    def __init__(
        self,
        field: nn.Module,
        *,
        t_data: float = 0.0,
        t_noise: float = 1.0,
        method: str = "dopri5",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        trace: str = "exact",
        train_method: str = "rk4",
        train_steps: int = 8,
        train_trace: str = "exact",
    ) -> None:
        super().__init__()
        if method not in ADAPTIVE:
            raise ValueError(
                f"solver {method!r} does not adapt its steps, so its likelihood would be invalid; "
                f"use one of {', '.join(ADAPTIVE)} (train_method may be fixed-step)"
            )
        if train_method not in ADAPTIVE + FIXED:
            raise ValueError(f"train_method is {train_method!r}; it takes {', '.join(ADAPTIVE + FIXED)}")
        for name in (trace, train_trace):
            if name not in ("exact", "hutchinson"):
                raise ValueError(f"trace is {name!r}; it takes exact or hutchinson")
        if rtol <= 0 or atol <= 0:
            raise ValueError(f"rtol is {rtol} and atol is {atol}; a solver's tolerances are positive")
        self.field = field
        self.t_data, self.t_noise = t_data, t_noise
        self.method, self.rtol, self.atol, self.trace = method, rtol, atol, trace
        self.train_method, self.train_steps, self.train_trace = train_method, train_steps, train_trace
        self.nfe = 0

    @property
    def solver(self) -> str:  # type: ignore[override]
        return f"{self.method} rtol {self.rtol:g} atol {self.atol:g}, {self.trace} trace"

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._solve_with_trace(x, context, self.t_data, self.t_noise)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, backward = self._solve_with_trace(z, context, self.t_noise, self.t_data)
        return x, -backward

    def transport(self, z: Tensor, context: Tensor | None = None, steps: int | None = None) -> Tensor:
        """z -> x without the trace, for sampling; ``steps`` Euler steps of one evaluation each, or to tolerance."""
        self.nfe = 0

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            self.nfe += 1
            return self.field(t, x, context)

        return self._odeint(velocity, z, self.t_noise, self.t_data, "euler" if steps else self.method, steps)

    def _solve_with_trace(self, x: Tensor, context: Tensor | None, start: float, end: float) -> tuple[Tensor, Tensor]:
        name = self.train_trace if self.training else self.trace
        probe = None if name == "exact" else 2.0 * torch.randint_like(x, 2) - 1
        self.nfe = 0

        def velocity(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            self.nfe += 1
            return velocity_and_trace(self.field, t, state[0], context, probe)

        method = self.train_method if self.training else self.method
        steps = self.train_steps if method in FIXED else None
        return self._odeint(velocity, (x, x.new_zeros(x.shape[0])), start, end, method, steps)

    def _odeint(
        self, velocity: Callable, state: State, start: float, end: float, method: str, steps: int | None
    ) -> State:
        from torchdiffeq import odeint  # late: it imports half of scipy, and every process imports every family

        like = state if isinstance(state, Tensor) else state[0]
        span = torch.tensor([start, end], dtype=like.dtype, device=like.device)
        if steps:
            options = {"grid_constructor": lambda f, y, t: torch.linspace(start, end, steps + 1).to(t)}
        else:
            options = {"step_t": span[1:]}  # land on the end: beyond it (t < 0) a field may not exist
        try:
            path = odeint(velocity, state, span, rtol=self.rtol, atol=self.atol, method=method, options=options)
        except AssertionError as error:  # the solver's word for a field that grew too stiff or became NaN
            raise FloatingPointError(f"the ODE solver {method} gave up after {self.nfe} evaluations: {error}") from None
        return path[-1] if isinstance(state, Tensor) else tuple(part[-1] for part in path)


def velocity_and_trace(
    field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None = None, probe: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """f(t, x) and tr(∂f/∂x), shape (batch,): exact, or probe·(∂f/∂x)·probe (Hutchinson; FFJORD eq. 7)."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        v = field(t, x, context)
        if probe is not None:
            trace = sum_rest(_vjp(v, x, probe, graph) * probe)
        else:
            # a loop, not vmap over the basis: measured faster in 2-D, and every operation of every net has it
            outputs = v.flatten(1).unbind(1)
            trace = sum(_vjp(out.sum(), x, None, graph).flatten(1)[:, i] for i, out in enumerate(outputs))
    return (v, trace) if graph else (v.detach(), trace.detach())


def _vjp(output: Tensor, x: Tensor, vector: Tensor | None, graph: bool) -> Tensor:
    return torch.autograd.grad(output, x, vector, create_graph=graph, retain_graph=True)[0]


class ContinuousModel(ChainModel):
    """A chain with continuous layers: its samples skip the trace that ``decode`` would integrate.

    ``sampling_steps`` None follows the ODE to its tolerance; a number takes that many Euler steps, one network
    pass each.
    """

    sampling_steps: int | None = None

    def estimators(self) -> list[tuple[Likelihood, Callable[[Tensor], Tensor]]]:
        """Without importance bounds where the trace is estimated: its noise alone would raise a log-mean-exp."""
        noisy = any(isinstance(layer, ContinuousFlow) and layer.trace == "hutchinson" for layer in self.chain.layers)
        return super().estimators()[: 1 if noisy else None]

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        x = self.base.sample(n, context)
        for layer in reversed(self.chain.layers):
            if isinstance(layer, ContinuousFlow):
                x = layer.transport(x, context, self.sampling_steps)
            else:
                x = layer.decode(x, context)[0]
        return x


@register("ffjord")
def ffjord(
    spec: DataSpec,
    *,
    hidden: Sequence[int] = (64, 64, 64),
    activation: str = "tanh",
    flows: int = 1,
    squash: str = "standardize",
    method: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    trace: str = "exact",
    train_method: str = "rk4",
    train_steps: int = 8,
    train_trace: str = "exact",
) -> ContinuousModel:
    """FFJORD (Grathwohl et al. 2019, arXiv 1810.01367): ``flows`` free-form continuous flows by maximum likelihood."""
    solver = {
        "method": method,
        "rtol": rtol,
        "atol": atol,
        "trace": trace,
        "train_method": train_method,
        "train_steps": train_steps,
        "train_trace": train_trace,
    }
    blocks = [ContinuousFlow(ConcatSquashMLP(spec.dim, hidden, activation), **solver) for _ in range(flows)]
    return ContinuousModel([*preprocessing(spec, squash=squash), *blocks], StandardNormal(spec.shape))
