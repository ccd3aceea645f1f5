from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.datasets.raw.download import Patience
from bench.datasets.raw.fetch import Fetched, fetch_pin
from bench.datasets.raw.pins import Pin
from bench.datasets.raw.store import Store
from bench.paths import ROOT

from .server import Site

CONTENT = random.Random(0).randbytes(200_000)
PATIENCE = Patience(attempts=3, pause=0.01, connect=2, stalled=1)
DEAD = "http://127.0.0.1:9/raw.bin"

CHILD = """
import resource, sys
from pathlib import Path
from bench.datasets.raw.download import Patience
from bench.datasets.raw.fetch import fetch_pin
from bench.datasets.raw.pins import Pin
from bench.datasets.raw.store import Store
from bench.errors import UserError

raw, mirror, limit, md5, *urls = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
pin = Pin("x", Path("set/raw.bin"), "none", tuple(urls), ("md5", md5))
store = Store(Path(raw), Path(mirror) if mirror else None, network=True)
print("ready", flush=True)
try:
    print(fetch_pin(pin, store, Patience(3, 0.01, 2, 20)).origin)
except UserError as error:
    sys.exit(f"UserError: {error}")
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback is not behind a proxy; with one that is dead, to see that it is not asked."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("HTTP_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    with site as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as server:
        yield server


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def fetch(raw: Path) -> Callable[..., Fetched]:
    """Fetch the pin of ``CONTENT`` from these addresses; ``changes`` are of the pin."""

    def fetch(*urls: str, mirror: Path | None = None, network: bool = True, **changes: object) -> Fetched:
        return fetch_pin(a_pin(*urls, **changes), Store(raw, mirror, network), PATIENCE)

    return fetch


@pytest.fixture
def child(raw: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """The same in a process of its own, that has just got ready to fetch."""
    running = []

    def start(*urls: str, mirror: str | Path = "", limit: int = 0) -> subprocess.Popen:
        arguments = (raw, mirror, limit, hashlib.md5(CONTENT).hexdigest(), *urls)
        command = [sys.executable, "-c", CHILD, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def a_pin(*urls: str, **changes: object) -> Pin:
    values = {"name": "x", "path": Path("set/raw.bin"), "licence": "none", "urls": urls}
    return Pin(**{**values, "digest": ("md5", hashlib.md5(CONTENT).hexdigest()), **changes})


def put(file: Path, content: bytes = CONTENT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def left_in(folder: Path) -> list[str]:
    """Every file below ``folder`` but the empty ones of locks."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
