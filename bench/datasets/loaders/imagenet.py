"""Downsampled ImageNet, 32x32 and 64x64, in its two releases, which do not compare.

``old`` (van den Oord et al. 2016, arXiv 1601.06759): tars of PNG files. ``new`` (Chrabaszcz et al. 2017, arXiv
1707.08819): zips of npz batches, resized with a box filter and therefore smoother. One method scores 3.69 bits per
dimension on the one and 3.43 on the other.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.raw.archives import BROKEN
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

EVERY = 128
"""One training image in so many is held out for validation: one pass over the archive is enough."""
BLOCK = 4_096
"""Images that are in memory at a time (50 MB at 64x64)."""

Reader = Callable[[Path, int], "Iterator[np.ndarray]"]


def _build(request: Request, pins: tuple[str, ...], side: int, read: Reader) -> Iterator[tuple[str, np.ndarray]]:
    """Blocks of images; ``pins`` are the archives of the training images, then that of the official validation."""
    import numpy as np

    left = dict(zip(Splits._fields, request.sizes, strict=True))

    def take(split: str, rows: np.ndarray) -> tuple[str, np.ndarray]:
        rows = rows[: left[split]]
        left[split] -= len(rows)
        return split, rows

    first = 0
    for rows in _until(lambda: left["train"] or left["val"], pins[:-1], request, side, read):
        held_out = np.arange(first, first + len(rows)) % EVERY == EVERY - 1
        first += len(rows)
        yield take("train", rows[~held_out])
        yield take("val", rows[held_out])
    for rows in _until(lambda: left["test"], pins[-1:], request, side, read):
        yield take("test", rows)
    missing = ", ".join(f"{n:,} of {split}" for split, n in left.items() if n)
    if missing:
        raise UserError(f"{request.name}: the archives hold too few images, missing {missing}; fetch them again")


def _until(
    wanted: Callable[[], int], pins: tuple[str, ...], request: Request, side: int, read: Reader
) -> Iterator[np.ndarray]:
    """The blocks of several archives, as long as any is wanted; an archive behind the last one is not even fetched."""
    for pin in pins:
        for rows in read(request.raw(pin), side):
            yield rows
            if not wanted():
                return


def _read_tar(archive: Path, side: int) -> Iterator[np.ndarray]:
    """The PNG files of a tar, in its order."""
    import numpy as np

    images = _read_images(archive, side)
    while block := list(islice(images, BLOCK)):
        yield np.stack(block)


def _read_images(archive: Path, side: int) -> Iterator[np.ndarray]:
    with _reading(archive), tarfile.open(archive, "r:") as tar:
        while entry := tar.next():
            tar.members.clear()  # it would remember 1.3 million entries
            if entry.isfile() and entry.name.endswith(".png"):
                yield _read_image(tar.extractfile(entry), side, f"{archive}: {entry.name}")


def _read_image(stream: BinaryIO, side: int, where: str) -> np.ndarray:
    """uint8, (3, side, side)."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(stream) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: not a readable image ({error}); fetch the archive again") from error
    if pixels.shape[:2] != (side, side):
        raise UserError(f"{where}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected {side}x{side}")
    return pixels.transpose(2, 0, 1)


def _read_zip(archive: Path, side: int) -> Iterator[np.ndarray]:
    """The npz batches of a zip, in the order of their numbers."""
    with _reading(archive), zipfile.ZipFile(archive) as opened:
        for name in sorted(filter(lambda name: name.endswith(".npz"), opened.namelist()), key=_number):
            yield from _read_batch(opened, name, side, f"{archive}: {name}")


def _number(name: str) -> int:
    return int("".join(filter(str.isdigit, PurePosixPath(name).stem)) or 0)


def _read_batch(archive: zipfile.ZipFile, name: str, side: int, where: str) -> Iterator[np.ndarray]:
    """An npz is a zip itself, and wants seeking: it is held as it is, and its array ``data`` read in blocks."""
    import numpy as np

    batch = io.BytesIO()
    with archive.open(name) as stream:
        shutil.copyfileobj(stream, batch)
    with zipfile.ZipFile(batch) as arrays, _data_of(arrays, where) as stream:
        rows, values = _header(stream, where)
        if values != 3 * side * side:
            raise UserError(f"{where}: {values} values an image, expected {3 * side * side} ({side}x{side}, 3 colours)")
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start) * values
            content = stream.read(size)
            if len(content) < size:
                raise UserError(f"{where}: the array data ends before its {rows:,} images; fetch the archive again")
            yield np.frombuffer(content, np.uint8).reshape(-1, 3, side, side)


def _data_of(arrays: zipfile.ZipFile, where: str) -> BinaryIO:
    try:
        return arrays.open("data.npy")
    except KeyError as error:
        raise UserError(f"{where}: there is no array data in it; fetch the archive again") from error


def _header(stream: BinaryIO, where: str) -> tuple[int, int]:
    """The shape of a .npy file of bytes with two axes."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    except ValueError as error:
        raise UserError(f"{where}: the array data is broken ({error}); fetch the archive again") from error
    if dtype != np.uint8 or len(shape) != 2 or fortran_order:
        raise UserError(f"{where}: the array data is of {dtype} and shape {shape}, expected uint8 (images, values)")
    return shape


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise UserError(f"{archive}: a broken archive ({error}); delete it and fetch it again") from error


STEPS = f"none; every {EVERY}th training image is validation, the official validation images are test"


def _info(release: str, side: int, read: Reader, parts: tuple[str, ...], images: tuple[int, int], **known: str) -> Info:
    """``parts`` are what its pins are called; ``images`` how many of training and official validation there are."""
    name = f"imagenet{side}-{release}"
    other = f"imagenet{side}-{'new' if release == 'old' else 'old'}"
    pins = tuple(f"{name}-{part}" for part in parts)
    train, test = images
    return Info(
        name=name,
        kind="image",
        shape=(3, side, side),
        levels=256,
        sizes=(train - train // EVERY, train // EVERY, test),
        reduced=(10_000, 2_000, 2_000),
        licence="terms of access of ImageNet: non-commercial research and education",
        variants=(Variant("published", partial(_build, pins=pins, side=side, read=read), STEPS, pins),),
        hazards=(f"resized otherwise than {other}, with which its scores do not compare",),
        **known,
    )


def _old(side: int) -> Info:
    return _info(
        "old",
        side,
        _read_tar,
        ("train", "valid"),
        (1_281_149, 49_999),
        title=f"ImageNet {side}x{side}, the release of 2016 (PNG files)",
        source="van den Oord, Kalchbrenner and Kavukcuoglu 2016 (arXiv 1601.06759); only torrents offer it now",
    )


def _new(side: int, parts: tuple[str, ...]) -> Info:
    return _info(
        "new",
        side,
        _read_zip,
        (*parts, "val"),
        (1_281_167, 50_000),
        title=f"ImageNet {side}x{side}, the release of 2017 (box filter)",
        source="Chrabaszcz, Loshchilov and Hutter 2017 (arXiv 1707.08819)",
    )


DATASETS = (_old(32), _old(64), _new(32, ("train",)), _new(64, ("train-1", "train-2")))
