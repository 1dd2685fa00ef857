"""RAM against the paper's equations, read plainly, and what its policy learns by."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import zoo
from ponderzoo.export import _package
from ponderzoo.layers import RAM, Reinforce, _chance, retina
from ponderzoo.trainers._evaluate import outputs_of
from ponderzoo.trainers._metrics import SequenceCrossentropy
from ponderzoo.trainers.figures.images import in_steps
from ponderzoo.trainers.tasks import _images
from small import small_model, small_task

SHAPES = {"grey": (7, 9), "colours": (7, 9, 3)}
CORES = ("relu", "lstm")
each_core = pytest.mark.parametrize("core", CORES)


# The retina.


def cells(image, place, patch, scales, finer=40):
    """The retina by a loop over cells, each the mean of many points, for one image of grey.

    Points lie at the middles of a fine grid, so that cells that begin at one of its lines are
    exact.
    """
    height, width = image.shape
    found = np.zeros((scales, patch, patch))
    middle_x, middle_y = ((np.asarray(place) + 1) / 2) * (np.array([width, height]) - 1) + 0.5
    for scale, row, column in np.ndindex(*found.shape):
        cell, total = 2**scale, 0.0
        top = middle_y + (row - patch / 2) * cell
        left = middle_x + (column - patch / 2) * cell
        for y in top + (np.arange(finer * cell) + 0.5) / finer:
            for x in left + (np.arange(finer * cell) + 0.5) / finer:
                if 0 <= y < height and 0 <= x < width:
                    total += image[int(y), int(x)]
        found[scale, row, column] = total / (finer * cell) ** 2
    return found


def test_a_cell_is_the_mean_of_what_it_covers_and_nothing_is_outside():
    image = np.random.default_rng(0).random((6, 9))
    places = [(0.0, 0.0), (0.35, -0.72), (-1, 1), (0.95, 0.2)]
    # In 40ths of a pixel from the image's corner.
    places = [tuple(np.rint(np.array(p) * (4, 2.5) * 40) / 40 / (4, 2.5)) for p in places]
    found = retina(np.stack([image] * 4), tf.constant(places, "float64"), patch=3, scales=3)
    for seen, place in zip(found, places):
        np.testing.assert_allclose(seen, cells(image, place, 3, 3), atol=1e-9)


def test_whole_pixels_are_cut_out_as_they_are():
    image = np.arange(28.0 * 28).reshape(1, 28, 28)
    seen = retina(image, np.zeros((1, 2)), patch=8)
    np.testing.assert_array_equal(seen[0, 0], image[0, 10:18, 10:18])


def test_the_first_number_of_a_place_goes_right_and_the_second_down():
    image = np.zeros((2, 7, 11))
    image[0, 0, 10], image[1, 6, 0] = 1, 1  # upper right, lower left
    place = np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(retina(image, place, patch=1)[:, 0, 0, 0], [1, 1])
    np.testing.assert_array_equal(retina(image, -place, patch=1)[:, 0, 0, 0], [0, 0])


def test_wider_squares_are_means_and_hold_the_narrower_ones():
    image = np.random.default_rng(1).random((1, 24, 24))
    seen = np.asarray(retina(image, np.zeros((1, 2)), patch=4, scales=2))[0]
    np.testing.assert_allclose(seen[0], image[0, 10:14, 10:14], rtol=1e-12)
    pooled = image[0, 8:16, 8:16].reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(seen[1], pooled, rtol=1e-12)


def test_colours_are_seen_each_alone():
    image = np.random.default_rng(2).random((2, 5, 6, 3))
    place = np.array([[0.3, -0.4], [1.0, 0.1]])
    seen = retina(image, place, patch=3, scales=2)
    assert seen.shape == (2, 2, 3, 3, 3)
    for colour in range(3):
        alone = retina(image[..., colour], place, patch=3, scales=2)
        np.testing.assert_allclose(seen[..., colour], alone, atol=1e-12)


# The network.


def layer_of(core="relu", shape=(7, 9), dtype="float64", **changes):
    """A layer whose weights are all of chance, none zero."""
    keras.utils.set_random_seed(0)
    arguments = {"glimpses": 3, "patch": 2, "scales": 2, "units": 5, "glimpse_units": 4}
    layer = RAM(**{**arguments, "deviation": 0.3, "core": core, "dtype": dtype, **changes})
    layer.build((None, *shape))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return layer


def given(shape=(7, 9), batch=3):
    return tf.constant(np.random.default_rng(2).random((batch, *shape))), np.arange(batch)


def dense(layer, x):
    return x @ layer.kernel.value + layer.bias.value


def plain(layer, image, places):
    """Section 3.1 at places that are given, `(batch, glimpses, 2)`: all that a call tells."""
    maps, h = layer.maps, tf.zeros((len(image), layer.units), image.dtype)
    c, found = h, []
    for t in range(layer.glimpses):
        place = places[:, t]
        seen = retina(image, place, layer.patch, layer.scales)
        if len(image.shape) == 4:
            seen = tf.transpose(seen, (0, 1, 2, 4, 3))
        what = tf.nn.relu(dense(maps["what"], tf.reshape(seen, (len(image), -1))))
        where = tf.nn.relu(dense(maps["where"], place))
        glimpse = tf.nn.relu(dense(maps["glimpse"], tf.concat([what, where], axis=-1)))
        z = dense(maps["core"], glimpse) + h @ maps["core"].recurrent_kernel.value
        if layer.core_kind == "lstm":
            i, f, g, o = tf.split(z, 4, axis=-1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
        else:
            h = tf.nn.relu(z)
        still = tf.stop_gradient(h)
        found.append([h, dense(maps["mean"], still), dense(maps["baseline"], still)[:, 0]])
    outputs, means, baselines = (tf.stack(x, axis=1) for x in zip(*found))
    return outputs, means[:, :-1], baselines[:, :-1]


def cost(outputs):
    return sum(tf.reduce_sum(tf.sin(x + i)) for i, x in enumerate(outputs))


def pick(found):
    return [found[name] for name in ("outputs", "means", "baselines")]


@each_core
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_equations(core, shape):
    layer, (image, seed) = layer_of(core, shape), given(shape)
    places = layer(image, seed, training=True)["places"]
    weights, results = [v.value for v in layer.trainable_variables], []
    for of in (
        lambda: plain(layer, image, places),
        lambda: pick(layer(image, seed, training=True)),
    ):
        with tf.GradientTape() as tape:
            tape.watch(image)
            outputs = of()
            value = cost(outputs)
        results.append([*outputs, *tape.gradient(value, [image, *weights])])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_single_precision_learns_as_double_does(mode):
    image, seed = given()
    results = []
    for dtype in ("float64", "float32"):
        layer = layer_of(dtype=dtype)
        layer.set_weights(layer_of().get_weights())
        digit = np.array([0, 1, 4])

        def gradient(image, layer=layer, digit=digit):
            with tf.GradientTape() as tape:
                found = layer(image, seed, training=True)
                logits = Reinforce(0.3, dtype=layer.dtype)(
                    found["outputs"][:, -1], *(found[x] for x in ("means", "samples", "baselines"))
                )
                value = SequenceCrossentropy()(digit, logits)
            return value, tape.gradient(value, [v.value for v in layer.trainable_variables])

        if mode != "eager" and dtype == "float32":
            gradient = tf.function(gradient, jit_compile=mode == "xla")
        results.append(tf.nest.flatten(gradient(tf.cast(image, dtype))))
    for expected, found in zip(*results, strict=True):
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)


def jax_answers(path):
    """What `test_jax_gives_the_same_numbers` wants to see, computed on Keras's JAX backend."""
    import jax

    layer, (image, seed) = layer_of(dtype="float32"), given()
    image = jax.numpy.asarray(image.numpy(), "float32")

    def value(weights):
        with keras.StatelessScope(state_mapping=[*zip(layer.trainable_variables, weights)]):
            found = layer(image, seed, training=True)
            logits = Reinforce(0.3)(
                found["outputs"][:, -1], *(found[x] for x in ("means", "samples", "baselines"))
            )
        return SequenceCrossentropy()(np.array([0, 1, 4]), logits)

    with np.load(path) as stored:
        weights = [jax.numpy.asarray(stored[f"arr_{i}"]) for i in range(len(stored.files))]
    found = jax.jit(jax.value_and_grad(value))(weights)
    np.savez(path, *[np.asarray(x) for x in jax.tree.leaves(found)])


def test_jax_gives_the_same_numbers(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    layer, (image, seed), path = layer_of(), given(), tmp_path / "answers.npz"
    np.savez(path, *[np.float32(x) for x in layer.trainable_variables])
    fresh(
        "import sys, test_recurrent_attention as t; t.jax_answers(sys.argv[1])", path, backend="jax"
    )
    with tf.GradientTape() as tape:
        found = layer(image, seed, training=True)
        value = written_out(found, found["outputs"][:, -1], np.array([0, 1, 4]), 0.3)[1]
    expected = tape.gradient(value, [v.value for v in layer.trainable_variables])
    with np.load(path) as found:
        for i, x in enumerate(expected, 1):
            scale = max(1, np.abs(x).max())
            np.testing.assert_allclose(found[f"arr_{i}"], x, rtol=0, atol=2e-5 * scale)


# Places.


def test_places_are_drawn_around_the_means_and_looked_at_on_the_border():
    layer, (image, seed) = layer_of(deviation=0.9), given(batch=64)
    found = {k: np.asarray(x) for k, x in layer(image, seed, drawn=True).items()}
    noise = _chance.normal(_chance.fold(seed, "policy"), (3, 2), dtype="float64")
    np.testing.assert_allclose(found["samples"] - found["means"], 0.9 * noise[:, :-1], atol=1e-12)
    np.testing.assert_allclose(found["places"][:, 1:], np.clip(found["samples"], -1, 1))
    assert np.any(np.abs(found["samples"]) > 1.5)  # those of the policy are not cut
    seen = retina(image, found["places"][:, 1], 2, 2)
    np.testing.assert_allclose(found["glimpses"][:, 1], seen, atol=1e-12)


def test_without_training_places_are_the_means_but_for_the_first():
    layer, (image, seed) = layer_of(), given()
    found = layer(image, seed)
    np.testing.assert_array_equal(found["samples"], found["means"])
    drawn, trained = layer(image, seed, drawn=True), layer(image, seed, training=True)
    np.testing.assert_allclose(drawn["places"], trained["places"])
    np.testing.assert_allclose(found["places"][:, 0], drawn["places"][:, 0])
    assert np.abs(found["places"] - drawn["places"])[:, 1:].min(axis=(1, 2)).max() > 0.01


@pytest.mark.parametrize("policy", ["random", "centre"])
def test_policies_that_do_not_learn_look_anywhere_or_at_the_middle(policy):
    layer, (image, seed) = layer_of(policy=policy), given(batch=400)
    found = layer(image, seed)
    assert not found.keys() & {"means", "samples", "baselines"}
    assert not {"mean", "baseline"} & {v.path.split("/")[-2] for v in layer.trainable_variables}
    places = np.asarray(found["places"])
    if policy == "centre":
        assert not places.any()
        return
    assert np.abs(places.mean(axis=0)).max() < 0.12 and np.abs(places).max() <= 1
    np.testing.assert_allclose(places.std(axis=0), 3**-0.5, atol=0.05)
    # Each glimpse is elsewhere.
    assert np.abs(np.corrcoef(places.reshape(400, -1).T) - np.eye(6)).max() < 0.2


def test_the_first_place_of_a_learned_policy_is_anywhere():
    layer, (image, seed) = layer_of(), given(batch=400)
    first = np.asarray(layer(image, seed)["places"])[:, 0]
    np.testing.assert_allclose(first.std(axis=0), 3**-0.5, atol=0.05)
    assert np.abs(first.mean(axis=0)).max() < 0.12


def test_an_image_and_its_seed_decide_whatever_stands_beside_them():
    layer, (image, _) = layer_of(), given()
    three = layer(image, np.array([1, 2, 1]), drawn=True)
    alone = layer(image[2:], np.array([1]), drawn=True)
    for name, x in alone.items():
        np.testing.assert_allclose(x[0], three[name][2], atol=1e-12)
    other = layer(image[2:], np.array([3]), drawn=True)
    assert np.abs(alone["places"] - other["places"]).max() > 0.1


@each_core
def test_a_glimpse_alone_is_one_of_the_loop(core):
    layer, (image, seed) = layer_of(core), given()
    found = layer(image, seed, drawn=True)
    one = layer_of(core, glimpses=1, return_state=True)
    one.set_weights(layer.get_weights())
    state, names = None, ["h", "c"] if core == "lstm" else ["h"]
    for t in range(3):
        told = one(image, seed, place=found["places"][:, t], initial_state=state)
        state = [told[name] for name in names]
        np.testing.assert_allclose(told["outputs"][:, 0], found["outputs"][:, t], atol=1e-12)
        np.testing.assert_array_equal(state[0], told["outputs"][:, 0])
        if t < 2:
            for name in ("mean", "baseline"):
                behind = found[f"{name}s"][:, t]
                np.testing.assert_allclose(told[f"next_{name}"], behind, atol=1e-12)
    far, edge = (one(image, seed, place=x * tf.ones((3, 2)))["outputs"] for x in (5, 1))
    np.testing.assert_array_equal(far, edge)
    with pytest.raises(ValueError, match="takes an initial state of"):
        one(image, seed, initial_state=[*state, state[0]])


@pytest.mark.parametrize("batch, glimpses", [(0, 2), (1, 1)])
def test_the_least_of_everything(batch, glimpses):
    layer = layer_of(shape=(1, 1), glimpses=glimpses)
    with tf.GradientTape() as tape:
        found = layer(np.ones((batch, 1, 1)), np.arange(batch), training=True)
        value = tf.reduce_sum(found["outputs"])
    assert found["places"].shape == (batch, glimpses, 2)
    assert found["means"].shape == (batch, glimpses - 1, 2)  # an only place is not chosen
    gradients = tape.gradient(value, [v.value for v in layer.trainable_variables])
    assert all(np.isfinite(g).all() for g in gradients if g is not None)


def test_more_glimpses_are_no_larger_graph():
    def nodes(glimpses):
        layer, (image, seed) = layer_of(glimpses=glimpses, dtype="float32"), given()

        @tf.function
        def gradient(image):
            with tf.GradientTape() as tape:
                value = cost(pick(layer(image, seed, training=True)))
            return tape.gradient(value, [v.value for v in layer.trainable_variables])

        graph = gradient.get_concrete_function(tf.cast(image, "float32")).graph.as_graph_def()
        return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)

    assert nodes(3) == nodes(32)


# What learns by what.


def written_out(found, logits, digit, deviation, policy_weight=1.0):
    """The hybrid loss of section 3 by itself, for TensorFlow to differentiate, and its parts."""
    entropy = keras.ops.sparse_categorical_crossentropy(digit, logits, from_logits=True)
    reward = tf.cast(tf.argmax(logits, axis=-1) == digit, logits.dtype)[:, None]
    samples = tf.stop_gradient(found["samples"])
    log_prob = -tf.reduce_sum((samples - found["means"]) ** 2, axis=-1) / (2 * deviation**2)
    missed = reward - found["baselines"]
    policy = -policy_weight * tf.reduce_sum(log_prob * tf.stop_gradient(missed), axis=-1)
    baseline = tf.reduce_sum(missed**2, axis=-1)
    return tf.reduce_mean(entropy), tf.reduce_mean(entropy + policy + baseline)


def choices(batch=6, dtype="float64"):
    rng = np.random.default_rng(3)
    names = {"means": (batch, 2, 2), "samples": (batch, 2, 2), "baselines": (batch, 2)}
    found = {name: tf.constant(rng.normal(size=shape), dtype) for name, shape in names.items()}
    logits = tf.constant(2 * rng.normal(size=(batch, 4)), dtype)
    digit = np.asarray(tf.argmax(logits, axis=-1))
    return found, logits, np.where(np.arange(batch) % 2, digit, (digit + 1) % 4)  # half are right


def slopes(found, logits, value):
    with tf.GradientTape() as tape:
        tape.watch([found, logits])
        loss = value(found, logits)
    tensors = [logits, found["means"], found["baselines"], found["samples"]]
    return loss, tape.gradient(loss, tensors)


def reinforced(found, logits, digit, *arguments, weight=None):
    logits = Reinforce(*arguments, dtype="float64")(logits, *found.values())
    return SequenceCrossentropy()(digit, logits, sample_weight=weight)


def test_the_gradient_of_a_crossentropy_becomes_that_of_the_hybrid_loss():
    found, logits, digit = choices()
    value, ours = slopes(found, logits, lambda *x: reinforced(*x, digit, 0.2, 0.7))
    _, expected = slopes(found, logits, lambda *x: written_out(*x, digit, 0.2, 0.7)[1])
    for a, b in zip(ours[:3], expected[:3]):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        assert np.abs(b).max() > 0
    assert ours[3] is None  # no choice is moved by what came of it
    np.testing.assert_allclose(value, written_out(found, logits, digit, 0.2)[0])


def test_rows_weigh_in_the_policy_as_in_the_loss_and_unscored_ones_nothing():
    found, logits, digit = choices()
    weight = np.array([1, 0, 2, 3, 0.5, 1])
    digit[5] = -1
    _, whole = slopes(found, logits, lambda *x: reinforced(*x, digit, 0.2, weight=weight))
    for row in range(6):
        one, this = {name: x[row : row + 1] for name, x in found.items()}, digit[[row]]
        _, alone = slopes(
            one, logits[row : row + 1], lambda *x, this=this: reinforced(*x, this, 0.2)
        )
        for all_rows, this in zip(whole[:3], alone):
            np.testing.assert_allclose(all_rows[row], weight[row] / 6 * this[0], atol=1e-12)
    moved = np.any(np.asarray(whole[1]) != 0, axis=(1, 2))
    assert moved.tolist() == [True, False, True, True, True, False]


def test_the_surest_answers_are_rewarded_too():
    """In single precision the probability of all others is lost beside 1, but not by itself."""
    found, _, _ = choices(2, "float32")
    logits = tf.constant([[40.0, 0, 0, 0], [40, 0, 0, 0]])
    digit = np.array([0, 1])

    def value(found, logits):
        return SequenceCrossentropy()(digit, Reinforce(0.2)(logits, *found.values()))

    _, ours = slopes(found, logits, value)
    _, expected = slopes(found, logits, lambda *x: written_out(*x, digit, 0.2)[1])
    for a, b in zip(ours[:3], expected[:3]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-12)


def of_parts(layer, gradients):
    """The largest size of the gradient of each map, None where there is none at all."""
    largest = {}
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        size = None if gradient is None else float(np.abs(gradient).max())
        name = variable.path.split("/")[-2]
        largest[name] = max((largest.get(name), size), key=lambda x: -1 if x is None else x)
    return largest


@each_core
@pytest.mark.parametrize("part", ["outputs", "means", "baselines"])
def test_what_is_made_of_the_outputs_moves_all_but_the_policy_which_moves_itself_alone(core, part):
    layer, (image, seed) = layer_of(core), given()
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.sin(layer(image, seed, training=True)[part]))
    found = of_parts(layer, tape.gradient(value, [v.value for v in layer.trainable_variables]))
    learns = {"means": {"mean"}, "baselines": {"baseline"}}
    expected = learns.get(part, {"what", "where", "glimpse", "core"})
    assert {name for name, size in found.items() if size} == expected


def test_no_gradient_flows_through_a_place():
    """Neither by the place's own layer nor by the retina: what was drawn is a constant."""
    layer, (image, seed) = layer_of(), given()
    places = layer(image, seed, training=True)["places"]
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(image, seed, training=True)["outputs"][:, -1])
    mean = layer.maps["mean"].kernel.value
    slope = tape.gradient(value, mean)
    assert slope is None or not np.any(slope)
    # Yet where it looks matters to what comes out.
    moved = plain(layer, image, places + 0.2)[0]
    assert np.abs(moved[:, -1] - plain(layer, image, places)[0][:, -1]).max() > 0.01


def test_the_policy_gets_the_gradient_of_the_expected_reward():
    """Against the integral over the second place, which alone decides the answer here."""
    layer = RAM(2, 2, units=6, glimpse_units=6, deviation=0.4, dtype="float64")
    keras.utils.set_random_seed(3)
    layer.build((None, 6, 6))
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    maps, middle = layer.maps, np.array([0.2, -0.1])
    maps["core"].recurrent_kernel.assign(np.zeros((6, 6)))
    maps["mean"].kernel.assign(np.zeros((6, 2)))
    maps["mean"].bias.assign(middle)
    image, readout = rng.random((1, 6, 6)), rng.normal(size=(6, 3))
    readout -= readout.mean(axis=0)

    one = RAM(1, 2, units=6, glimpse_units=6, dtype="float64")
    one.build((None, 6, 6))

    def right(places):
        """Whether the answer is 1 after a glimpse at `(count, 2)`."""
        one.set_weights(layer.get_weights())
        images, seeds = np.repeat(image, len(places), axis=0), np.zeros(len(places), "int32")
        seen = one(images, seeds, place=places)["outputs"][:, 0]
        return np.argmax(seen @ readout, axis=-1) == 1

    def integral(power):
        """Of the density's slope times the reward, over places up to 5 deviations away."""
        line = np.linspace(-5, 5, 301)
        z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        density = np.exp(-0.5 * (z**2).sum(axis=-1))
        reward = right(middle + 0.4 * z)
        slope = (z / 0.4) ** power * (density * reward)[:, None]
        return slope.sum(axis=0) / density.sum(), reward

    expected, reward = integral(1)
    assert 0.1 < reward.mean() < 0.9 and np.abs(expected).max() > 0.05
    count = 120_000
    for baseline in (0.0, 0.6):
        maps["baseline"].kernel.assign(np.zeros((6, 1)))
        maps["baseline"].bias.assign([baseline])
        images, seed = np.repeat(image, count, axis=0), np.arange(count)
        found = layer(images, seed, drawn=True)
        with tf.GradientTape() as tape:
            tape.watch(found["means"])
            logits = Reinforce(0.4, dtype="float64")(
                found["outputs"][:, -1] @ readout,
                *(found[x] for x in ("means", "samples", "baselines")),
            )
            value = SequenceCrossentropy(reduction="sum")(np.ones(count, int), logits)
        rows = -np.asarray(tape.gradient(value, found["means"]))[:, 0]
        error = rows.std(axis=0) / count**0.5
        assert np.all(np.abs(rows.mean(axis=0) - expected) < 5 * error)
        assert np.abs(expected).max() > 10 * error.max()


# The models.


def small(name="ram_cluttered", **changes):
    """An entry, its task and a small model of it."""
    task = small_task(name)
    keras.utils.set_random_seed(0)
    return zoo.info(name), task, small_model(name, task, **changes)


@pytest.mark.parametrize("machine", ["dense", "convolutional"])
def test_the_papers_other_machines_see_the_whole_image(machine):
    _, task, model = small(machine=machine)
    assert model.input.keys() == {"image"} and model.output.keys() == {"digit"}
    image = task.inputs_without_data(np.random.default_rng(0), 1)
    for place in ((0, 0), (27, 27)) if machine == "dense" else ((0, 0), (24, 24)):
        other = image["image"].copy()
        other[0][place] = 1 - other[0][place]
        first, second = (outputs_of(model, {"image": x})["digit"] for x in (image["image"], other))
        assert np.abs(first - second).max() > 1e-7


def test_windows_end_in_the_middles_of_the_outer_cells():
    """In an image that grows by 1 with each pixel, a cell sees where its middle is."""
    _, task, model = small()
    found = outputs_of(model, task.inputs_without_data(np.random.default_rng(0), 2))
    windows, place = found["read_windows"], found["places"][:, 1]
    assert windows.shape == (2, 3, 2, 6) and np.abs(place[:, 0] - place[:, 1]).min() > 1e-4
    right = np.tile(np.arange(28) + 0.5, (2, 28, 1))
    for axis, ramp in enumerate((right, right.swapaxes(1, 2))):
        seen = np.asarray(retina(ramp, place, 3, 2))
        ends = seen[:, :, 1, [0, 2]] if axis == 0 else seen[:, :, [0, 2], 1]
        np.testing.assert_allclose(windows[:, 1][..., [axis, axis + 2]], ends, atol=1e-5)
    # The deviation of numbers that are alike all over a cell, and no change of what is seen.
    np.testing.assert_allclose(windows[0, 0, :, 4:], [[12**-0.5, 1], [2 / 12**0.5, 1]], rtol=1e-6)


def test_answers_by_means_and_by_chance_are_told_apart(few_digits, monkeypatch):
    monkeypatch.setattr(_images, "REPORTED", 500)
    entry, _, model = small()
    task = zoo.task_of(entry, **entry.small_task, root=few_digits)
    inputs, _ = task.rows(np.arange(8), "test")
    found = outputs_of(model, inputs)
    last = np.log(found["probability_steps"][:, -1])
    assert np.ptp(last - found["digit"], axis=-1).max() < 1e-5
    assert np.abs(found["digit"] - found["drawn_digit"]).max() > 1e-5
    table = task.report(model)["answers"]
    assert list(table) == ["after step 1", "after step 2", "after step 3", "places drawn"]
    assert table["after step 3"]["error"] == pytest.approx(task.measure(model, rows=500)["error"])
    assert all(0 <= row["error"] <= 1 for row in table.values())
    assert not task.report(small(machine="dense")[2])
    assert task.figures(model, rows=20).keys() >= {"digits", "glimpses"}


def test_squares_are_drawn_within_one_another():
    windows = np.zeros((1, 2, 3, 6))
    windows[0, 1, 2] = 1, 2, 4, 5, 0.5, 1
    figure = in_steps(np.zeros((1, 2, 10, 8)), windows)
    assert len(figure.axes[0].patches) == 6
    window = figure.axes[0].patches[-1]
    assert window.get_xy() == (8 + 2 + 1 - 0.5, 2 - 0.5) and window.get_width() == 3


def test_what_is_served_says_where_it_looked(tmp_path):
    entry, task, model = small()
    served = entry.signatures(model, task)
    serve = served["serve"]
    assert list(serve.inputs) == ["image", "seed"] and serve.over == {"read_windows": "image"}
    assert {"probability_steps", "places", "glimpses", "baselines"} < serve.outputs.keys()
    assert _package.package(model, served, "ram_cluttered", tmp_path)
    plain_model = small(machine="convolutional")
    assert list(entry.signatures(plain_model[2], task)["serve"].inputs) == ["image"]


def test_the_policy_learns_to_look_where_the_answer_is():
    """At a pixel on the right, above, which nobody sees from the middle."""
    rng = np.random.default_rng(5)

    def batch(size):
        digit = rng.integers(0, 2, size)
        image = np.zeros((size, 8, 8), "float32")
        image[:, 1, 6] = 2.0 * digit - 1
        return {"image": image, "seed": rng.integers(0, 2**31, size, "int32")}, digit

    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8), name="image")
    seed = keras.Input((), dtype="int32", name="seed")
    layer = RAM(2, 3, units=16, glimpse_units=16, deviation=0.25)
    found = layer(image, seed)
    choices = (found[x] for x in ("means", "samples", "baselines"))
    logits = Reinforce(0.25)(keras.layers.Dense(2)(found["outputs"][:, -1]), *choices)
    model = keras.Model({"image": image, "seed": seed}, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=True)
    for _ in range(250):
        model.train_on_batch(*batch(64))
    inputs, digit = batch(512)
    wrong = np.mean(model.predict_on_batch(inputs).argmax(axis=-1) != digit)
    x, y = np.asarray(layer(**inputs)["places"])[:, 1].T
    assert np.median(x) > 0.3 and np.median(y) < -0.3
    # Whoever looks anywhere must guess where no glimpse showed it.
    anywhere = RAM(2, 3, policy="random")(**inputs)["glimpses"]
    guessed = np.mean(~np.any(anywhere, axis=(1, 2, 3, 4))) / 2
    assert wrong < 0.05 < 0.2 < guessed


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"glimpses": 0}, "glimpses must be a whole number from 1 on; got 0"),
        ({"patch": 2.5}, "patch must be a whole number"),
        ({"scales": 0}, "scales must be a whole number"),
        ({"deviation": 0}, "deviation must be above 0; got 0"),
        ({"core": "gru"}, "core must be one of relu, lstm; got 'gru'"),
        ({"policy": "best"}, "policy must be one of learned, random, centre; got 'best'"),
    ],
)
def test_arguments_that_mean_nothing_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        RAM(**{"glimpses": 2, "patch": 2, **changes})


def test_weights_and_machines_that_mean_nothing_are_named():
    with pytest.raises(ValueError, match="policy_weight must be 0 or more; got -1"):
        Reinforce(0.1, -1)
    with pytest.raises(ValueError, match="ram, dense, convolutional; got 'forest'"):
        small(machine="forest")


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, None), (2, 3, 4, 5, 6)])
def test_images_of_no_known_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"images of shape .* of known size; got"):
        RAM(2, 3).build(shape)
