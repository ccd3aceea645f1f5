"""Stochastic normalizing flows: their weights, their bounds, their loss, and what is left without the noise."""

from __future__ import annotations

import math

import pytest
import torch

from models.layer import Kind
from models.registry import DataSpec, build
from models.relaxed.stochastic import Metropolis
from tests.contracts.cases.stochastic import DoubleWell

SPEC = DataSpec((2,), energy=DoubleWell())
LOG_Z = 10.2935
ABLATION = {
    "none": {},
    "metropolis": {"stochastic_steps": 5, "step_size": 0.4},
    "langevin": {"stochastic_steps": 4, "step_size": 0.02},
    "underdamped": {"stochastic_steps": 4, "step_size": 0.1},
}

pytestmark = pytest.mark.usefixtures("float64")


def wells(n: int) -> torch.Tensor:
    """Roughly what the double well looks like: data to train on."""
    side = torch.where(torch.rand(n) < 0.84, 1.75, -1.71)
    return torch.stack([side + 0.22 * torch.randn(n), torch.randn(n)], 1)


def fitted(stochastic: str, steps: int = 60, **hyper):
    model = build("snf", SPEC, stochastic=stochastic, blocks=2, hidden=[32], **ABLATION[stochastic], **hyper)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        model.progress = step / steps
        optimizer.zero_grad()
        model.loss(wells(128)).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("stochastic", ABLATION)
def test_weights_of_a_trained_flow_estimate_the_partition_function(stochastic):
    model = fitted(stochastic)
    with torch.no_grad():
        weights = (model.log_weights(50_000)[1] - LOG_Z).exp()
    error = (weights.std() / math.sqrt(len(weights))).item()
    assert error < 0.1
    assert abs(weights.mean().item() - 1) < 4 * error


@pytest.mark.parametrize("stochastic", ["metropolis", "langevin", "underdamped"])
def test_a_stochastic_flow_is_a_bound_that_rises_with_k(stochastic):
    model = fitted(stochastic, steps=20)
    x = wells(2000)
    with torch.no_grad():
        bounds = [model.importance_bound(x, k).mean().item() for k in (1, 4, 16)]
    assert model.likelihood.kind == "lower_bound"
    assert bounds[0] < bounds[1] < bounds[2] < -(SPEC.energy(x).mean().item() + LOG_Z) + 0.05


def test_without_noise_it_is_the_real_nvp_of_the_same_size():
    none, noisy = (build("snf", SPEC, stochastic=name) for name in ("none", "metropolis"))
    flows = [layer for layer in noisy.chain.layers if layer.kind is Kind.BIJECTION]
    walks = [layer for layer in noisy.chain.layers if layer.kind is Kind.STOCHASTIC]
    assert none.likelihood.kind == "exact"
    assert [p.shape for p in none.parameters()] == [p.shape for p in noisy.parameters()]
    assert len(flows) == len(none.chain.layers) == 6
    assert [walk.energy.fraction for walk in walks] == [1, 2 / 3, 1 / 3]
    for layer in walks:
        layer.steps = 0
    for quiet, twin in zip(none.chain.layers, flows, strict=True):
        twin.load_state_dict(quiet.state_dict())
    x = wells(10)
    torch.testing.assert_close(noisy.log_prob(x), none.log_prob(x))


def test_loss_goes_from_data_to_the_mixture_with_the_energy():
    model = build("snf", SPEC, stochastic="none", energy_weight=0.25, warmup=0.5)
    x = wells(64)
    data = -model.log_prob(x).mean()
    torch.testing.assert_close(model.loss(x), data)
    model.progress = 0.5
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    energy = -model.log_weights(64)[1].mean()
    torch.testing.assert_close(loss, 0.75 * data + 0.25 * energy)
    model.energy_weight = 1.0
    torch.manual_seed(1)
    torch.testing.assert_close(model.loss(x), energy)


def test_energy_training_lowers_the_free_energy_bound():
    """E[-log w] >= -log Z, and training from the energy alone comes near it."""
    model = fitted("metropolis", steps=100, energy_weight=1.0, warmup=0.0)
    with torch.no_grad():
        gap = (LOG_Z - model.log_weights(5000)[1]).mean().item()
    assert 0 < gap < 1


def test_what_the_data_set_and_the_recipe_must_give():
    with pytest.raises(ValueError, match="known energy"):
        build("snf", DataSpec((2,)))
    with pytest.raises(ValueError, match="stochastic is 'hmc'; it takes none, metropolis, langevin, underdamped"):
        build("snf", SPEC, stochastic="hmc")
    assert isinstance(build("snf", SPEC).chain.layers[0], Metropolis)
