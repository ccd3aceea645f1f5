"""What ``relaxbench speed`` prints, line by line as it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.device import select_device
from bench.errors import UserError, nearest
from bench.speed.fidelity import TOLERANCE, agreements
from bench.speed.measure import Timing, measure
from bench.speed.rows import PEERS, ROWS
from bench.speed.seeds import measure_seeds

SEEDS_HEADER = ("row", "D", "seeds", "one ms", "one recorded ms", "together ms", "together / one", "recording s")
HEADER = ("row", "D", "system", "train ms", "x floor", "density ms", "sample ms", "sample / density", "round trip")


def timings(
    names: Sequence[str], dims: str, peers: Sequence[str], *, fmt: str, batch: int, rounds: int, device: str
) -> Iterator[str]:
    """A header and one line per row, dimension and system."""
    _known(names, ROWS, "row")
    _known(peers, PEERS, "peer")
    sizes, chosen = _sizes(dims), select_device(device)
    yield from _head(HEADER, fmt)
    for found in measure(names or list(ROWS), sizes, peers or PEERS, batch, rounds, chosen):
        yield _line(_cells(found), fmt)


def seed_timings(
    names: Sequence[str], dims: str, seeds: int, *, fmt: str, batch: int, rounds: int, device: str
) -> Iterator[str]:
    """A header and one line per row and dimension: one seed beside several trained together."""
    _known(names, ROWS, "row")
    sizes, chosen = _sizes(dims), select_device(device)
    yield from _head(SEEDS_HEADER, fmt)
    for t in measure_seeds(names or list(ROWS), sizes, seeds, batch, rounds, chosen):
        numbers = (t.one, t.recorded, t.together, t.per_one, t.recording)
        yield _line((t.row, str(t.dim), str(t.seeds), *("" if n is None else f"{n:.2f}" for n in numbers)), fmt)


def fidelity(names: Sequence[str], fmt: str) -> str:
    """The agreement of every row with its twins elsewhere, and the verdict; UserError at a disagreement."""
    _known(names, ROWS, "row")
    found = list(agreements(list(names)))
    header = ("row", "peer", "latent", "log-determinant", "inverse", "verdict")
    lines = [*_head(header, fmt)]
    for a in found:
        verdict = "same" if a.worst <= TOLERANCE else "differs"
        numbers = [f"{value:.1e}" if value is not None else "" for value in (a.encode, a.log_det, a.decode)]
        lines.append(_line((a.row, a.peer, *numbers, verdict), fmt))
    return "\n".join(lines) + "\n"


def _known(names: Sequence[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise nearest(name, known, what)


def _sizes(dims: str) -> list[int]:
    try:
        sizes = [int(part) for part in dims.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 2:
        raise UserError(f"--dims is {dims!r}; give numbers of features from 2 on, such as 6,21,63")
    return sizes


def _cells(t: Timing) -> tuple[str, ...]:
    ratio = t.sample_per_density
    return (
        t.row,
        str(t.dim),
        t.system,
        f"{t.train:.2f}",
        f"{t.per_floor:.2f}",
        *("" if value is None else f"{value:.2f}" for value in (t.density, t.sample, ratio)),
        "" if t.round_trip is None else f"{t.round_trip:.0e}",
    )


def _head(names: Sequence[str], fmt: str) -> list[str]:
    return [_line(names, fmt)] + ([_line(["---"] * len(names), fmt)] if fmt == "md" else [])


def _line(cells: Sequence[str], fmt: str) -> str:
    return ",".join(cells) if fmt == "csv" else f"| {' | '.join(cells)} |"
