"""What the affine and autoregressive families are made of, against their equations and against zuko."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import zuko
from torch import nn

from models.base import StandardLogistic
from models.flows.autoregressive import LeakyReLU
from models.flows.conditioner import Coupling, MaskedAutoregressive, Separate
from models.flows.linear import LULinear, Rescale
from models.flows.normalization import ActNorm, BatchNorm
from models.flows.univariate import AdditiveMap, AffineMap
from models.layer import Chain, Inverse, Model
from models.nets.made import MADE
from models.nets.recurrent import Recurrent
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
PLANE = DataSpec((2,), mean=torch.tensor([0.5, -0.5]), std=torch.tensor([1.5, 0.7]))

FAMILIES: dict[str, Callable[[], Model]] = {
    "nice": lambda: build("nice", PLANE, couplings=4, hidden=[16]),
    "nice-logistic": lambda: build("nice", PLANE, couplings=4, hidden=[16], prior="logistic"),
    "realnvp-maf-paper": lambda: build(
        "realnvp", PLANE, couplings=4, hidden=[16], scale="exp", networks="separate", batch_norm=True
    ),
    "glow-tabular": lambda: build("glow-tabular", PLANE, steps=3, hidden=[16, 16]),
    "maf-mog": lambda: build("maf-mog", PLANE, layers=2, hidden=[16], components=3),
    "iaf": lambda: build("iaf", PLANE, layers=3, hidden=[16]),
    "recurrent": lambda: build("recurrent-autoregressive", PLANE, layers=2, hidden=8),
    "tan": lambda: build("tan", PLANE, blocks=3, hidden=8, components=3),
}


def moved(model: Model) -> Model:
    """Off its starting point, as after training."""
    model.train().loss(torch.randn(64, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_densities_integrate_to_one_and_samples_have_them(family: str) -> None:
    model, n = moved(FAMILIES[family]()), 20_000
    axis = torch.linspace(-24, 24, 500)
    points = torch.cartesian_prod(axis, axis)
    weight = model.log_prob(points).exp() * (axis[1] - axis[0]) ** 2
    assert float(weight.sum()) == pytest.approx(1, abs=2e-3)
    samples = model.sample(n)
    for f in (lambda v: v[:, 0], lambda v: torch.cos(v[:, 1]), lambda v: torch.sin(v[:, 0] * v[:, 1])):
        found = f(samples)
        assert abs(found.mean() - (weight * f(points)).sum()) < 4 * found.std() / math.sqrt(n) + 5e-3


def kinds(model: Model) -> list[str]:
    names = [type(layer).__name__ for layer in model.chain.layers]
    return names[names.index("Standardize") + 1 :] if "Standardize" in names else names


def test_nice_is_additive_couplings_and_one_scaling() -> None:
    model = FAMILIES["nice"]()
    assert kinds(model) == ["Coupling"] * 4 + ["Rescale"]
    couplings = [layer for layer in model.chain.layers if isinstance(layer, Coupling)]
    assert [layer.moved.tolist() for layer in couplings] == [[0], [1], [0], [1]]
    x = torch.randn(5, 2)
    assert (Chain(couplings).encode(x)[1] == 0).all()


@torch.no_grad()
def test_an_additive_coupling_is_zukos() -> None:
    kept = torch.tensor([True, False, True, False, False])
    theirs = zuko.flows.GeneralCouplingTransform(
        5, mask=kept, univariate=zuko.transforms.AdditiveTransform, shapes=[()], hidden_features=(16, 16)
    )
    network = nn.Sequential(*theirs.hyper)
    mine = Coupling(AdditiveMap(), ~kept, network)
    x, transform = torch.randn(30, 5), theirs()
    z, log_det = transform.call_and_ladj(x)
    torch.testing.assert_close(mine.encode(x), (z, log_det), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(mine.decode(z)[0], transform.inv(z), atol=1e-12, rtol=1e-12)


def test_the_maf_papers_real_nvp() -> None:
    """Scales from tanh units and shifts from rectifiers, both free; even features first; batch norm after each."""
    model = FAMILIES["realnvp-maf-paper"]()
    assert kinds(model) == ["Coupling", "BatchNorm"] * 4
    for index, layer in enumerate(layer for layer in model.chain.layers if isinstance(layer, Coupling)):
        assert layer.moved.tolist() == [index % 2]
        assert isinstance(layer.network, Separate)
        units = [[type(m).__name__ for m in net.layers] for net in layer.network.networks]
        assert units == [["Linear", "Tanh", "Linear"], ["Linear", "ReLU", "Linear"]]
        assert layer.univariate.scale == "exp"
    default = build("realnvp", PLANE)
    assert not any(isinstance(m, Separate | BatchNorm) for m in default.modules())
    with pytest.raises(ValueError, match="networks is 'both'; it takes shared or separate"):
        build("realnvp", PLANE, networks="both")


def test_glow_for_vectors() -> None:
    model = FAMILIES["glow-tabular"]()
    assert kinds(model) == ["ActNorm", "LULinear", "Coupling"] * 3
    assert not any(isinstance(m, ActNorm) for m in build("glow-tabular", PLANE, actnorm=False).modules())
    with pytest.raises(ValueError, match="glow-tabular takes vectors"):
        build("glow-tabular", DataSpec((1, 4, 4), levels=4))
    with pytest.raises(ValueError, match="for vectors there is glow-tabular"):
        build("glow", PLANE)


def test_maf_mog_is_maf_up_to_its_base() -> None:
    torch.manual_seed(3)
    flow = build("maf", PLANE, layers=2, hidden=[16])
    torch.manual_seed(3)
    model = FAMILIES["maf-mog"]()
    x = torch.randn(20, 2)
    torch.testing.assert_close(model.eval().chain.encode(x), flow.eval().chain.encode(x))
    assert model.base.components == 3 and isinstance(model.base.network, MADE)


def test_iaf_is_maf_with_the_ends_exchanged() -> None:
    """Sampling is one pass of each network over all elements; the score of a sample is that of the path."""
    model = FAMILIES["iaf"]().eval()
    layers = [layer.layer for layer in model.chain.layers if isinstance(layer, Inverse)]
    assert len(layers) == 3 and all(isinstance(layer, MaskedAutoregressive) for layer in layers)
    passes: list[int] = []
    for layer in layers:
        layer.made.register_forward_hook(lambda _, __, out: passes.append(out.dim()))
    with torch.no_grad():
        x, log_prob = model.sample_with_log_prob(50)
    assert passes == [3, 3, 3]
    torch.testing.assert_close(model.log_prob(x), log_prob, atol=1e-8, rtol=1e-8)


def test_iaf_has_the_gradient_of_its_score() -> None:
    """Against differences, with respect to one weight of every kind and to x."""
    model = FAMILIES["iaf"]().eval()
    x = torch.randn(6, 2, requires_grad=True)
    values = [x, *model.parameters()]
    gradients = torch.autograd.grad(model.log_prob(x).sum(), values)
    with torch.no_grad():
        for value, gradient in zip(values, gradients, strict=True):
            entry, step = int(gradient.abs().argmax()), 1e-6
            scores = []
            for move in (step, -2 * step):
                value.view(-1)[entry] += move
                scores.append(model.log_prob(x).sum().item())
            value.view(-1)[entry] += step
            assert (scores[0] - scores[1]) / (2 * step) == pytest.approx(gradient.reshape(-1)[entry].item(), rel=1e-5)


def test_tan_is_the_chain_of_its_code() -> None:
    model = build("tan", DataSpec((4,)))
    block = ["LeakyReLU", "Rescale", "MaskedAutoregressive", "Reverse", "LULinear"]
    assert kinds(model) == ["LULinear", *block * 4, "LeakyReLU", "Rescale"]
    shift = next(layer for layer in model.chain.layers if isinstance(layer, MaskedAutoregressive))
    assert isinstance(shift.univariate, AdditiveMap) and shift.made.gru.hidden_size == 256
    head = [m.out_features for m in model.base.network.head.layers if isinstance(m, nn.Linear)]
    assert head == [120, 120, 120, 120] and model.base.components == 40
    assert isinstance(model.chain.layers[0], LULinear) and isinstance(model.chain.layers[-1], Rescale)


def test_recurrent_flows_read_what_came_before() -> None:
    model = build("recurrent-autoregressive", DataSpec((4,)), layers=1, hidden=8)
    layer = model.chain.layers[0]
    assert isinstance(layer.made, Recurrent) and isinstance(layer.univariate, AffineMap)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0].sum(0), torch.randn(3, 4)).sum(1)
    assert torch.equal(jacobian != 0, torch.ones(4, 4).tril().bool())


@pytest.mark.parametrize("a", [-3.0, 0.0, 5.0, 40.0])
def test_the_leaky_relu_is_its_formula(a: float) -> None:
    layer = LeakyReLU()
    with torch.no_grad():
        layer.a.fill_(a)
    x = torch.tensor([[-2.0, -1e-9, 0.0, 3.0], [1e6, -1e6, 1.0, -1.0]])
    z, contribution = layer.encode(x)
    alpha = 1 / (1 + math.exp(-a))
    torch.testing.assert_close(z, torch.maximum(x, alpha * x))
    torch.testing.assert_close(contribution, torch.full((2,), 2 * math.log(alpha)))
    torch.testing.assert_close(layer.decode(z), (x, contribution))


def test_the_standard_logistic_is_torchs_formula_and_its_samples_have_it() -> None:
    base, z = StandardLogistic((3,)), torch.tensor([[0.0, 5.0, -5.0], [800.0, -800.0, 1e-3]])
    unit = torch.distributions.Uniform(torch.zeros(()), torch.ones(()))
    logistic = torch.distributions.TransformedDistribution(unit, [torch.distributions.SigmoidTransform().inv])
    torch.testing.assert_close(base.log_prob(z[:1]), logistic.log_prob(z[:1]).sum(1))
    assert base.log_prob(z)[1].item() == pytest.approx(-1600 - 2 * math.log(2) - 2.5e-7)
    samples = base.sample(40_000)
    assert torch.isfinite(samples).all() and torch.isfinite(base.float().sample(40_000)).all()
    variance = samples.var().item()
    assert variance == pytest.approx(math.pi**2 / 3, rel=0.03)


@pytest.mark.parametrize("family", ["nice", "glow-tabular", "maf-mog", "iaf", "recurrent-autoregressive", "tan"])
def test_images_are_refused(family: str) -> None:
    with pytest.raises(ValueError, match=f"{family} takes vectors"):
        build(family, DataSpec((1, 4, 4), levels=4))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="prior is 'cauchy'; it takes normal or logistic"):
        build("nice", PLANE, prior="cauchy")
    with pytest.raises(ValueError, match="components is -1"):
        build("tan", PLANE, components=-1)


@pytest.mark.parametrize("family", ["maf-mog", "iaf", "recurrent-autoregressive", "tan", "nice", "glow-tabular"])
def test_far_points_have_finite_scores_and_gradients_in_float32(family: str) -> None:
    """With bounded scales: the unbounded e^a of the MAF paper does overflow."""
    model = build(family, PLANE, **({"scale": "tanh"} if family == "maf-mog" else {})).float().eval()
    x = torch.tensor([[1e3, -1e3], [0.0, 1e3]], dtype=torch.float32, requires_grad=True)
    score = model.log_prob(x)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert torch.isfinite(score).all() and torch.isfinite(gradient).all()
