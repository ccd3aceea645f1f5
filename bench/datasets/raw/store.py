"""Where raw files are, and where they may be taken from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.raw.pins import Pin, read_pin
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.datasets.info import Info, Variant


@dataclass(frozen=True)
class Store:
    """``raw`` keeps verified files; ``mirror``, laid out alike, may hold them already; ``network`` allows addresses.

    ``variant`` asks for published, rebuilt or sample arrays of those sets that come in several.
    """

    raw: Path
    mirror: Path | None = None
    network: bool = False
    variant: str | None = None

    def has(self, pin: Pin) -> bool:
        """Is the file at hand, or may it be had? (Verified is another matter: see ``fetch_pin``.)"""
        return self.is_here(pin) or (self.network and any(link.urls for link in chain(pin)))

    def is_here(self, pin: Pin) -> bool:
        """Is the file, or an archive that holds it, on this machine?"""
        folders = [self.raw] + ([self.mirror] if self.mirror else [])
        return any((folder / link.path).exists() for folder in folders for link in chain(pin))


def chain(pin: Pin) -> list[Pin]:
    """The pin, the archive it comes in, the archive that one comes in."""
    return [pin, *(chain(read_pin(pin.archive)) if pin.archive else ())]


def available(info: Info, store: Store) -> bool:
    """Can some variant of the data set be had?"""
    return any(_complete(variant, store) for variant in _candidates(info, store))


def select(info: Info, store: Store) -> Variant:
    """The first variant whose raw files are at hand or may be fetched; UserError, with the remedy, if there is none."""
    for variant in _candidates(info, store):
        if _complete(variant, store):
            return variant
    raise UserError(nowhere(info, store))


def nowhere(info: Info, store: Store) -> str:
    """What is missing and how to give it, in one line."""
    wanted = []
    for variant in _candidates(info, store):
        missing = next(pin for pin in map(read_pin, variant.pins) if not store.has(pin))
        urls = [url for link in chain(missing) for url in link.urls]
        wanted.append(f"{missing.path} ({urls[0] if urls else missing.note or 'it has no public address of its own'})")
    where = f"the mirror {store.mirror} does not hold it" if store.mirror else "no mirror was given"
    network = " and the network was not asked" if not store.network else ""
    return (
        f"{info.name} needs {', or '.join(wanted)}; {where}{network}; give `--network`, or `--mirror FOLDER` with that "
        "path in it (after snakemake's --config: network=true or mirror=FOLDER)"
    )


def _candidates(info: Info, store: Store) -> tuple[Variant, ...]:
    asked = tuple(variant for variant in info.variants if variant.name == store.variant)
    return asked or info.variants  # a set without the variant that was asked for has its own


def _complete(variant: Variant, store: Store) -> bool:
    return all(store.has(read_pin(pin)) for pin in variant.pins)
