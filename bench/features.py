"""Features for judging image samples: the hidden layer of a small classifier trained here, on the data's own labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.datasets.base import DataSet

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

HIDDEN = 32
TRAINING_ROWS = 5000
_trained: dict[str, MLPClassifier] = {}


def classifier_features(data: DataSet) -> Callable[[Tensor], Tensor]:
    """Images (n, C, H, W) with integer levels -> features (n, 32). Trained once per process, always alike."""
    if data.md5 not in _trained:
        _trained[data.md5] = _train(data)
    classifier = _trained[data.md5]
    weight, bias = torch.from_numpy(classifier.coefs_[0]), torch.from_numpy(classifier.intercepts_[0])

    def features(images: Tensor) -> Tensor:
        return torch.relu(_flat(images, data.spec.levels) @ weight + bias)

    return features


def _train(data: DataSet) -> MLPClassifier:
    # Late: importing scikit-learn costs as much as importing torch, and only images need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier((HIDDEN,), max_iter=60, random_state=0)
    rows = _flat(data.train[:TRAINING_ROWS], data.spec.levels).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty passes are enough for features
        return classifier.fit(rows, np.asarray(data.labels[:TRAINING_ROWS]))


def _flat(images: Tensor, levels: int) -> Tensor:
    return images.reshape(len(images), -1).double() / (levels - 1)
