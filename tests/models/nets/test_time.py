"""Time-conditioned networks: shapes, times as scalars or per example, features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.nets.time import ConcatSquashMLP, TimeFeatures, TimeMLP, stratified_times

pytestmark = pytest.mark.usefixtures("float64")
FIELDS = {
    "time mlp": lambda: TimeMLP(6, (8, 8)),
    "fourier features": lambda: TimeMLP(6, (8, 8), frequencies=5),
}


def awake(field: nn.Module) -> nn.Module:
    """Away from the zeros that some fields start at."""
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return field


@pytest.mark.parametrize("name", FIELDS)
def test_a_scalar_time_is_the_same_time_for_every_example(name: str) -> None:
    field, x = awake(FIELDS[name]()), torch.randn(4, 1, 2, 3)
    scalar = field(torch.tensor(0.3), x)
    assert scalar.shape == x.shape
    torch.testing.assert_close(field(torch.full((4,), 0.3), x), scalar)
    assert (field(torch.tensor(0.9), x) - scalar).abs().max() > 1e-3


def test_an_untrained_field_is_zero() -> None:
    assert torch.equal(TimeMLP(3, (8,))(torch.tensor(0.5), torch.randn(4, 3)), torch.zeros(4, 3))


def test_context_conditions() -> None:
    field = awake(TimeMLP(2, (8,), d_context=3))
    x, t = torch.randn(4, 2), torch.tensor(0.5)
    one, other = (field(t, x, torch.randn(4, 3)) for _ in range(2))
    assert one.shape == x.shape
    assert not torch.allclose(one, other)


def test_concat_squash_gates_and_shifts_with_time() -> None:
    field, x, t = awake(ConcatSquashMLP(6, (8,))), torch.randn(4, 1, 2, 3), torch.tensor(0.3)
    h = x.flatten(1)
    for i, (layer, gate, shift) in enumerate(zip(field.layers, field.gates, field.shifts, strict=True)):
        h = layer(h) * torch.sigmoid(gate(t.reshape(1))) + shift(t.reshape(1))
        h = h if i else torch.tanh(h)
    torch.testing.assert_close(field(t, x), h.reshape(x.shape))


def test_time_features_are_sines_and_cosines() -> None:
    features = TimeFeatures(4, fastest=10.0)
    t = torch.tensor([0.0, 0.7])
    expected = torch.stack([torch.sin(t), torch.sin(10 * t), torch.cos(t), torch.cos(10 * t)], 1)
    torch.testing.assert_close(features(t), expected)


def test_stratified_times_fill_every_stratum_once() -> None:
    t = stratified_times(50, torch.zeros(()))
    assert ((t >= 0) & (t < 1)).all()
    assert torch.equal((t * 50).floor().sort().values, torch.arange(50.0))


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="activation is 'gelu'; it takes silu, tanh, softplus"):
        TimeMLP(2, (8,), activation="gelu")
