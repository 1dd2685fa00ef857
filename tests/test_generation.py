"""Text of "Generating Sequences With Recurrent Neural Networks": what the paper claims of it."""

import dataclasses
import itertools
import os
from unittest import mock

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import AdaptiveWeightNoise, DeepLSTM, WeightNoise, Words
from ponderzoo.trainers._metrics import BitsPerCharacter, Perplexity
from ponderzoo.trainers._state import Stateful
from ponderzoo.trainers._weights import take_weights
from ponderzoo.trainers.data import sotu
from ponderzoo.trainers.tasks._running import Running
from ponderzoo.zoo.signatures._sampling import drawn
from small import small_model, small_task

# Adaptive weight noise.


def noisy(examples=50, dtype="float64", inner=None, inputs=3):
    layer = AdaptiveWeightNoise(
        inner or keras.layers.Dense(4, dtype=dtype), examples, seed=1, dtype=dtype
    )
    layer.build((None, inputs))
    rng = np.random.default_rng(0)
    for mean, log_stddev in zip(layer.layer.trainable_variables, layer.log_stddevs):
        mean.assign(rng.normal(size=mean.shape))
        log_stddev.assign(rng.uniform(-3, 0, size=mean.shape))
    return layer


def posterior(layer):
    """Means and standard deviations of all weights, one behind the other."""
    means, logs = (
        np.concatenate([np.ravel(v) for v in some])
        for some in (layer.layer.trainable_variables, layer.log_stddevs)
    )
    return means, np.exp(logs)


def divergence(mean, stddev, m, v):
    """In nats, of independent Gaussians from N(m, v) (Graves, 2011)."""
    return np.sum(np.log(np.sqrt(v) / stddev) + ((mean - m) ** 2 + stddev**2 - v) / (2 * v))


def test_complexity_is_the_least_divergence_from_any_prior():
    layer = noisy()
    mean, stddev = posterior(layer)
    best = scipy.optimize.minimize(
        lambda x: divergence(mean, stddev, x[0], np.exp(x[1])), [1.0, 1.0], tol=1e-12
    )
    np.testing.assert_allclose(layer.complexity(), best.fun, rtol=1e-9)
    samples = mean + stddev * np.random.default_rng(2).normal(size=(200_000, mean.size))
    m, v = best.x[0], np.exp(best.x[1])
    logs = np.log(np.sqrt(v) / stddev) - ((samples - mean) / stddev) ** 2 / 2
    drawn = np.sum(logs + (samples - m) ** 2 / (2 * v), axis=1)
    assert abs(np.mean(drawn) - best.fun) < 5 * np.std(drawn) / np.sqrt(len(drawn))


def gaussians(layer):
    """Means and logarithms of standard deviations of all weights, a row each, float64."""
    return np.float64(
        [np.concatenate([np.ravel(x) for x in some]) for some in zip(*layer.posterior)]
    )


def least_divergence(mean, log_stddev):
    """From the best prior."""
    variance = (np.exp(2 * log_stddev) + (mean - mean.mean()) ** 2).mean()
    return divergence(mean, np.exp(log_stddev), mean.mean(), variance)


def test_a_little_more_complexity_is_told_apart_from_much():
    layer = AdaptiveWeightNoise(keras.layers.Dense(200), examples=50)
    layer.build((None, 200))

    before, there = layer.posterior, least_divergence(*gaussians(layer))
    for variable in (*layer.layer.trainable_variables, *layer.log_stddevs):
        variable.assign_add(1e-5 * keras.random.normal(variable.shape, seed=1))
    gain = float(layer.complexity_gain(before))
    assert gain == pytest.approx(least_divergence(*gaussians(layer)) - there, rel=1e-3)
    assert there > 1e6 * abs(gain) > 0


def test_complexity_has_the_gradients_of_the_paper():
    layer = noisy()
    with tf.GradientTape() as tape:
        complexity = layer.complexity()
    variables = [*layer.layer.trainable_variables, *layer.log_stddevs]
    found = np.concatenate([np.ravel(g) for g in tape.gradient(complexity, variables)])
    mean, stddev = posterior(layer)
    m = mean.mean()
    v = np.mean(stddev**2 + (mean - m) ** 2)
    by_variance = (1 / v - 1 / stddev**2) / 2
    np.testing.assert_allclose(
        found, np.concatenate([(mean - m) / v, 2 * stddev**2 * by_variance]), rtol=1e-9
    )


def learn(layer, x, function=lambda step: step):
    """Output, losses and gradients of half the output's squares, the mean over rows."""

    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**2) / 2 / len(x)
        variables = [*layer.layer.trainable_variables, *layer.log_stddevs]
        return y, layer.losses, tape.gradient(loss, variables)

    return function(step)(tf.constant(x))


MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", MODES)
def test_weights_are_drawn_and_learn_by_the_squared_gradient(mode, dtype):
    rows = 1 if mode == "eager" else 3
    x = np.random.default_rng(3).normal(size=(rows, 3)).astype(dtype)
    y, (loss,), (kernel, bias, *logs) = learn(noisy(dtype=dtype), x, MODES[mode])
    same = noisy(dtype=dtype)  # whose generator begins again
    if mode == "eager":  # XLA has random numbers of its own
        drawn = [
            mean + np.exp(log) * same.noise(mean)
            for mean, log in zip(same.layer.trainable_variables, same.log_stddevs)
        ]
        np.testing.assert_allclose(y, x @ drawn[0] + drawn[1], rtol=1e-5)
    assert np.max(np.abs(y - same(x))) > 0.1
    np.testing.assert_allclose(kernel, x.T @ np.asarray(y) / rows, rtol=1e-4)
    np.testing.assert_allclose(bias, np.mean(y, axis=0), rtol=1e-4)
    for gradient, log, found in zip((kernel, bias), same.log_stddevs, logs):
        by_variance = rows * np.square(gradient) / 2
        np.testing.assert_allclose(found, 2 * np.exp(2 * np.asarray(log)) * by_variance, rtol=1e-4)
    np.testing.assert_allclose(loss, same.complexity() / 50, rtol=1e-5)


def test_the_mean_is_what_is_tested_and_what_an_inactive_layer_learns():
    layer, x = noisy(), np.ones((2, 3))
    exact = layer.layer(x)
    np.testing.assert_array_equal(layer(x), exact)
    assert not layer.losses
    layer.active.assign(0)
    y, (loss,), (*_, log, _) = learn(layer, x)
    np.testing.assert_array_equal(y, exact)
    assert loss == 0 and not np.any(log)


@pytest.mark.parametrize("bad", [{"examples": 0}, {"examples": 5, "stddev": 0.0}])
def test_impossible_noise_is_refused(bad):
    with pytest.raises(ValueError, match="must be more than 0; got 0"):
        AdaptiveWeightNoise(keras.layers.Dense(1), **bad)


# Text that runs on.

LENGTH, RESET, WORDS = 6, 3, 12


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A text of few words in the form of the Penn Treebank's files."""
    root = tmp_path_factory.mktemp("words")
    sotu.sample(root)
    return small_words(root)


def small_words(root):
    return trainers.task("running_words", root=str(root), words=WORDS, length=LENGTH, reset=RESET)


def network(task, regularizer="none", seed=0, **config):
    keras.utils.set_random_seed(seed)
    name = "generation_words" if task.name == "running_words" else "generation_wikipedia"
    config = {"units": 4, "layers": 2, "regularizer": regularizer, **config}
    model = small_model(name, task, **config)
    # Far enough from uniform that what was read matters.
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def stream_of(task, rows=3, epochs=8, steps=5):
    """Batches of several epochs, and their numbers."""
    stream = task.dataset("validation", rows, steps, seed=4)
    for epoch in range(epochs):
        stream.epoch = epoch
        yield from (stream[i] for i in range(steps))


def test_each_row_goes_on_where_it_stopped_and_begins_anew_at_resets_and_ends(task):
    batches = [*stream_of(task)]
    ends = 0  # of the text, which are no resets
    for update, ((before, said), (after, _)) in enumerate(itertools.pairwise(batches), 1):
        goes_on = said["next"][:, -1] == after["sequence"][:, 0]
        anew = after["begins"] == 1
        assert np.all(goes_on | anew) and np.all(anew | (update % RESET != 0))
        ends += np.sum(anew) * (update % RESET != 0)
        np.testing.assert_array_equal(before["sequence"][:, 1:], said["next"][:, :-1])
    assert 1 <= ends <= 3 and len(batches) > task.examples("validation") / 3


def test_rows_read_all_of_the_text(task):
    stream = task.dataset("validation", 3, 1, seed=4)
    count = task.examples("validation")
    seen = []
    for epoch in range(-(-count // 3) + 1):
        stream.epoch = epoch
        seen += stream[0][0]["sequence"].tolist()
    assert len({*map(tuple, seen)}) >= count - 2


def test_a_text_read_in_segments_is_a_text_read_at_once(task):
    model = network(task)
    reader, rng = Stateful(model, 2), np.random.default_rng(0)
    text = rng.integers(0, WORDS, (2, 3 * LENGTH))
    parts = np.split(text, 3, axis=1)
    begins = ([1, 1], [0, 0], [0, 1])  # in the end, the second row begins anew
    found = [
        reader({"sequence": part, "begins": np.array(begin)})["next"]
        for part, begin in zip(parts, begins)
    ]
    whole = model({"sequence": text})["next"]
    np.testing.assert_allclose(np.concatenate(found[:2], 1), whole[:, : 2 * LENGTH], atol=1e-5)
    np.testing.assert_allclose(found[2][0], whole[0, 2 * LENGTH :], atol=1e-5)
    anew = model({"sequence": parts[2]})["next"]
    np.testing.assert_allclose(found[2][1], anew[1], atol=1e-5)
    assert np.max(np.abs(anew[0] - found[2][0])) > 1e-2, "what came before matters"
    np.testing.assert_allclose(reader({"sequence": text})["next"], whole, atol=1e-5)


def test_gradients_end_with_the_segment(task):
    """They are those of a segment that begins with a state which is given."""
    model = network(task)
    layer, head = model.get_layer("hidden"), model.get_layer("next")
    text = np.random.default_rng(0).integers(0, WORDS, (2, 2 * LENGTH))
    first, second = np.split(text, 2, axis=1)
    reader = Stateful(model, 2)
    reader({"sequence": first, "begins": np.ones(2)})
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(reader({"sequence": second, "begins": np.zeros(2)})["next"] ** 2)
    found = tape.gradient(loss, layer.trainable_variables)
    embed = model.get_layer("words")
    _, *state = layer(embed(first))
    with tf.GradientTape() as tape:
        hidden, *_ = layer(embed(second), initial_state=[x.numpy() for x in state])
        loss = tf.reduce_sum(embed(head(hidden), reverse=True) ** 2)
    expected = tape.gradient(loss, layer.trainable_variables)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def bits_of(model, text):
    """-log2 of the probability of all symbols of a text but the first, by the definition."""
    logits = np.asarray(model({"sequence": text[None, :-1]})["next"][0], "float64")
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logp[np.arange(len(logp)), text[1:]] / np.log(2)


def test_static_evaluation_reads_each_stretch_between_resets_at_once(task):
    model, text = network(task), task.text("validation")
    size = LENGTH * RESET
    rows = task.examples("validation")
    ends = range(0, rows * LENGTH, size)
    bits = np.concatenate(
        [bits_of(model, text[i : min(i + size, rows * LENGTH) + 1]) for i in ends]
    )
    found = task.measure(model, "validation")
    assert found["perplexity"] == pytest.approx(2 ** bits.mean(), rel=1e-4)
    some = task.measure(model, "validation", rows=5)
    assert some["perplexity"] == pytest.approx(2 ** bits[: 5 * LENGTH].mean(), rel=1e-4)


def test_dynamic_evaluation_scores_a_segment_and_then_learns_it(task):
    model, text, rate = network(task, layers=1), task.text("test"), 0.05
    before = model.get_weights()
    learning = dataclasses.replace(task, dynamic_rate=rate)
    measured = learning.measure(model, "test", rows=2)
    static, found = measured["perplexity"], measured["dynamic_perplexity"]
    assert measured.keys() == {*task.measured}
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    # By hand: a step of the descent between the two.
    first = bits_of(model, text[: LENGTH + 1])
    layer, embed, head = (model.get_layer(n) for n in ("hidden", "words", "next"))
    _, *state = layer(embed(text[None, :LENGTH]))
    with tf.GradientTape() as tape:
        logits = model({"sequence": text[None, :LENGTH]})["next"]
        loss = tf.reduce_sum(
            keras.losses.sparse_categorical_crossentropy(text[None, 1 : LENGTH + 1], logits, True)
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients):
        variable.assign_sub(rate * tf.convert_to_tensor(gradient))
    hidden, *_ = layer(embed(text[None, LENGTH : 2 * LENGTH]), initial_state=state)
    nats = keras.losses.sparse_categorical_crossentropy(
        text[None, LENGTH + 1 : 2 * LENGTH + 1], embed(head(hidden), reverse=True), True
    )
    second = np.ravel(nats) / np.log(2)
    assert found == pytest.approx(2 ** np.mean([first, second]), rel=1e-4)
    assert abs(found - static) > 1e-3


RUN = {
    "learning": "truncated_bptt",
    "updates": 6,
    "steps_per_epoch": 2,
    "batch_size": 3,
    "jit_compile": False,
    "histograms": 1,
    "evaluation_rows": 8,
    "validation_rows": 4,
    "figures": False,
}


def run(directory, **changes):
    """Learns a few segments of a small text; every other save is between two resets."""
    root = f"{directory}_words"
    if not os.path.exists(root):
        sotu.sample(root)
    words = small_words(root)
    with mock.patch.object(Running, "dynamic", lambda *_, **__: {}):  # which takes long
        return trainers.fit(
            lambda: network(words, "weight_noise", layers=1), words, RUN | changes, directory
        )


def test_a_task_whose_rows_do_not_go_on_is_refused():
    with pytest.raises(ValueError, match="rows of the task parity do not go on"):
        trainers.Recipe.parse(RUN).check(trainers.task("parity"))


def test_each_regularizer_begins_with_the_weights_of_the_one_before(task, tmp_path):
    """The paper retrains: without noise, then with it, then with noise that adapts."""
    path = tmp_path / "model.keras"
    model = network(task)
    for regularizer in ("weight_noise", "adaptive"):
        model.save(path)
        later = network(task, regularizer, seed=1)
        take_weights(later, path)
        x = {"sequence": task.text("test")[None, :9]}
        np.testing.assert_array_equal(later(x)["next"], model(x)["next"])
        model = later
    kinds = [type(model.get_layer(name)) for name in ("hidden", "next")]
    assert kinds == [AdaptiveWeightNoise] * 2
    assert model.get_layer("next").examples == task.examples("train")


def test_without_noise_a_trained_call_is_a_tested_one(task):
    x = {"sequence": task.text("test")[None, :9]}
    for regularizer, same in (("none", True), ("weight_noise", False), ("adaptive", False)):
        model = network(task, regularizer)
        difference = np.max(np.abs(model(x, training=True)["next"] - model(x)["next"]))
        assert (difference < 1e-4) == same
    assert isinstance(model.get_layer("hidden").layer, DeepLSTM)
    assert isinstance(network(task).get_layer("next"), WeightNoise)


@pytest.mark.parametrize(
    "units, layers, symbols, millions", [(1000, 1, 49, 4.25), (700, 5, 205, 21.25)]
)
def test_the_papers_networks_have_its_weights(units, layers, symbols, millions):
    """About 4.3 and 21.3 million; the latter, which the paper says of 7 layers, are those of 5."""
    stack = DeepLSTM(units, layers, skips=True, recurrent_initializer="zeros")
    stack.build((None, None, symbols))
    head = (layers * units + 1) * symbols
    assert round((stack.count_params() + head) / 1e6, 2) == millions


# Words and letters.


def test_words_have_the_form_of_the_treebank():
    text = (
        'Mr. Speaker: The Nation\u2019s debt of $1,234.50 rose 5% in 1962. "Don\'t wait!" he said. '
        "I. To the St. Louis fellow-citizens, U.S. and all--we've won? 3d"
    )
    assert [" ".join(words) for words in sotu.sentences(text)] == [
        "mr speaker the nation 's debt of $ N rose N % in N",
        "do n't wait he said",
        "i to the st louis fellow-citizens u s and all we 've won",
        "N d",
    ]


def test_the_vocabulary_is_of_training_and_the_rest_unknown(task, tmp_path):
    for name, text in (
        ("ptb.train.txt", " a b a <unk> \n b a \n"),
        ("ptb.valid.txt", " a c \n"),
        ("ptb.test.txt", " b \n"),
    ):
        (tmp_path / name).write_text(text)
    own = trainers.task("running_words", root=str(tmp_path), words=4, length=2)
    assert own.vocabulary == ["<unk>", "<eos>", "a", "b"] and own.corpus == "ptb"
    assert own.codes("train").tolist() == [2, 3, 2, 0, 1, 3, 2, 1]
    assert own.codes("validation").tolist() == [2, 0, 1]
    letters = trainers.task("running_text", data="words", root=str(tmp_path), length=2)
    assert bytes(letters.codes("validation")) == b" a c \n"
    with pytest.raises(ValueError, match="the test split of ptb has 2 symbols, too few"):
        own.text("test")
    with pytest.raises(FileNotFoundError, match=r"no file \*\.train\.txt in .*fetch sotu"):
        trainers.task("running_words", root=str(tmp_path / "none")).text()
    with pytest.raises(ValueError, match="data must be one of"):
        trainers.task("running_text", data="ptb")


def test_a_perplexity_of_letters_is_that_of_the_words_they_spell():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(1, 7, 256)), np.frombuffer(b"to be \n", np.uint8)[None]
    nats = np.log(np.exp(logits[0]).sum(-1)) - logits[0, np.arange(7), target[0]]
    spelled, whole, bits = Perplexity(b" \n"), Perplexity(), BitsPerCharacter()
    for metric in (spelled, whole, bits):
        metric.update_state(target, logits)
    assert float(spelled.result()) == pytest.approx(np.exp(nats.sum() / 3), rel=1e-5)
    assert float(whole.result()) == pytest.approx(2 ** float(bits.result()), rel=1e-5)


def test_words_are_rows_of_what_is_learnt():
    words = Words(["a", "house", "stands"], units=4)
    vectors = np.asarray(words(np.arange(3)[None]))[0]
    np.testing.assert_array_equal(words(np.array([[2, 0]]))[0], vectors[[2, 0]])
    np.testing.assert_array_equal(words.vectors, vectors)


def test_logits_of_words_are_products_with_the_vectors_they_are_read_as():
    words = Words(["a", "house", "stands"], units=4)
    vectors = np.asarray(words(np.arange(3)[None]))[0]
    hidden = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_allclose(words(hidden, reverse=True), hidden @ vectors.T, rtol=1e-5)
    for units, size in ((4, 3), (0, 3)):
        with pytest.raises(ValueError, match=r"logits need (4|learnt) numbers a word; got 3"):
            Words(["a", "b"], units)(keras.Input((None, size)), reverse=True)


# Sampling.


@pytest.mark.parametrize("temperature, power", [(1.0, 1.0), (0.5, 2.0)])
def test_symbols_are_drawn_as_often_as_the_temperature_says_and_never_the_impossible(
    temperature, power
):
    rows, probability = 20_000, np.array([0.0, 0.1, 0.2, 0.7])
    with np.errstate(divide="ignore"):
        logp = np.tile(np.log(probability).astype("float32"), (rows, 1))
    found = drawn(logp, np.full(rows, temperature, "float32"), np.arange(rows), 3)
    shares = np.bincount(found, minlength=4) / rows
    expected = probability**power / np.sum(probability**power)
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / rows))
    assert shares[0] == 0


def test_the_coldest_draw_is_the_first_of_equals():
    logp = np.log(np.array([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5]], "float32") + 1e-9)
    found = drawn(logp, np.zeros(2, "float32"), np.array([1, 2]), 0)
    assert np.asarray(found).tolist() == [1, 0]


@pytest.fixture(scope="module")
def served(task):
    return zoo.info("generation_words").signatures(network(task), task)


def ask(served, name, **inputs):
    outputs = served[name].function(**{k: tf.constant(v) for k, v in inputs.items()})
    return {key: np.asarray(value) for key, value in outputs.items()}


def test_samples_are_decided_by_their_seeds_alone(served):
    def said(prompts, seeds, temperature=1.5):
        rows = len(prompts)
        asked = {"length": np.full(rows, 6), "temperature": np.full(rows, temperature, "float32")}
        asked["length"] = asked["length"].astype("int32")
        return ask(served, "sample", prompt=prompts, seed=np.array(seeds, "int32"), **asked)["text"]

    three = said(["the union", "a", "the union"], [1, 1, 2])
    assert three[0] != three[2] and all(len(text.split()) == 6 for text in three)
    assert said(["the union"], [1])[0] == three[0]


@pytest.fixture(scope="module", params=["act_wikipedia", "generation_words"])
def small(request):
    """Signatures of small models of bytes and of words."""
    name = request.param
    return zoo.info(name).signatures(small_model(name), small_task(name))


def test_a_text_may_go_on_by_nothing(small):
    sample = {name: value[:1] for name, value in small["sample"].sample.items()}
    found = ask(small, "sample", **sample | {"length": np.array([0], "int32")})
    assert found[next(iter(small["sample"].outputs))].tolist() == [b""]


@pytest.mark.parametrize("key", ["serve", "score", "sample"])
def test_a_text_that_is_too_long_is_refused(small, key):
    sample = {name: value[:1] for name, value in small[key].sample.items()}
    text = next(name for name, (_, dtype) in small[key].inputs.items() if dtype == "string")
    inputs = sample | {text: np.array([b"a " * (2**14 + 1)], object)}
    answer = tf.function(small[key].function, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a text must have at most \d+ \w+"):
        answer(**{name: tf.constant(value) for name, value in inputs.items()})


@pytest.mark.parametrize("code", [-1, 10**6])
def test_a_code_that_is_none_is_refused(small, code):
    codes = {"code": np.full(2, code, "int32")}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"code must be 0 to \d+, got"):
        ask(small, "step", **small["step"].sample | codes)


def test_steps_with_their_state_say_what_a_text_costs_and_what_the_coldest_sample_is(served, task):
    text = ["the", "state", "of", "a", "unknown"]
    state = {
        name: np.zeros((1, *shape[1:]), "float32")
        for name, (shape, _) in served["step"].inputs.items()
        if name != "code"
    }
    words, bits = task.vocabulary, []
    cold = ask(
        served,
        "sample",
        prompt=[" ".join(text)],
        length=np.array([3], "int32"),
        temperature=np.zeros(1, "float32"),
        seed=np.array([7], "int32"),
    )["text"][0]
    for place in range(len(text) + 2):
        code = words.index(text[place]) if text[place] in words else 0
        found = ask(served, "step", code=np.array([code], "int32"), **state)
        state = {name: found[f"next_{name}"] for name in state}
        if place + 1 == len(text) or place + 1 > len(text) - 1:
            text.append(words[found["probabilities"][0].argmax()])
        following = text[place + 1]
        following = words.index(following) if following in words else 0
        bits.append(-np.log2(found["probabilities"][0, following]))
    assert cold.decode().split() == text[5:8]
    scored = ask(served, "score", text=[" ".join(text)])
    np.testing.assert_allclose(scored["bits"][0, 1:], bits, rtol=1e-3, atol=1e-4)
