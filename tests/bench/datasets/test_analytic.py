"""The truth itself: densities integrate to one, samples follow them, and entropies are the published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import bench.datasets as datasets
from bench.datasets.densities import energies, toys
from bench.datasets.densities.mixtures import Blob, Circle, Curve, Mixture

DENSITIES = {name: datasets.describe(name).density for name in datasets.names() if datasets.describe(name).density}
UNIFORM = ("checkerboard", "corners")
N = 20_000


@pytest.fixture(params=DENSITIES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def density(name):
    return DENSITIES[name]()


@pytest.fixture(scope="module")
def samples(density):
    return density.sample(N, torch.Generator().manual_seed(7))


def test_all_of_them_are_tested():
    toy_names = {"checkerboard", "corners", "eight-gaussians", "four-circles", "rings", "two-spirals", "two-moons"}
    assert set(DENSITIES) == toy_names | {"double-well", "gaussian-mixture"}


def test_integrates_to_one_on_another_grid(density):
    points, area = density.grid(cells_per_scale=4)
    assert density.log_prob(points).exp().sum().item() * area == pytest.approx(1, abs=1e-4)


def test_samples_have_the_entropy_of_the_density(density, samples):
    surprise = -density.log_prob(samples)
    standard_error = surprise.std().item() / math.sqrt(N)
    assert surprise.mean().item() == pytest.approx(density.entropy, abs=4 * standard_error + 1e-9)


def test_samples_fill_cells_as_the_density_says(density, samples):
    """Chi squared over 20 x 20 cells, their probabilities by a 12 x 12 midpoint rule in each."""
    low, high = torch.tensor(density.bounds, dtype=torch.float64).T
    step = (torch.arange(240, dtype=torch.float64) + 0.5) / 240
    points = low + (high - low) * torch.cartesian_prod(step, step)
    mass = density.log_prob(points).exp() * (high - low).prod() / 240**2

    def cell(x: torch.Tensor) -> torch.Tensor:
        column, row = ((x - low) / (high - low) * 20).long().clamp(0, 19).unbind(-1)
        return 20 * column + row

    expected = N * torch.zeros(400, dtype=torch.float64).index_add(0, cell(points), mass)
    observed = cell(samples).bincount(minlength=400).double()
    full = expected > 10
    statistic = ((observed - expected)[full].square() / expected[full]).sum().item()
    assert stats.chi2.sf(statistic, full.sum().item() - 1) > 1e-3
    rest = expected[~full].sum().item()
    assert observed[~full].sum().item() == pytest.approx(rest, abs=4 * math.sqrt(rest) + 1e-3)


def test_support_holds_its_mass(name, density, samples):
    outside = 0.0 if name in UNIFORM else 0.001
    tolerance = 4 * math.sqrt(outside / N)
    for x in (samples, samples.float()):
        assert 1 - density.support(x).double().mean().item() == pytest.approx(outside, abs=tolerance + 1e-12)


def test_modes_have_the_mass_of_their_samples(density, samples):
    share = density.mode_of(samples).bincount(minlength=density.n_modes) / N
    assert density.mode_masses.sum().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(share.double(), density.mode_masses, atol=4 * 0.5 / math.sqrt(N))


def test_a_missed_mode_is_counted(density, samples):
    assert density.modes_missed(samples) == 0
    assert density.modes_missed(samples[density.mode_of(samples) != 0]) == 1
    assert density.modes_missed(samples[density.mode_of(samples) == 0]) == density.n_modes - 1


def test_single_precision_agrees(density, samples):
    """At points away from any edge; the error is that of the coordinates, multiplied by the slope."""
    x = samples[:500]
    x = x[density.support(x + 1e-4) & density.support(x - 1e-4)]
    single = density.log_prob(x.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), density.log_prob(x.float().double()), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "entropy", "tolerance"),
    [
        ("checkerboard", math.log(32), 1e-12),
        ("corners", math.log(4) + 2 / 3 * math.log(6) + 1 / 3 * math.log(3), 1e-12),
        ("eight-gaussians", 2.8315, 5e-4),
        ("four-circles", 2.8705, 5e-4),
    ],
)
def test_entropies_are_the_known_ones(name, entropy, tolerance):
    assert DENSITIES[name]().entropy == pytest.approx(entropy, abs=tolerance)


def test_checkerboard_is_dark_where_a_reflection_is_light():
    density = toys.checkerboard()
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 8 - 4
    dark, mirrored = density.support(x), density.support(x * torch.tensor([-1.0, 1.0]))
    assert (dark ^ mirrored).all()
    assert density.log_prob(torch.tensor([[1.0, 1.0], [1.0, -1.0], [4.5, 0.5]])).isfinite().tolist() == [
        True,
        False,
        False,
    ]


def test_corners_overlap_doubles_the_density():
    log_p = toys.corners().log_prob(torch.tensor([[1.5, 1.5], [-1.5, 3.0], [3.0, 3.0]], dtype=torch.float64))
    assert log_p.exp().tolist() == pytest.approx([1 / 12, 1 / 24, 0])


def test_circle_agrees_with_quadrature_along_it():
    circle = Circle((0.5, -1.0), 2.0, 0.1)

    def round_trip(t: torch.Tensor) -> torch.Tensor:
        angle = 2 * math.pi * t
        return torch.tensor([0.5, -1.0]) + 2 * torch.stack([angle.cos(), angle.sin()], -1)

    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    assert torch.allclose(circle.log_prob(x), Curve(round_trip, 0.1, 900).log_prob(x), atol=1e-8)


@pytest.mark.parametrize("make", [toys.two_spirals, toys.two_moons])
def test_curves_have_enough_nodes(make):
    density, finer = make(), make()
    finer.shapes = [Curve(shape.c, shape.sd, 3 * shape.nodes) for shape in finer.shapes]
    points, _ = density.grid(cells_per_scale=0.5)
    held = density.log_prob(points) > -30
    assert torch.allclose(density.log_prob(points[held]), finer.log_prob(points[held]), atol=1e-9)


def test_blob_is_the_gaussian():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = stats.multivariate_normal([1, -2], 0.3**2).logpdf(x.numpy())
    assert Blob((1, -2), 0.3).log_prob(x).numpy() == pytest.approx(expected)


def test_double_well_constants():
    well = energies.DoubleWell()

    def weight(x: float) -> float:
        return math.exp(0.5 * x + 6 * x**2 - x**4)

    left, right = integrate.quad(weight, -5, 0)[0], integrate.quad(weight, 0, 5)[0]
    assert well.log_partition == pytest.approx(math.log((left + right) * math.sqrt(2 * math.pi)), abs=1e-8)
    assert well.log_partition == pytest.approx(10.2935, abs=5e-5)
    assert well.p_right == pytest.approx(right / (left + right), abs=1e-8)
    assert well.p_right == pytest.approx(0.8443, abs=5e-5)
    assert well.free_energy_difference == pytest.approx(1.691, abs=5e-4)


def test_double_well_samples_follow_the_distribution_function():
    well = energies.DoubleWell()
    x = well.sample(N, torch.Generator().manual_seed(3)).numpy()
    edges = torch.linspace(-3, 3, 6001, dtype=torch.float64).numpy()
    density = np.exp(0.5 * edges + 6 * edges**2 - edges**4)
    cumulative = integrate.cumulative_simpson(density, x=edges, initial=0)
    cumulative /= cumulative[-1]
    assert stats.kstest(x[:, 0], lambda a: np.interp(a, edges, cumulative)).pvalue > 1e-3
    assert stats.kstest(x[:, 1], "norm").pvalue > 1e-3


@pytest.mark.parametrize("make", [energies.DoubleWell, energies.GaussianMixture])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energy_is_the_log_density_up_to_the_constant(make, dtype):
    density = make()
    x = density.sample(200, torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    u = density.energy(x)
    assert u.shape == (200,) and u.dtype == dtype
    assert torch.allclose(
        density.log_prob(x), -u - density.log_partition, atol=1e-3 if dtype == torch.float32 else 1e-10
    )
    (force,) = torch.autograd.grad(u.sum(), x)
    assert force.isfinite().all()


def test_mixture_modes_are_separated():
    mixture = energies.GaussianMixture()
    centres = torch.tensor(mixture.centres)
    gaps = torch.cdist(centres, centres) + 1e9 * torch.eye(len(centres))
    assert gaps.min() > 8 * mixture.sd
    assert torch.allclose(mixture.mode_masses, mixture.weights, atol=1e-4)


def test_weights_are_probabilities():
    lopsided = Mixture([Blob((-2, 0), 0.1), Blob((2, 0), 0.1)], weights=[0.9, 0.1], half_width=3, scale=0.1)
    x = lopsided.sample(5000, torch.Generator().manual_seed(0))
    assert (x[:, 0] > 0).double().mean().item() == pytest.approx(0.1, abs=0.02)
