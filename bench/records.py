"""Records: one immutable JSON per run and seed, checked against its schema when written and when read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.paths import replacing
from bench.schema import check

SCHEMA_VERSION = 1
VOLATILE = ("cost", "environment", "code")  # what may differ between two runs of the same cell


@dataclass(frozen=True)
class Metric:
    """A number with what it takes to read it. ``uncertainty`` is (value, kind), never a bare ±."""

    value: float
    unit: str
    better: str | None
    n: int
    estimator: str
    uncertainty: tuple[float, str] | None = None

    def to_json(self) -> dict:
        spread = self.uncertainty and {"value": finite(self.uncertainty[0]), "kind": self.uncertainty[1]}
        return {**self.__dict__, "value": finite(self.value), "uncertainty": spread}


def finite(value: float) -> float | None:
    """JSON has no NaN: a number that is not finite is recorded as null."""
    return float(value) if math.isfinite(value) else None


def write(record: dict, path: Path) -> None:
    """Validate and write; a record that exists is never changed in place."""
    check(record, "record", str(path))
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable record ({error}); delete it and run again") from None
    check(record, "record", str(path))
    return record


Keep = Callable[[dict], bool]


def everything(record: dict) -> bool:
    return True


def read_all(folder: Path, keep: Keep = everything) -> list[dict]:
    """The records below ``folder`` that ``keep`` wants, ordered by data set, row and seed."""
    return sorted(filter(keep, (read(path) for path in folder.rglob("seed*.json"))), key=identity)


def identity(record: dict) -> tuple[str, str, int]:
    run = record["run"]
    return run["dataset"], run["row"], run["seed"]


def by_cell(records: Iterable[dict]) -> dict[tuple[str, str], list[dict]]:
    """(data set, row) -> its records, one per seed."""
    cells: dict[tuple[str, str], list[dict]] = {}
    for record in records:
        cells.setdefault(identity(record)[:2], []).append(record)
    return cells


def values(records: Iterable[dict], metric: str) -> list[float]:
    """The metric's finite values over those seeds that ended well."""
    return list(_values(records, metric))


def _values(records: Iterable[dict], metric: str) -> Iterator[float]:
    for record in records:
        found = record["metrics"].get(metric) or {"value": record["cost"].get(metric)}
        if record["status"] == "ok" and found["value"] is not None:
            yield found["value"]
