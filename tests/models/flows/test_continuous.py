"""Continuous flows against linear ODEs, whose flow is a matrix exponential."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.flows.continuous import ContinuousFlow, ContinuousModel, velocity_and_trace
from models.nets.time import ConcatSquashMLP
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
D = 3


class Linear(nn.Module):
    """f(t, x) = A x: z = expm(A) x, log|det| = tr A."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(D, D, dtype=torch.float64) / 2)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.T


def mlp() -> ConcatSquashMLP:
    return ConcatSquashMLP(D, (16, 16))


@pytest.mark.parametrize(("t_data", "t_noise"), [(0.0, 1.0), (1.0, 0.0), (0.25, 2.0)])
def test_linear_field_is_a_matrix_exponential(t_data: float, t_noise: float) -> None:
    field, x = Linear(), torch.randn(5, D)
    flow = ContinuousFlow(field, t_data=t_data, t_noise=t_noise, rtol=1e-9, atol=1e-9).eval()
    z, log_det = flow.encode(x)
    span = t_noise - t_data
    torch.testing.assert_close(z, x @ torch.matrix_exp(span * field.matrix).T, rtol=0, atol=1e-7)
    torch.testing.assert_close(log_det, (span * field.matrix.trace()).expand(5), rtol=0, atol=1e-7)


def test_decode_inverts_encode_and_reports_the_same_contribution() -> None:
    flow, x = ContinuousFlow(mlp(), rtol=1e-9, atol=1e-9).eval(), torch.randn(4, D)
    z, contribution = flow.encode(x)
    back, again = flow.decode(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
    torch.testing.assert_close(again, contribution, rtol=0, atol=1e-7)
    torch.testing.assert_close(flow.transport(z), x, rtol=0, atol=1e-7)


def test_contribution_is_the_log_determinant_of_the_solution() -> None:
    flow, x = ContinuousFlow(mlp(), rtol=1e-10, atol=1e-10).eval(), torch.randn(2, D)
    _, contribution = flow.encode(x)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda row: flow.encode(row[None])[0][0], x[i])
        torch.testing.assert_close(jacobian.slogdet().logabsdet, contribution[i], rtol=0, atol=1e-7)


def test_gaussian_likelihood_has_its_closed_form() -> None:
    """x = expm(-A) z with z ~ N(0, I): x ~ N(0, expm(-A) expm(-A)^T)."""
    field = Linear()
    model = build("ffjord", DataSpec((D,)), rtol=1e-9, atol=1e-9).eval()
    model.chain.layers[0].field = field
    backward = torch.matrix_exp(-field.matrix.detach())
    truth = torch.distributions.MultivariateNormal(torch.zeros(D), backward @ backward.T)
    x = truth.sample((6,))
    torch.testing.assert_close(model.log_prob(x).detach(), truth.log_prob(x), rtol=0, atol=1e-7)
    assert model.likelihood.kind == "ode"
    assert "dopri5 rtol 1e-09 atol 1e-09, exact trace" in str(model.likelihood)


def test_exact_trace_is_the_jacobians_trace() -> None:
    net, x, t = mlp(), torch.randn(4, D), torch.tensor(0.3)
    v, trace = velocity_and_trace(net, t, x)
    torch.testing.assert_close(v, net(t, x))
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda row: net(t, row[None])[0], x[i])
        torch.testing.assert_close(trace[i], jacobian.trace())


def test_hutchinson_over_all_probes_is_the_exact_trace() -> None:
    """E over the 2^D Rademacher probes, enumerated, is exact: the estimate is unbiased."""
    net, x, t = mlp(), torch.randn(4, D), torch.tensor(0.3)
    probes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * D)
    estimates = [velocity_and_trace(net, t, x, probe=probe.expand(4, D))[1] for probe in probes]
    torch.testing.assert_close(torch.stack(estimates).mean(0), velocity_and_trace(net, t, x)[1])


def test_one_probe_serves_a_whole_solve_and_a_linear_field_shows_it() -> None:
    """With a fixed probe ε the solve of a linear field returns εᵀAε exactly."""
    field = Linear()
    flow = ContinuousFlow(field, trace="hutchinson", rtol=1e-9, atol=1e-9).eval()
    torch.manual_seed(3)
    _, log_det = flow.encode(torch.randn(4, D))
    torch.manual_seed(3)
    torch.randn(4, D)
    probe = 2.0 * torch.randint_like(torch.empty(4, D), 2) - 1
    torch.testing.assert_close(log_det, ((probe @ field.matrix) * probe).sum(1), rtol=0, atol=1e-7)
    assert "hutchinson" in flow.solver


def test_training_solver_agrees_with_the_adaptive_one_and_its_gradients_too() -> None:
    field = mlp()
    flow = ContinuousFlow(field, rtol=1e-9, atol=1e-9, train_steps=32)
    x, gradients = torch.randn(4, D), []
    for mode in (True, False):
        field.zero_grad()
        z, contribution = flow.train(mode).encode(x)
        (z.square().sum() + contribution.sum()).backward()
        gradients.append(field.layers[0].weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-6)


def test_function_evaluations_are_counted() -> None:
    flow, x = ContinuousFlow(mlp(), train_steps=5), torch.randn(2, D)
    flow.train().encode(x)
    assert flow.nfe == 5 * 4  # RK4: four stages a step
    flow.eval().encode(x)
    loose = flow.nfe
    flow.rtol = flow.atol = 1e-9
    flow.encode(x)
    assert flow.nfe > loose >= 6
    for steps in (1, 7, 50):
        flow.transport(x, steps=steps)
        assert flow.nfe == steps


def test_euler_sampling_converges_to_the_adaptive_one() -> None:
    flow, z = ContinuousFlow(mlp(), rtol=1e-9, atol=1e-9).eval(), torch.randn(4, D)
    exact = flow.transport(z)
    errors = [(flow.transport(z, steps=steps) - exact).abs().max().item() for steps in (20, 40)]
    assert errors[1] < 0.6 * errors[0]  # first order: half the step, half the error


def test_no_time_beyond_the_ends_is_asked_for() -> None:
    """Fields such as a score at t < 0 do not exist there."""

    class Root(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return x / t.sqrt()  # x(t) grows by exp(2 sqrt t)

    flow = ContinuousFlow(Root(), t_data=1e-4, t_noise=1.0).eval()
    x, contribution = flow.decode(torch.ones(1, 1))
    torch.testing.assert_close(x.log(), contribution[:, None] * -1, rtol=0, atol=1e-4)
    torch.testing.assert_close(contribution, torch.tensor([2 * (1 - 0.01)]), rtol=0, atol=1e-4)


def test_evaluation_leaves_no_graph() -> None:
    flow = ContinuousFlow(mlp()).eval()
    with torch.no_grad():
        z, contribution = flow.encode(torch.randn(2, D))
    assert not z.requires_grad and not contribution.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rk4"}, "does not adapt"),
        ({"method": "euler"}, "does not adapt"),
        ({"train_method": "leapfrog"}, "train_method is 'leapfrog'"),
        ({"trace": "guess"}, "exact or hutchinson"),
    ],
)
def test_refusals_are_one_line(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        ContinuousFlow(mlp(), **options)
    assert "\n" not in str(refusal.value)


def test_a_field_that_blows_up_is_reported() -> None:
    class Explosive(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return x**2 * 10  # reaches infinity at t = 1 / (10 x)

    with pytest.raises(FloatingPointError, match="gave up after"):
        ContinuousFlow(Explosive()).eval().encode(torch.ones(1, 1))


def test_ffjord_density_integrates_to_one() -> None:
    model = build("ffjord", DataSpec((2,)), hidden=[16], flows=2, rtol=1e-6, atol=1e-6).eval()
    assert isinstance(model, ContinuousModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        side = torch.linspace(-7, 7, 71)
        density = model.log_prob(torch.cartesian_prod(side, side)).exp()
    assert math.isclose(density.sum().item() * (side[1] - side[0]).item() ** 2, 1, abs_tol=1e-3)


def test_ffjord_samples_follow_its_density() -> None:
    """Samples pushed through encode are standard normal again: their squared norms average D."""
    model = build("ffjord", DataSpec((D,)), hidden=[16]).eval()
    with torch.no_grad():
        samples = model.sample(4000)
        z = model.chain.encode(samples)[0]
    assert abs(z.square().sum(1).mean().item() - D) < 4 * math.sqrt(2 * D / 4000)


@pytest.mark.parametrize(
    ("trace", "offered"), [("exact", ["lower_bound", "importance_bound"]), ("hutchinson", ["lower_bound"])]
)
def test_no_importance_bound_of_a_noisy_trace(trace: str, offered: list[str]) -> None:
    """E exp(log p + noise) > p: with an estimated trace log-mean-exp would not be a bound."""
    model = build("ffjord", DataSpec((1, 2, 2), levels=4), hidden=[4], trace=trace)
    assert [likelihood.kind for likelihood, _ in model.estimators()] == offered
