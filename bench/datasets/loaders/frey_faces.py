"""Frey faces: 1,965 frames of one film of one face, 28x20 grey images."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.rows import random_split
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SHAPE = (1, 28, 20)
PIN = "frey-faces"
BROKEN = (LookupError, ValueError, TypeError, OSError, EOFError, zlib.error)
"""What scipy raises on a file that is not whole."""


def _build(request: Request) -> Splits:
    return random_split(read_faces(request.raw(PIN)), request)


def read_faces(path: Path) -> np.ndarray:
    """uint8 (frames, 1, 28, 20): the columns of the matrix ``ff``, each an image row by row."""
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        faces = loadmat(path, variable_names=["ff"])["ff"]
    except (MatReadError, NotImplementedError, *BROKEN) as error:
        raise UserError(f"{path}: no MATLAB file with a matrix ff ({error!r}); fetch it again") from error
    pixels = int(np.prod(SHAPE))
    if faces.dtype != np.uint8 or faces.ndim != 2 or len(faces) != pixels:
        raise UserError(f"{path}: ff is {faces.dtype} of shape {faces.shape}, expected uint8 ({pixels}, frames)")
    return np.ascontiguousarray(faces.T).reshape(-1, *SHAPE)


DATASETS = (
    Info(
        name="frey-faces",
        title="Frey faces, 28x20, 256 grey levels",
        kind="image",
        shape=SHAPE,
        levels=256,
        sizes=(1_565, 200, 200),
        source="Roweis, Saul and Hinton 2002; split sizes of Tomczak and Welling 2018 (arXiv 1705.07120)",
        licence="none stated",
        variants=(Variant("published", _build, "none; random split", (PIN,)),),
        hazards=(
            "neighbouring frames of a film are nearly alike: a random split puts near copies of test faces into train",
            "the published split was drawn anew in each run: test faces differ from one source to the next",
        ),
    ),
)
