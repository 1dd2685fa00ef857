"""The Strategic Attentive Writer against Algorithm 1 written out step by step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import STRAW, _chance
from ponderzoo.trainers.tasks.letters import WORDS, Letters, planning

SIZES = {"actions": 3, "horizon": 7, "patch": 3, "units": 4}


def layer_of(features=2, weights=True, seed=1, **options):
    """A built layer; with weights of chance, plans differ and are made anew now and then."""
    keras.utils.set_random_seed(seed)
    layer = STRAW(**{**SIZES, "dtype": "float64", **options})
    layer.build((None, None, features))
    for i, weight in enumerate(layer.trainable_variables if weights else []):
        weight.assign_add(np.random.default_rng(i).normal(size=weight.shape) / 2)
    return layer


def given(batch=3, steps=9, features=2):
    return np.random.default_rng(7).normal(size=(batch, steps, features))


def by_hand(layer, sequence, seed):
    """Algorithm 1 and section 3.2, a row and a step at a time; a list of (plans, gate) a row.

    The gate's gradient is put in as `gate * (1 + c - stop(c))` is where it fell, and `c - stop(c)`
    where it did not: that of c, straight through.
    """
    horizon, patch = layer.horizon, layer.patch
    places = tf.range(1, horizon + 1, dtype="float64")
    coins = np.asarray(_chance.uniform(_chance.fold(seed, "coins"), (sequence.shape[1],)))

    def map_of(name, x):
        dense = getattr(layer, name)
        return tf.linalg.matvec(dense.kernel.value, x, transpose_a=True) + dense.bias.value

    def filters(centre, stride, deviation, size):
        rows = []
        for k in range(1, size + 1):
            weight = tf.exp(
                -(((places - centre - (k - size / 2 - 0.5) * stride) / deviation) ** 2) / 2
            )
            rows.append(weight / tf.reduce_sum(weight))
        return tf.stack(rows)

    def moved(x):
        return tf.concat([x[..., 1:], 0 * x[..., :1]], axis=-1)

    answers = []
    for row in range(sequence.shape[0]):
        plan, commitment = tf.zeros((layer.rows, horizon), "float64"), tf.zeros(horizon, "float64")
        since, found = horizon, []
        for t in range(sequence.shape[1]):
            c, forced = commitment[1], since == horizon
            gate = forced or bool(coins[row, t] < c)
            passing = tf.constant(float(gate), "float64")
            if not forced:
                passing = passing + c - tf.stop_gradient(c)
            z = sequence[row, t]
            x, stride, variance = tf.unstack(map_of("attend", z))
            window = (
                (horizon + 1) / 2 * (x + 1),
                (horizon - 1) / (patch - 1) * tf.exp(stride),
                tf.exp(variance / 2),
            )
            f = filters(*window, patch)
            read = tf.reshape(plan @ tf.transpose(f), [-1])
            xi = tf.nn.relu(map_of("think", tf.nn.relu(map_of("read", tf.concat([read, z], 0)))))
            written = tf.reshape(map_of("write", xi), (-1, patch)) @ f
            plan = moved(plan) + passing * written
            if gate:
                told = tf.stop_gradient(tf.concat([[x, stride, variance], xi], 0))
                x, variance = tf.unstack(map_of("commit", told))
                width = tf.minimum(tf.exp(variance / 2), 2)
                f = filters((horizon + 1) / 2 * (x + 1), 1.0, width, 1)[0]
                commitment = tf.sigmoid(layer.early.value[0, 0] + 40 * f)
                since = 1
            else:
                commitment, since = moved(commitment), since + 1
            found.append((plan[:, 0], gate, 1.0 if forced else c))
        answers.append((found, plan, commitment))
    return answers


def test_it_is_algorithm_1_in_values_and_gradients():
    layer, sequence, seed = layer_of(return_state=True), tf.constant(given()), np.arange(3)
    weights = [v.value for v in layer.trainable_variables]
    factors = np.random.default_rng(3).normal(size=(3, 9, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sequence)
        outputs = layer(sequence, tf.constant(seed), training=True)
        rows = by_hand(layer, sequence, seed)
        logits = tf.stack([[plan for plan, _, _ in found] for found, _, _ in rows])
        commitment = tf.stack([c for _, _, c in rows])
        losses = [
            tf.reduce_sum(factors * x**2) + tf.reduce_sum(c)
            for x, c in ((outputs["logits"], outputs["commitment"]), (logits, commitment))
        ]
    gates = np.array([[gate for _, gate, _ in found] for found, _, _ in rows])
    assert gates[:, 0].all() and 0 < gates[:, 1:].mean() < 1
    np.testing.assert_array_equal(outputs["replanned"], gates)
    chances = [[float(c) for _, _, c in found] for found, _, _ in rows]
    np.testing.assert_allclose(outputs["chance"], chances, 1e-10)
    np.testing.assert_allclose(outputs["logits"], logits, 1e-10, 1e-12)
    np.testing.assert_allclose(outputs["plan"], [plan for _, plan, _ in rows], 1e-10, 1e-12)
    np.testing.assert_allclose(outputs["commitment"], commitment, 1e-10, 1e-12)
    found, expected = (tape.gradient(loss, [sequence, *weights]) for loss in losses)
    for a, b in zip(found, expected, strict=True):
        assert np.abs(b).max() > 1e-6
        np.testing.assert_allclose(a, b, 1e-8, 1e-10)


def test_what_is_seen_while_it_is_committed_changes_nothing():
    layer, sequence, seed = layer_of(), given(), tf.range(3)
    before = layer(sequence, seed)
    committed = before["replanned"].numpy() == 0
    assert committed.any()
    sequence[committed] += 5
    for a, b in zip(before.values(), layer(sequence, seed).values()):
        np.testing.assert_array_equal(a, b)


def test_the_commitment_plan_leaves_alone_what_the_action_plan_is_made_of():
    """Section 3.3: gradients from commitment into the planner are blocked."""
    layer, sequence = layer_of(return_state=True), tf.constant(given(steps=1))
    with tf.GradientTape() as tape:
        tape.watch(sequence)
        loss = tf.reduce_sum(layer(sequence, tf.range(3), training=True)["commitment"])
    planner = [layer.attend, layer.read, layer.think, layer.write]
    planner = [v.value for part in planner for v in part.trainable_variables]
    commitment = [layer.commit.kernel.value, layer.early.value]
    gradients = tape.gradient(loss, [sequence, *planner, *commitment])
    assert all(d is None or not np.any(d) for d in gradients[:-2])
    assert all(np.any(d) for d in gradients[-2:])


def test_a_plan_is_made_anew_when_it_ends_though_it_never_meant_to():
    layer = layer_of(weights=False)
    layer.early.assign([[-50.0]])
    raw = layer._raw(-50.0, 1.0, 0.5)
    layer.commit.bias.assign([raw[0], raw[2]])
    found = layer(np.zeros((1, 15, 2)), tf.range(1))
    np.testing.assert_array_equal(np.flatnonzero(found["replanned"]), [0, 7, 14])
    np.testing.assert_array_equal(np.flatnonzero(found["chance"] == 1), [0, 7, 14])


def test_at_first_a_plan_lasts_as_long_as_its_filters_reach():
    layer = layer_of(weights=False, horizon=20, patch=5)
    found = layer(np.zeros((1, 16, 2)), None)
    np.testing.assert_array_equal(np.flatnonzero(found["replanned"]), [0, 5, 10, 15])
    np.testing.assert_allclose(found["window"][0, 0], [3, 1, 0.5], 1e-5)
    np.testing.assert_allclose(found["ahead"][0, :6], [5, 4, 3, 2, 1, 5], 0.1)


@pytest.mark.parametrize("commitment, share", [("random", 0.25), ("none", 1.0)])
def test_without_a_commitment_plan_chance_decides_or_nothing(commitment, share):
    layer = layer_of(commitment=commitment, horizon=1000, replan_penalty=1.0)
    sequence = np.random.default_rng(0).normal(size=(100, 30, 2))
    with tf.GradientTape() as tape:
        found = layer(sequence, tf.range(100), training=True)
        loss = tf.reduce_sum(found["logits"] ** 2) + layer.losses[0]
    np.testing.assert_array_equal(found["chance"][:, 1:], share)
    np.testing.assert_allclose(found["replanned"].numpy()[:, 1:].mean(), share, 0.07)
    learnt = tape.gradient(loss, [layer.early.value, layer.commit.kernel.value])
    assert not any(d is not None and np.any(d) for d in learnt)


@pytest.mark.parametrize("noise", [0, 3])
def test_it_goes_on_from_its_state(noise):
    layer, sequence = layer_of(return_state=True, noise=noise, valued=True), given()
    whole = layer(sequence, None)
    first = layer(sequence[:, :4], None)
    state = [first[name] for name in ("plan", "commitment", "left")]
    last = layer(sequence[:, 4:], None, initial_state=state)
    for name in ("logits", "value", "replanned", "chance", "ahead", "window"):
        both = np.concatenate([first[name], last[name]], axis=1)
        np.testing.assert_allclose(whole[name], both, 1e-10, 1e-12)
    np.testing.assert_allclose(whole["plan"], last["plan"], 1e-10, 1e-12)


def test_rows_that_begin_anew_do_as_at_their_first_step():
    layer, sequence = layer_of(), given()
    begins = np.zeros((3, 9), bool)
    begins[1, 4] = True
    found, plain = layer(sequence, None, begins=begins), layer(sequence, None)
    alone = layer(sequence[1:2, 4:], None)
    for name in found:
        np.testing.assert_allclose(found[name][1, 4:], alone[name][0], 1e-10, 1e-12)
        np.testing.assert_allclose(found[name][::2], plain[name][::2], 1e-10, 1e-12)


def test_masked_steps_are_as_if_they_were_not_there():
    layer, sequence = layer_of(return_state=True), given()
    mask = np.random.default_rng(5).random((3, 9)) < 0.6
    mask[2] = False
    found = layer(sequence, None, sequence_mask=mask)
    for row in range(2):
        alone = layer(sequence[row : row + 1, mask[row]], None)
        for name in found:
            here = found[name][row]
            if name not in ("plan", "commitment", "left"):
                assert not np.any(here[~mask[row]])
                here = here[mask[row]]
            np.testing.assert_allclose(here, alone[name][0], 1e-10, 1e-12)
    assert not any(np.any(value[2]) for value in found.values())


def test_the_channel_is_where_strawe_gets_its_chance():
    """Section 3.4: N(mu, sigma I) with one sigma, and its KL from N(0, I)."""
    layer, sequence = layer_of(noise=2), given(batch=1, steps=1)
    made = sequence[0, 0] @ layer.channel.kernel.numpy() + layer.channel.bias.numpy()
    mean, deviation = made[:2], np.exp(made[2])
    kl = np.sum(mean**2 + deviation**2 - 1 - 2 * np.log(deviation)) / 2
    np.testing.assert_allclose(layer(sequence, tf.range(1))["kl"], [[kl]], 1e-10)
    different = layer(np.repeat(sequence, 50, axis=0), tf.range(50))["logits"].numpy()
    assert len(np.unique(different[:, 0, 0])) == 50
    assert np.ptp(layer(np.repeat(sequence, 2, axis=0), None)["logits"], axis=0).max() < 1e-12


def test_penalties_are_of_plans_and_of_what_passed_the_channel():
    layer = layer_of(noise=2, replan_penalty=0.5, noise_penalty=0.25)
    found = layer(given(steps=layer.horizon), tf.range(3), training=True)  # no plan ends
    free = found["chance"].numpy()[:, 1:]
    expected = [0.5 * free.sum() / 3, 0.25 * np.sum(found["kl"]) / 3]
    np.testing.assert_allclose(layer.losses, expected, 1e-10)


def test_a_budget_changes_nothing():
    found = []
    for memory_budget in (None, 20_000):
        layer, sequence = layer_of(memory_budget=memory_budget), tf.constant(given(steps=20))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(sequence, tf.range(3), training=True)["logits"] ** 2)
        weights = [v.value for v in layer.trainable_variables]
        found.append([loss, *(d for d in tape.gradient(loss, weights))])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, 1e-10, 1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (1, 1, 2)])
def test_the_least_of_everything(shape):
    found = layer_of(return_state=True)(np.ones(shape), tf.range(shape[0]))
    assert found["logits"].shape == (*shape[:2], 3)
    if not shape[1]:
        assert not np.any(found["left"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: STRAW(0), "actions must be a whole number from 1 on; got 0"),
        (lambda: STRAW(3, horizon=1), "horizon must be a whole number from 2 on; got 1"),
        (lambda: STRAW(3, patch=1), "patch must be a whole number from 2 on; got 1"),
        (lambda: STRAW(3, commitment="some"), "commitment must be one of learned, random, none"),
        (lambda: STRAW(3, replan_penalty=-1), "replan_penalty must be 0 or more; got -1"),
        (lambda: STRAW(3)(keras.ops.ones((2, 3)), None), r"\(batch, time, features\)"),
        (
            lambda: layer_of()(given(), None, initial_state=[np.zeros((3, 3, 6))] * 3),
            "takes an initial state of",
        ),
    ],
)
def test_what_cannot_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_eight_words_cost_what_their_source_costs():
    """No two begin alike: log2 8 bits a word, and nothing for its other letters."""
    task = Letters(data="eight_words")
    text = task.text().tobytes().decode()
    words = text.split()
    assert {*words} == {*WORDS} and len({word[0] for word in words}) == 8
    counts = np.array([words.count(word) for word in WORDS]) / len(words)
    bits = -np.sum(counts * np.log2(counts)) * len(words) / len(text)
    np.testing.assert_allclose(bits, task.entropy, 0.005)


class Speller(keras.Model):
    """Knows every word from its first letter on, and plans there, at 0.9, and nowhere else."""

    output = dict.fromkeys(("next", "replanned", "chance"))
    input = dict.fromkeys(["sequence"])

    def call(self, inputs, training=False):
        sequence = np.asarray(inputs["sequence"])
        said, planned = np.zeros((*sequence.shape, 256), "float32"), np.zeros(sequence.shape)
        for row, line in enumerate(sequence):
            text = bytes(line.astype("uint8")).decode()
            for place in range(len(text)):
                begun = text[: place + 1].rpartition(" ")[2]
                fits = [word + " " for word in WORDS if begun and (word + " ").startswith(begun)]
                said[row, place, ord(fits[0][len(begun)]) if fits else ord("a")] = 9
                planned[row, place] = place == 0 or len(begun) == 1
        chance = np.where(np.arange(sequence.shape[1]) == 0, 1, 0.9 * planned)
        found = {"next": said, "replanned": planned, "chance": chance}
        return {name: tf.constant(x, "float32") for name, x in found.items()}


def test_where_a_speller_plans_is_told():
    task = Letters(data="eight_words", length=60)
    model = Speller()
    model.run_eagerly = True
    found = planning(model, task, rows=50)
    np.testing.assert_allclose(found["chance_behind_first_letters"], 0.9, 1e-6)
    assert found["chance_elsewhere"] == 0
    np.testing.assert_allclose(found["length"], 4.5, 0.1)
    # From one plan to the next it says the rest of a word, a space, and the likeliest beginning.
    assert {*found["most_frequent"].split(" | ")[:2]} == {"ee a", "oy a"}


def test_letters_that_cannot_be_are_told():
    with pytest.raises(ValueError, match="data must be one of"):
        Letters(data="nine_words")
