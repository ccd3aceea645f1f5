"""Agreement with independent implementations after copying their weights, and the race itself."""

from __future__ import annotations

import csv

import pytest
import torch
from click.testing import CliRunner

from bench.cli import cli
from bench.speed.fidelity import TWINS, agreements
from bench.speed.floor import Product, products
from bench.speed.measure import correlated
from bench.speed.race import race
from bench.speed.rows import ROWS


@pytest.mark.parametrize("row", list(TWINS))
def test_a_row_is_what_other_libraries_call_by_its_name(row: str) -> None:
    found = list(agreements([row]))
    assert {a.peer for a in found} == set(TWINS[row])
    for agreement in found:
        assert agreement.worst < 1e-8, agreement


def test_the_floor_counts_every_dense_product_and_its_gradients() -> None:
    x = torch.randn(7, 3)
    found = products(ROWS["maf"].ours(3), x)
    assert found[:3] == [Product(7, 3, 256, False), Product(7, 256, 256, True), Product(7, 256, 6, True)]
    assert len(found) == 15 and found[3] == Product(7, 3, 256, True)


def test_the_floor_counts_an_integrand_at_every_node() -> None:
    found = products(ROWS["umnn"].ours(2), torch.randn(5, 2))
    assert Product(10, 17, 64, True) in found and Product(10 * 34, 64, 64, True) in found
    assert Product(10 * 34, 64, 1, True) in found and len(found) == 5 * (3 + 3)


@pytest.mark.parametrize("row", list(ROWS))
def test_peers_have_the_architecture_of_the_row(row: str) -> None:
    """As many weights, but for those that a library masks or leaves out; and densities that can be trained."""
    x = correlated(8, 6, torch.device("cpu"))
    ours = sum(p.numel() for p in ROWS[row].ours(6).parameters())
    for make in ROWS[row].peers.values():
        peer = make(6)
        if not ROWS[row].note:
            assert sum(p.numel() for p in peer.module.parameters()) == pytest.approx(ours, rel=0.02)
        assert torch.isfinite(peer.log_prob(x)).all()


def test_the_race_tells_twice_the_work() -> None:
    a = torch.randn(200, 200)
    seconds = race({"one": lambda: a @ a, "four": lambda: [a @ a for _ in range(4)]}, rounds=40, seconds=0.005)
    assert 2 < seconds["four"] / seconds["one"] < 8


def run(*arguments: str):
    return CliRunner().invoke(cli, ["speed", *arguments])


def test_the_command_prints_floor_ours_and_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.speed.measure.WARM_STEPS", 2)
    result = run("maf", "--dims", "3", "--batch", "16", "--rounds", "1", "--peer", "zuko", "--format", "csv")
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(result.output.splitlines()))
    assert [line["system"] for line in lines] == ["floor", "ours", "zuko"]
    assert float(lines[0]["x floor"]) == 1 and float(lines[1]["sample / density"]) > 0
    assert float(lines[1]["round trip"]) < 1e-4


def test_a_row_without_an_inverse_still_has_its_other_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise ArithmeticError("no x has f(x) = z")

    monkeypatch.setattr("bench.speed.measure.WARM_STEPS", 2)
    monkeypatch.setattr("models.layer.ChainModel.sample", lost)
    result = run("maf", "--dims", "3", "--batch", "16", "--rounds", "1", "--peer", "zuko", "--format", "csv")
    assert result.exit_code == 0, result.output
    ours = list(csv.DictReader(result.output.splitlines()))[1]
    assert float(ours["density ms"]) > 0 and ours["sample ms"] == ours["round trip"] == "nan"


def test_the_check_says_same() -> None:
    result = run("realnvp", "--check")
    assert result.exit_code == 0 and "| realnvp | nflows |" in result.output and "| same |" in result.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mfa",), "unknown row 'mfa'; did you mean 'maf'?"),
        (("--peer", "zuk"), "unknown peer 'zuk'; did you mean 'zuko'?"),
        (("--dims", "six"), "--dims is 'six'; give numbers"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and line in result.output


def test_seeds_together_are_timed_beside_one() -> None:
    done = run("rq-nsf-c", "--seeds", "2", "--dims", "3", "--rounds", "1", "--batch", "16", "--format", "csv")
    assert done.exit_code == 0, done.output
    (line,) = csv.DictReader(done.output.splitlines())
    assert line["seeds"] == "2" and float(line["one ms"]) > 0 and float(line["together ms"]) > 0
    ratio = float(line["together ms"]) / float(line["one ms"])
    assert float(line["together / one"]) == pytest.approx(ratio, abs=0.02)
    assert line["one recorded ms"] == line["recording s"] == "", "there are no CUDA graphs on a CPU"
