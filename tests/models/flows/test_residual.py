from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.flows.residual import LipSwish, Residual, SpectralBound, contraction, series_by_hutchinson, series_by_powers
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def scattered(net: nn.Module, scale: float = 1.0) -> nn.Module:
    for parameter in net.parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return net


def block(dim: int = 3, coefficient: float = 0.8, **settings: object) -> Residual:
    return Residual(scattered(contraction(dim, [8, 8], coefficient=coefficient)), **settings)


def jacobian(function, x: Tensor) -> Tensor:
    return torch.stack([torch.autograd.functional.jacobian(lambda r: function(r[None])[0], row) for row in x])


def test_lipswish_is_one_lipschitz_for_any_beta() -> None:
    activation, x = LipSwish(), torch.linspace(-30, 30, 100_001, requires_grad=True)
    for raw in (-5.0, 0.5, 5.0, 50.0):
        nn.init.constant_(activation.raw_beta, raw)
        slope = torch.autograd.grad(activation(x).sum(), x)[0].abs().max()
        assert slope <= 1
        assert raw < 0 or slope > 0.99  # and no less than it need be


def test_the_spectral_norm_is_bounded_exactly_in_evaluation() -> None:
    for size in (0.01, 1.0, 1e3):
        weight = size * torch.randn(7, 4)
        bound = SpectralBound(weight, 0.9).eval()
        norm = torch.linalg.matrix_norm(bound(weight), 2)
        expected = min(0.9, torch.linalg.matrix_norm(weight, 2).item())
        assert norm.item() == pytest.approx(expected, rel=1e-12)


def test_power_iteration_gets_there_in_training_and_does_not_move_in_evaluation() -> None:
    weight = 3 * torch.randn(6, 5)
    bound = SpectralBound(weight, 0.9)
    norms = [torch.linalg.matrix_norm(bound(weight), 2).item() for _ in range(60)]
    assert norms[-1] == pytest.approx(0.9, rel=1e-9) and min(norms) >= 0.9 - 1e-12
    before = bound.right.clone()
    bound.eval()(weight)
    assert torch.equal(bound.right, before)


def test_the_gradient_of_a_bounded_weight_is_that_of_the_formula() -> None:
    weight = torch.randn(5, 4, requires_grad=True)
    probe = torch.randn(5, 4)
    (found,) = torch.autograd.grad((SpectralBound(weight.detach(), 0.9).eval()(weight) * probe).sum(), weight)
    formula = weight * 0.9 / torch.linalg.matrix_norm(weight, 2)
    torch.testing.assert_close(found, torch.autograd.grad((formula * probe).sum(), weight)[0])


@pytest.mark.parametrize("activation", [LipSwish, "elu", "tanh", "relu", "softplus"])
def test_a_contraction_contracts(activation) -> None:
    net = scattered(contraction(3, [16, 16], coefficient=0.95, activation=activation), 2.0).eval()
    x, y = 5 * torch.randn(2, 2000, 3)
    assert ((net(x) - net(y)).norm(dim=1) <= 0.95**3 * (x - y).norm(dim=1)).all()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_det_is_autograds_and_the_inverse_agrees(dim: int) -> None:
    layer, x = block(dim, 0.98).eval(), 2 * torch.randn(10, dim)
    z, there = layer.encode(x)
    expected = torch.linalg.slogdet(jacobian(lambda x: layer.encode(x)[0], x))
    assert (expected.sign == 1).all()
    torch.testing.assert_close(there, expected.logabsdet, rtol=1e-10, atol=1e-10)
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(again, there, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.encode(back)[0], z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_points_come_back(dtype: torch.dtype) -> None:
    layer = block(2, 0.98).to(dtype).eval()
    x = torch.tensor([[1e6, -1e6], [1e-6, 1e3], [0.0, 0.0]], dtype=dtype)
    with torch.no_grad():
        z, log_det = layer.encode(x)
        back, _ = layer.decode(z)
    assert torch.isfinite(log_det).all()
    allowed = 200 * torch.finfo(dtype).eps * (1 + x.norm(dim=1, keepdim=True))
    assert ((back - x).abs() <= allowed).all()


def test_an_inverse_that_does_not_converge_is_reported() -> None:
    slow = block(iterations=3).eval()
    with pytest.raises(ArithmeticError, match="has not converged in 3 iterations"):
        slow.decode(torch.randn(4, 3))
    expansion = nn.Linear(2, 2)
    nn.init.constant_(expansion.weight, 2.0)
    with pytest.raises(ArithmeticError, match="not converged"):
        Residual(expansion).eval().decode(torch.ones(1, 2))
    with pytest.raises(ArithmeticError, match="not converged"):
        block(iterations=50).eval().decode(torch.full((1, 3), math.nan))


def test_samples_have_the_derivative_of_the_inverse() -> None:
    layer, z = block().eval(), torch.randn(1, 3)
    slope = jacobian(lambda z: layer.decode(z)[0], z)
    expected = torch.linalg.inv(jacobian(lambda x: layer.encode(x)[0], layer.decode(z)[0].detach()))
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8)
    for parameter in layer.parameters():
        (gradient,) = torch.autograd.grad(layer.decode(z)[0].sum(), parameter)
        direction, numeric = torch.randn_like(parameter), 0.0
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                parameter.add_(step * direction)
                numeric += layer.decode(z)[0].sum() / (2 * step)
                parameter.sub_(step * direction)
        torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-8)


def test_a_long_series_is_the_logarithm_and_a_short_one_is_off_by_its_tail() -> None:
    a = torch.randn(6, 4, 4)
    a = 0.6 * a / torch.linalg.matrix_norm(a, 2)[:, None, None]
    exact = torch.linalg.slogdet(torch.eye(4) + a).logabsdet
    torch.testing.assert_close(series_by_powers(a, [1.0] * 80), exact, rtol=1e-12, atol=1e-12)
    for terms in (1, 3, 8):
        error = (series_by_powers(a, [1.0] * terms) - exact).abs()
        tail = -math.log1p(-0.6) - sum(0.6**k / k for k in range(1, terms + 1))
        assert (error <= 4 * tail).all()  # the bound of the i-ResNet paper, D = 4
        assert error.max() > 1e-6


def within_error(draws: Tensor, exact: Tensor, errors: float = 4.0) -> None:
    """The mean of independent draws (n, ...) agrees with ``exact`` within so many standard errors, which are small."""
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() <= errors * error + 1e-12).all()


def test_roulette_is_unbiased_where_the_same_number_of_terms_is_not() -> None:
    layer = block(2, 0.9, trace="exact", terms=1, stop=0.3)
    a = torch.tensor([[[0.6, 0.1], [0.2, 0.5]]])
    exact = torch.linalg.slogdet(torch.eye(2) + a).logabsdet
    draws = torch.stack([series_by_powers(a, layer._weights("roulette")) for _ in range(20_000)])
    within_error(draws, exact)
    assert draws.std() / math.sqrt(len(draws)) < 3e-3
    assert (series_by_powers(a, [1.0] * 4) - exact).abs() > 2e-2  # the mean length


@pytest.mark.parametrize("log_det", ["roulette", "series"])
def test_hutchinsons_value_and_gradient_are_unbiased(log_det: str) -> None:
    """Against the exact log-determinant, and for the series against the series with exact traces."""
    layer = block(2, 0.7, train_log_det=log_det, terms=3, stop=0.4).eval()
    layer.training = True  # the layer, not its network, whose weights are to stay
    x = torch.randn(1, 2)
    parameters = [p for name, p in layer.named_parameters() if name.endswith(("original", "beta"))]
    dense = torch.func.vmap(torch.func.jacrev(layer.net))(x)
    if log_det == "series":
        exact = series_by_powers(dense, [1.0] * 3)
        true = sum((-1) ** k * torch.linalg.matrix_power(dense, k) for k in range(3))  # its Neumann series
        gradients = torch.autograd.grad((true.detach().mT * dense).sum(), parameters)
    else:
        exact = torch.linalg.slogdet(torch.eye(2) + dense).logabsdet
        gradients = torch.autograd.grad(exact.sum(), parameters, retain_graph=True)
    values, slopes = [], []
    with parametrize.cached():
        for _ in range(600):
            g, value = series_by_hutchinson(layer.net, x.expand(100, 2), layer._weights(log_det))
            values.append(value.mean().detach())
            found = torch.autograd.grad(value.mean(), parameters, retain_graph=True)
            slopes.append(torch.cat([grad.flatten() for grad in found]))
    torch.testing.assert_close(g[:1], layer.net(x))
    within_error(torch.stack(values), exact.detach()[0])
    within_error(torch.stack(slopes), torch.cat([grad.flatten() for grad in gradients]), errors=5.0)
    assert torch.stack(values).std() / math.sqrt(600) < 0.02


def test_without_gradients_the_estimate_is_the_same_number() -> None:
    layer, x = block(train_log_det="series", terms=4), torch.randn(5, 3)
    layer.encode(x)
    results = []
    for enabled in (True, False):
        layer.eval().train_log_det, layer.log_det = "exact", "series"
        torch.manual_seed(5)
        with torch.set_grad_enabled(enabled):
            results.append(layer.encode(x))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    assert not results[1][1].requires_grad and results[0][1].requires_grad


def test_the_memory_of_a_gradient_does_not_grow_with_the_series() -> None:
    """What backward keeps for 40 terms is what it keeps for 2."""
    layer, x = block(4), torch.randn(64, 4)
    kept = []
    for terms in (2, 40):
        sizes: list[int] = []
        pack = lambda t, sizes=sizes: sizes.append(t.numel()) or t  # noqa: E731
        layer.train_log_det, layer.terms = "series", terms
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            layer.encode(x)[1].sum().backward()
        kept.append(sum(sizes))
    assert kept[1] == kept[0]


@pytest.mark.parametrize("family", ["i-resnet", "residual-flow"])
def test_likelihoods_say_how_they_come_about(family: str) -> None:
    model = build(family, DataSpec((2,)), blocks=2, hidden=[4]).eval()
    assert str(model.likelihood) == "exact"
    assert len(model.estimators()) == 1
    series = build("i-resnet", DataSpec((2,)), blocks=1, hidden=[4], log_det="series", terms=7, trace="exact")
    assert str(series.likelihood) == "estimate [power series of 7 terms, biased, exact trace]"
    roulette = build("residual-flow", DataSpec((2,)), blocks=1, hidden=[4], log_det="roulette")
    assert str(roulette.likelihood) == "estimate [Russian roulette, unbiased, hutchinson trace]"
    assert len(roulette.estimators()) == 1


@pytest.mark.parametrize("family", ["i-resnet", "residual-flow"])
def test_the_density_integrates_to_one(family: str) -> None:
    model = build(family, DataSpec((2,)), blocks=3, hidden=[16, 16])
    scattered(model, 0.5).eval()
    side = torch.linspace(-12, 12, 200)
    with torch.no_grad():
        mass = model.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", ["i-resnet", "residual-flow"])
def test_training_by_the_estimate_raises_the_exact_likelihood(family: str) -> None:
    angle = 6.28 * torch.rand(400)
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(400, 2)
    model = build(family, DataSpec((2,)), blocks=4, hidden=[32, 32])
    before = model.eval().log_prob(x).mean()
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    assert model.eval().log_prob(x).mean() > before + 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coefficient": 1.0}, r"coefficient is 1.0; a contraction takes a Lipschitz constant in \(0, 1\)"),
        ({"activation": "gelu"}, "activation is 'gelu'; a contraction takes relu, tanh, elu, softplus"),
        ({"log_det": "dense"}, "log_det is 'dense'; it takes exact, series or roulette"),
        ({"trace": "both"}, "trace is 'both'; it takes exact or hutchinson"),
        ({"terms": 0}, "terms is 0"),
        ({"blocks": 0}, "blocks is 0"),
    ],
)
def test_wrong_settings_say_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("i-resnet", DataSpec((2,)), **wrong)


def test_it_is_normflows_with_the_same_network() -> None:
    peers = pytest.importorskip("normflows")
    layer, x = block(2).eval(), torch.randn(6, 2)
    theirs = peers.flows.Residual(layer.net, reverse=False, brute_force=True).eval()
    z, log_det = layer.encode(x)
    expected, other = theirs.forward(x.clone())
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_det, other, rtol=1e-10, atol=1e-10)
    series = peers.flows.Residual(layer.net, reverse=False, n_power_series=5, exact_trace=True, reduce_memory=False)
    series.train()
    layer.net.eval()
    _, other = series.forward(x.clone())
    mine = Residual(layer.net, log_det="series", terms=5, trace="exact").eval().encode(x)[1]
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)
