"""``relaxbench speed``: every row beside its peers and its own matrix products, timed in one process."""

from __future__ import annotations

from bench.speed.measure import Timing, measure
from bench.speed.rows import PEERS, ROWS

__all__ = ["PEERS", "ROWS", "Timing", "measure"]
