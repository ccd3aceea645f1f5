from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.flows.univariate import DeepDenseSigmoid, MonotonicNetwork, SumOfSquares, Univariate
from models.flows.univariate.newton import ROUNDING, MapWithSlope, invert_increasing, solve_increasing

pytestmark = pytest.mark.usefixtures("float64")


def with_slope(f: Callable[[Tensor], Tensor]) -> MapWithSlope:
    """x -> f(x) and the logarithm of its derivative, by autograd."""

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = f(x)
            (slope,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), slope.log()

    return both


def solved(f: Callable[[Tensor], Tensor], z: Tensor, share: float = 1.0) -> Tensor:
    return solve_increasing(lambda _: with_slope(f), z, share=share)[0]


def cliff(x: Tensor) -> Tensor:
    """A million high and a millionth wide."""
    return x + 1e6 * torch.tanh(1e6 * (x - 0.3))


def bent(x: Tensor) -> Tensor:
    """Slopes from 0.01 to 100, with a kink."""
    return torch.where(x > 0, 0.01 * x, 100 * x) + torch.tanh(50 * (x - 0.3))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([bent, cliff, torch.sinh, torch.asinh, lambda x: x**9 + 1e-3 * x, lambda x: 1e-6 * x]),
    st.sampled_from([0.5, 1.0]),
)
def test_the_root_is_exact_to_the_rounding_of_z_or_x_however_far_out(
    points: list[float], dtype: torch.dtype, f: Callable[[Tensor], Tensor], share: float
) -> None:
    near = 10.0 if f is torch.asinh else 1e6  # asinh reaches 1e6 beyond all floating-point numbers
    z = torch.tensor([*points, 0.0, 1.0, -1.0, 1e6, -1e6], dtype=dtype).clamp(-near, near)
    x = solved(f, z, share)
    eps = 2 * ROUNDING * torch.finfo(dtype).eps
    step, room = eps * x.abs().clamp_min(1), eps * (1 + z.abs())
    assert torch.isfinite(x).all()
    assert ((f(x - step) <= z + room) & (z - room <= f(x + step))).all()


def test_a_smooth_map_takes_few_evaluations_and_a_cliff_a_bounded_number() -> None:
    z = 3 * torch.randn(2000)
    for f, most in ((lambda x: x + 0.9 * torch.tanh(x), 7), (cliff, 120)):
        calls: list[Tensor] = []
        both = with_slope(lambda x, f=f, calls=calls: calls.append(x) or f(x))
        x, log_slope = solve_increasing(lambda _, both=both: both, z)
        assert len(calls) <= most
        torch.testing.assert_close(both(x)[1], log_slope)


def test_found_elements_are_left_out() -> None:
    """The last element alone is hard."""
    z = torch.cat([torch.zeros(99), torch.full((1,), 1e6)])
    power = torch.tensor([1.0] * 99 + [9.0])
    sizes: list[int] = []

    def at(rows: Tensor | slice) -> MapWithSlope:
        here = with_slope(lambda x: x + (power[rows] - 1) * x**9)

        def f(x: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append(len(x))
            return here(x)

        return f

    start = z.clone()
    x, _ = solve_increasing(at, z, share=0.5)
    assert torch.equal(z, start) and (x[:99] == 0).all()
    assert sizes[0] == 100 and set(sizes[1:]) == {1}
    torch.testing.assert_close(x[99] + 8 * x[99] ** 9, z[99])


@pytest.mark.parametrize("z", [1.5, -3.0, float("nan"), float("inf")])
def test_a_value_that_is_never_taken_is_reported(z: float) -> None:
    with pytest.raises(ArithmeticError, match=r"no x has f\(x\) = z for 1 of 2 values"):
        solved(torch.tanh, torch.tensor([0.5, z]))


def test_a_map_that_is_not_a_number_is_reported() -> None:
    with pytest.raises(ArithmeticError, match="2 of 2"):
        solved(lambda x: x * float("nan"), torch.tensor([0.5, 2.0]))


def test_the_derivative_is_the_implicit_functions() -> None:
    scale, z = torch.tensor([0.3, 2.0, 5.0], requires_grad=True), torch.tensor([-4.0, 0.1, 7.0], requires_grad=True)

    def root(z: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return invert_increasing(lambda x: (scale * x + x**3, torch.log(scale + 3 * x**2)), z)

    assert torch.autograd.gradcheck(root, (z, scale), eps=1e-6, atol=1e-6)
    with torch.no_grad():
        assert not any(part.requires_grad for part in root(z, scale))


def test_shapes_and_exact_hits() -> None:
    z = torch.tensor([[0.0, 1.0, -1.0], [2.0, -4.0, 1024.0]])
    assert torch.equal(solved(lambda x: x, z), z)
    assert solved(torch.sinh, torch.zeros(0)).shape == (0,)


def bisected(f: Callable[[Tensor], Tensor], z: Tensor, far: float = 1e3) -> Tensor:
    low, high = torch.full_like(z, -far), torch.full_like(z, far)
    for _ in range(64):
        middle = 0.5 * (low + high)
        below = f(middle) < z
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


MAPS = {
    "naf": lambda: DeepDenseSigmoid(8, 2, signal=6),
    "sos": lambda: SumOfSquares(3, 4),
    "umnn": lambda: MonotonicNetwork(6, (16, 16), 20),
}


@pytest.mark.parametrize("name", MAPS)
@torch.no_grad()
def test_the_inverse_is_that_of_bisection_and_takes_any_shape(name: str) -> None:
    f: Univariate = MAPS[name]()
    z, params = 2 * torch.randn(40, 3), torch.randn(40, 3, f.n_params)
    x, log_slope = f.inverse(z, params)
    torch.testing.assert_close(x, bisected(lambda guess: f(guess, params)[0], z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_slope, f(x, params)[1])
    assert f.inverse(z[:0], params[:0])[0].shape == (0, 3)
