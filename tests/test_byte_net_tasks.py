"""ByteNet's entries: numbers in words and digits, characters of translations, bytes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.trainers.data import libreoffice_help
from ponderzoo.trainers.tasks._character_pairs import END, UNKNOWN, saliency
from ponderzoo.trainers.tasks.number_words import number_words
from small import small_model, small_task


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "enwik8").write_bytes(b"The [[history]] of the world, as it is told.\n" * 200)
    libreoffice_help.sample(folder)
    return str(folder)


def small(name, root="", **config):
    """An entry's task and its model, small and untrained."""
    keras.utils.set_random_seed(0)
    task = small_task(name, **({"root": root} if root else {}))
    return task, small_model(name, task, **config)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (305, "three hundred five"),
        (99_999, "ninety-nine thousand nine hundred ninety-nine"),
        (110_000, "one hundred ten thousand"),
    ],
)
def test_numbers_in_words(number, words):
    assert number_words(number) == words


@pytest.mark.parametrize("to_words", [False, True])
def test_held_out_numbers_are_never_trained_on(to_words):
    task = trainers.task("number_words", below=2000, to_words=to_words)
    splits = {name: set(task.pairs(name)) for name in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 2000
    assert all(70 < len(splits[name]) < 130 for name in ("validation", "test"))
    words, digits = zip(*(pair[:: -1 if to_words else 1] for pair in task.pairs()))
    assert [number_words(int(x)) for x in digits] == list(words)
    other = trainers.task("number_words", below=2000, to_words=not to_words)
    assert [pair[::-1] for pair in other.pairs("test")] == task.pairs("test")
    source, target = task.example[0], task.answers[0]
    assert task.solve(source) == target and task.solve("twelveteen") is None


def test_a_row_is_laid_with_its_end():
    task = trainers.task("number_words", below=100)
    inputs, targets = task.code([("forty-two", "42"), ("one", "1")])
    assert task.read(inputs["source"][1, : inputs["lengths"][1]]) == "one"
    sizes = inputs["source"].shape[1], inputs["target"].shape[1]
    assert sizes == (task.longest[0], task.longest[1] + 1) == (13, 3)
    four, two = (task.alphabet.index(c) for c in "42")
    np.testing.assert_array_equal(inputs["target"][0], [END, four, two])
    np.testing.assert_array_equal(targets["character"][0], [four, two, END])
    np.testing.assert_array_equal(targets["character"][1, 1:], [END, -1])


@pytest.mark.parametrize("name", ["bytenet_numbers", "bytenet_number_words"])
def test_unfolding_of_the_entries_is_that_of_their_data(name):
    entry = zoo.info(name)
    task = zoo.task_of(entry)
    assert task.unfolding() == (entry.config["ratio"], entry.config["extra"])
    net = entry.build(task, **entry.config).get_layer("net")
    source, target = np.array([[len(x) for x in pair] for pair in task.pairs("test")]).T
    assert np.mean(target + 1 <= net.unfolded(source)) >= 0.98


def test_greedy_decoding_is_right_where_every_character_is():
    """So the share of rows with an error is that of texts that are said wrongly."""
    task, model = small("bytenet_numbers")
    pairs = task.pairs("test") + task.pairs()[:20]
    said = task.translate(model, [source for source, _ in pairs], batch_size=8)
    again, _ = task.code([(source, text) for (source, _), text in zip(pairs, said)])
    for row, text in enumerate(said):
        length = min(len(text) + 1, again["target"].shape[1])
        inputs = {name: x[row : row + 1] for name, x in again.items()}
        found = np.argmax(model(inputs)["character"][0, :length], axis=-1)
        assert task.read(found[: len(text)]) == text
        if length > len(text):
            assert found[-1] == END or len(text) == task.longest[1]


def test_characters_are_those_of_the_pairs_of_the_task_on_words(root):
    task = trainers.task("character_translation", root=root)
    words = trainers.task("translation", root=root)
    for split in ("train", "test"):
        expected = [tuple(" ".join(text) for text in pair) for pair in words.pairs(split)]
        assert task.pairs(split) == expected
    inputs, targets = task.batch(np.random.default_rng(0), 8)
    assert inputs["source"].shape[1] % 50 == inputs["target"].shape[1] % 50 == 0
    pairs = set(task.pairs())
    for row, length in enumerate(inputs["lengths"]):
        right = targets["character"][row]
        pair = inputs["source"][row, :length], right[right >= 0][:-1]
        assert tuple(map(task.read, pair)) in pairs
    inputs, _ = task.code([("ᚠx", "x")])
    assert inputs["source"][0, 0] == UNKNOWN


def asked(model, signature, **inputs):
    """What a signature answers, in a graph."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return {k: np.asarray(x) for k, x in tf.function(signature.function)(**tensors).items()}


def test_what_a_beam_says_is_worth_what_score_says():
    task, model = small("bytenet_numbers", combination="concatenate")
    signatures = zoo.info("bytenet_numbers").signatures(model, task)
    text = ["forty-two", "one"]
    found = asked(model, signatures["serve"], text=text)
    assert np.all(np.diff(found["hypothesis_log_probabilities"][~found["truncated"]], axis=1) < 0)
    for row in np.flatnonzero(~found["truncated"]):
        said = found["translation"][row]
        if said and not {"<"} & set(said.decode()):
            told = asked(model, signatures["score"], text=text[row : row + 1], translation=[said])
            np.testing.assert_allclose(
                told["bits"][0] * -np.log(2), found["log_probability"][row], rtol=1e-4
            )
            parts = told["log_probabilities"][0]
            np.testing.assert_allclose(
                found["log_probabilities"][row, : len(parts)], parts, atol=1e-4
            )


def test_unknown_characters_are_refused_where_all_are_known():
    task, model = small("bytenet_numbers")
    serve = zoo.info("bytenet_numbers").signatures(model, task)["serve"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="text must be of the characters"):
        serve.function(tf.constant(["forty!"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="text must have 1 to"):
        serve.function(tf.constant([""]))


def test_saliency_is_the_gradient_and_sees_nothing_that_comes_later(tmp_path):
    task, model = small("bytenet_numbers")
    pair = "forty-two", "42"
    source, target = saliency(model, task, pair)
    assert source.shape == (3, 9) and target.shape == (3, 3)
    assert not np.any(np.triu(target, 1)) and np.all(np.diag(target) > 0)
    # A vector moved a little along one of its numbers: no more than the norm says.
    words = model.get_layer("source_words")
    place = task.alphabet.index("w")
    inputs, targets = task.code([pair])

    def chance():
        logp = tf.nn.log_softmax(model(inputs)["character"][0, 1])
        return float(logp[targets["character"][0, 1]])

    before, vectors, slopes = chance(), words.vectors.numpy(), []
    for number in range(vectors.shape[1]):
        moved = vectors.copy()
        moved[place, number] += 1e-2
        words.vectors.assign(moved)
        slopes.append((chance() - before) / 1e-2)
    np.testing.assert_allclose(np.linalg.norm(slopes), source[1, 7], rtol=0.1, atol=1e-3)
    words.vectors.assign(vectors)
    signature = zoo.info("bytenet_numbers").signatures(model, task)["saliency"]
    asked_at = asked(
        model, signature, text=[pair[0]] * 2, translation=[pair[1]] * 2, position=[1, 2]
    )
    np.testing.assert_allclose(asked_at["source_norms"], source[1:], rtol=1e-4, atol=1e-6)
    assert "saliency" in task.figures(model)
    model.save(tmp_path / "model.keras")  # which what was asked of its graph must not hinder


def test_characters_with_too_little_context_are_read_and_not_scored(root):
    task = trainers.task("characters", root=root, length=30, context=10)
    inputs, targets = task.batch(np.random.default_rng(0), 4)
    assert np.all(targets["next"][:, :10] == -1)
    np.testing.assert_array_equal(targets["next"][:, 10:-1], inputs["sequence"][:, 11:])
    with pytest.raises(ValueError, match="context must be less than the length of 30, got 30"):
        trainers.task("characters", length=30, context=30)


def test_compression_counts_what_has_its_context(root):
    from ponderzoo.trainers.tasks.characters import compression

    task, model = small("bytenet_wikipedia", root)
    found = compression(model, task, size=50, window=12, context=4)
    text, bits = task.text("test"), []
    assert found["bytes"] == 48
    for place in range(4, 4 + 48):
        row = (place - 4) // 8 * 8
        read = text[row : place + 1].astype("int32")[None]
        logp = tf.nn.log_softmax(model({"sequence": read})["next"][0, -1]) / np.log(2)
        bits.append(-float(logp[text[place + 1]]))
    np.testing.assert_allclose(found["bits_per_character"], np.mean(bits), rtol=1e-5)


def test_a_text_by_steps_with_queues_is_the_text_as_a_whole(root):
    task, model = small("bytenet_wikipedia", root)
    signatures = zoo.info("bytenet_wikipedia").signatures(model, task)
    text = b"The history of [[" * 3
    bits = asked(model, signatures["score"], text=[text])["bits"][0]
    state = {k: tf.constant(v[:1]) for k, v in signatures["step"].sample.items() if k != "code"}
    assert [x.shape[1] for x in state.values()] == [2, 4]
    for place, code in enumerate(text[:-1]):
        answer = signatures["step"].function(code=tf.constant([code]), **state)
        state = {name: answer[f"next_{name}"] for name in state}
        chance = float(answer["probabilities"][0, text[place + 1]])
        np.testing.assert_allclose(-np.log2(chance), bits[place + 1], rtol=1e-4)


def test_the_baseline_has_as_many_weights():
    counts = []
    for machine in ("bytenet", "lstm"):
        model = zoo.build("bytenet_wikipedia", machine=machine)
        counts.append(model.get_layer("decoder").count_params())
    assert counts[0] < 0.9e6 and counts[1] == pytest.approx(counts[0], rel=0.03)
    with pytest.raises(ValueError, match="machine must be bytenet or lstm, got 'gru'"):
        zoo.build("bytenet_wikipedia", machine="gru")
