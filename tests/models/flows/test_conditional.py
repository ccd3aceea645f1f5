"""Conditional densities p(x | context): a context reaches every conditioner and every base that has one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import zuko
from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.linear import LULinear, Permutation
from models.flows.normalization import ActNorm
from models.flows.univariate import AffineMap, RationalQuadraticSpline
from models.layer import Chain, ChainModel, Inverse, Layer, Model
from models.nets.made import MADE
from models.nets.mlp import MLP, ResidualMLP
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
CONTEXT = 3
PLANE = DataSpec((2,), mean=torch.tensor([0.5, -0.5]), std=torch.tensor([1.5, 0.7]), context_dim=CONTEXT)


def spline_flow(layer: Callable[[RationalQuadraticSpline], Layer]) -> Model:
    """Two steps of a neural spline flow, by hand."""
    steps = [[Permutation(2), LULinear(2), layer(RationalQuadraticSpline(4, 3.0))] for _ in range(2)]
    return ChainModel([part for step in steps for part in step], StandardNormal((2,)))


def spline_coupling(spline: RationalQuadraticSpline) -> Layer:
    network = ResidualMLP(1 + CONTEXT, [16, 16], spline.n_params)
    return Coupling(spline, torch.tensor([True, False]), network, unconditional=True)


def spline_autoregressive(spline: RationalQuadraticSpline) -> Layer:
    return MaskedAutoregressive(spline, MADE(2, [16, 16], spline.n_params, residual=True, context_dim=CONTEXT))


MODELS: dict[str, Callable[[], Model]] = {
    "maf": lambda: build("maf", PLANE, layers=2, hidden=[16]),
    "maf-mog": lambda: build("maf-mog", PLANE, layers=2, hidden=[16], components=3),
    "made": lambda: build("made", PLANE, hidden=[16], components=3),
    "iaf": lambda: build("iaf", PLANE, layers=2, hidden=[16]),
    "nice": lambda: build("nice", PLANE, hidden=[16]),
    "realnvp": lambda: build("realnvp", PLANE, couplings=4, hidden=[16]),
    "realnvp-separate": lambda: build("realnvp", PLANE, couplings=4, hidden=[16], networks="separate", batch_norm=True),
    "glow-tabular": lambda: build("glow-tabular", PLANE, steps=2, hidden=[16]),
    "recurrent": lambda: build("recurrent-autoregressive", PLANE, layers=2, hidden=8),
    "tan": lambda: build("tan", PLANE, blocks=2, hidden=8, components=3),
    "trade": lambda: build("trade", PLANE, width=8, heads=2, layers=1, components=3, dropout=0.0),
    "trade-learned": lambda: build(
        "trade", PLANE, width=8, heads=2, layers=1, components=3, dropout=0.0, position="learned"
    ),
    "nsf-coupling": lambda: spline_flow(spline_coupling),
    "nsf-autoregressive": lambda: spline_flow(spline_autoregressive),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    made = MODELS[request.param]()
    made.train().loss(torch.randn(64, 2), torch.randn(64, CONTEXT))  # actnorm starts from the first batch
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


@torch.no_grad()
def test_the_density_integrates_to_one_for_each_context(model: Model) -> None:
    axis = torch.linspace(-16, 16, 320)
    points = torch.cartesian_prod(axis, axis)
    densities = []
    for context in torch.randn(2, CONTEXT):
        density = model.log_prob(points, context.expand(len(points), -1)).exp()
        assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=5e-3)
        densities.append(density)
    assert (densities[0] - densities[1]).abs().max() > 1e-4  # and the context matters


def test_the_gradient_reaches_the_context_row_by_row(model: Model) -> None:
    x, context = torch.randn(4, 2), torch.randn(4, CONTEXT, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda c: model.log_prob(x, c), context)
    assert torch.equal((jacobian != 0).all(2), torch.eye(4).bool())
    step = 1e-6 * torch.randn(4, CONTEXT)
    slope = torch.einsum("bbc,bc->b", jacobian, step)
    difference = (model.log_prob(x, context + step) - model.log_prob(x, context - step)) / 2
    torch.testing.assert_close(difference, slope, rtol=1e-4, atol=1e-12)


@torch.no_grad()
def test_the_first_element_depends_on_the_context_too(model: Model) -> None:
    """Its marginal moves: where it does not, a conditional density is not universal."""
    samples = []
    for context in (torch.full((4000, CONTEXT), 2.0), torch.full((4000, CONTEXT), -2.0)):
        torch.manual_seed(7)
        samples.append(model.sample(4000, context))
    for i in range(2):
        assert (samples[0][:, i].sort().values - samples[1][:, i].sort().values).abs().max() > 1e-3


@torch.no_grad()
def test_each_sample_is_drawn_under_its_own_context(model: Model) -> None:
    """Averages over draws against the integral on a grid, for one of two contexts that alternate."""
    n, contexts = 20_000, torch.randn(2, CONTEXT)
    samples = model.sample(n, contexts.repeat(n // 2, 1))
    axis = torch.linspace(-16, 16, 320)
    points = torch.cartesian_prod(axis, axis)
    for i, context in enumerate(contexts):
        weight = model.log_prob(points, context.expand(len(points), -1)).exp() * (axis[1] - axis[0]) ** 2
        found = torch.tanh(samples[i::2]).sum(1)
        expected = (weight * torch.tanh(points).sum(1)).sum()
        assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(n / 2) + 5e-3


def test_layers_invert_under_a_context(model: Model) -> None:
    x, context = torch.randn(5, 2), torch.randn(5, CONTEXT)
    z, there = model.chain.encode(x, context)
    back, again = model.chain.decode(z, context)
    torch.testing.assert_close(back, x, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(again, there, atol=1e-7, rtol=1e-7)


def test_layers_without_a_conditioner_pass_it_by() -> None:
    chain = Chain([ActNorm(4), Inverse(LULinear(4)), Permutation(4)]).eval()
    x = torch.randn(5, 4)
    torch.testing.assert_close(chain.encode(x, torch.randn(5, CONTEXT)), chain.encode(x))


@torch.no_grad()
def test_a_conditional_maf_layer_is_zukos() -> None:
    """zuko's masks of hidden units are another pattern: they are copied along with its weights."""
    dim, hidden = 4, 16
    theirs = zuko.flows.MaskedAutoregressiveTransform(
        dim,
        CONTEXT,
        hidden_features=(hidden, hidden),
        univariate=lambda scale, shift: torch.distributions.AffineTransform(shift, scale.exp()),
        shapes=[(), ()],
    )
    linears = [module for module in theirs.hyper if isinstance(module, nn.Linear)]
    made = MADE(dim, [hidden, hidden], 2, context_dim=CONTEXT)
    for mine, other in zip((made.first, made.blocks[0][-1], made.last), linears, strict=True):
        columns = mine.in_features
        mine.weight.copy_(other.weight[:, :columns])
        mine.bias.copy_(other.bias)
        mine.mask.copy_(other.mask[:, :columns])
    made.context.weight.copy_((linears[0].weight * linears[0].mask)[:, dim:])
    x, context = torch.randn(30, dim), torch.randn(30, CONTEXT)
    z, log_det = theirs(context).call_and_ladj(x)
    torch.testing.assert_close(
        MaskedAutoregressive(AffineMap(), made).encode(x, context), (z, log_det), atol=1e-10, rtol=1e-10
    )


@torch.no_grad()
def test_a_conditional_coupling_is_zukos() -> None:
    kept = torch.tensor([True, False, True, False])
    theirs = zuko.flows.GeneralCouplingTransform(
        4,
        CONTEXT,
        mask=kept,
        univariate=lambda scale, shift: torch.distributions.AffineTransform(shift, scale.exp()),
        shapes=[(), ()],
        hidden_features=(16, 16),
    )
    network = MLP(2 + CONTEXT, [16, 16], 4)
    network.layers.load_state_dict(dict(theirs.hyper.state_dict()))
    x, context = torch.randn(30, 4), torch.randn(30, CONTEXT)
    z, log_det = theirs(context).call_and_ladj(x)
    mine = Coupling(AffineMap(), ~kept, network).encode(x, context)
    torch.testing.assert_close(mine, (z, log_det.reshape(30, -1).sum(1)), atol=1e-10, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["maf", "realnvp", "made"])
def test_a_conditional_density_is_learned(family: str) -> None:
    """x | c ~ N((c_1, -c_2), (.3 e^{c_3 / 2})² I): a score near log 2πe + 2 log .3 + E[c_3]."""
    context = torch.rand(4000, CONTEXT) * 2 - 1
    noise = 0.3 * torch.exp(context[:, 2:] / 2) * torch.randn(4000, 2)
    x = torch.stack([context[:, 0], -context[:, 1]], 1) + noise
    settings = {"maf": {"layers": 2, "hidden": [32]}, "realnvp": {"couplings": 4}, "made": {"hidden": [32]}}[family]
    model = build(family, replace(PLANE, mean=x.mean(0), std=x.std(0)), **settings)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(600):
        rows = (torch.arange(200) + 200 * step) % len(x)
        loss = model.loss(x[rows], context[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.settle(x, context)
    with torch.no_grad():
        score = -model.eval().log_prob(x, context).mean().item()
    entropy = math.log(2 * math.pi * math.e) + 2 * math.log(0.3) + context[:, 2].mean().item()
    assert score == pytest.approx(entropy, abs=0.1)


def test_a_context_of_other_rows_is_an_error() -> None:
    model: Model = MODELS["maf"]()
    wrong: Tensor = torch.randn(3, CONTEXT)
    with pytest.raises(RuntimeError):
        model.log_prob(torch.randn(5, 2), wrong)
