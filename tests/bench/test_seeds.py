from __future__ import annotations

import pytest

from bench.errors import UserError, nearest
from bench.seeds import AXES, derive


def test_a_seed_never_changes():
    """Records of past runs name only the root seed: these values may never change."""
    assert derive(0, "data", "mnist") == 3471616180669488728
    assert derive(1, "init", "maf", "power", 2) == 1723106089702454839


def test_axes_and_names_give_different_seeds():
    seeds = {derive(root, axis, name, k) for root in (0, 1) for axis in AXES for name in ("a", "b") for k in (0, 1)}
    assert len(seeds) == 2 * len(AXES) * 2 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_names_are_not_joined():
    assert derive(0, "data", "ab", "c") != derive(0, "data", "a", "bc")
    assert derive(0, "data", "1") != derive(0, "data", 1)


def test_unknown_axis_names_the_nearest():
    with pytest.raises(UserError, match="unknown seed axis 'dat'; did you mean 'data'?"):
        derive(0, "dat")


def test_errors_are_one_line():
    assert str(UserError("two\nlines")) == "two lines"
    assert str(nearest("minst", ["mnist", "rings"], "data set")) == "unknown data set 'minst'; did you mean 'mnist'?"
    assert str(nearest("q", ["b", "a"], "row")) == "unknown row 'q'; known: a, b"
