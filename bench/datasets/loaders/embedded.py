"""Real data that ships with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.loaders.bsds300 import STEPS
from bench.datasets.rows import random_split

if TYPE_CHECKING:
    import numpy as np

UCI = "CC BY 4.0"


def _digits(request: Request) -> Splits:
    import numpy as np
    from sklearn.datasets import load_digits

    return random_split(load_digits().images.astype(np.uint8)[:, None], request)


def _digit_labels(request: Request) -> np.ndarray:
    from sklearn.datasets import load_digits

    return random_split(load_digits().target, request).train


def _breast_cancer(request: Request) -> Splits:
    import numpy as np
    from sklearn.datasets import load_breast_cancer

    splits = random_split(load_breast_cancer().data, request)
    mean, std = splits.train.mean(0), splits.train.std(0)
    return Splits(*(((rows - mean) / std).astype(np.float32) for rows in splits))


TILE = (61, 64)
"""Height and width of the regions that the two 427x640 photographs are divided into: 7 x 10 each."""


def _photo_patches(request: Request) -> Splits:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from bench.datasets.patches import draw_patches

    tiles = []
    for photo in load_sample_images().images:
        grey = np.asarray(Image.fromarray(photo).convert("L"))
        high, wide = (size // side for size, side in zip(grey.shape, TILE, strict=True))
        blocks = grey[: high * TILE[0], : wide * TILE[1]].reshape(high, TILE[0], wide, TILE[1])
        tiles += list(blocks.swapaxes(1, 2).reshape(-1, *TILE))
    order = np.random.default_rng(request.seed("split")).permutation(len(tiles))
    parts = np.split(order, [len(order) * 7 // 10, len(order) * 8 // 10])
    return Splits(
        *(
            draw_patches([tiles[i] for i in part], rows, request.seed(split))
            for part, rows, split in zip(parts, request.sizes, Splits._fields, strict=True)
        )
    )


DATASETS = (
    Info(
        name="digits",
        title="optical digits, 8x8, 17 grey levels",
        kind="image",
        shape=(1, 8, 8),
        levels=17,
        sizes=(1_197, 200, 400),
        source="Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits; scikit-learn's load_digits",
        licence=UCI,
        variants=(Variant("embedded", _digits, "none; random split", labels=_digit_labels),),
    ),
    Info(
        name="breast-cancer",
        title="breast cancer cell nuclei, 30 features",
        kind="tabular",
        shape=(30,),
        sizes=(399, 57, 113),
        source="Wolberg et al. 1995, UCI Breast Cancer Wisconsin (Diagnostic); scikit-learn's load_breast_cancer",
        licence=UCI,
        variants=(Variant("embedded", _breast_cancer, "random split; z-score with the training rows (ddof 0)"),),
    ),
    Info(
        name="photo-patches",
        title="natural 8x8 patches of two photographs",
        kind="tabular",
        shape=(63,),
        sizes=(50_000, 5_000, 10_000),
        source="scikit-learn's load_sample_images, by the BSDS300 procedure (Zoran and Weiss 2011)",
        licence="CC BY 2.0 (china.jpg: danielbuechele, flower.jpg: vultilion, both on Flickr)",
        variants=(Variant("embedded", _photo_patches, f"regions of 61x64 pixels split 7:1:2; {STEPS}"),),
        bounds=(-1.0, 1.0),
        hazards=("patches of one split overlap each other; those of different splits do not",),
    ),
)
