"""What every model promises, in float64."""

from __future__ import annotations

import io

import pytest
import torch

from models.layer import LOWER_BOUND, Model
from models.registry import families
from tests.contracts.case import ModelCase
from tests.contracts.cases import MODELS

pytestmark = pytest.mark.usefixtures("float64")
BATCH = 6


@pytest.fixture(params=sorted(MODELS))
def case(request: pytest.FixtureRequest) -> ModelCase:
    return MODELS[request.param]


def made(case: ModelCase, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    model = case.make().double()
    model.train()
    model.loss(case.x(16))  # data-dependent initialisation
    with torch.no_grad():  # away from the zeros that networks like to start from
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def test_every_family_has_a_case() -> None:
    missing = [name for name in families() if not any(key == name or key.startswith(f"{name}:") for key in MODELS)]
    assert not missing, f"add a ModelCase for {missing}, named like the family (or family:variant)"


def test_the_derived_likelihood_is_right(case: ModelCase) -> None:
    model = made(case).eval()
    assert model.likelihood.kind == case.likelihood
    offered = model.estimators()
    assert (not offered) == (case.likelihood == "none")
    if offered:
        assert offered[0][0] == model.likelihood


def test_scores_are_finite_and_one_per_example(case: ModelCase) -> None:
    model = made(case).eval()
    x = case.x(BATCH)
    if case.likelihood == "none":
        with pytest.raises(NotImplementedError):
            model.log_prob(x)
        return
    with torch.no_grad():
        for _, log_prob in model.estimators():
            values = log_prob(x)
            assert values.shape == (BATCH,)
            assert torch.isfinite(values).all()


def test_samples_look_like_data(case: ModelCase) -> None:
    model = made(case).eval()
    x = case.x(BATCH)
    with torch.no_grad():
        samples = model.sample(BATCH)
    assert samples.shape == x.shape
    assert torch.isfinite(samples.double()).all()
    if not x.is_floating_point():
        assert torch.equal(samples.double(), samples.double().round())
        assert samples.min() >= 0


def test_gradients_reach_every_parameter(case: ModelCase) -> None:
    model = made(case)
    reached: set[str] = set()
    for _ in range(8):  # stochastic losses may visit their parts in turn
        model.zero_grad(set_to_none=True)
        model.loss(case.x(16)).backward()
        reached |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trainable - reached == set(case.dead_parameters)


def test_saves_and_loads(case: ModelCase) -> None:
    model, other = made(case).eval(), made(case, seed=2).eval()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    outputs = []
    for each in (model, other):
        torch.manual_seed(4)
        with torch.no_grad():
            outputs.append(each.sample(BATCH))
    assert torch.equal(*outputs)


def test_a_seed_gives_the_same_bits_twice(case: ModelCase) -> None:
    def train_a_little() -> list[torch.Tensor]:
        model = made(case)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        x = case.x(16)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model.loss(x)
            loss.backward()
            optimizer.step()
        return [loss.detach(), *(p.detach() for p in model.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(train_a_little(), train_a_little(), strict=True))


def test_importance_bounds_rise_with_k(case: ModelCase) -> None:
    """E[IWBO_k] grows with k (Burda et al. 2016, theorem 1); averaged over draws, within three standard errors."""
    model = made(case).eval()
    if model.likelihood.kind != LOWER_BOUND.kind or model.likelihood.solver:
        pytest.skip("not a sampled bound")
    x = case.x(BATCH)
    with torch.no_grad():
        single = torch.stack([model.log_prob(x) for _ in range(40)]).mean(1)
        tighter = torch.stack([model.importance_bound(x, 8) for _ in range(40)]).mean(1)
    gain = tighter.mean() - single.mean()
    error = ((single.var() + tighter.var()) / 40).sqrt()
    assert gain > -3 * error
    assert gain > 0 or single.std() < 1e-6  # a bound with no slack has nothing to gain
