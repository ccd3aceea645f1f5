"""What is at hand, and what is said when it is not."""

from __future__ import annotations

import dataclasses

import pytest

from bench.datasets.raw import pins
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store, available, chain, select
from bench.datasets.registry import describe
from bench.errors import UserError

from .conftest import put

PINS = {
    "inner": "{path: raw/s/inner, md5: aa}\n meta: {licence: x, archive: middle, member: inner}",
    "middle": "{path: raw/s/middle.zip, md5: bb}\n meta: {licence: x, archive: outer, member: middle.zip}",
    "outer": "{path: raw/s/outer.tgz, md5: cc}\n meta: {licence: x, urls: [https://example.org/outer.tgz]}",
    "alone": "{path: raw/s/alone, md5: dd}\n meta: {licence: x}",
}


@pytest.fixture
def nested(tmp_path, monkeypatch):
    """Pins of an archive within an archive, and of a file without an address."""
    for name, text in PINS.items():
        put(tmp_path / "pins" / f"{name}.dvc", f"outs: [{text}".replace("}\n ", "}]\n", 1).encode())
    monkeypatch.setattr(pins, "PIN_FOLDER", tmp_path / "pins")
    return tmp_path


def test_a_file_may_be_had_by_way_of_its_archives(nested):
    inner, alone = read_pin("inner"), read_pin("alone")
    assert [pin.name for pin in chain(inner)] == ["inner", "middle", "outer"]
    offline, online = Store(nested / "raw"), Store(nested / "raw", network=True)
    assert not offline.has(inner) and online.has(inner) and not online.is_here(inner)
    assert not online.has(alone)
    for folder, name in (("raw", "outer.tgz"), ("mirror", "middle.zip"), ("mirror", "inner")):
        file = put(nested / folder / "s" / name)
        store = Store(nested / "raw", nested / "mirror")
        assert store.is_here(inner) and store.has(inner)
        file.unlink()
        assert not store.is_here(inner)


@pytest.fixture
def variants(nested):
    """A data set in two variants: of a file that only a mirror can give, or of one from the network."""
    info = describe("rings")
    first = dataclasses.replace(info.variants[0], name="published", pins=("alone",))
    return dataclasses.replace(
        info, name="set", variants=(first, dataclasses.replace(first, name="rebuilt", pins=("inner",)))
    )


def test_the_first_variant_that_can_be_had_is_taken(nested, variants):
    offline, online = Store(nested / "raw"), Store(nested / "raw", network=True)
    assert not available(variants, offline) and available(variants, online)
    assert select(variants, online).name == "rebuilt"
    put(nested / "raw" / "s" / "alone")
    assert select(variants, online).name == select(variants, offline).name == "published"
    with pytest.raises(UserError):
        select(variants, dataclasses.replace(offline, variant="rebuilt"))
    assert select(variants, dataclasses.replace(online, variant="rebuilt")).name == "rebuilt"
    assert select(variants, dataclasses.replace(online, variant="sample")).name == "published"  # there is no sample


def test_what_is_missing_is_one_line_with_the_remedy(nested, variants):
    with pytest.raises(UserError) as error:
        select(variants, Store(nested / "raw"))
    assert str(error.value) == (
        "set needs s/alone (it has no public address of its own), or s/inner (https://example.org/outer.tgz); no "
        "mirror was given and the network was not asked; give `--network`, or `--mirror FOLDER` with that path in it "
        "(after snakemake's --config: network=true or mirror=FOLDER)"
    )
    with pytest.raises(UserError, match=r"the mirror .*mirror does not hold it and the network was not asked"):
        select(variants, Store(nested / "raw", nested / "mirror"))


def test_nothing_is_missing_where_nothing_is_needed(nested):
    assert select(describe("rings"), Store(nested / "raw")).pins == ()
