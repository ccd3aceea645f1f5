"""``relaxbench list``: what a data set's state is said to be, and that all of it fits a terminal."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.datasets as datasets
from bench import listing
from bench.cli import cli
from bench.config import Config, load, load_tier
from bench.datasets import cards
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store

KEYS = [
    *("dataset", "title", "kind", "state", "variant", "variants", "shape", "levels", "sizes", "rows", "bytes"),
    *("licence", "flags", "hazards", "scanned", "source"),
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A machine with neither data nor a mirror."""
    return Config(load_tier("quick"), data=tmp_path / "data")


def row_of(name: str, config: Config) -> dict:
    return listing._dataset(datasets.describe(name), config)


def put(folder: Path, *pins: str) -> Path:
    """Files where those of the pins should lie; their content is anything but that."""
    for name in pins:
        path = folder / read_pin(name).path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not what the pin says")
    return folder


def test_json_has_every_set_with_the_same_keys() -> None:
    found = json.loads(CliRunner().invoke(cli, ["list", "datasets", "--json"]).stdout)
    assert [row["dataset"] for row in found] == datasets.names()
    assert all(list(row) == KEYS for row in found)


def test_the_states_of_raw_files(config: Config, tmp_path: Path) -> None:
    pins = datasets.describe("mnist").variants[0].pins
    mirror = put(tmp_path / "mirror", *pins)
    assert row_of("mnist", config)["state"] == "network"
    assert row_of("checkerboard", config)["state"] == "embedded"
    assert row_of("mnist", replace(config, mirror=mirror))["state"] == "mirror"
    put(config.store.raw, *pins)
    assert row_of("mnist", replace(config, mirror=mirror))["state"] == "fetched"


def test_an_archive_in_the_mirror_is_as_good_as_what_is_in_it(config: Config, tmp_path: Path) -> None:
    mirror = put(tmp_path / "mirror", "cifar10-archive")
    assert row_of("cifar10", replace(config, mirror=mirror))["state"] == "mirror"


def test_a_set_that_cannot_be_had_says_so(config: Config) -> None:
    row = row_of("miniboone", replace(config, variant="sample"))
    assert (row["state"], row["variant"], row["variants"][-1]) == ("no address", None, "sample")
    assert row_of("imagenet32-old", config)["state"] == "no address"


def test_the_variant_is_the_one_that_would_be_taken(config: Config, tmp_path: Path) -> None:
    here = replace(config, mirror=put(tmp_path / "mirror", "miniboone-maf-val", "miniboone-maf-test"))
    for each, expected in ((config, "published"), (here, "sample"), (replace(here, network=True), "published")):
        assert row_of("miniboone", each)["variant"] == expected


def test_rows_bytes_and_flags_are_of_that_variant(config: Config, tmp_path: Path) -> None:
    row = row_of(
        "miniboone", replace(config, mirror=put(tmp_path / "mirror", "miniboone-maf-val", "miniboone-maf-test"))
    )
    assert (row["rows"], row["bytes"], row["flags"]) == ([2_956, 328, 3_648], 1_129_824 + 1_255_040, ["reduced"])
    assert row["sizes"] == [29_556, 3_284, 3_648]
    assert row_of("mnist", config)["rows"] == [10_000, 2_000, 2_000]
    paper = row_of("mnist", replace(config, tier=load_tier("paper")))
    assert (paper["rows"], paper["flags"], paper["bytes"]) == ([50_000, 10_000, 10_000], [], 11_590_180)
    assert row_of("digits", config)["bytes"] == 0
    assert row_of("bsds300", replace(config, variant="rebuilt"))["flags"] == ["reduced", "rebuilt"]


def test_a_prepared_set_speaks_for_itself(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "cards")
    assert (row_of("digits", config)["hazards"], row_of("digits", config)["scanned"]) == ([], None)
    folder = config.prepared("digits")
    datasets.prepare("digits", store=Store(config.store.raw), out=folder, seed=0)
    meta = json.loads((folder / "meta.json").read_text())
    row = row_of("digits", config)
    assert (row["state"], row["variant"], row["scanned"]) == ("prepared", "embedded", "prepared")
    assert (row["hazards"], row["rows"]) == (meta["hazards"], list(meta["sizes"].values()))
    assert [hazard["kind"] for hazard in row["hazards"]] == ["constant"]


def test_without_arrays_the_card_speaks(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "cards")
    folder = datasets.prepare("digits", store=Store(tmp_path / "raw"), out=tmp_path / "elsewhere", seed=0)
    cards.write("digits", folder, cards.FOLDER)
    row = row_of("digits", config)
    assert (row["state"], row["scanned"]) == ("embedded", "card")
    assert row["hazards"] == json.loads((folder / "meta.json").read_text())["hazards"]


def test_hazards_known_beforehand_come_first(config: Config) -> None:
    info = datasets.describe("photo-patches")
    known = [hazard["text"] for hazard in row_of("photo-patches", config)["hazards"] if hazard["kind"] == "known"]
    assert known == list(info.hazards) != []


@pytest.mark.parametrize("meta", ["{", "{}", '{"variant": "embedded", "preprocessing": "as it was done last year"}'])
def test_what_was_prepared_otherwise_is_outdated(config: Config, meta: str) -> None:
    folder = config.prepared("digits")
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(meta)
    row = row_of("digits", config)
    assert (row["state"], row["variant"], row["rows"]) == ("outdated", "embedded", [1_197, 200, 400])


def test_the_text_of_data_sets_fits_a_terminal() -> None:
    for options in ([], ["--tier", "paper", "--network"], ["--variant", "rebuilt"], ["--variant", "sample"]):
        lines = CliRunner().invoke(cli, ["list", "datasets", *options]).stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["dataset", *datasets.names()]
        assert max(map(len, lines)) <= listing.WIDTH
        starts = [match.start() for match in re.finditer(r"\S+", lines[0].replace("flags; hazards", "flags"))]
        assert all(line[start - 1 : start] in ("", " ") for line in lines for start in starts), "columns are aligned"


def test_the_text_says_in_short_what_json_says_whole(config: Config) -> None:
    row = row_of("miniboone", config) | {
        "bytes": 12_551_952,
        "state": "mirror",
        "variant": "rebuilt",
        "flags": ["reduced", "rebuilt"],
        "hazards": [{"kind": kind} for kind in ("known", "atom", "atom", "overlap")],
        "scanned": "card",
    }
    words = ["miniboone", "tabular", "mirror", "rebuilt", "12.6MB", "36.5k", "CC BY 4.0"]
    last = "reduced; atom x2, overlap, known"
    assert re.split(r"\s{2,}", listing.as_text([row]).splitlines()[1]) == [*words, last]
    unknown = listing.as_text([row | {"bytes": None, "variant": None, "scanned": None, "hazards": []}])
    assert re.split(r"\s{2,}", unknown.splitlines()[1])[3:5] == ["-", "?"]
    assert unknown.endswith("not scanned")


def test_long_values_of_other_listings_are_cut() -> None:
    row = {"row": "x" * 50, "datasets": ["a", "b"], "source": None}
    assert listing.as_text([row]).splitlines()[1].split("  ") == ["x" * 43 + "…", "a, b"]


def test_listing_hashes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a file was hashed")

    pins = [pin for name in datasets.names() for variant in datasets.describe(name).variants for pin in variant.pins]
    mirror = put(tmp_path / "mirror", *(pin for pin in pins if not read_pin(pin).is_folder))
    monkeypatch.setattr(hashlib, "file_digest", refuse)
    monkeypatch.setattr("bench.datasets.raw.pins.digest_of", refuse)
    CliRunner().invoke(cli, ["list", "datasets", "--mirror", str(mirror)], catch_exceptions=False)


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bench import config, listing; listing.as_text(listing.datasets(config.load()));"
        "print({'torch', 'sklearn', 'numpy', 'pandas', 'pycurl', 'PIL', 'scipy', 'h5py', 'jinja2'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_systems_name_their_data_sets() -> None:
    found = {row["row"]: row for row in listing.systems(load({"tier": "quick"}))}
    assert "checkerboard" in found["realnvp"]["datasets"]


def test_systems_name_what_they_are_held_against() -> None:
    found = {row["row"]: row for row in listing.systems(load({"tier": "quick"}))}
    assert found["maf"]["oracle"] == dict.fromkeys(("nflows", "zuko"), "relaxbench speed maf --check")
    assert (list(found["diffflow"]["oracle"]), found["ddpm"]["oracle"]) == (["none"], {})
    header, line = listing.as_text([found["maf"]]).splitlines()
    assert line[header.index("oracle") :].startswith("nflows, zuko  ")
