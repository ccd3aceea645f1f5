"""Images out of the original formats, crafted small, against plain restatements; the real files where there are any."""

from __future__ import annotations

import gzip
import io
import itertools
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import bench.datasets as datasets
from bench.datasets.info import Request, Splits
from bench.datasets.loaders import frey_faces, imagenet
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store
from bench.errors import UserError

RNG = np.random.default_rng(0)


def request(name, sizes, paths, seed=0):
    return Request(name, sizes, seed, paths.__getitem__)


def variant(name):
    return datasets.describe(name).variants[0]


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    return path


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_both_sets_of_28x28_images_are_read_and_split_alike(tmp_path, name):
    images, test, labels = pixels(60, 28, 28), pixels(10, 28, 28), pixels(60) % 10
    parts = {"train-images": images, "test-images": test, "train-labels": labels}
    paths = {f"{name}-{part}": write_idx(tmp_path / f"{part}.gz", array) for part, array in parts.items()}
    assert set(variant(name).pins) == set(paths)
    asked = request(name, (50, 10, 10), paths)
    built = variant(name).build(asked)
    assert (built.train == images[:50, None]).all() and (built.val == images[50:, None]).all()
    assert (built.test == test[:, None]).all()
    assert (variant(name).labels(asked) == labels[:50]).all()


def test_fewer_rows_are_drawn_in_order_with_their_labels(tmp_path):
    images = np.arange(60, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    arrays = {"train-images": images, "test-images": images[:10], "train-labels": images[:, 0, 0]}
    paths = {f"mnist-{part}": write_idx(tmp_path / part, array) for part, array in arrays.items()}
    for path in paths.values():
        path.rename(path.with_suffix(".gz"))
    asked = request("mnist", (20, 5, 5), {pin: path.with_suffix(".gz") for pin, path in paths.items()})
    built, labels = variant("mnist").build(asked), variant("mnist").labels(asked)
    assert [len(rows) for rows in built] == [20, 5, 5]
    numbers = built.train[:, 0, 0, 0].astype(int)
    assert (np.diff(numbers) > 0).all() and numbers.max() < 50 and (np.diff(numbers) > 1).any()
    assert (labels == numbers).all()


def python2_pickle(labels, rows):
    """The bytes of cPickle.dump({"labels": [...], "data": array}, file, 2) of Python 2: its strings are bytes."""

    def string(text):
        return b"U" + bytes([len(text)]) + text

    shape = b"M" + len(rows).to_bytes(2, "little") + b"M" + rows.shape[1].to_bytes(2, "little") + b"\x86"
    dtype = (
        b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R(K\x03" + string(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
    content = b"T" + rows.nbytes.to_bytes(4, "little") + rows.tobytes()
    return (
        b"\x80\x02}("
        + (string(b"labels") + b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e")
        + (string(b"data") + array + b"(K\x01" + shape + dtype + b"K\x00tb" + b"\x89" + content + b"tb")
        + b"u."
    )


TRAIN = [f"cifar10-batch-{number}" for number in (1, 2, 3, 4, 5)]


def write_cifar10(folder):
    batches = {pin: (pixels(4, 3072), pixels(4) % 10) for pin in (*TRAIN, "cifar10-test")}
    for pin, (images, labels) in batches.items():
        (folder / pin).write_bytes(python2_pickle(labels, images))
    return batches, {pin: folder / pin for pin in batches}


def test_cifar10_batches_follow_one_another(tmp_path):
    batches, paths = write_cifar10(tmp_path)
    asked = request("cifar10", (18, 2, 4), paths)
    built = variant("cifar10").build(asked)
    train = [image.reshape(3, 32, 32) for pin in TRAIN for image in batches[pin][0]]
    assert (built.train == train[:18]).all() and (built.val == train[18:]).all()
    assert (built.test == batches["cifar10-test"][0].reshape(-1, 3, 32, 32)).all()
    assert variant("cifar10").labels(asked).tolist() == [n for pin in TRAIN for n in batches[pin][1]][:18]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (python2_pickle([1, 2], pixels(2, 3071)), r"batch-1: 2 labels and images of uint8 and shape \(2, 3071\)"),
        (python2_pickle([1], pixels(2, 3072)), r"batch-1: 1 labels"),
        (b"\x80\x02}.", "batch-1: not a batch of CIFAR-10"),
        (b"\x80\x02K\x01.", "batch-1: not a batch of CIFAR-10"),
        (b"", "batch-1: a broken pickle"),
    ],
)
def test_a_batch_that_is_none_is_one_line(tmp_path, content, complaint):
    _, paths = write_cifar10(tmp_path)
    paths["cifar10-batch-1"].write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        variant("cifar10").build(request("cifar10", (18, 2, 4), paths))


def write_tar(path, images):
    """As published: a folder of PNG files, not in the order of their numbers."""
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo(path.stem)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, image in enumerate(images):
            content = image if isinstance(image, bytes) else png(image)
            entry = tarfile.TarInfo(f"{path.stem}/{len(images) - number:07d}.png")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def write_zip(path, batches, compression=zipfile.ZIP_DEFLATED, name="data"):
    """As published: a folder of npz files with data, labels and mean; here in an order that is not theirs."""
    with zipfile.ZipFile(path, "w", compression) as opened:
        for number in sorted(batches, key=str):
            stream = io.BytesIO()
            rows = batches[number].reshape(len(batches[number]), -1)
            save = np.savez_compressed if number % 2 else np.savez
            save(stream, **{name: rows}, labels=np.arange(len(rows)), mean=rows.mean(0))
            opened.writestr(f"{path.stem}/train_data_batch_{number}.npz", stream.getvalue())
    return path


def collected(blocks):
    """The blocks put together, as ``write_splits`` would."""
    parts = {split: [] for split in Splits._fields}
    for split, rows in blocks:
        parts[split].append(rows)
    return Splits(*(np.concatenate(part) for part in parts.values()))


@pytest.fixture(params=["imagenet32-old", "imagenet64-old", "imagenet32-new", "imagenet64-new"])
def release(request):
    return request.param


def write_release(name, folder, train, test):
    """Raw files of a release, by pin."""
    *pins, last = variant(name).pins
    if name.endswith("old"):
        return {pins[0]: write_tar(folder / "train.tar", train), last: write_tar(folder / "valid.tar", test)}
    parts = np.array_split(train, 11)
    halves = [{k: parts[k] for k in numbers} for numbers in np.array_split(range(11), len(pins))]
    paths = {pin: write_zip(folder / f"{pin}.zip", half) for pin, half in zip(pins, halves, strict=True)}
    return paths | {last: write_zip(folder / "val.zip", {1: test}, zipfile.ZIP_STORED)}


def sides(name):
    return datasets.describe(name).shape


def test_every_128th_training_image_is_validation(tmp_path, monkeypatch, release):
    monkeypatch.setattr(imagenet, "BLOCK", 17)
    train, test = pixels(260, *sides(release)), pixels(5, *sides(release))
    asked = request(release, (258, 2, 5), write_release(release, tmp_path, train, test))
    built = collected(variant(release).build(asked))
    assert (built.val == train[[127, 255]]).all()
    assert (built.train == np.delete(train, [127, 255], 0)).all()
    assert (built.test == test).all()


def test_published_sizes_are_all_there_is():
    totals = {"old": (1_281_149, 49_999), "new": (1_281_167, 50_000)}
    for release, side in itertools.product(totals, (32, 64)):
        train, val, test = datasets.describe(f"imagenet{side}-{release}").sizes
        assert (train + val, test) == totals[release]
        assert val == sum(i % 128 == 127 for i in range(train + val))


def test_the_releases_say_that_they_do_not_compare():
    for side in (32, 64):
        for mine, other in (("old", "new"), ("new", "old")):
            info = datasets.describe(f"imagenet{side}-{mine}")
            assert any(f"imagenet{side}-{other}" in hazard and "do not compare" in hazard for hazard in info.hazards)


def test_reading_stops_when_there_are_enough(tmp_path, monkeypatch, release):
    """What comes later is not looked at: it is broken here, and the second archive is not even there."""
    monkeypatch.setattr(imagenet, "BLOCK", 32)
    train, test = pixels(170, *sides(release)), pixels(7, *sides(release))
    paths = write_release(release, tmp_path, train, test)
    *pins, last = variant(release).pins
    if release.endswith("old"):
        write_tar(paths[pins[0]], [*train, b"no image"])
    if len(pins) > 1:
        paths[pins[0]] = write_zip(tmp_path / "first.zip", {1: train})
        del paths[pins[1]]
    built = collected(variant(release).build(request(release, (20, 1, 3), paths)))
    assert (built.train == train[:20]).all() and (built.val == train[127]).all() and (built.test == test[:3]).all()


def test_too_few_images_are_one_line(tmp_path, release):
    paths = write_release(release, tmp_path, pixels(130, *sides(release)), pixels(5, *sides(release)))
    with pytest.raises(UserError, match=f"{release}: the archives hold too few images, missing 1 of train, 2 of test"):
        list(variant(release).build(request(release, (130, 1, 7), paths)))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (pixels(3, 31, 32), r"train.tar: train/0000001.png: 32x31 pixels, expected 32x32"),
        (b"no image", r"train.tar: train/0000001.png: not a readable image"),
        (png(pixels(3, 32, 32))[:-40], r"train.tar: train/0000001.png: not a readable image"),
    ],
)
def test_a_wrong_image_is_named(tmp_path, image, complaint):
    paths = {"imagenet32-old-train": write_tar(tmp_path / "train.tar", [*pixels(3, 3, 32, 32), image])}
    with pytest.raises(UserError, match=complaint):
        list(variant("imagenet32-old").build(request("imagenet32-old", (9, 1, 1), paths)))


def test_a_wrong_batch_is_named(tmp_path):
    def build():
        return list(variant("imagenet32-new").build(request("imagenet32-new", (9, 1, 1), paths)))

    path = tmp_path / "train.zip"
    paths = {"imagenet32-new-train": path}
    wrong = {
        "12288 values an image, expected 3072": {"batches": {1: pixels(2, 3, 64, 64)}},
        r"is of int64 and shape \(2, 3072\), expected uint8": {"batches": {1: np.zeros((2, 3072), int)}},
        "there is no array data": {"batches": {1: pixels(2, 3, 32, 32)}, "name": "images"},
    }
    for complaint, what in wrong.items():
        write_zip(path, **what)
        with pytest.raises(UserError, match=f"train.zip: train/train_data_batch_1.npz: .*{complaint}"):
            build()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="train.zip: a broken archive"):
        build()


def test_a_cut_off_tar_is_one_line(tmp_path):
    path = write_tar(tmp_path / "train.tar", pixels(9, 3, 32, 32))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match="train.tar"):
        list(variant("imagenet32-old").build(request("imagenet32-old", (9, 1, 1), {"imagenet32-old-train": path})))


@pytest.mark.parametrize(("release", "held"), [("imagenet64-old", 0), ("imagenet64-new", 1)])
def test_only_a_block_or_two_are_in_memory(tmp_path, monkeypatch, release, held):
    """In units of what is read at a time; of a zip also one batch, as it is stored."""
    monkeypatch.setattr(imagenet, "BLOCK", 16)
    train, test = pixels(550, 3, 64, 64), pixels(20, 3, 64, 64)
    paths = write_release(release, tmp_path, train, test)
    block, batch, total = 16 * train[0].nbytes, train.nbytes / 11, train.nbytes
    build = variant(release).build
    collected(build(request(release, (20, 0, 1), paths)))  # imports and caches are not counted
    blocks = build(request(release, (546, 4, 20), paths))
    del train
    tracemalloc.start()
    try:
        seen = sum(len(rows) for _, rows in blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 570
    assert peak < 4 * block + 1.5 * held * batch < total / 2


def test_frey_faces_are_the_columns_of_a_matrix(tmp_path):
    frames = pixels(20, 28, 20)
    savemat(tmp_path / "faces.mat", {"ff": np.stack([frame.ravel() for frame in frames], 1)})
    assert (frey_faces.read_faces(tmp_path / "faces.mat") == frames[:, None]).all()
    built = variant("frey-faces").build(request("frey-faces", (12, 4, 4), {"frey-faces": tmp_path / "faces.mat"}))
    assert [len(rows) for rows in built] == [12, 4, 4]
    shuffled = [frame.tobytes() for rows in built for frame in rows]
    assert sorted(shuffled) == sorted(frame.tobytes() for frame in frames)
    assert shuffled != [frame.tobytes() for frame in frames]


def test_a_matrix_of_something_else_is_one_line(tmp_path):
    path = tmp_path / "faces.mat"
    for content in ({"ff": pixels(561, 3)}, {"ff": np.zeros((560, 3))}, {"gg": pixels(560, 3)}):
        savemat(path, content)
        with pytest.raises(UserError, match=r"faces.mat: (ff is|no MATLAB file with a matrix ff)"):
            frey_faces.read_faces(path)
    savemat(path, {"ff": pixels(560, 9)}, do_compression=True)
    whole = path.read_bytes()
    for content in (b"", b"not a matrix at all" * 20, whole[:100], whole[:-400]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"faces.mat: no MATLAB file"):
            frey_faces.read_faces(path)


def test_real_cifar10(mirror):
    asked = Request("cifar10", (45_000, 5_000, 10_000), 0, lambda pin: mirror / read_pin(pin).path)
    built, labels = variant("cifar10").build(asked), variant("cifar10").labels(asked)
    assert [len(rows) for rows in built] == [45_000, 5_000, 10_000]
    images = np.concatenate([built.train, built.val])
    counts = [np.bincount(images[:, colour].ravel(), minlength=256) / images[:, 0].size for colour in range(3)]
    value = np.arange(256) / 255
    mean = np.array([share @ value for share in counts])
    std = [np.sqrt(share @ (value - m) ** 2) for share, m in zip(counts, mean, strict=True)]
    assert mean.round(4).tolist() == [0.4914, 0.4822, 0.4465]
    assert np.round(std, 4).tolist() == [0.2470, 0.2435, 0.2616]
    assert len(labels) == 45_000 and np.abs(np.bincount(labels) - 4_500).max() < 100


def test_real_frey_faces_stand_upright(mirror, tmp_path):
    """Between light forehead and chin lie dark eyes and a dark mouth, in rows; the face is symmetric in columns."""
    folder = datasets.prepare("frey-faces", store=Store(tmp_path / "raw", mirror), out=tmp_path / "out", seed=0)
    found = datasets.load(folder)
    assert [len(rows) for rows in (found.train, found.val, found.test)] == [1_565, 200, 200]
    face = found.train.double().mean((0, 1))[:, 4:16]
    rows = face.mean(1)
    eyes = rows[5:11].argmin() + 5
    assert rows[eyes] < rows[:4].mean() - 10 and rows[eyes] < rows[12:16].mean() - 10
    assert (
        np.corrcoef(face.ravel(), face.flip(1).ravel())[0, 1]
        > 0.8
        > np.corrcoef(face.ravel(), face.flip(0).ravel())[0, 1]
    )
