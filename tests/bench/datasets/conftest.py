from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mirror() -> Path:
    """A folder of the published raw files; tests that need one are skipped where there is none."""
    folder = os.environ.get("RELAXBENCH_MIRROR")
    if not folder:
        pytest.skip("RELAXBENCH_MIRROR is not set to a folder of published raw files")
    return Path(folder)
