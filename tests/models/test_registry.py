"""Families by name, and what a mistyped name is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models import registry
from models.layer import Model
from models.registry import DataSpec, build, families, register


@pytest.fixture
def a_family(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family that exists for one test only; the others are imported first, so that all tests have them."""
    families()
    monkeypatch.setattr(registry, "_families", dict(registry._families))

    @register("example-flow")
    def example(spec: DataSpec, *, depth: int = 3, width: int = 8) -> Model:
        model = Model()
        model.made_of = (spec.dim, depth, width)
        return model

    yield "example-flow"


def message(family: str, **hyperparameters: object) -> str:
    with pytest.raises(ValueError) as error:
        build(family, DataSpec((2,)), **hyperparameters)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_family_is_built_by_its_name(a_family: str) -> None:
    assert build(a_family, DataSpec((2, 3)), depth=5).made_of == (6, 5, 8)


def test_families_are_discovered_and_sorted() -> None:
    found = list(families())
    assert {"vae", "pixelcnn", "gan"} <= set(found)
    assert found == sorted(found)


def test_an_unknown_family_gets_the_nearest_name(a_family: str) -> None:
    assert message("exmple-flow") == "unknown family 'exmple-flow'; did you mean 'example-flow'?"


def test_a_family_like_no_other_gets_the_list(a_family: str) -> None:
    said = message("zzzzzz")
    assert said.startswith("unknown family 'zzzzzz'; known: ")
    assert a_family in said


def test_an_unknown_hyperparameter_gets_the_nearest_name(a_family: str) -> None:
    expected = "family 'example-flow' has no hyperparameter 'dept'; did you mean 'depth'?"
    assert message(a_family, dept=2) == expected
    assert message(a_family, zzz=2).endswith("it takes depth, width")


def test_the_data_specification_is_no_hyperparameter(a_family: str) -> None:
    assert "has no hyperparameter 'specs'" in message(a_family, specs=1)


def test_a_name_belongs_to_one_family(a_family: str) -> None:
    with pytest.raises(ValueError, match="two families are called 'example-flow'"):

        @register(a_family)
        def other(spec: DataSpec) -> Model:
            return Model()


def test_dim_counts_all_values() -> None:
    assert DataSpec((3, 4, 5)).dim == 60
