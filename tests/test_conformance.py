"""What every public layer, task and entry keeps; a new file is tested without being named here."""

import collections
import dataclasses
import doctest
import functools
import glob
import hashlib
import importlib
import inspect
import itertools
import json
import math
import os
import re
import subprocess
import unittest.mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import layers, trainers, zoo
from ponderzoo.export import _package
from ponderzoo.export._session import Session, StatusError, in_words
from ponderzoo.export._version import read_meta_graph, signatures_of
from ponderzoo.layers._base import OwnDense, SequenceLayer
from ponderzoo.trainers import _rooms, data
from ponderzoo.trainers._evaluate import asked, no_state
from ponderzoo.trainers._metrics import MeanLoss, OwnLoss
from ponderzoo.trainers._task import NATS
from ponderzoo.trainers.tasks._images import SIDES
from ponderzoo.zoo._registry import PRETRAINED
from small import small_model, small_task

LAYERS = {
    name: cls
    for name, cls in vars(layers).items()
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)
}
SEQUENCE_LAYERS = [name for name, cls in LAYERS.items() if issubclass(cls, SequenceLayer)]
HOLES = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS = 4
MOST_PRETRAINED_BYTES, MOST_BYTES = 80_000_000, 4_000_000
MOST_EVENT_BYTES = 300_000

each_layer = pytest.mark.parametrize("name", LAYERS)
each_sequence_layer = pytest.mark.parametrize("name", SEQUENCE_LAYERS)
each_task = pytest.mark.parametrize("name", trainers.tasks())
each_entry = pytest.mark.parametrize("name", zoo.list())
one_entry_of_each_task = pytest.mark.parametrize(
    "name", sorted({zoo.info(name).task: name for name in reversed(zoo.list())}.values())
)


def flat(outputs):
    return [np.asarray(x) for x in keras.tree.flatten(outputs)]


def assert_same(found, expected, tolerance=1e-5):
    """Equal shapes, and errors within `tolerance` of the largest entry of an array."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape
        atol = tolerance * scale_of(b)
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=0, atol=atol)


def scale_of(x):
    """The largest entry of an array, or 1."""
    return max(1.0, np.max(np.abs(np.float64(x)), initial=0.0))


def nudge(layer, size, seed):
    """Changes all weights of a layer or a model, each at random by up to `size` of itself."""
    rng = np.random.default_rng(seed)
    floats = [x for x in layer.weights if keras.backend.is_float_dtype(x.dtype)]
    for weight in floats:
        weight.assign(weight * (1 + size * rng.uniform(-1, 1, weight.shape)))


# Layers: the case of each is the call that the example in its docstring makes.


def example(name, dtype):
    """The layer of a docstring's example, and the arguments of its call.

    Where those are all ones there are random numbers instead; others, such as states, are kept.
    """
    cls, calls = LAYERS[name], []
    module = importlib.import_module(cls.__module__)
    tests = doctest.DocTestFinder(recurse=False).find(cls, name, module, dict(vars(module)))
    source = "".join(line.source for test in tests for line in test.examples)
    call = cls.__call__

    def record(self, *args, **kwargs):
        if type(self) is cls:
            calls.append((self, args, kwargs))
        return call(self, *args, **kwargs)

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    try:
        with unittest.mock.patch.object(cls, "__call__", record):
            exec(source, dict(vars(module)))
    finally:
        keras.config.set_dtype_policy(before)
    assert calls, f"the docstring of {name} has no example that calls it"
    layer, args, kwargs = calls[0]
    rng = np.random.default_rng(0)

    def draw(x):
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            return tf.convert_to_tensor(x)
        ones = np.all(np.asarray(x) == 1)
        values = rng.normal(size=x.shape) if ones else np.asarray(x)
        return tf.constant(values, "float64" if dtype == "float64" else "float32")

    return layer, *keras.tree.map_structure(draw, (args, kwargs))


def model_of(layer, args, kwargs):
    """A model around a layer, its inputs by number, with them."""
    tensors, inputs = {}, {}

    def enter(x):
        name = f"input_{len(inputs)}"
        tensors[name] = x
        inputs[name] = keras.Input(x.shape[1:], dtype=x.dtype.name, name=name)
        return inputs[name]

    args, kwargs = keras.tree.map_structure(enter, (args, kwargs))
    return keras.Model(inputs, keras.tree.flatten(layer(*args, **kwargs))), tensors


@each_layer
def test_layer_comes_back_from_its_config(name):
    layer, args, kwargs = example(name, "float32")
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    again(*args, **kwargs)
    again.set_weights(layer.get_weights())
    assert_same(flat(again(*args, **kwargs)), flat(layer(*args, **kwargs)))
    assert keras.saving.get_registered_name(type(layer)) == f"ponderzoo>{name}"


@each_layer
def test_layer_says_what_it_will_return(name):
    layer, args, kwargs = example(name, "float32")
    symbolic = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, x.dtype.name), (args, kwargs)
    )
    said = keras.tree.flatten(layer.compute_output_spec(*symbolic[0], **symbolic[1]))
    for spec, real in zip(said, flat(layer(*args, **kwargs)), strict=True):
        assert (tuple(spec.shape), spec.dtype) == (real.shape, real.dtype.name)


def weighed(layer, outputs):
    """The sum of a layer's outputs, each weighed at random, and of its losses."""
    total = sum((tf.cast(loss, "float64") for loss in layer.losses), tf.zeros((), "float64"))
    for seed, x in enumerate(outputs):
        if x.dtype.is_floating:
            weights = np.random.default_rng(seed).normal(size=x.shape)
            total += tf.reduce_sum(tf.cast(x, "float64") * weights)
    return total


def differentiated(layer, args, kwargs, run=lambda step: step, **options):
    """Outputs, and the gradient of what they are `weighed` to, by weights and inputs."""

    def step(args, kwargs):
        given = [x for x in keras.tree.flatten((args, kwargs)) if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = keras.tree.flatten(layer(*args, **kwargs, **options))
            total = weighed(layer, outputs)
        weights = [variable.value for variable in layer.trainable_variables]
        if not weights + given:
            return outputs, []
        zero = tf.UnconnectedGradients.ZERO
        return outputs, tape.gradient(total, [*weights, *given], unconnected_gradients=zero)

    return flat(run(step)(args, kwargs))


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


@functools.cache
def truth(name):
    """The layer in float64, and what `differentiated` gives of it."""
    layer, args, kwargs = example(name, "float64")
    return layer, differentiated(layer, args, kwargs)


def in_dtype(name, dtype):
    """The layer in another dtype with the weights that it has in float64."""
    layer, args, kwargs = example(name, dtype)
    layer.set_weights(truth(name)[0].get_weights())
    return layer, args, kwargs


MODES = {"eager": lambda function: function, "graph": tf.function, "xla": compiled}


@each_layer
def test_layer_in_every_mode_has_the_value_and_gradient_of_float64(name):
    layer, *single = in_dtype(name, "float32")
    for run in MODES.values():
        assert_same(differentiated(layer, *single, run), truth(name)[1], 1e-4)


ROUNDED = ("exp", "log", "log1p", "rsqrt", "sigmoid", "softplus", "sqrt", "tanh")


@each_layer
def test_layer_on_another_processor_has_the_value_and_gradient_of_float64(name, monkeypatch):
    """One whose functions round up and down in turns where this one rounds to nearest."""
    layer, *single = in_dtype(name, "float32")
    errors = itertools.cycle((2.0**-23, -(2.0**-23)))

    def rounded(function):
        return lambda x, *more: function(x, *more) * (1 + next(errors))

    for function in ROUNDED:
        monkeypatch.setattr(keras.ops, function, rounded(getattr(keras.ops, function)))
    assert_same(differentiated(layer, *single), truth(name)[1], 1e-4)


@each_layer
def test_layer_under_mixed_precision_is_about_as_in_float64(name):
    """At its weights or near them: where half precision falls on the other side of a kink, such as
    that of a ReLU, and how large the step is there, depends on the processor."""
    mixed, right = differentiated(*in_dtype(name, "mixed_bfloat16")), truth(name)[1]
    for seed in range(3):
        try:
            return assert_same(mixed, right, 0.1)
        except AssertionError:
            both = [in_dtype(name, dtype) for dtype in ("mixed_bfloat16", "float64")]
            for layer, *_ in both:
                nudge(layer, 0.1, seed)
            mixed, right = (differentiated(*call) for call in both)
    assert_same(mixed, right, 0.1)


@each_layer
def test_layer_has_the_gradient_of_its_outputs(name):
    """By finite differences in float64, along a random direction of each weight and input.

    What draws may have the gradient of its mean, `gradient_of_mean`, which its own tests look at.
    """
    if getattr(LAYERS[name], "gradient_of_mean", False):
        pytest.skip("its gradient is that of the mean of what it draws")
    layer, expected = truth(name)
    _, args, kwargs = example(name, "float64")
    inputs = [x for x in keras.tree.flatten((args, kwargs)) if x.dtype == "float64"]
    variables = layer.trainable_variables
    rng, step = np.random.default_rng(1), 1e-7

    @tf.function
    def value(inputs):
        given = iter(inputs)
        moved = keras.tree.map_structure(
            lambda x: next(given) if x.dtype == "float64" else x, (args, kwargs)
        )
        return weighed(layer, keras.tree.flatten(layer(*moved[0], **moved[1])))

    gradients = expected[len(expected) - len(variables) - len(inputs) :]
    for i, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)
        values = []
        for sign in (1, -1):
            moved = list(inputs)
            if i < len(variables):
                middle = np.asarray(variables[i])
                variables[i].assign(middle + sign * step * direction)
            else:
                moved[i - len(variables)] += sign * step * direction
            values.append(float(value(moved)))
            if i < len(variables):
                variables[i].assign(middle)
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-5, abs=1e-6)


# Layers within what Keras has around them.


def sequence_layer(name, dtype="float32", **changes):
    """The layer of the example, with the outputs of all steps alone, and 4 steps for it."""
    layer, (x, *_), _ = example(name, dtype)
    config = layer.get_config()
    changes = {**{key: False for key in config if key.startswith("return_")}, **changes}
    if "return_sequences" in config:
        changes["return_sequences"] = True
    layer = type(layer).from_config({**config, **changes, "name": "layer"})
    steps = np.random.default_rng(0).normal(size=(*HOLES.shape, x.shape[-1]))
    layer.build(steps.shape)
    return layer, tf.constant(steps, dtype)


def check_masked(name, *modes):
    """Also where masked steps are not what the layer makes them unless it is told."""
    zero = not sequence_layer(name)[0].get_config()["zero_output_for_mask"]
    changes = {"zero_output_for_mask": zero, "return_state": True}
    exact, x = sequence_layer(name, "float64", **changes)
    options = {"mask": tf.constant(HOLES), "training": True}
    expected = differentiated(exact, (x,), {}, **options)
    single, x = sequence_layer(name, **changes)
    single.set_weights(exact.get_weights())
    for mode in modes:
        assert_same(differentiated(single, (x,), {}, MODES[mode], **options), expected, 1e-4)


@each_sequence_layer
def test_masked_layer_has_the_value_and_gradient_of_float64(name):
    check_masked(name, "eager", "graph")  # `test_xla.py` has it under XLA


@each_sequence_layer
def test_layer_goes_into_time_distributed(name):
    layer, x = sequence_layer(name)
    outer = tf.stack([x, 2 * x, -x], axis=1)
    expected = np.stack([layer(outer[:, i]) for i in range(3)], axis=1)
    assert_same(flat(keras.layers.TimeDistributed(layer)(outer)), [expected])
    symbolic = keras.layers.TimeDistributed(layer)(keras.Input(outer.shape[1:]))
    assert symbolic.shape == (None, *expected.shape[1:])


@each_sequence_layer
@pytest.mark.parametrize("return_state", [False, True], ids=["output", "state"])
def test_layer_says_its_shape_as_a_symbolic_call_has_it(name, return_state):
    layer, x = sequence_layer(name, return_state=return_state)
    said = layer.compute_output_shape((None, *x.shape[1:]))
    symbolic = layer(keras.Input(x.shape[1:]))
    assert said == (tuple(x.shape for x in symbolic) if return_state else symbolic.shape)


@each_sequence_layer
def test_layer_goes_into_bidirectional(name):
    layer, x = sequence_layer(name, return_state=True, zero_output_for_mask=True)
    both = keras.layers.Bidirectional(layer, merge_mode=None)
    forward, backward, *states = both(x, mask=HOLES)
    assert both.backward_layer.go_backwards and not both.forward_layer.go_backwards
    layer.set_weights(both.forward_layer.get_weights())
    there, *ends = layer(x, mask=HOLES)
    layer.set_weights(both.backward_layer.get_weights())
    back, *others = layer(tf.reverse(x, [1]), mask=tf.reverse(HOLES, [1]))
    expected = [there, tf.reverse(back, [1]), *ends, *others]
    assert_same(flat([forward, backward, *states]), flat(expected))
    plain, _ = sequence_layer(name)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Bidirectional(plain)])
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    assert_same(flat(again(x)), flat(model(x)))


@each_sequence_layer
@pytest.mark.parametrize("return_state", [False, True], ids=["alone", "with state"])
def test_layer_in_bidirectional_returns_what_it_tells_of_itself(name, return_state):
    """Where it tells more than output and state: behind the outputs, for each direction."""
    layer, x = sequence_layer(name)
    more = {
        key: True
        for key in layer.get_config()
        if key.startswith("return_") and key not in ("return_sequences", "return_state")
    }
    if not more:
        pytest.skip("it returns outputs and states alone")
    layer, x = sequence_layer(name, return_state=return_state, **more)
    both = keras.layers.Bidirectional(layer, merge_mode=None)
    forward, backward, *told = both(x)
    expected = [both.forward_layer(x), both.backward_layer(x)]
    assert_same(flat([forward, tf.reverse(backward, [1])]), flat([y for y, *_ in expected]))
    assert_same(flat(told), flat([rest for _, *rest in expected]))
    symbolic = both(keras.Input(x.shape[1:]))
    shapes = [x.shape[1:] for x in keras.tree.flatten(symbolic)]
    assert shapes == [x.shape[1:] for x in flat([forward, backward, *told])]


@each_sequence_layer
def test_layer_that_goes_backwards_turns_the_mask(name):
    layer, x = sequence_layer(name, go_backwards=True)
    np.testing.assert_array_equal(layer.compute_mask(x, HOLES), HOLES[:, ::-1])


@each_sequence_layer
def test_layer_says_where_its_state_is_kept(name):
    with pytest.raises((ValueError, TypeError), match=r"return_state=True.* as initial_state"):
        sequence_layer(name, stateful=True)


TWO_REPLICAS = """
import json
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from test_conformance import LAYERS, example, one_step_of_everything

examples = {name: example(name, "float32") for name in LAYERS}
one = one_step_of_everything(examples)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    print(json.dumps([one, one_step_of_everything(examples)]))
"""


def one_step_of_everything(examples, rows=4):
    """Losses, and weights after a step, of a model of new layers like those that learn."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    tensors, inputs, outputs, targets = {}, {}, {}, {}
    for name, (layer, args, kwargs) in examples.items():
        if not layer.trainable_variables:
            continue
        model, given = model_of(type(layer).from_config(layer.get_config()), args, kwargs)
        named = {key: f"{name}_{key}" for key in given}
        for key, x in given.items():
            tensors[named[key]] = np.resize(x, (rows, *x.shape[1:]))
            inputs[named[key]] = keras.Input(x.shape[1:], dtype=x.dtype.name, name=named[key])
        entered = {key: inputs[place] for key, place in named.items()}
        for i, x in enumerate(keras.tree.flatten(model(entered))):
            if keras.backend.is_float_dtype(x.dtype):
                # A number a row: Keras's loss would take the mean over the rows twice.
                x = x if len(x.shape) > 1 else keras.ops.expand_dims(x, -1)
                outputs[f"{name}_output_{i}"] = x
                targets[f"{name}_output_{i}"] = rng.normal(size=(rows, *x.shape[1:]))
    model = keras.Model(inputs, outputs)
    losses = dict.fromkeys(outputs, "mse")
    model.compile(keras.optimizers.SGD(0.1), losses, run_eagerly=True)
    history = model.fit(tensors, targets, batch_size=rows, shuffle=False, verbose=0).history
    # What squares gradients of rows, as `AdaptiveWeightNoise` does, has fewer rows on a replica.
    alike = [w for w in model.weights if "log_stddev" not in w.name]
    return history, [np.asarray(w).tolist() for w in alike]


def test_layers_on_two_replicas_lose_and_step_as_on_one_device(fresh):
    """Eagerly, as graphs of all layers take long; `test_losses.py` has graphs of replicas."""
    (one, weights), (two, others) = json.loads(fresh(TWO_REPLICAS).splitlines()[-1])
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@each_layer
def test_layer_is_cloned(name):
    model, inputs = model_of(*example(name, "float32"))
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    assert_same(flat(again(inputs)), flat(model(inputs)))


@each_layer
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_quantized_layer_is_near_or_refuses(name):
    layer, args, kwargs = example(name, "float32")
    model, inputs = model_of(layer, args, kwargs)
    before = [x for x in flat(model(inputs)) if x.dtype == "float32"]
    for child in layer._flatten_layers(include_self=False):
        if isinstance(child, OwnDense):
            with pytest.raises(NotImplementedError, match=f"{child.name} cannot be quantized"):
                child.quantize("int8")
            with pytest.raises(NotImplementedError, match=f"{child.name} cannot have LoRA"):
                child.enable_lora(1)
    model.quantize("int8")
    assert_same([x for x in flat(model(inputs)) if x.dtype == "float32"], before, 0.05)


@each_layer
def test_layer_takes_a_variable(name):
    layer, args, kwargs = example(name, "float32")
    given = keras.tree.map_structure(tf.Variable, (args, kwargs))
    assert_same(flat(layer(*given[0], **given[1])), flat(layer(*args, **kwargs)))


# Tasks.


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A directory with a small text, and with the samples that data sets make of themselves."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "enwik8").write_bytes(b"The [[history]] of the world, as it is told.\n" * 200)
    for name in data.list():
        if hasattr(data.dataset(name), "sample"):
            data.dataset(name).sample(folder)
    return str(folder)


def with_data(fields, root):
    return {"root": root} if "root" in fields else {}


def find_task(name, root):
    fields = trainers.task(name).__dataclass_fields__
    return trainers.task(name, **with_data(fields, root))


def assert_equal_batches(a, b):
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def differ(a, b):
    return any(not np.array_equal(x[k], y[k]) for x, y in zip(a, b) for k in x)


@each_task
def test_task_has_signatures_and_notation(name):
    room = _rooms.find("ponderzoo.zoo.signatures", name, "task with signatures")
    assert list(inspect.signature(room.signatures).parameters) == ["model", "task", "told"]
    assert next(iter(inspect.signature(room.notation).parameters)) == "task"


@each_task
def test_task_is_its_settings(name):
    task = trainers.task(name)
    settings = json.loads(json.dumps(dataclasses.asdict(task)))
    assert trainers.task(name, **settings) == task and task.name == name
    with pytest.raises(ValueError, match="no_such_setting"):
        trainers.task(name, no_such_setting=1)


@each_task
def test_task_batches_are_what_the_specs_say(name, root):
    task = find_task(name, root)
    levels = task.difficulties
    for difficulty in (
        None,
        *levels[:1],
        *levels[-1:],
        *([(levels[0], levels[-1])] if levels else []),
        *[*task.lessons.values()][:1],
        *[*task.lessons.values()][-1:],
    ):
        batch = task.batch(np.random.default_rng(0), ROWS, difficulty)
        for arrays, specs in zip(batch, (task.input_spec, task.target_spec), strict=True):
            assert arrays.keys() == specs.keys()
            for key, (shape, dtype) in specs.items():
                assert arrays[key].dtype == dtype and len(arrays[key]) == ROWS
                assert len(arrays[key].shape) == 1 + len(shape)
                assert all(want in (None, got) for want, got in zip(shape, arrays[key].shape[1:]))
        assert task.duration(batch[0]) >= 1
    assert set(task.loss()) <= set(task.target_spec)
    if task.target_spec:  # else models give their own loss, and its parts
        assert set(task.metrics()) <= set(task.target_spec)


@each_task
def test_task_stream_depends_on_seed_split_and_place_alone(name, root):
    def stream(split="train", seed=1):
        return find_task(name, root).dataset(split, batch_size=ROWS, steps=3, seed=seed)

    one, two = stream(), stream()
    two[0]
    assert_equal_batches(one[2], two[2])
    assert_equal_batches(one[0], two[0])
    two.epoch = 1
    others = (one[1], two[0], stream("test")[0], stream("validation")[0], stream(seed=2)[0])
    assert all(differ(one[0], other) for other in others)


# Entries.


@pytest.fixture(scope="session")
def small():
    """Untrained models of entries, small."""
    models = {}

    def build(name):
        if name not in models:
            keras.utils.set_random_seed(0)
            models[name] = small_model(name)
        return models[name]

    return build


@pytest.fixture(scope="session")
def batch_of(root, small):
    """Task and batch of an entry, with seeds and a state where its model takes them."""

    def draw(name):
        entry = zoo.info(name)
        fields = zoo.task_of(entry).__dataclass_fields__
        task = zoo.task_of(entry, **{**with_data(fields, root), **entry.small_task})
        inputs, targets = task.batch(np.random.default_rng(0), ROWS)
        return task, asked(small(name), inputs), targets

    return draw


@pytest.fixture(scope="session")
def answer_of(small, batch_of):
    """What the small model of an entry answers to the batch, eagerly."""

    @functools.cache
    def ask(name):
        return keras.tree.map_structure(np.asarray, small(name)(batch_of(name)[1]))

    return ask


@each_entry
def test_entry_is_plain_and_complete(name):
    entry = zoo.info(name)
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name) and entry.name == name
    assert entry.paper.title and entry.paper.authors and 1990 < entry.paper.year < 2100
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.paper.arxiv)
    assert entry.task in trainers.tasks()
    for settings in (entry.config, entry.task_config, entry.train, entry.small):
        assert json.loads(json.dumps(settings)) == settings
    trainers.Recipe.parse(entry.train)
    with pytest.raises(ValueError, match="no_such_setting"):
        zoo.build(name, no_such_setting=1)


@each_entry
def test_no_number_of_a_model_is_negative_or_none_at_all(name):
    """But the bias that forget gates begin with may be negative."""
    entry = zoo.info(name)
    task, config = small_task(name), {**entry.config, **entry.small}
    for key, value in config.items():
        if type(value) in (int, float) and key != "forget_bias":
            for bad in (-1, math.nan) if type(value) is float else (-1,):
                with pytest.raises(ValueError, match=str(bad)):
                    entry.build(task, **{**config, key: bad})


@each_entry
def test_entry_model_names_its_inputs_and_outputs(name, small, batch_of, answer_of):
    task, inputs, targets = batch_of(name)
    outputs = answer_of(name)
    assert set(small(name).input) == set(inputs)
    assert set(targets) <= set(outputs)
    if "updates" in outputs:
        shape = outputs["updates"].shape
        assert shape == outputs["remainder"].shape and len(shape) == 2
        assert outputs["updates"].dtype == outputs["remainder"].dtype == "float32"
    assert len(task.describe(inputs, targets, outputs)) == ROWS
    assert len(task.describe(inputs, None, outputs)) == ROWS


@each_entry
def test_entry_comes_back_from_its_config(name, small, batch_of, answer_of):
    model, (_, inputs, _) = small(name), batch_of(name)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(model.get_weights())
    assert_same(flat(again(inputs)), flat(answer_of(name)))


@each_entry
def test_entry_learns_with_every_weight(name, small, batch_of):
    model, (task, inputs, targets) = small(name), batch_of(name)
    before = model.get_weights()
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        own = {NATS: OwnLoss()} if NATS in outputs and not task.target_spec else {}
        losses = [f(targets.get(key), outputs[key]) for key, f in (task.loss() | own).items()]
        # What acts has no loss of an output: its way of learning makes one.
        kept, steps = {key: outputs[key] for key in no_state(model, 1)}, [outputs]
        if kept:
            given = {key: tf.constant(x) for key, x in inputs.items()}
            steps.append(model({**given, **kept}, training=True))
        made = [x for step in steps for x in step.values()]
        losses = losses or [tf.reduce_mean(tf.square(x)) for x in made]
        total = sum(losses) + sum(model.losses)
    assert losses and np.isfinite(total)
    gradients = tape.gradient(total, model.trainable_variables)
    model.set_weights(before)  # some keep what they have seen, and other tests ask them, too
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None, variable.path
        gradient = np.asarray(tf.convert_to_tensor(gradient))  # of rows alone, where words are read
        assert np.all(np.isfinite(gradient)) and np.any(gradient != 0), variable.path
    own = {key: [MeanLoss(loss)] for key, loss in task.loss().items()}
    told = zoo.info(name).measures(model)
    for key, metrics in (*task.metrics().items(), *own.items(), *told.items()):
        for metric in metrics:
            metric.update_state(targets.get(key), outputs[key])
            assert np.isfinite(metric.result())


@each_entry
def test_entry_under_xla_gives_the_same_numbers(name, small, batch_of, answer_of):
    model, (_, inputs, _) = small(name), batch_of(name)
    compiled = tf.function(model, jit_compile=True)
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    assert_same(flat(compiled(tensors)), flat(answer_of(name)))


@one_entry_of_each_task
def test_entry_exports_and_passes_the_gate(name, small, batch_of, tmp_path, monkeypatch):
    """Asked with fewer rows than what is shipped (`test_pretrained_weights_pass_the_gate`)."""
    monkeypatch.setattr(_package, "BATCH_SIZES", (1, 3))
    monkeypatch.setattr(_package, "ALLOWED_BATCH_SIZES", (1, 4))
    model, (task, _, _) = small(name), batch_of(name)
    signatures = zoo.info(name).signatures(model, task)
    assert zoo.info(name).told.keys() & model.output.keys() <= signatures["serve"].outputs.keys()
    told = {"figures": zoo.info(name).figures, "entry": zoo.info(name).origin(task)}
    version = _package.package(model, signatures, name, tmp_path, **told)
    assert os.path.exists(os.path.join(version, "saved_model.pb"))
    with open(os.path.join(version, "assets.extra", "signatures.json")) as file:
        described = json.load(file)
    origin = described["entry"]
    assert origin["task"] == task.name and origin["purpose"].endswith((".", "?", "`."))
    assert origin["paper"]["arxiv"] == zoo.info(name).paper.arxiv
    if zoo.info(name).bytes:
        assert os.path.exists(os.path.join(version, "assets.extra", origin["picture"]))
    for key, signature in signatures.items():
        for output, names in signature.names.items():
            written = described["signatures"][key]["outputs"][output]
            assert written["names"] == list(names)
            assert written["shape"][-1] in (None, len(names))
        tensors = {**described["signatures"][key]["inputs"]}
        tensors |= described["signatures"][key]["outputs"]
        for image in signature.images:
            axes = len(tensors[image]["shape"]) - bool(signature.levels)
            assert tensors[image]["image"] and axes in (3, 4)
        for name in signature.maps:
            assert tensors[name]["map"] and len(tensors[name]["shape"]) == 3
        for windows, over in signature.over.items():
            assert over in signature.images and tensors[windows]["over"] == over
            assert signature.names[windows] == SIDES
    ask_oddly(version, signatures)


def odd(signature):
    """Requests of no rows, and with a whole number that is far too small or too large."""
    yield {name: value[:0] for name, value in signature.sample.items()}
    for name, (_, dtype) in signature.inputs.items():
        if dtype.startswith("int"):
            for number in (-1, np.iinfo(dtype).min, np.iinfo(dtype).max):
                wrong = signature.sample[name].copy()
                wrong.flat[0] = number
                yield signature.sample | {name: wrong}


def ask_oddly(version, signatures):
    """Asks a package: each odd request is answered, or refused in words of ours."""
    with Session(version) as session:
        written = signatures_of(read_meta_graph(version))
        for key, signature in signatures.items():
            fetches = [info.name for info in written[key].outputs.values()]
            for inputs in odd(signature):
                feeds = {written[key].inputs[name].name: inputs[name] for name in inputs}
                try:
                    session.run(feeds, fetches)
                except StatusError as error:
                    assert "must " in in_words(error.message), (key, inputs, error)


@each_entry
def test_entry_is_asked_and_answers_in_its_own_notation(name, small, batch_of):
    model, (task, _, _) = small(name), batch_of(name)
    notation, signatures = zoo.info(name).notation(task), zoo.info(name).signatures(model, task)
    assert notation.keys() <= signatures.keys()
    for key, written in notation.items():
        sample, specs = written.sample, signatures[key].inputs
        assert sample.keys() == specs.keys()
        for (shape, dtype), array in zip(map(specs.get, sample), sample.values()):
            assert len(array) == len(written.example) >= 2
            assert array.dtype == ("object" if dtype == "string" else dtype)
            assert all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
        tensors = {k: tf.constant(sample[k], dtype) for k, (_, dtype) in specs.items()}
        outputs = signatures[key].function(**tensors)
        shown = written.show(sample, {k: np.asarray(value) for k, value in outputs.items()})
        assert len(shown) == len(written.example) and all(shown)
        with pytest.raises(ValueError, match=r"^expected .*; got ''$"):
            written.read([written.example[0], ""])


# Files, read in a process that did not write them.

READER = """
import json, sys
import numpy as np

with open(sys.argv[1]) as file:
    cases = json.load(file)
import keras
from ponderzoo import zoo

for model, inputs, answer in cases:
    try:
        model = keras.saving.load_model(model if model.endswith(".keras") else zoo.path(model))
        with np.load(inputs) as arrays:
            given = {k.removeprefix("input/"): arrays[k] for k in arrays if k.startswith("input/")}
        outputs = model(given)
        if not isinstance(outputs, dict):
            outputs = {str(i): x for i, x in enumerate(keras.tree.flatten(outputs))}
        outputs = {f"output/{key}": np.asarray(x) for key, x in outputs.items()}
    except Exception as error:
        outputs = {"error": f"{type(error).__name__}: {error}"}
    np.savez(answer, **outputs)
"""


@pytest.fixture(scope="session")
def reloaded(fresh, small, batch_of, answer_of, tmp_path_factory):
    """Outputs of small models of all layers and entries: (before saving, in a fresh process)."""
    home, expected, cases = tmp_path_factory.mktemp("reloaded"), {}, []
    for kind, names in {"layer": LAYERS, "entry": zoo.list()}.items():
        for name in names:
            if kind == "layer":
                model, inputs = model_of(*example(name, "float32"))
                outputs = {str(i): x for i, x in enumerate(keras.tree.flatten(model(inputs)))}
            else:
                model, (_, inputs, _) = small(name), batch_of(name)
                outputs = answer_of(name)
            files = [str(home / f"{kind}_{name}{end}") for end in (".keras", "_in.npz", "_out.npz")]
            model.save(files[0])
            np.savez(files[1], **{f"input/{key}": np.asarray(x) for key, x in inputs.items()})
            expected[kind, name] = {f"output/{key}": np.asarray(x) for key, x in outputs.items()}
            cases.append(files)
    (home / "cases.json").write_text(json.dumps(cases))
    fresh(READER, home / "cases.json")
    return {
        key: (before, dict(np.load(files[2])))
        for (key, before), files in zip(expected.items(), cases)
    }


@pytest.mark.parametrize(
    "kind, name", [*(("layer", n) for n in LAYERS), *(("entry", n) for n in zoo.list())]
)
def test_loads_in_a_fresh_process_with_the_same_numbers(kind, name, reloaded):
    before, after = reloaded[kind, name]
    assert "error" not in after, after["error"]
    assert before.keys() == after.keys()
    assert_same([after[key] for key in before], list(before.values()), 1e-6)


# Pretrained files.


def shipped(name):
    """The entry, where it ships weights."""
    entry = zoo.info(name)
    if not entry.bytes:
        pytest.skip(f"{name} ships no weights yet")
    return entry


@pytest.fixture(scope="session")
def golden(fresh, tmp_path_factory):
    """What a fresh process makes of the golden inputs of all entries."""
    home, cases, answers = tmp_path_factory.mktemp("golden"), [], {}
    for name in zoo.list():
        file = os.path.join(zoo.info(name).directory, "golden.npz")
        if zoo.info(name).bytes and os.path.exists(file):
            cases.append([name, file, str(home / f"{name}.npz")])
    (home / "cases.json").write_text(json.dumps(cases))
    if cases:
        fresh(READER, home / "cases.json")
    for name, _, answer in cases:
        answers[name] = dict(np.load(answer))
    return answers


@each_entry
def test_pretrained_weights_give_the_golden_numbers(name, golden):
    """Within 1e-4, or four times what the rounding of its weights is worth to the model.

    That is more where it looks again and again at places of its own choice.
    """
    entry = shipped(name)
    assert name in golden, f"{name} ships no golden.npz"
    assert "error" not in golden[name], golden[name]["error"]
    with np.load(os.path.join(entry.directory, "golden.npz")) as file:
        arrays = dict(file)
    expected = {key: x for key, x in arrays.items() if key.startswith("output/")}
    assert expected and expected.keys() <= golden[name].keys()
    found = {key: golden[name][key] for key in expected}
    try:
        assert_same([*found.values()], [*expected.values()], 1e-4)
    except AssertionError:
        moved = moved_by_rounding(zoo.load(name), arrays)
        for key, x in expected.items():
            assert_same([found[key]], [x], max(1e-4, 4 * moved[key]))


def moved_by_rounding(model, arrays):
    """How far outputs go where weights are rounded otherwise, by name, as `assert_same` counts."""
    given = {k.removeprefix("input/"): x for k, x in arrays.items() if k.startswith("input/")}
    before, moved = model(given), collections.Counter()
    for seed in range(4):
        nudge(model, 2.0**-24, seed)
        for name, x in model(given).items():
            off = np.max(np.abs(x - before[name]), initial=0.0) / scale_of(before[name])
            moved[f"output/{name}"] = max(moved[f"output/{name}"], off)
    return moved


@each_entry
def test_pretrained_weights_are_those_that_were_measured(name):
    entry = shipped(name)
    with open(zoo.path(name), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert entry.metrics.get("sha256", digest) == digest
    assert entry.card


def test_pretrained_weights_stay_small():
    sizes = {name: zoo.info(name).bytes for name in zoo.list()}
    assert sum(sizes.values()) < MOST_PRETRAINED_BYTES
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}


@pytest.mark.entries
@each_entry
def test_pretrained_weights_pass_the_gate(name, tmp_path):
    entry, model = shipped(name), zoo.load(name)
    version = _package.package(model, entry.signatures(model, zoo.task_of(entry)), name, tmp_path)
    assert os.path.exists(os.path.join(version, "saved_model.pb"))


def test_cards_name_commits_of_the_history():
    """The commit of every run and of its baseline: whole, and part of this history."""
    if not os.path.isdir(os.path.join(ROOT, ".git")):
        pytest.skip("no git checkout")
    found = {}
    for entry in map(zoo.info, zoo.list()):
        for run in (entry.metrics, entry.metrics.get("baseline", {})):
            if "commit" in run:
                found.setdefault(run["commit"], entry.name)
    command = ["git", "-C", ROOT, "rev-list", "HEAD"]
    history = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if os.path.exists(os.path.join(ROOT, ".git", "shallow")):
        pytest.skip("a shallow checkout has no history")
    assert {commit: name for commit, name in found.items() if commit not in history} == {}


@each_entry
def test_event_files_stay_small(name):
    entry = shipped(name)
    logs = glob.glob(os.path.join(entry.directory, "logs", "**", "*tfevents*"), recursive=True)
    assert sum(map(os.path.getsize, logs)) < MOST_EVENT_BYTES


def test_no_pretrained_files_stand_without_their_entry():
    found = os.listdir(PRETRAINED) if os.path.isdir(PRETRAINED) else []
    assert {name for name in found if not name.startswith(".")} <= set(zoo.list())
