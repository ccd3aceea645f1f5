"""The autoregressive networks that run along x, recurrent and attentive: what each output may read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.nets.recurrent import Recurrent
from models.nets.transformer import CausalTransformer

pytestmark = pytest.mark.usefixtures("float64")

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "gru": lambda dim, **kw: Recurrent(dim, 3, hidden=8, **kw),
    "deep-gru": lambda dim, **kw: Recurrent(dim, 3, hidden=8, layers=2, head=[6, 6], activation="tanh", **kw),
    "attention": lambda dim, **kw: CausalTransformer(dim, 3, width=8, heads=2, layers=2, **kw),
    "attention-gru": lambda dim, **kw: CausalTransformer(
        dim, 3, width=8, heads=4, layers=2, hidden=12, activation="gelu", position="recurrent", dropout=0.3, **kw
    ),
}


@pytest.fixture(params=NETWORKS)
def make(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    return lambda dim, **kw: NETWORKS[request.param](dim, **kw).eval()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_element_i_reads_every_earlier_input_and_no_other(make: Callable[..., nn.Module], dim: int) -> None:
    net, x = make(dim), torch.randn(4, dim)
    assert net(x).shape == (4, dim, 3)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v).sum(0), x).abs().sum((1, 2))
    assert torch.equal(jacobian != 0, torch.ones(dim, dim).tril(-1).bool())


@pytest.mark.parametrize("dim", [1, 4])
def test_every_element_reads_the_context_of_its_own_row(make: Callable[..., nn.Module], dim: int) -> None:
    net, x, context = make(dim, context_dim=2), torch.randn(3, dim), torch.randn(3, 2)
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x, c), context).abs().sum((2, 4))
    assert torch.equal((jacobian != 0).transpose(0, 1), torch.eye(3).bool().expand(dim, 3, 3))


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("dim", [1, 6])
def test_element_by_element_is_one_pass(make: Callable[..., nn.Module], dim: int, context_dim: int) -> None:
    """And what is not yet known is not read."""
    net, x = make(dim, context_dim=context_dim), torch.randn(7, dim)
    context = torch.randn(7, context_dim) if context_dim else None
    memory, known = net.memory(x), torch.full_like(x, torch.nan)
    for i, expected in enumerate(net(x, context).unbind(1)):
        torch.testing.assert_close(net(known, context, memory), expected)
        known[:, i] = x[:, i]


def test_rows_are_independent(make: Callable[..., nn.Module]) -> None:
    net, x = make(5), torch.randn(6, 5)
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


def test_positions_matter(make: Callable[..., nn.Module]) -> None:
    """The parameters of x_2 after x_1 = -1 are not those of x_1, though both follow a -1."""
    out = make(3)(-torch.ones(1, 3))
    assert not torch.allclose(out[:, 0], out[:, 1])


def test_attention_is_that_of_torch() -> None:
    """Against torch's encoder layer with copied weights."""
    net = CausalTransformer(5, 3, width=8, heads=2, layers=1, hidden=12).eval()
    block = net.blocks[0]
    theirs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True).eval()
    pairs = {
        theirs.self_attn.in_proj_weight: block.queries_keys_values.weight,
        theirs.self_attn.in_proj_bias: block.queries_keys_values.bias,
        theirs.self_attn.out_proj.weight: block.out.weight,
        theirs.self_attn.out_proj.bias: block.out.bias,
        theirs.linear1.weight: block.perceptron[0].weight,
        theirs.linear1.bias: block.perceptron[0].bias,
        theirs.linear2.weight: block.perceptron[-1].weight,
        theirs.linear2.bias: block.perceptron[-1].bias,
    }
    with torch.no_grad():
        for parameter in (*theirs.parameters(), *net.parameters()):
            parameter.normal_(std=0.5)
        for ours, other in ((block.before_attention, theirs.norm1), (block.before_perceptron, theirs.norm2)):
            other.load_state_dict(ours.state_dict())
        for other, ours in pairs.items():
            other.copy_(ours)
    h = torch.randn(6, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=h.dtype)
    torch.testing.assert_close(block(h), theirs(h, src_mask=mask))


def test_dropout_acts_in_training_only() -> None:
    net = CausalTransformer(4, 3, width=8, heads=2, layers=1, dropout=0.5)
    x: Tensor = torch.randn(5, 4)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="width is 10 and heads 4"):
        CausalTransformer(4, 3, width=10, heads=4)
    with pytest.raises(ValueError, match="position is 'sine'; it takes learned or recurrent"):
        CausalTransformer(4, 3, width=8, position="sine")
    with pytest.raises(ValueError, match="activation is 'step'"):
        Recurrent(4, 3, head=[8], activation="step")
