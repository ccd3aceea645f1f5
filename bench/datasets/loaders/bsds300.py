"""BSDS300: 8x8 patches of natural images; the published arrays, or drawn anew from the published images."""

from __future__ import annotations

from bench.datasets.info import Info, Request, Splits, Variant

DIM = 63


def _published(request: Request) -> Splits:
    from bench.datasets.readers import read_hdf5
    from bench.datasets.rows import finish, require_columns

    path = request.raw("maf-bsds300")
    parts = read_hdf5(path, *GROUPS)
    return finish(request, Splits(*(require_columns(rows, DIM, str(path)) for rows in parts)))


def _rebuilt(request: Request) -> Splits:
    """Training patches from 180 of the 200 training images, validation patches from the other 20.

    The published arrays were drawn with an unknown seed, so scores compare up to the sampling of patches.
    """
    import numpy as np

    from bench.datasets.patches import draw_patches
    from bench.datasets.readers import read_grey

    folder = request.raw(IMAGES)
    train, test = ([read_grey(file) for file in sorted((folder / part).glob("*.jpg"))] for part in ("train", "test"))
    order = np.random.default_rng(request.seed("split")).permutation(len(train))
    held_out = len(train) // 10
    images = [train[i] for i in order[held_out:]], [train[i] for i in order[:held_out]], test
    return Splits(
        *(
            draw_patches(part, rows, request.seed(split))
            for part, rows, split in zip(images, request.sizes, Splits._fields, strict=True)
        )
    )


STEPS = "grey 8x8 patches + U[0,1) noise, / 256, minus the patch mean, last pixel dropped"
IMAGES = "bsds300-images"
GROUPS = ("train", "validation", "test")

DATASETS = (
    Info(
        name="bsds300",
        title="natural 8x8 patches of the Berkeley segmentation images",
        kind="tabular",
        shape=(DIM,),
        sizes=(1_000_000, 50_000, 250_000),
        reduced=(50_000, 5_000, 10_000),
        source="Martin et al. 2001 (images); Zoran and Weiss 2011, Uria et al. 2013 (procedure)",
        licence="non-commercial research and education",
        variants=(
            Variant("published", _published, STEPS, ("maf-bsds300",)),
            Variant("rebuilt", _rebuilt, f"180/20/100 images; {STEPS}", (IMAGES,), flags=("rebuilt",)),
        ),
        bounds=(-1.0, 1.0),
        hazards=("patches of one split overlap each other; those of different splits do not",),
    ),
)
