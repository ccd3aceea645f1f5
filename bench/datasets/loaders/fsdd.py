"""The Free Spoken Digit Dataset: six speakers, ten digits, fifty recordings of each, 8 kHz."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

RATE = 8_000
WINDOW = 1_024
"""Samples: 128 ms."""
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<number>\d+)")


def _build(request: Request) -> Splits:
    """Windows in the order of the files' names."""
    import numpy as np

    parts: dict[str, list[np.ndarray]] = {split: [] for split in Splits._fields}
    for split, _, windows in _recordings(request.raw(RECORDINGS)):
        parts[split].append(windows)
    return Splits(*(np.concatenate(part or [np.empty((0, 1, WINDOW), np.uint16)]) for part in parts.values()))


def _labels(request: Request) -> np.ndarray:
    import numpy as np

    labels = [
        np.full(len(windows), digit, np.uint8)
        for split, digit, windows in _recordings(request.raw(RECORDINGS))
        if split == "train"
    ]
    return np.concatenate(labels)


def _recordings(folder: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    """Split, digit and windows (n, 1, WINDOW) of each recording; what is left of it at the end is dropped."""
    for path in sorted(folder.glob("*.wav")):
        name = NAME.fullmatch(path.stem)
        if name is None:
            raise UserError(f"{path}: not named DIGIT_SPEAKER_NUMBER.wav; rename it or take it out")
        samples = read_wave(path)
        windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, 1, WINDOW)
        yield _split_of(int(name["number"])), int(name["digit"]), windows


def _split_of(number: int) -> str:
    """The official test recordings are 0 to 4; 5 to 9 are held out for validation."""
    return "test" if number < 5 else "val" if number < 10 else "train"


def read_wave(path: Path) -> np.ndarray:
    """The samples of a 16-bit mono recording at 8 kHz in offset binary: uint16, 32768 is silence.

    UserError, in one line, for another format or a file that is broken.
    """
    import numpy as np

    try:
        with wave.open(str(path)) as recording:
            found = recording.getnchannels(), 8 * recording.getsampwidth(), recording.getframerate()
            content = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as error:
        raise UserError(f"{path}: not a readable recording ({error!r}); fetch it again") from error
    if found != (1, 16, RATE):
        channels, bits, rate = found
        raise UserError(f"{path}: {channels} channels of {bits} bits at {rate} Hz, expected 1 of 16 at {RATE}")
    # Flipping the sign bit of two's complement adds 32768.
    return np.frombuffer(content, "<u2").astype(np.uint16) ^ np.uint16(1 << 15)


RECORDINGS = "fsdd-recordings"

DATASETS = (
    Info(
        name="fsdd",
        title="spoken digits, windows of 1,024 samples (128 ms), 16 bits",
        kind="audio",
        shape=(1, WINDOW),
        levels=1 << 16,
        sizes=(7_017, 887, 860),
        source="Jackson et al., Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        variants=(
            Variant(
                "published",
                _build,
                "consecutive windows, the remainder of a recording dropped; of each speaker and digit, recordings 0-4 "
                "are test (the official split), 5-9 validation, the others train",
                (RECORDINGS,),
                labels=_labels,
            ),
        ),
        hazards=("the six speakers are in all three splits: scores say nothing of a new voice",),
    ),
)
