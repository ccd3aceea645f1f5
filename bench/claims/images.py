"""(a) SurVAE against a plain flow against diffusion on images."""

from __future__ import annotations

from bench.claims.rules import Comparison, Side, claim

IMAGES = ("digits", "mnist")
SURVAE = Side("SurVAE flow with max pooling", ("max-pool-flow",))
TWIN = Side("its bijective twin", ("survae-image-baseline", "glow"))
FLOW = Side("normalizing flow", ("glow", "survae-image-baseline"))
DIFFUSION = Side("diffusion", ("ddpm-simple", "ddpm"))
THEME = "(a) SurVAE, normalizing flow and diffusion on images"

CLAIMS = (
    claim(
        "survae-images-likelihood",
        THEME,
        "Replacing a flow's slicing by the max-pooling surjection costs no likelihood on images.",
        "after the SurVAE paper's 3.08 and 3.09 bits/dim",
        Comparison(
            SURVAE, TWIN, "bits_per_dim", "bits/dim", "bits/dim", IMAGES, margin=0.05, equal=True, shown=(DIFFUSION,)
        ),
    ),
    claim(
        "survae-images-samples",
        THEME,
        "Max pooling makes a flow's samples no worse, rather better.",
        "after the SurVAE paper's FID of 49.03 against 49.56",
        Comparison(SURVAE, TWIN, "frechet_distance", "Fréchet distance", "", IMAGES, shown=(DIFFUSION,)),
    ),
    claim(
        "diffusion-images-samples",
        THEME,
        "Diffusion samples are better than those of normalizing flows.",
        "the survey, section 7, expressivity",
        Comparison(DIFFUSION, FLOW, "frechet_distance", "Fréchet distance", "", IMAGES, shown=(SURVAE,)),
    ),
    claim(
        "diffusion-images-passes",
        THEME,
        "Diffusion pays for its samples with many more network passes than a normalizing flow.",
        "the survey, section 7, sampling efficiency",
        Comparison(
            DIFFUSION, FLOW, "sampling_passes", "network passes per sample", "×", IMAGES,
            expected="higher", margin=10, ratio=True, shown=(SURVAE,),
        ),
    ),
)  # fmt: skip
