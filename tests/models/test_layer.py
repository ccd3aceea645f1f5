"""The contract: what a chain derives from its layers, and what a model gives for free."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from models.base import StandardNormal
from models.layer import (
    EXACT,
    LOWER_BOUND,
    NO_LIKELIHOOD,
    Chain,
    ChainModel,
    Inverse,
    Kind,
    Layer,
    Likelihood,
    Model,
    sum_rest,
)
from models.preprocessing import Standardize

pytestmark = pytest.mark.usefixtures("float64")
SURJECTIONS = (Kind.INFERENCE_SURJECTION, Kind.GENERATIVE_SURJECTION)


def layer_of(kind: Kind, solver: str | None = None) -> Layer:
    layer = Layer()
    layer.kind, layer.solver = kind, solver
    return layer


class Cube(Layer):
    """z = x³: log|dz/dx| = log 3x²."""

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x**3, sum_rest(torch.log(3 * x**2))

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = z.sign() * z.abs() ** (1 / 3)
        return x, self.encode(x)[1]


class NoisyBound(Model):
    """A one-sample bound whose gap is Gaussian: log p̂ = log p + σ ε - σ²/2, so that E[p̂] = p."""

    def __init__(self, log_p: float, sigma: float) -> None:
        super().__init__()
        self.log_p, self.sigma = log_p, sigma

    @property
    def likelihood(self) -> Likelihood:
        return LOWER_BOUND

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.log_p + self.sigma * torch.randn(len(x)) - self.sigma**2 / 2


class TestKinds:
    def test_an_empty_chain_is_the_identity(self) -> None:
        x = torch.randn(3, 2)
        z, contribution = Chain([]).encode(x)
        assert torch.equal(z, x)
        assert torch.equal(contribution, torch.zeros(3))
        assert Chain([]).kind is Kind.BIJECTION

    @pytest.mark.parametrize("kind", Kind)
    def test_bijections_change_nothing(self, kind: Kind) -> None:
        for kinds in itertools.permutations([Kind.BIJECTION, kind, kind]):
            assert Chain(map(layer_of, kinds)).kind is kind

    def test_surjections_of_both_directions_are_stochastic(self) -> None:
        assert Chain(map(layer_of, SURJECTIONS)).kind is Kind.STOCHASTIC

    @pytest.mark.parametrize("kind", Kind)
    def test_stochastic_absorbs_all(self, kind: Kind) -> None:
        assert Chain([layer_of(kind), layer_of(Kind.STOCHASTIC)]).kind is Kind.STOCHASTIC

    def test_nested_chains_derive_the_same(self) -> None:
        for kinds in itertools.product(Kind, repeat=3):
            a, b, c = map(layer_of, kinds)
            assert Chain([a, Chain([b, c])]).kind is Chain([a, b, c]).kind

    @pytest.mark.parametrize(
        ("kind", "likelihood"),
        [
            (Kind.BIJECTION, EXACT),
            (Kind.INFERENCE_SURJECTION, EXACT),
            (Kind.GENERATIVE_SURJECTION, LOWER_BOUND),
            (Kind.STOCHASTIC, LOWER_BOUND),
        ],
    )
    def test_only_a_deterministic_encoder_is_exact(self, kind: Kind, likelihood: Likelihood) -> None:
        model = ChainModel([layer_of(Kind.BIJECTION), layer_of(kind)], StandardNormal((2,)))
        assert model.likelihood == likelihood

    def test_a_solver_is_named(self) -> None:
        ode = layer_of(Kind.BIJECTION, solver="dopri5 rtol 1e-05")
        exact = ChainModel([layer_of(Kind.BIJECTION), Chain([ode])], StandardNormal((2,))).likelihood
        bound = ChainModel([layer_of(Kind.GENERATIVE_SURJECTION), ode], StandardNormal((2,))).likelihood
        assert exact == Likelihood("ode", solver="dopri5 rtol 1e-05")
        assert bound == Likelihood("lower_bound", solver="dopri5 rtol 1e-05")
        assert (exact.is_bound, bound.is_bound) == (False, True)

    @pytest.mark.parametrize(
        ("likelihood", "name"),
        [
            (EXACT, "exact"),
            (LOWER_BOUND, "lower bound"),
            (NO_LIKELIHOOD, "none"),
            (Likelihood("importance_bound", 16), "importance bound (k=16)"),
            (Likelihood("ode", solver="dopri5"), "ode [dopri5]"),
            (Likelihood("importance_bound", 4, "dopri5"), "importance bound (k=4) [dopri5]"),
        ],
    )
    def test_a_likelihood_reads_well(self, likelihood: Likelihood, name: str) -> None:
        assert str(likelihood) == name


class TestInverse:
    def test_its_ends_are_exchanged_and_its_contribution_negated(self) -> None:
        cube, x = Cube(), torch.randn(5, 2)
        z, contribution = Inverse(cube).encode(x)
        torch.testing.assert_close(z, x.sign() * x.abs() ** (1 / 3))
        torch.testing.assert_close(contribution, -cube.encode(z)[1])
        torch.testing.assert_close(Inverse(cube).decode(z), (x, contribution))

    @pytest.mark.parametrize("kind", Kind)
    def test_surjections_change_their_direction(self, kind: Kind) -> None:
        turned = Inverse(layer_of(kind))
        exchanged = kind in SURJECTIONS
        assert (turned.kind is not kind) is exchanged and (turned.kind in SURJECTIONS) is exchanged
        assert Inverse(turned).kind is kind

    def test_a_solver_is_named(self) -> None:
        assert Inverse(layer_of(Kind.BIJECTION, solver="dopri5")).solver == "dopri5"


class TestChainModel:
    def test_contributions_add_up_along_the_chain(self) -> None:
        """y = ((x - 1) / 2)³ with y ~ N(0, 1): p(x) by the change of variables."""
        model = ChainModel([Standardize(1.0, 2.0), Cube()], StandardNormal((2,)))
        x = torch.randn(5, 2)
        inner = (x - 1) / 2
        density = torch.distributions.Normal(0.0, 1.0).log_prob(inner**3) + torch.log(1.5 * inner**2)
        torch.testing.assert_close(model.log_prob(x), density.sum(1))

    def test_samples_carry_their_score(self) -> None:
        model = ChainModel([Standardize(1.0, 2.0), Cube()], StandardNormal((2,)))
        x, log_prob = model.sample_with_log_prob(6)
        torch.testing.assert_close(log_prob, model.log_prob(x))

    def test_the_loss_is_the_mean_negative_score(self) -> None:
        model, x = ChainModel([Cube()], StandardNormal((2,))), torch.randn(5, 2)
        torch.testing.assert_close(model.loss(x), -model.log_prob(x).mean())


class TestImportanceBound:
    def test_one_sample_is_the_bound_itself(self) -> None:
        model, x = NoisyBound(-2.0, 1.0), torch.zeros(9, 1)
        torch.manual_seed(1)
        expected = model.log_prob(x)
        torch.manual_seed(1)
        torch.testing.assert_close(model.importance_bound(x, 1), expected)

    def test_two_samples_by_hand(self) -> None:
        model, x = NoisyBound(-2.0, 1.0), torch.zeros(9, 1)
        torch.manual_seed(1)
        a, b = model.log_prob(x).exp(), model.log_prob(x).exp()
        torch.manual_seed(1)
        torch.testing.assert_close(model.importance_bound(x, 2), torch.log((a + b) / 2))

    @pytest.mark.parametrize("k", [1, 4, 64])
    def test_it_is_unbiased_for_the_probability_itself(self, k: int) -> None:
        """E[exp IWBO_k] = p, with variance (exp σ² - 1) p² / k."""
        model, n = NoisyBound(-2.0, 0.5), 4000
        estimate = model.importance_bound(torch.zeros(n, 1), k).exp().mean()
        error = math.exp(-2) * math.sqrt((math.exp(0.25) - 1) / (k * n))
        assert abs(estimate - math.exp(-2)) < 4 * error

    def test_a_bound_offers_a_tighter_one_and_nothing_else_does(self) -> None:
        offered = NoisyBound(-2.0, 1.0).estimators()
        assert [str(likelihood) for likelihood, _ in offered] == ["lower bound", "importance bound (k=16)"]
        gap = [-2.0 - estimate(torch.zeros(2000, 1)).mean() for _, estimate in offered]
        assert gap[0] > 3 * gap[1] > 0
        assert [kind for kind, _ in ChainModel([Cube()], StandardNormal((2,))).estimators()] == [EXACT]


def test_sum_rest_keeps_the_batch() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(sum_rest(x), torch.tensor([66.0, 210.0]))
    assert sum_rest(torch.ones(3)).shape == (3,)
