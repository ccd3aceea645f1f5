from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.flows.univariate.bracketing import invert_increasing

pytestmark = pytest.mark.usefixtures("float64")


def bent(x: Tensor) -> Tensor:
    """Slopes from 0.01 to 100."""
    return torch.where(x > 0, 0.01 * x, 100 * x) + torch.tanh(50 * (x - 0.3))


def cliff(x: Tensor) -> Tensor:
    """A million high and a millionth wide."""
    return x + 1e6 * torch.tanh(1e6 * (x - 0.3))


def counted(f: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    calls: list[int] = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return f(x)

    return counting, calls


def assert_root(f: Callable[[Tensor], Tensor], x: Tensor, z: Tensor) -> None:
    """f crosses z within two units of rounding of x."""
    step = 2 * torch.finfo(z.dtype).eps * x.abs().clamp_min(1)
    assert torch.isfinite(x).all()
    assert ((f(x - step) <= z) & (z <= f(x + step))).all()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([bent, cliff, torch.sinh, lambda x: x**9 + 1e-3 * x, lambda x: 1e-6 * x]),
)
def test_the_root_is_exact_to_rounding_however_far_out(
    points: list[float], dtype: torch.dtype, f: Callable[[Tensor], Tensor]
) -> None:
    """Values that overflow on the way, as sinh's and the ninth power's do, are as good as any other large number."""
    z = torch.tensor([*points, 0.0, 1.0, -1.0, 1e6, -1e6], dtype=dtype)
    assert_root(f, invert_increasing(f, z), z)


def test_shapes_and_exact_hits() -> None:
    z = torch.tensor([[0.0, 1.0, -1.0], [2.0, -4.0, 1024.0]])
    assert torch.equal(invert_increasing(lambda x: x, z), z)
    assert invert_increasing(torch.sinh, torch.zeros(0)).shape == (0,)


def test_a_smooth_map_takes_few_evaluations_and_a_cliff_a_bounded_number() -> None:
    z = 3 * torch.randn(2000)
    f, calls = counted(lambda x: x + torch.tanh(3 * x))
    assert_root(f, invert_increasing(f, z), z)
    assert len(calls) < 25  # halving alone takes 54
    f, calls = counted(cliff)
    assert_root(f, invert_increasing(f, z), z)
    assert len(calls) < 140


@pytest.mark.parametrize("z", [1.5, -3.0, float("nan"), float("inf")])
def test_a_value_that_is_never_taken_is_reported(z: float) -> None:
    with pytest.raises(ArithmeticError, match=r"no x has f\(x\) = z for 1 of 2 values"):
        invert_increasing(torch.tanh, torch.tensor([0.5, z]))


def test_a_map_that_is_not_a_number_is_reported() -> None:
    with pytest.raises(ArithmeticError, match="2 of 2"):
        invert_increasing(lambda x: x * float("nan"), torch.tensor([0.5, 2.0]))


def test_the_derivative_is_the_implicit_functions() -> None:
    scale, z = torch.tensor([0.3, 2.0, 5.0], requires_grad=True), torch.tensor([-4.0, 0.1, 7.0], requires_grad=True)

    def root(z: Tensor, scale: Tensor) -> Tensor:
        return invert_increasing(lambda x: scale * x + x**3, z)

    assert torch.autograd.gradcheck(root, (z, scale), eps=1e-6, atol=1e-6)


def test_without_gradients_there_is_no_graph() -> None:
    with torch.no_grad():
        assert not invert_increasing(torch.sinh, torch.ones(3)).requires_grad
