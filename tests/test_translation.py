"""The Reencoder and translation: the grid, the pairs, the task, and what is served."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from ponderzoo import trainers
from ponderzoo.layers import Reencoder, Words
from ponderzoo.trainers import data
from ponderzoo.trainers.data import libreoffice_help
from ponderzoo.trainers.tasks import _text, translation
from ponderzoo.zoo import grid_lstm
from ponderzoo.zoo.signatures import translation as serving

UNITS = 3
LENGTHS = [4, 1, 0, 2]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_transform(kernel, bias, seen, memory, paper):
    u, f, o, c = np.split(seen @ kernel + bias, 4)
    memory = sigmoid(f) * memory + sigmoid(u) * np.tanh(c)
    return (np.tanh(sigmoid(o) * memory) if paper else sigmoid(o) * np.tanh(memory)), memory


def plain_grid(layer, source, target):
    """One source, one target, one block after the other: sections 3.1, 3.2 and 3.4."""
    words = np.split(source @ np.asarray(layer.source_projection.kernel), 2, axis=-1)
    begin = np.split(target @ np.asarray(layer.target_projection.kernel), 2, axis=-1)
    nothing = np.zeros(UNITS), np.zeros(UNITS)
    depth = {(t, s): nothing for t in range(len(target)) for s in range(len(source))}
    for number in range(layer.layers):
        cell = layer.cells[0 if layer.tied else number]
        weights = [(np.asarray(k), np.asarray(b)) for k, b in zip(cell.kernels, cell.biases)]
        paper = cell.hidden_form == "paper"
        order = range(len(source))[:: -1 if number % 2 else 1]
        along_target = {s: (words[0][s], words[1][s]) for s in order}
        left, ends = {}, []
        for t in range(len(target)):
            along_source, end = (begin[0][t], begin[1][t]), nothing
            for s in order:
                seen = [depth[t, s][0], along_target[s][0], along_source[0]]
                seen = np.concatenate(seen)
                up = plain_transform(*weights[1], seen, along_target[s][1], paper)
                on = plain_transform(*weights[2], seen, along_source[1], paper)
                seen = np.concatenate([depth[t, s][0], up[0], on[0]])
                end = left[t, s] = plain_transform(*weights[0], seen, depth[t, s][1], paper)
                along_target[s], along_source = up, on
            ends.append(np.concatenate([*along_source, *end]))
        depth = left
    return np.array(ends)


def grid(source=4, target=3, dtype="float64", **settings):
    """A built layer whose biases are not zero, and what it reads."""
    keras.utils.set_random_seed(0)
    normal = keras.initializers.RandomNormal(stddev=0.5)
    settings = {"kernel_initializer": normal, "bias_initializer": normal, **settings}
    layer = Reencoder(UNITS, dtype=dtype, **settings)
    rng = np.random.default_rng(0)
    read = rng.normal(size=(len(LENGTHS), source, 5)).astype(dtype)
    said = rng.normal(size=(len(LENGTHS), target, 6)).astype(dtype)
    layer(read, said)
    return layer, read, said


@pytest.mark.parametrize(
    "settings",
    [{"layers": 1}, {}, {"layers": 3, "tied": True, "hidden_form": "lstm"}],
    ids=str,
)
@pytest.mark.parametrize("steps", [(4, 3), (1, 3), (4, 1), (1, 1)], ids=str)
def test_the_grid_is_its_blocks_one_after_the_other(settings, steps):
    layer, read, said = grid(*steps, **settings)
    lengths = np.minimum(LENGTHS, steps[0])
    found = np.asarray(layer(read, said, lengths))
    assert found.shape == (4, steps[1], 4 * UNITS)
    for row, length in enumerate(lengths):
        expected = plain_grid(layer, read[row, :length], said[row])
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-11)
    alone = layer(read[3:, : lengths[3]], said[3:])
    np.testing.assert_allclose(alone, found[3:], rtol=0, atol=1e-11)


def test_a_place_depends_on_the_target_so_far_and_on_the_whole_source():
    layer, read, said = grid()
    read, said = map(tf.constant, (read, said))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([read, said])
        output = layer(read, said, np.array(LENGTHS), training=True)
        places = [tf.reduce_sum(tf.sin(output[:, t])) for t in range(3)]
    for t, place in enumerate(places):
        by_source, by_target = (np.abs(g).sum(axis=-1) for g in tape.gradient(place, [read, said]))
        real = np.arange(4) < np.array(LENGTHS)[:, None]
        np.testing.assert_array_equal(by_source > 0, real)
        assert (by_target[:, t] > 0).all() and not by_target[:, t + 1 :].any()
        assert (by_target[np.array(LENGTHS) > 0, :t] > 0).all()
        assert not by_target[2, :t].any(), "with nothing to read nothing is remembered"


def test_what_stands_behind_a_source_is_not_read():
    layer, read, said = grid()
    expected = layer(read, said, np.array(LENGTHS))
    read[np.arange(4) >= np.array(LENGTHS)[:, None]] = 1e6
    np.testing.assert_array_equal(layer(read, said, np.array(LENGTHS)), expected)


def test_an_empty_source_or_target_is_answered_in_shape():
    layer, read, said = grid()
    assert layer(read, said[:, :0]).shape == (4, 0, 4 * UNITS)
    assert layer(read[:0], said[:0]).shape == (0, 3, 4 * UNITS)
    expected = layer(read, said, np.zeros(4, "int32"))
    np.testing.assert_array_equal(layer(read[:, :0], said), expected)


def test_shapes_may_be_unknown_and_xla_gives_the_same():
    layer, read, said = grid(dtype="float32")
    expected = layer(read, said, np.array(LENGTHS))
    spec = [tf.TensorSpec((None, None, n), "float32") for n in (5, 6)]
    spec.append(tf.TensorSpec((None,), "int32"))
    free = tf.function(lambda *x: layer(*x, training=True), input_signature=spec)
    lengths = tf.constant(LENGTHS)
    np.testing.assert_allclose(free(read, said, lengths), expected, atol=2e-6)
    assert free(read[:, :0], said, 0 * lengths).shape == (4, 3, 4 * UNITS)
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(read, said, lengths), expected, atol=2e-6)


JAX = """
import sys, jax, keras, numpy as np
from keras import ops
from test_translation import LENGTHS, grid

layer, read, said = grid(dtype="float32")
def loss(weights):
    with keras.StatelessScope(list(zip(layer.trainable_variables, weights))):
        return ops.sum(ops.sin(layer(read, said, np.array(LENGTHS), training=True)))
weights = [v.value for v in layer.trainable_variables]
value, gradients = jax.jit(jax.value_and_grad(loss))(weights)
np.savez(sys.argv[1], *map(np.asarray, [*weights, value, *gradients]))
"""


def test_jax_gives_the_same_numbers(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    fresh(JAX, tmp_path / "answers.npz", backend="jax")
    arrays = list(np.load(tmp_path / "answers.npz").values())
    layer, read, said = grid(dtype="float32")
    count = len(layer.trainable_variables)
    layer.set_weights(arrays[:count])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.sin(layer(read, said, np.array(LENGTHS), training=True)))
    gradients = tape.gradient(value, layer.trainable_variables)
    for found, expected in zip(arrays[count:], [value, *gradients], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match=r"units must be a whole number from 1 on; got 0"):
        Reencoder(0)
    with pytest.raises(ValueError, match=r"needs a target of shape .* got \(2, 3\)"):
        Reencoder(2)(np.zeros((2, 3, 1)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="each once; got 2, 1 of them distinct"):
        Words(["a", "a"])


# The pairs.

PAGE = """<html lang="{0}"><h1 id="hd_1" dir="auto">{1}</h1>
<p id="par_2" class="paragraph" dir="auto">{2} <span class="emph">A &amp; B</span>.</p>
<p id="par_3" class="paragraph">LibreOffice</p>
<p id="par_4" class="paragraph">{1}<span hidden="true" class="MAC">Command</span></p>
<p id="par_5{0}" class="paragraph">{1} {2}</p><p id="par_6">1.</p><p>{0}</p></html>
"""


@pytest.fixture
def debian(monkeypatch, tmp_path):
    """Programs in the place of apt-get and dpkg, for two packages of two pages."""
    tree = tmp_path / "tree"
    words = {"de": ("Datei  öffnen", "Wählen Sie"), "en-US": ("Open\nFile", "Choose")}
    for language, (one, two) in words.items():
        folder = tree / libreoffice_help.PAGES.format(language) / "shared"
        folder.mkdir(parents=True)
        for name in ("one", "two"):
            (folder / f"{name}.html").write_text(PAGE.format(language, one, two))
    (folder / "three.html").write_text(PAGE.format("en-US", "Alone", "Alone"))
    programs = {
        "apt-get": f"""shift
            echo "$@" >> {tmp_path}/asked
            for name; do touch ${{name}}_7.4_all.deb; done""",
        "dpkg": f'cp -r {tree}/. "$3"',
    }
    for name, line in programs.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(libreoffice_help, "FEWEST", 2)


def test_fetch_pairs_what_has_one_id_and_stores_it_once(debian, tmp_path):
    cache = tmp_path / "cache"
    assert "libreoffice_help" in data.list() and not libreoffice_help.available(cache)
    file = data.fetch("libreoffice_help", cache)
    assert file == libreoffice_help.path(cache) and libreoffice_help.available(cache)
    pairs = [("Datei öffnen", "Open File"), ("Wählen Sie A & B.", "Choose A & B.")]
    assert libreoffice_help.load(file) == pairs
    assert data.fetch("libreoffice_help", cache) == file
    asked = (tmp_path / "asked").read_text()
    assert asked == "libreoffice-help-de libreoffice-help-en-us\n", "asked once"


def test_fetch_refuses_too_few_pairs_and_leaves_nothing(debian, monkeypatch, tmp_path):
    monkeypatch.setattr(libreoffice_help, "FEWEST", 3)
    with pytest.raises(ValueError, match=r"expected 3 pairs or more in .*-de and .*, got 2"):
        libreoffice_help.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_line_of_another_form_is_told(tmp_path):
    (tmp_path / "pairs").write_text("ein\tone\nzwei\n")
    with pytest.raises(ValueError, match=r"line 2 of .* must be source<TAB>target; got 'zwei'"):
        libreoffice_help.load(str(tmp_path / "pairs"))


# The task.


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    libreoffice_help.sample(folder)
    return str(folder)


@pytest.fixture
def task(root):
    return trainers.task("translation", root=root, words=90)


class Mirror:
    """Stands in for a model: knows the language of the sample."""

    def __init__(self, task):
        self.task = task
        self.words = task.vocabulary("target")

    def predict_on_batch(self, inputs):
        logits = np.zeros((*inputs["target"].shape, self.task.words))
        for row, length in enumerate(inputs["lengths"]):
            text = self.task.read("source", inputs["source"][row, :length]).split()
            said = [word[::-1].upper() for word in text[::-1]]
            places = [self.words.index(w) if w in self.words else 1 for w in said] + [0]
            logits[row, np.arange(length + 1), places] = 9.0
        return {"word": logits}


def test_words_and_marks_are_told_apart():
    said = translation.tokens("Öffnet «Datei_1»  (neu)…")
    assert said == ["Öffnet", "«", "Datei_1", "»", "(", "neu", ")", "…"]


def test_a_target_is_read_one_word_late_and_scored_with_its_end(tmp_path):
    file = tmp_path / "pairs"
    file.write_text("Ein Haus\tA house\nEin Haus\tOne house .\nDas Haus\tThe house\n" * 2)
    sources = {"ein haus", "das haus"}
    assert {translation._split(source) for source in sources} == {"train"}
    task = trainers.task("translation", root=str(file), words=6, longest=3)
    assert task.vocabulary("source") == ["<end>", "<unk>", "haus", "ein", "das", "<0>"]
    assert task.vocabulary("target") == ["<end>", "<unk>", "house", ".", "A", "One"]
    inputs, targets = task.code(task.pairs())
    assert inputs["source"].tolist() == [[3, 2, 0], [4, 2, 0], [3, 2, 0]]
    assert inputs["lengths"].tolist() == [2, 2, 2]
    assert inputs["target"].tolist() == [[0, 4, 2, 0], [0, 1, 2, 0], [0, 5, 2, 3]]
    assert targets["word"].tolist() == [[4, 2, 0, -1], [1, 2, 0, -1], [5, 2, 3, 0]]
    with pytest.raises(
        ValueError, match=r"train split of .* has no pair with words .* from 1 to 1"
    ):
        task.batch(np.random.default_rng(0), 2, 1)


def test_no_source_is_in_two_splits(task):
    splits = [{pair[0] for pair in task.pairs(s)} for s in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) and all(splits)
    assert len(splits[0]) > 8 * max(map(len, splits[1:]))


def test_easy_rows_are_short(task):
    for difficulty, exact in ((2, True), ((1, 3), False)):
        high = difficulty if exact else difficulty[1]
        inputs, targets = task.batch(np.random.default_rng(0), 50, difficulty)
        assert inputs["source"].shape == (50, high)
        assert targets["word"].shape == inputs["target"].shape == (50, high + 1)
        assert set(inputs["lengths"]) == ({2} if exact else {1, 2, 3})
    assert task.batch(np.random.default_rng(0), 0)[1]["word"].shape == (0, 9)


def test_who_knows_the_language_translates_it(task):
    model = Mirror(task)
    inputs, targets = task.batch(np.random.default_rng(0), 20)
    said = task.translate(model, inputs["source"], inputs["lengths"])
    assert said == [[w for w in row if w > 0] for row in targets["word"].tolist()]
    shown = task.describe(inputs, targets, model.predict_on_batch(inputs))
    assert all("(ok)" in line for line in shown)
    values = translation.influence(model, task, task.pairs("test")[-1])
    assert values.shape == (9, 8) and (np.abs(values) > 1).sum() == 8, "a word for a word"
    figures = task.figures(model)
    assert figures.keys() == {"influence"}
    assert all(isinstance(figure, Figure) for figure in figures.values())


def test_bleu_of_what_is_right_is_100(task):
    pytest.importorskip("sacrebleu")
    report = task.report(Mirror(task), rows=30)
    assert report["greedy_decoding"]["bleu_4"] == pytest.approx(100)
    assert report["greedy_decoding"]["translations"] == min(30, len(task.pairs("test")))


def test_missing_pairs_name_the_remedies_and_a_model_is_built_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    task = trainers.task("translation", words=4)
    with pytest.raises(FileNotFoundError, match=r"data fetch libreoffice_help.*root="):
        task.batch(np.random.default_rng(0), 2)
    assert task.vocabulary("target") == ["<end>", "<unk>", "<0>", "<1>"]
    inputs = task.inputs_without_data(np.random.default_rng(0), 3)
    assert {k: (v.shape, v.dtype.name) for k, v in inputs.items()} == {
        "source": ((3, 8), "int32"),
        "lengths": ((3,), "int32"),
        "target": ((3, 9), "int32"),
    }


# Served.


@pytest.fixture(scope="module")
def small(root):
    """Task and untrained model of each machine."""
    task = trainers.task("translation", root=root, words=90)
    keras.utils.set_random_seed(1)
    return task, {
        machine: grid_lstm.build_translation(task, machine, 4, 2, 0.1)
        for machine in ("grid", "baseline")
    }


@pytest.mark.parametrize("machine", ["grid", "baseline"])
def test_a_word_is_said_before_it_is_read(small, machine):
    task, models = small
    inputs, _ = task.batch(np.random.default_rng(0), 6)
    before = models[machine](inputs)["word"]
    changed = {**inputs, "target": inputs["target"].copy()}
    changed["target"][:, 4:] = 2
    changed["source"] = np.where(
        np.arange(8) < inputs["lengths"][:, None], inputs["source"], 3
    ).astype("int32")
    np.testing.assert_allclose(models[machine](changed)["word"][:, :4], before[:, :4], atol=1e-6)


def test_served_texts_are_translated_as_the_task_does(small):
    task, models = small
    model = models["grid"]
    inputs, _ = task.batch(np.random.default_rng(0), 5)
    texts = [
        task.read("source", row[:n]).title() for row, n in zip(inputs["source"], inputs["lengths"])
    ]
    signatures = serving.signatures(model, task, {})
    served = signatures["serve"].function(tf.constant(texts))
    said = task.translate(model, inputs["source"], inputs["lengths"])
    expected = [task.read("target", row) for row in said]
    assert [text.decode() for text in served["translation"].numpy()] == expected
    full = np.zeros((5, 9), "int32")
    for row, words in zip(full, said):
        row[1 : 1 + len(words)] = words
    logits = np.float64(model({**inputs, "target": full})["word"])
    nats = np.log(np.exp(logits).sum(axis=-1, keepdims=True)) - logits
    for bits, row, words in zip(served["bits"].numpy(), nats, said):
        cost = row[np.arange(len(words) + 1), [*words, 0]].sum()
        assert bits == pytest.approx(cost / np.log(2), rel=1e-4)


def test_a_translation_s_cost_is_that_of_its_words_and_of_its_end(small):
    task, models = small
    score = serving.signatures(models["grid"], task, {})["score"].function
    pairs = task.pairs("test")[:4]
    texts = [[" ".join(pair[side]) for pair in pairs] for side in (0, 1)]
    scored = score(*map(tf.constant, texts))
    inputs, targets = task.code(pairs)
    cost = _text.costs(targets["word"], np.asarray(models["grid"](inputs)["word"]))
    np.testing.assert_allclose(scored["bits"], cost.sum(axis=1), rtol=1e-4)
    assert scored["words"].numpy().tolist() == [len(pair[1]) for pair in pairs]
    for wrong, words in (("", "must have 1 to 8 words"), ("a " * 9, "must have 1 to 8 words")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            score(tf.constant([wrong]), tf.constant(["a"]))


@pytest.mark.skipif(not libreoffice_help.available(), reason="fetch libreoffice_help first")
def test_the_graph_reads_all_characters_of_the_pairs_as_python_does():
    with open(libreoffice_help.path(), encoding="utf-8") as file:
        characters = sorted(set(file.read()) - {"\n", "\t"})
    text = " ".join(f"a{character}b{character}" for character in characters)
    spaced = tf.strings.regex_replace(text, *serving.BLANK)
    spaced = tf.strings.regex_replace(spaced, *serving.MARK)
    found = [token.decode() for token in tf.strings.split(spaced).numpy()]
    assert found == translation.tokens(text)
