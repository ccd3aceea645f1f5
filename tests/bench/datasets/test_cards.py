"""Data-set cards: complete, the same everywhere, and those that are committed up to date."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner

import bench.datasets as datasets
from bench.cli import cli
from bench.datasets import cards, hazards
from bench.datasets.info import Info, Variant
from bench.datasets.raw import pins
from bench.datasets.raw.store import Store
from bench.errors import UserError
from bench.paths import ROOT

MADE = Info(
    name="made",
    title="a crafted set",
    kind="tabular",
    shape=(3,),
    sizes=(3_000, 200, 100),
    reduced=(300, 20, 10),
    source="nobody 1999",
    licence="CC BY 4.0",
    bounds=(-1.0, 2.5),
    hazards=("rows overlap",),
    variants=(
        Variant("published", lambda request: None, "as published", ("left", "right")),
        Variant("sample", lambda request: None, "a few rows", ("alone",), sizes=(30, 20, 10), flags=("leak",)),
    ),
)
FOUND = {
    "variant": "published",
    "seed": 0,
    "flags": [],
    "sizes": {"train": 3_000, "val": 200, "test": 100},
    "split_md5": {"train": "a" * 32, "val": "b" * 32, "test": "c" * 32},
    "hazards": [],
}
ATOM = {"kind": "atom", "text": "column 4 holds one exact value", "columns": [4], "share": 0.094}


def pin(folder: Path, name: str, path: str, **meta: object) -> None:
    out = {key: meta.pop(key) for key in ("md5", "size") if key in meta}
    content = {"outs": [{"path": f"raw/{path}", **out}], "meta": {"licence": "CC BY 4.0"} | meta}
    (folder / f"{name}.dvc").write_text(yaml.safe_dump(content))


@pytest.fixture
def crafted_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pins"
    folder.mkdir()
    pin(folder, "archive", "made/all.zip", size=5_000, urls=["https://one.org/all.zip", "https://two.org/all.zip"])
    pin(folder, "left", "made/left", md5="1" * 32 + ".dir", archive="archive", member="x/left")
    pin(folder, "right", "made/right.npy", sha256="2" * 64, size=1_234_567, archive="archive", member="x/right.npy")
    pin(folder, "alone", "made/alone.npy", md5="3" * 32, size=12, licence="public domain")
    monkeypatch.setattr(pins, "PIN_FOLDER", folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cards")
    return datasets.prepare("digits", store=Store(folder / "raw"), out=folder / "prepared" / "digits", seed=0)


def section(text: str, title: str) -> list[str]:
    """The lines below a heading, up to the next one, without empty ones."""
    lines = text.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("#").strip() == title]
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    return [line for line in lines[start + 1 : end] if line]


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(">")]


def test_what_is_known_without_arrays(crafted_pins: Path) -> None:
    text = cards.render(MADE, None)
    assert section(text, "made: a crafted set")[1:] == [
        "- **Kind**: tabular",
        "- **A row**: 3 reals from -1 to 2.5",
        "- **Rows** of train / val / test, as published: 3,000 / 200 / 100; in the quick tier at most 300 / 20 / 10",
        "- **Score**: log-likelihood in nats per row, higher is better",
        "- **Source**: nobody 1999",
        "- **Licence**: CC BY 4.0",
    ]
    assert "the scan for hazards has not run" in warnings(text)[0]
    assert section(text, "Hazards")[1:] == ["- rows overlap", "The scan of the arrays has not run."]
    assert "Prepared arrays" not in text


def test_every_variant_with_its_raw_files(crafted_pins: Path) -> None:
    """An archive of two files is named once; what no one ever hashed is said to be so."""
    text = cards.render(MADE, None)
    assert section(text, "published") == [
        "- **Preprocessing**: as published",
        "- **Rows**: 3,000 / 200 / 100",
        "- **Raw files**, below `data/raw/` or a mirror:",
        f"  - `made/left/`: size not known beforehand; DVC's md5 of the folder `{'1' * 32}.dir`",
        "    - `x/left` in `made/all.zip`",
        f"  - `made/right.npy`: 1,234,567 bytes; sha256 `{'2' * 64}`",
        "    - `x/right.npy` in `made/all.zip`",
        "  - `made/all.zip`: 5,000 bytes; no hash was ever published: pinned on first download",
        "    - <https://one.org/all.zip>",
        "    - <https://two.org/all.zip>",
    ]
    assert section(text, "sample") == [
        "- **Preprocessing**: a few rows",
        "- **Rows**: 30 / 20 / 10",
        "- **Flags**: leak",
        "- **Raw files**, below `data/raw/` or a mirror:",
        f"  - `made/alone.npy`: 12 bytes; md5 `{'3' * 32}`; licence: public domain",
        "    - no public address of its own",
    ]


def test_integers_are_scored_in_bits() -> None:
    info = dataclasses.replace(MADE, levels=256, shape=(3, 8, 8), kind="image", bounds=None, variants=())
    lines = section(cards.render(info, None), "made: a crafted set")
    assert "- **A row**: 3 x 8 x 8 integers of 256 levels" in lines
    assert "- **Score**: bits per dimension of the integers, lower is better" in lines


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, []),
        ({"flags": ["leak"]}, []),
        ({"variant": "sample", "flags": ["reduced"]}, ["are a sample: 3,000 / 200 / 100 rows, where"]),
        ({"variant": "rebuilt"}, ["are rebuilt from the originals"]),
        ({"variant": "rebuilt", "flags": ["reduced"]}, ["are reduced: 3,000", "are rebuilt"]),
    ],
)
def test_arrays_other_than_the_published_ones_are_said_to_be_at_the_top(
    crafted_pins: Path, found: dict, said: list[str]
) -> None:
    text = cards.render(MADE, FOUND | found)
    assert len(warnings(text)) == len(said)
    for warning, part in zip(warnings(text), said, strict=True):
        assert part in warning
        assert text.index(warning) < text.index("**Kind**")


def test_findings_come_with_what_they_do_to_a_score(crafted_pins: Path) -> None:
    overlap = {"kind": "overlap", "text": "test repeats train in 4 of 100 rows (4 %)", "columns": [], "share": 0.04}
    lines = section(cards.render(MADE, FOUND | {"hazards": [ATOM, ATOM | {"share": 0.005}, overlap]}), "Hazards")
    assert lines[1:6] == [
        "- rows overlap",
        "Found by the scan of the arrays (columns count from 0):",
        "- *atom*: column 4 holds one exact value; each tenfold of slope there is worth 0.22 nats",
        "- *atom*: column 4 holds one exact value; each tenfold of slope there is worth 0.012 nats",
        "- *overlap*: test repeats train in 4 of 100 rows (4 %)",
    ]
    assert [line.split(":")[0] for line in lines[6:]] == ["What they do to a score", "- *atom*", "- *overlap*"]


def test_a_scan_that_found_nothing_is_not_one_that_never_ran(crafted_pins: Path) -> None:
    assert section(cards.render(MADE, FOUND), "Hazards")[-1] == "The scan of the arrays found none."


def test_every_kind_of_hazard_is_explained() -> None:
    assert set(cards.EFFECTS) == set(get_args(hazards.Kind))


def test_splits_and_their_md5_are_those_of_the_arrays(digits: Path, tmp_path: Path) -> None:
    text = cards.write("digits", digits, tmp_path).read_text()
    meta = json.loads((digits / "meta.json").read_text())
    for split in ("train", "val", "test"):
        assert f"| {split} | {meta['sizes'][split]:,} | `{meta['split_md5'][split]}` |" in text
    assert "Variant `embedded`, seed 0." in text
    assert cards.findings(tmp_path / "digits.md") == {key: meta[key] for key in cards.MEASURED}
    assert warnings(text) == []


def test_a_card_is_the_same_wherever_it_is_written(digits: Path, tmp_path: Path) -> None:
    again = datasets.prepare("digits", store=Store(tmp_path / "raw"), out=tmp_path / "again", seed=0)
    texts = {cards.write("digits", arrays, tmp_path / arrays.name).read_text() for arrays in (digits, again)}
    assert len(texts) == 1
    assert not any(str(folder) in text for text in texts for folder in (tmp_path, ROOT, digits.parent))


def test_without_the_arrays_a_card_keeps_what_they_showed(digits: Path, tmp_path: Path) -> None:
    card = cards.write("digits", digits, tmp_path)
    before = card.read_bytes()
    assert cards.write("digits", tmp_path / "nothing", tmp_path).read_bytes() == before
    card.unlink()
    text = cards.write("digits", tmp_path / "nothing", tmp_path).read_text()
    assert cards.findings(card) is None
    assert "the scan for hazards has not run" in warnings(text)[0]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ('{"variant": ', "meta.json: not of a prepared data set .*; prepare digits again"),
        ("[]", "meta.json: not of a prepared data set"),
        ('{"variant": "embedded"}', "meta.json: not of a prepared data set"),
        ('{"variant": "embedded", "preprocessing": "other steps"}', "other steps than today's; prepare digits again"),
        ('{"variant": "sample", "preprocessing": "none"}', "other steps than today's; prepare digits again"),
    ],
)
def test_arrays_that_are_not_what_the_loader_makes_are_one_line(
    digits: Path, tmp_path: Path, meta: str, message: str
) -> None:
    card = cards.write("digits", digits, tmp_path / "cards")
    before = card.read_bytes()
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(UserError, match=message):
        cards.write("digits", tmp_path, tmp_path / "cards")
    assert card.read_bytes() == before
    assert [path.name for path in card.parent.iterdir()] == ["digits.md"]


@pytest.mark.parametrize("text", ["", "# A heading\n", "---\na: [\n---\n", "---\nmeasured\n---\n", "---\na: 1\n---\n"])
def test_a_card_without_front_matter_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "digits.md").write_text(text)
    with pytest.raises(UserError, match="digits.md: no card with front matter .*; delete it and write it again"):
        cards.write("digits", tmp_path / "nothing", tmp_path)


def test_the_command_takes_published_sizes_and_no_machine_enters_a_card(tmp_path: Path) -> None:
    """Not the quick tier's arrays, and not the seal of a raw file that was pinned on first sight."""
    data = tmp_path / "data"
    folder = data / "prepared" / "reduced" / "digits"
    datasets.prepare("digits", store=Store(data / "raw"), out=folder, seed=0, size="reduced")
    seal = pins.seal_of(pins.read_pin("maf-archive"), data / "raw")
    seal.parent.mkdir(parents=True)
    seal.write_text(f"{'d' * 32}  data.tar.gz\n")
    result = CliRunner().invoke(cli, ["card", "digits", "power", "--data", str(data), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"card: {tmp_path / 'out' / name}.md" for name in ("digits", "power")]
    assert cards.findings(tmp_path / "out" / "digits.md") is None
    power = (tmp_path / "out" / "power.md").read_text()
    assert "pinned on first download" in power
    assert "d" * 32 not in power and str(tmp_path) not in power


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["card", "powr", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == "relaxbench: unknown data set 'powr'; did you mean 'power'?\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", datasets.names())
def test_the_committed_card_is_up_to_date(name: str) -> None:
    """After a change of a loader or a pin: ``relaxbench card``; prepare the set first if its arrays have changed."""
    info, card = datasets.describe(name), cards.FOLDER / f"{name}.md"
    assert card.read_text(encoding="utf-8") == cards.render(info, cards.findings(card))


@pytest.mark.parametrize("name", datasets.names())
def test_the_committed_card_is_of_published_size_and_a_known_variant(name: str) -> None:
    info, found = datasets.describe(name), cards.findings(cards.FOLDER / f"{name}.md")
    if found is None:
        assert info.needs == "published", "an embedded set needs no raw files to be scanned"
        return
    (variant,) = [variant for variant in info.variants if variant.name == found["variant"]]
    assert tuple(found["sizes"].values()) == info.rows(variant, "published")
    assert set(variant.flags) <= set(found["flags"])
    assert found["seed"] == 0


def test_no_committed_card_is_of_a_set_that_is_gone() -> None:
    assert sorted(path.stem for path in cards.FOLDER.iterdir()) == datasets.names()


def test_the_committed_cards_are_of_these_arrays(digits: Path) -> None:
    found = cards.findings(cards.FOLDER / "digits.md")
    assert found == cards.measured(datasets.describe("digits"), digits)


@pytest.mark.parametrize("name", ["miniboone", "mnist"])
def test_the_committed_cards_are_of_the_mirrors_arrays(name: str, mirror: Path, tmp_path: Path) -> None:
    found = cards.findings(cards.FOLDER / f"{name}.md")
    store = Store(tmp_path / "raw", mirror, variant=found["variant"])
    folder = datasets.prepare(name, store=store, out=tmp_path / name, seed=0)
    assert found == cards.measured(datasets.describe(name), folder)
