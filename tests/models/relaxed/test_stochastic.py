"""Monte Carlo blocks: their ratios against densities evaluated independently, their targets, their unbiasedness."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from models.base import GaussianMixture, StandardNormal
from models.layer import ChainModel, Kind
from models.relaxed.stochastic import InterpolatedEnergy, Langevin, Metropolis, UnderdampedLangevin, energy_gradient
from tests.contracts.cases.stochastic import DoubleWell, between

BLOCKS = {
    "metropolis": lambda energy, steps=5: Metropolis(energy, steps, 0.6),
    "langevin": lambda energy, steps=5: Langevin(energy, steps, 0.03),
    "underdamped": lambda energy, steps=5: UnderdampedLangevin(energy, steps, 0.2, friction=2.0),
}

pytestmark = pytest.mark.usefixtures("float64")


class MixtureEnergy(nn.Module):
    """A normalised, lopsided target that can be sampled exactly."""

    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor([[-1.0, 0.0], [1.5, 0.5]])
        stds = torch.tensor([[0.5, 1.0], [0.8, 0.6]])
        self.density = GaussianMixture(means, stds, torch.tensor([0.3, 0.7]))

    def forward(self, x: Tensor) -> Tensor:
        return -self.density.log_prob(x)


class Counted(nn.Module):
    def __init__(self, energy: nn.Module) -> None:
        super().__init__()
        self.energy, self.calls = energy, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.energy(x)


def replay(monkeypatch, draws: list[Tensor]) -> None:
    """Make the next calls of randn_like return these, in order."""
    queue = iter(draws)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(queue))


def z_score(samples: Tensor, expected: float) -> float:
    return ((samples.mean() - expected) / (samples.std() / math.sqrt(len(samples)))).abs().item()


def test_interpolated_energy_runs_from_base_to_target():
    x = torch.randn(5, 2)
    prior, target = -StandardNormal((2,)).log_prob(x), DoubleWell()(x)
    torch.testing.assert_close(between(0.0)(x), prior)
    torch.testing.assert_close(between(1.0)(x), target)
    torch.testing.assert_close(between(0.25)(x), 0.75 * prior + 0.25 * target)


def test_energy_gradient_is_differentiable_where_asked():
    x = torch.randn(3, 2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: energy_gradient(DoubleWell(), x), x)
    with torch.no_grad():
        assert not energy_gradient(DoubleWell(), x).requires_grad


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_no_steps_is_the_identity(block):
    layer = block(between(), steps=0)
    y = torch.randn(7, 2)
    for walked, contribution in (layer.encode(y), layer.decode(y)):
        assert torch.equal(walked, y)
        assert torch.equal(contribution, torch.zeros(7))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_path_weights_keep_the_target_invariant(block):
    """From exact draws z of π, weights π(x) / (π(z) e^contribution) average to 1 and change no expectation."""
    energy = MixtureEnergy()
    z = energy.density.sample(100_000)
    with torch.no_grad():
        x, contribution = block(energy).decode(z)
        weights = (energy(z) - energy(x) - contribution).exp()
    truth = 0.3 * Normal(-1.0, 0.5).cdf(torch.tensor(0.0)) + 0.7 * Normal(1.5, 0.8).cdf(torch.tensor(0.0))
    assert (x - z).std() > 0.3
    assert z_score(weights * (x[:, 0] < 0), truth.item()) < 4
    assert z_score(weights * x[:, 1], 0.35) < 4
    spread = weights.std().item()
    assert spread < 1e-9 if isinstance(block(energy), Metropolis) else z_score(weights, 1.0) < 4


def test_metropolis_is_in_detailed_balance():
    """At equilibrium as many walkers go from the left mode to the right as come back."""
    energy = MixtureEnergy()
    z = energy.density.sample(200_000)
    with torch.no_grad():
        x, _ = Metropolis(energy, 1, 1.0).decode(z)
    there, back = (z[:, 0] < -0.5) & (x[:, 0] > 0.2), (z[:, 0] > 0.2) & (x[:, 0] < -0.5)
    assert there.sum() > 1000
    assert z_score(there.double() - back.double(), 0.0) < 4


def test_metropolis_accepts_with_the_metropolis_probability():
    """On a step in the energy of height log 3, a third of the proposals up is taken, and all of those down."""

    class Step(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return math.log(3) * (x[:, 0] > 0)

    layer, n = Metropolis(Step(), 1, 1.0), 200_000
    with torch.no_grad():
        low, high = torch.full((n, 1), -1e-9), torch.full((n, 1), 1e-9)
        up, down = layer.decode(low)[0] > 0, layer.decode(high)[0] < 0
    assert z_score(up.double(), 0.5 / 3) < 4
    assert z_score(down.double(), 0.5) < 4


@pytest.mark.parametrize("grad", [False, True])
def test_metropolis_contributes_the_energy_difference(grad):
    layer, y = BLOCKS["metropolis"](between()), torch.randn(50, 2)
    with torch.set_grad_enabled(grad):
        x, generated = layer.decode(y)
        z, inferred = layer.encode(y)
    torch.testing.assert_close(generated, layer.energy(y) - layer.energy(x))
    torch.testing.assert_close(inferred, layer.energy(z) - layer.energy(y))


def test_metropolis_gradient_passes_through_the_proposals():
    y = torch.randn(20, 2, requires_grad=True)
    x, contribution = BLOCKS["metropolis"](between()).decode(y)
    (through,) = torch.autograd.grad(x.sum(), y, retain_graph=True)
    assert torch.equal(through, torch.ones_like(y))
    (slope,) = torch.autograd.grad(contribution.sum(), y)
    torch.testing.assert_close(slope, energy_gradient(between(), y) - energy_gradient(between(), x.detach()))


def test_langevin_ratio_is_that_of_its_two_gaussian_kernels():
    energy, epsilon = between(), 0.03
    layer, z = Langevin(energy, 1, epsilon), torch.randn(20, 2)
    x, contribution = layer.decode(z)

    def kernel(to: Tensor, start: Tensor) -> Tensor:
        return Normal(start - epsilon * energy_gradient(energy, start), math.sqrt(2 * epsilon)).log_prob(to).sum(1)

    torch.testing.assert_close(contribution, kernel(x, z) - kernel(z, x))
    z, contribution = layer.encode(x)
    torch.testing.assert_close(contribution, kernel(x, z) - kernel(z, x))


def bbk(energy, y, v, noise, delta, friction):
    """One BBK step (y, v) -> (y', v') with noise (2, ...), written from the equations of motion."""
    spread = math.sqrt(4 * friction / delta)
    half = v + delta / 2 * (-energy_gradient(energy, y) - friction * v + spread * noise[0])
    moved = y + delta * half
    arrived = half + delta / 2 * (-energy_gradient(energy, moved) + spread * noise[1])
    return moved, arrived / (1 + friction * delta / 2)


def bbk_noise(energy, start, end, delta, friction):
    """The noise that leads from (y, v) to (y', v'), and log q of that transition; one example.

    Given y', the map from noise to (y', v') is affine with a triangular Jacobian; y' does not depend on w₂.
    """
    (y, v), (moved, arrived) = start, end
    zero = torch.zeros(2, *y.shape)
    scale1 = delta * math.sqrt(friction * delta)
    first = (moved - bbk(energy, y, v, zero, delta, friction)[0]) / scale1
    scale2 = math.sqrt(friction * delta) / (1 + friction * delta / 2)
    second = (arrived - bbk(energy, y, v, torch.stack([first, zero[1]]), delta, friction)[1]) / scale2
    noise = torch.stack([first, second])
    return noise, Normal(0.0, 1.0).log_prob(noise).sum((0, 2)) - y.shape[1] * math.log(scale1 * scale2)


def test_bbk_ratio_is_that_of_densities_evaluated_step_by_step(monkeypatch):
    """Three steps: log N(v) + sum log q forward, less log N(-v') + sum log q of the momentum-reversed path back;
    and the block, fed the noise of the way back, retraces the path and contributes the same number."""
    energy, delta, friction, steps = between(), 0.15, 1.7, 3
    layer = UnderdampedLangevin(energy, steps, delta, friction)
    y, velocity = torch.randn(6, 2), torch.randn(6, 2)
    noises = torch.randn(steps, 2, 6, 2)
    states = [(y, velocity)]
    for noise in noises:
        states.append(bbk(energy, *states[-1], noise, delta, friction))

    unit = Normal(0.0, 1.0)
    log_ratio, way_back = unit.log_prob(velocity).sum(1) - unit.log_prob(states[-1][1]).sum(1), [-states[-1][1]]
    pairs = list(zip(states[:-1], states[1:], strict=True))
    for start, end in reversed(pairs):
        forward, log_forward = bbk_noise(energy, start, end, delta, friction)
        backward, log_back = bbk_noise(energy, (end[0], -end[1]), (start[0], -start[1]), delta, friction)
        log_ratio = log_ratio + log_forward - log_back
        way_back += [*backward]
        assert min((forward - noise).abs().max() for noise in noises) < 1e-9

    replay(monkeypatch, [velocity, *noises.flatten(0, 1)])
    x, contribution = layer.decode(y)
    torch.testing.assert_close(x, states[-1][0])
    torch.testing.assert_close(contribution, log_ratio)
    replay(monkeypatch, way_back)
    z, same = layer.encode(x)
    torch.testing.assert_close(z, y)
    torch.testing.assert_close(same, contribution)


def test_langevin_retraces_its_path(monkeypatch):
    energy, epsilon, steps = between(), 0.03, 4
    noises = torch.randn(steps, 6, 2)
    layer, path, way_back = Langevin(energy, steps, epsilon), [torch.randn(6, 2)], []
    for noise in noises:
        start = path[-1]
        end = start - epsilon * energy_gradient(energy, start) + math.sqrt(2 * epsilon) * noise
        way_back.insert(0, (start - end + epsilon * energy_gradient(energy, end)) / math.sqrt(2 * epsilon))
        path.append(end)
    replay(monkeypatch, [*noises])
    x, contribution = layer.decode(path[0])
    torch.testing.assert_close(x, path[-1])
    replay(monkeypatch, way_back)
    z, same = layer.encode(x)
    torch.testing.assert_close(z, path[0])
    torch.testing.assert_close(same, contribution)


def test_bbk_without_friction_is_leapfrog():
    """Energy is conserved to O(Δ²), so the gain in kinetic energy is the loss in potential energy."""
    z, errors = torch.randn(40, 2), []
    for steps in (40, 80):
        torch.manual_seed(1)
        layer = UnderdampedLangevin(between(), steps, 0.4 / steps, friction=0.0)
        x, contribution = layer.decode(z)
        errors.append((contribution - (layer.energy(z) - layer.energy(x))).abs().max())
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("block", [BLOCKS["langevin"], BLOCKS["underdamped"]], ids=["langevin", "underdamped"])
def test_gradients_pass_through_the_dynamics(block):
    def walk(y: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        return block(between(), steps=2).decode(y)

    assert torch.autograd.gradcheck(walk, torch.randn(3, 2, requires_grad=True))


@pytest.mark.parametrize(("name", "extra"), [("metropolis", 1), ("langevin", 0), ("underdamped", 0)])
def test_energies_that_a_block_costs(name, extra):
    energy = Counted(DoubleWell())
    with torch.no_grad():
        BLOCKS[name](energy, steps=7).decode(torch.randn(3, 2))
    assert energy.calls == 8
    BLOCKS[name](energy, steps=7).decode(torch.randn(3, 2))
    assert energy.calls == 16 + extra


ANNEALED = {
    "metropolis": lambda energy: Metropolis(energy, 5, 0.6),
    "langevin": lambda energy: Langevin(energy, 5, 0.03),
    "underdamped": lambda energy: UnderdampedLangevin(energy, 8, 0.08, friction=2.0),
}


@pytest.mark.parametrize("block", ANNEALED.values(), ids=ANNEALED)
def test_path_weights_estimate_the_partition_function(block):
    """E[exp(-u_X(x) - path log-probability)] = Z on the double well, within four standard errors."""
    base, target = StandardNormal((2,)), DoubleWell()
    layers = [block(InterpolatedEnergy(base, target, step / 8)) for step in range(8, 0, -1)]
    model = ChainModel(layers, base)
    with torch.no_grad():
        x, path = model.sample_with_log_prob(100_000)
    weights = (-target(x) - path - 10.2935).exp()
    assert model.chain.kind is Kind.STOCHASTIC
    assert weights.std() / math.sqrt(len(weights)) < 0.03
    assert z_score(weights, 1.0) < 4


def test_nonsense_is_refused_in_one_line():
    with pytest.raises(ValueError, match="steps >= 0 and step_size > 0"):
        Metropolis(DoubleWell(), -1, 0.1)
