"""Data-set cards, ``data/cards/NAME.md``: what is known of a data set, and what a scan of its arrays found.

A card begins with a block of YAML (the front matter that model and data-set cards have elsewhere too). It holds what
only someone with the arrays can know, so that a card can be written anew, or its findings be listed, without them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from bench.datasets.info import Info, Sizes, Splits, Variant
from bench.datasets.raw.pins import Digest, Pin, read_pin
from bench.datasets.raw.store import chain
from bench.datasets.registry import describe
from bench.errors import UserError
from bench.paths import ROOT, write_text

HERE = Path(__file__).parent
FOLDER = ROOT / "data" / "cards"
FENCE = "---\n"

MEASURED = ("variant", "seed", "flags", "sizes", "split_md5", "hazards")
"""Of ``meta.json``, what a card keeps."""

EFFECTS = {
    "atom": "many rows hold exactly one value, so the density has no upper bound there: each tenfold of a transform's "
    "slope at an atom of share s adds s ln 10 nats to the mean log-likelihood. Models are ranked partly by how steep "
    "their transforms may be",
    "discrete": "most rows hold a value that others hold too, so the column is a grid of atoms: each tenfold of slope "
    "at all of them adds s ln 10 nats, s being the share of rows on repeated values. The score says in part how finely "
    "a model resolves the grid",
    "collinear": "rows lie near a subspace of fewer dimensions, where the density is degenerate: the score can grow "
    "without bound as a model closes in on it, and the smallest noise decides between models",
    "constant": "a real column that never changes has no density, and the score can grow without bound; an integer "
    "that never changes costs a good model no bits, and lowers the mean over all dimensions by that much",
    "bounds": "a model that is confined to the stated range gives such rows no probability at all",
    "duplicate": "repeated rows weigh more in training, and spikes on them pay there without being worth anything on "
    "new rows",
    "overlap": "a model that memorises training rows is rewarded for it on these, so the score is not one of "
    "generalisation alone",
}
"""Kind of hazard -> what it does to a score."""

ALGORITHMS = {"git": "git blob", "md5.dir": "DVC's md5 of the folder"}


def write(name: str, prepared: Path, folder: Path = FOLDER) -> Path:
    """Write the card of a data set, and return its path.

    What the scan found is taken from the folder ``prepared``, or else from the card as it was; where neither has it,
    the card says that no scan has run. UserError if what was prepared is not what the loader makes today.
    """
    info = describe(name)
    card = folder / f"{name}.md"
    write_text(card, render(info, measured(info, prepared) or findings(card)))
    return card


def measured(info: Info, prepared: Path) -> dict | None:
    """What ``prepare`` found out about the arrays in its folder; None where there are none."""
    path = prepared / "meta.json"
    if not path.exists():
        return None
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        variants = {variant.name: variant.preprocessing for variant in info.variants}
        if variants.get(meta["variant"]) == meta["preprocessing"]:
            return {key: meta[key] for key in MEASURED}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not of a prepared data set ({error}); prepare {info.name} again") from error
    raise UserError(f"{path}: prepared by other steps than today's; prepare {info.name} again")


def findings(card: Path) -> dict | None:
    """What an earlier scan found, from a card's front matter; None if there is no card or no scan had run."""
    import yaml

    if not card.exists():
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where libyaml is there: ten times faster
    try:
        _, front, _ = card.read_text(encoding="utf-8").split(FENCE, 2)
        return yaml.load(front, loader)["measured"]
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{card}: no card with front matter ({error}); delete it and write it again") from error


def render(info: Info, found: dict | None) -> str:
    """The card as Markdown: the same text wherever and whenever it is written."""
    import jinja2
    import yaml

    front = {"dataset": info.name, "measured": found}
    flow = None if found else False  # None: short lists on one line
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["rows"] = _rows
    page = environment.get_template("card.md.j2").render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=115),
        info=info,
        row=_row(info),
        found=found,
        warnings=list(_warnings(info, found)),
        hazards=[hazard | {"worth": _worth(hazard)} for hazard in found["hazards"]] if found else [],
        effects={kind: text for kind, text in EFFECTS.items() if found and _has(found, kind)},
        variants=[(variant, info.rows(variant, "published"), list(_files(info, variant))) for variant in info.variants],
    )
    return page.rstrip() + "\n"


def _row(info: Info) -> str:
    shape = " x ".join(map(str, info.shape))
    if info.levels:
        return f"{shape} integers of {info.levels:,} levels"
    return f"{shape} reals" + (" from {:g} to {:g}".format(*info.bounds) if info.bounds else "")


def _warnings(info: Info, found: dict | None) -> Iterator[str]:
    """What has to be said before anything else."""
    if found is None:
        yield (
            "The arrays were not at hand when this card was written: the scan for hazards has not run, and what is "
            "said here is what is known without them."
        )
        return
    sizes: Sizes = tuple(found["sizes"][split] for split in Splits._fields)
    fewer = "reduced" in found["flags"]
    if found["variant"] == "sample":
        yield (
            f"The arrays described here are a sample: {_rows(sizes)} rows, where {_rows(info.sizes)} were published. "
            "A score on them compares with no published figure."
        )
    elif fewer:
        yield f"The arrays described here are reduced: {_rows(sizes)} rows, where {_rows(info.sizes)} were published."
    if found["variant"] == "rebuilt":
        yield (
            "The arrays described here are rebuilt from the originals: some step of the published arrays cannot be "
            "repeated bit for bit, so a score compares with the published ones up to that step."
        )


def _rows(sizes: Sizes) -> str:
    return "{:,} / {:,} / {:,}".format(*sizes)


def _has(found: dict, kind: str) -> bool:
    return any(hazard["kind"] == kind for hazard in found["hazards"])


def _worth(hazard: dict) -> str | None:
    """An atom's price in nats."""
    if hazard["kind"] in ("atom", "discrete"):
        return f"each tenfold of slope there is worth {hazard['share'] * math.log(10):.2g} nats"
    return None


def _files(info: Info, variant: Variant) -> Iterator[dict]:
    """The raw files of a variant, then the archives that they come in."""
    pins = [read_pin(name) for name in variant.pins]
    known = {link.name: link for pin in pins for link in chain(pin)}
    for pin in [*pins, *(pin for name, pin in known.items() if name not in variant.pins)]:
        yield {
            "path": _path(pin),
            "size": f"{pin.size:,} bytes" if pin.size else "size not known beforehand",
            "digest": _digest(pin.digest),
            "licence": pin.licence if pin.licence != info.licence else None,
            "urls": pin.urls,
            "archive": _path(known[pin.archive]) if pin.archive else None,
            "member": pin.member,
            "note": pin.note,
        }


def _path(pin: Pin) -> str:
    return f"{pin.path.as_posix()}{'/' if pin.is_folder else ''}"


def _digest(digest: Digest | None) -> str:
    if digest is None:
        return "no hash was ever published: pinned on first download"
    algorithm, value = digest
    return f"{ALGORITHMS.get(algorithm, algorithm)} `{value}`"
