"""Agreement with independent implementations, nflows and zuko, after copying their weights."""

from __future__ import annotations

from functools import partial

import nflows.transforms as nt
import pytest
import torch
import torch.nn.functional as F
import zuko
from nflows.nn.nets import ResidualNet
from nflows.transforms.splines import unconstrained_rational_quadratic_spline
from torch import Tensor, nn

from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.univariate import AffineMap, RationalQuadraticSpline, Univariate
from models.layer import Layer
from models.nets.made import MADE
from models.nets.mlp import ResidualMLP

pytestmark = pytest.mark.usefixtures("float64")
close = partial(torch.testing.assert_close, atol=1e-8, rtol=1e-8)
D = 5


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module) -> None:
    """Every weight and bias in the order of definition, drawn anew first so that no zero hides a difference."""
    pairs = list(zip(target.parameters(), source.parameters(), strict=True))
    for mine, theirs in pairs:
        theirs.normal_(std=0.3)
        mine.copy_(theirs)


@torch.no_grad()
def sort_by_degree(made: MADE) -> None:
    """nflows numbers hidden units 1, 2, ..., D-1, 1, 2, ...; here they ascend. Weights that lie as there, moved."""
    order = (torch.arange(made.first.out_features) % (D - 1)).argsort(stable=True)
    inner = [layer for block in made.blocks for layer in block if isinstance(layer, nn.Linear)]
    for layer in (made.first, *inner):
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
    for layer in (*inner, made.last):
        layer.weight.copy_(layer.weight[:, order])


def assert_same(mine: Layer, theirs: nn.Module, x: Tensor) -> None:
    """Both directions of a layer and of a transform of nflows."""
    z, contribution = mine.encode(x)
    expected, log_det = theirs(x)
    close(z, expected)
    close(contribution, log_det)
    back, again = mine.decode(z)
    expected, log_det = theirs.inverse(z)
    close(back, expected)
    close(again, -log_det)


def test_spline_is_nflows() -> None:
    bins, bound = 7, 2.5
    x, params = 2 * torch.randn(400), 2 * torch.randn(400, 3 * bins - 1)
    spline = RationalQuadraticSpline(bins, bound)
    for inverse, mine in ((False, spline.forward), (True, spline.inverse)):
        expected, log_det = unconstrained_rational_quadratic_spline(
            x, *params.split([bins, bins, bins - 1], 1), inverse=inverse, tail_bound=bound
        )
        value, log_slope = mine(x, params)
        close(value, expected)
        close(log_slope, -log_det if inverse else log_det)


class SoftplusAffine(Univariate):
    """nflows' choice of scale."""

    n_params = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        scale = F.softplus(params[..., 0]) + 1e-3
        return scale * x + params[..., 1], scale.log()

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        scale = F.softplus(params[..., 0]) + 1e-3
        return (z - params[..., 1]) / scale, scale.log()


def test_made_with_an_affine_map_is_nflows_maf() -> None:
    mine = MaskedAutoregressive(SoftplusAffine(), MADE(D, [16, 16, 16], 2))
    theirs = nt.MaskedAffineAutoregressiveTransform(D, 16, num_blocks=2, use_residual_blocks=False)
    copy_weights(mine, theirs)
    sort_by_degree(mine.made)
    assert_same(mine, theirs, torch.randn(30, D))


def test_maf_is_zukos() -> None:
    """zuko masks hidden units in another pattern: its masks are copied along with its weights."""
    mine = MaskedAutoregressive(AffineMap("exp"), MADE(D, [16, 16], 2, activation="relu"))
    theirs = zuko.flows.MaskedAutoregressiveTransform(
        D,
        hidden_features=(16, 16),
        univariate=lambda scale, shift: torch.distributions.AffineTransform(shift, scale.exp()),
        shapes=[(), ()],
    )
    copy_weights(mine, theirs)
    ours = [mine.made.first, mine.made.blocks[0][-1], mine.made.last]
    for layer, other in zip(ours, [m for m in theirs.hyper if isinstance(m, nn.Linear)], strict=True):
        layer.mask.copy_(other.mask)
    x = torch.randn(30, D)
    transform = theirs()
    z, log_det = transform.call_and_ladj(x)
    close(mine.encode(x)[0], z)
    close(mine.encode(x)[1], log_det)
    close(mine.decode(z)[0], transform.inv(z))


def test_affine_coupling_is_nflows() -> None:
    mask = torch.tensor([1, 0, 1, 0, 1])
    theirs = nt.AffineCouplingTransform(mask, lambda d_in, d_out: ResidualNet(d_in, d_out, hidden_features=16))
    network = ResidualMLP(2, [16, 16], 6)
    copy_weights(network, theirs.transform_net)
    # nflows puts all shifts before all scales; here each element has (scale, shift).
    order = torch.tensor([3, 0, 4, 1, 5, 2])
    with torch.no_grad():
        for parameter in network.last.parameters():
            parameter.copy_(parameter[order])
    assert_same(Coupling(AffineMap("sigmoid"), mask.bool(), network), theirs, torch.randn(30, D))


def test_rq_nsf_ar_is_nflows() -> None:
    bins, bound = 4, 3.0
    spline = RationalQuadraticSpline(bins, bound)
    mine = MaskedAutoregressive(spline, MADE(D, [16, 16], spline.n_params, residual=True))
    theirs = nt.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        D, 16, num_bins=bins, tails="linear", tail_bound=bound, num_blocks=2
    )
    copy_weights(mine, theirs)
    sort_by_degree(mine.made)
    assert_same(mine, theirs, 2 * torch.randn(30, D))


def test_rq_nsf_c_is_nflows() -> None:
    bins, bound, hidden = 4, 3.0, 16
    mask = torch.tensor([0, 1, 0, 1, 0])
    theirs = nt.PiecewiseRationalQuadraticCouplingTransform(
        mask,
        lambda d_in, d_out: ResidualNet(d_in, d_out, hidden_features=hidden),
        num_bins=bins,
        tails="linear",
        tail_bound=bound,
        apply_unconditional_transform=True,
    )
    spline = RationalQuadraticSpline(bins, bound, logit_scale=hidden**-0.5)
    network = ResidualMLP(3, [hidden, hidden], 2 * spline.n_params)
    mine = Coupling(spline, mask.bool(), network, unconditional=True)
    copy_weights(network, theirs.transform_net)
    free = theirs.unconditional_transform
    with torch.no_grad():
        for parameter in free.parameters():
            parameter.normal_()
        # nflows scales the logits of the network only.
        parts = [free.unnormalized_widths * hidden**0.5, free.unnormalized_heights * hidden**0.5]
        mine.free.copy_(torch.cat([*parts, free.unnormalized_derivatives], 1))
    assert_same(mine, theirs, 2 * torch.randn(30, D))
