"""Pre-processing layers against autograd and known identities."""

from __future__ import annotations

import math

import pytest
import torch

from models.base import Uniform
from models.layer import LOWER_BOUND, ChainModel, Kind, Layer
from models.preprocessing import Logit, Standardize, UniformDequantization, preprocessing
from models.registry import DataSpec

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    "layer", [Logit(), Logit(0.05), Standardize(0.3, 2.0), Standardize(torch.randn(3), torch.rand(3) + 0.5)]
)
def test_contributions_are_log_determinants_both_ways(layer: Layer) -> None:
    layer, x = layer.double(), torch.rand(4, 3)
    z, forward = layer.encode(x)
    back, backward = layer.decode(z)
    torch.testing.assert_close(back, x, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(backward, forward, atol=1e-7, rtol=1e-7)
    for row, contribution in zip(x, forward, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: layer.encode(r[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, contribution)


def test_logit_is_finite_on_the_closed_interval() -> None:
    z, contribution = Logit(1e-6).encode(torch.tensor([[0.0, 1.0]]))
    edge = math.log(1e-6) - math.log1p(-1e-6)
    torch.testing.assert_close(z, torch.tensor([[edge, -edge]]))
    assert torch.isfinite(contribution).all()


def test_standardize_spreads_one_scale_over_an_image() -> None:
    x = torch.rand(2, 1, 4, 4)
    z, contribution = Standardize(0.5, 0.25).encode(x)
    torch.testing.assert_close(z, 4 * x - 2)
    torch.testing.assert_close(contribution, torch.full((2,), 16 * math.log(4)))


@pytest.mark.parametrize("levels", [256, 1 << 16])
def test_rounding_does_not_lift_a_level_to_the_next(levels: int) -> None:
    """In float32, where x + u may round up: at 65,536 levels every 500th does."""
    layer, x = UniformDequantization(levels), torch.full((100_000, 1), levels - 1)
    torch.set_default_dtype(torch.float32)
    z, _ = layer.encode(x)
    assert z.dtype == torch.float32 and (z < 1).all() and (layer.decode(z)[0] == x).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64])
def test_dequantization_keeps_the_integers(dtype: torch.dtype) -> None:
    layer, x = UniformDequantization(5), torch.randint(0, 5, (50, 1, 2, 3)).to(dtype)
    z, forward = layer.encode(x)
    assert (z >= 0).all() and (z < 1).all()
    back, backward = layer.decode(z)
    assert torch.equal(back, x.long())
    torch.testing.assert_close(forward, torch.full((50,), -6 * math.log(5)))
    assert torch.equal(backward, forward)


def test_dequantization_of_a_uniform_density_is_tight() -> None:
    """p(z) = 1 on the unit cube gives every image K^-D, whatever the noise."""
    model = ChainModel([UniformDequantization(4)], Uniform((1, 2, 2)))
    assert model.likelihood == LOWER_BOUND
    x = torch.randint(0, 4, (7, 1, 2, 2))
    torch.testing.assert_close(model.log_prob(x), torch.full((7,), -4 * math.log(4)))


def test_the_dequantized_score_is_a_bound_on_the_probability() -> None:
    """p(z) = 2z on [0, 1]: P(x) = (2x + 1) / K² and E[bound] = ∫ log p over the bin, in closed form."""

    class Ramp(Uniform):
        def log_prob(self, z: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
            return torch.log(2 * z[:, 0])

    levels, n = 4, 20_000
    model = ChainModel([UniformDequantization(levels)], Ramp((1,)))
    for x in range(levels):
        scores = model.log_prob(torch.full((n, 1), x))
        upper, lower = (x + 1) / levels, x / levels
        integral = sum(s * (b * math.log(2 * b) - b if b else 0.0) for s, b in ((1, upper), (-1, lower)))
        assert abs(scores.mean() - (integral * levels - math.log(levels))) < 4 * scores.std() / math.sqrt(n)
        assert scores.mean() < math.log((2 * x + 1) / levels**2)


@pytest.mark.parametrize(
    ("spec", "squash", "expected"),
    [
        (DataSpec((2,)), "standardize", []),
        (DataSpec((2,), None, torch.zeros(2), torch.ones(2)), "standardize", [Standardize]),
        (DataSpec((2,), None, torch.zeros(2), torch.ones(2)), "none", []),
        (DataSpec((1, 2, 2), 5), "none", [UniformDequantization]),
        (DataSpec((1, 2, 2), 5), "logit", [UniformDequantization, Logit]),
        (
            DataSpec((1, 2, 2), 5, torch.tensor(0.5), torch.tensor(0.3)),
            "standardize",
            [UniformDequantization, Standardize],
        ),
    ],
)
def test_preprocessing_fits_the_data(spec: DataSpec, squash: str, expected: list[type[Layer]]) -> None:
    assert [type(layer) for layer in preprocessing(spec, squash=squash)] == expected


def test_an_unknown_squash_is_refused() -> None:
    with pytest.raises(ValueError, match="squash is 'tanh'; it takes logit, standardize or none"):
        preprocessing(DataSpec((2,)), squash="tanh")


def test_dequantization_is_a_generative_surjection() -> None:
    assert UniformDequantization(3).kind is Kind.GENERATIVE_SURJECTION
