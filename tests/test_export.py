"""Packages: what is written, when it appears, and what the gate lets through."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from keras import ops
from ponderzoo.export import _gate, _package, _recipes, _schema, _version
from ponderzoo.export._gate import verify
from ponderzoo.export._package import ALLOWED_BATCH_SIZES, package
from ponderzoo.export._version import GateError
from ponderzoo.zoo.signatures._signature import Signature
from tensorflow_serving.config import model_server_config_pb2


class Ponder(keras.layers.Layer):
    """Repeats a dense layer until every row has gone `steps` times: a loop over data."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(4, activation="tanh")

    def build(self, state_shape, steps_shape):
        self.dense.build(state_shape)

    def call(self, state, steps):
        def more(state, updates):
            return ops.any(updates < steps)

        def update(state, updates):
            going = updates < steps
            state = ops.where(going[:, None], self.dense(state), state)
            return state, updates + ops.cast(going, "int32")

        return ops.while_loop(more, update, (state, ops.zeros_like(steps)))


def make_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,), name="state"), keras.Input((), dtype="int32", name="steps")
    return keras.Model(inputs, Ponder()(*inputs))


def make_signatures(model):
    def serve(state, steps):
        state, updates = model((state, steps))
        return {"state": state, "updates": updates}

    def shout(text):
        return {"text": tf.strings.upper(text), "length": tf.strings.length(text)}

    state = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    text = np.array([b"one", "zwölf".encode(), b""], object)
    return {
        "serve": Signature(
            function=serve,
            inputs={"state": ((None, 4), "float32"), "steps": ((None,), "int32")},
            sample={"state": state, "steps": np.array([2, 0, 5], "int32")},
            outputs={"state": "the last state", "updates": "how often it was updated"},
        ),
        "shout": Signature(
            function=shout,
            inputs={"text": ((None,), "string")},
            sample={"text": text},
            outputs={"text": "in capitals", "length": "bytes"},
        ),
    }


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """A version directory that passed the gate."""
    output = tmp_path_factory.mktemp("written")
    return package(model, make_signatures(model), "ponder", output, card="# Ponder")


@pytest.fixture
def copy(written, tmp_path):
    """The same, to be spoilt."""
    return shutil.copytree(written, tmp_path / "1")


def save(directory, function, *specs, signature="serve"):
    archive = keras.export.ExportArchive()
    archive.add_endpoint(signature, function, input_signature=list(specs))
    archive.write_out(str(directory), verbose=False)
    return directory


def numbers(shape=(None, 4), name="state", dtype="float32"):
    return tf.TensorSpec(shape, dtype, name=name)


def visible(directory):
    return sorted(name for name in os.listdir(directory) if name != ".lock")


def read_config(output):
    with open(os.path.join(output, "models.config")) as file:
        return text_format.Parse(file.read(), model_server_config_pb2.ModelServerConfig())


def test_version_directory_is_whole(written):
    assert os.path.isabs(written) and written.endswith(os.path.join("ponder", "1"))
    extra = os.path.join(written, "assets.extra")
    files = ["card.md", "manifest.json", "signatures.json", "tf_serving_warmup_requests"]
    assert sorted(os.listdir(extra)) == files
    assert visible(os.path.dirname(written)) == ["1"]
    assert os.path.exists(os.path.join(written, "batching_params.pbtxt"))
    (block,) = read_config(os.path.join(written, "..", "..")).model_config_list.config
    assert (block.name, block.model_platform) == ("ponder", "tensorflow")
    assert block.base_path == os.path.dirname(written)


def test_signatures_json_tells_how_to_call(written):
    with open(os.path.join(written, "assets.extra", "signatures.json")) as file:
        described = json.load(file)
    serve, shout = described["signatures"]["serve"], described["signatures"]["shout"]
    assert serve["inputs"]["state"] == {"dtype": "float32", "shape": [None, 4]}
    assert serve["outputs"]["updates"]["meaning"] == "how often it was updated"
    assert serve["rest"]["path"] == "/v1/models/ponder:predict"
    assert serve["rest"]["body"]["inputs"]["steps"] == [2, 0]
    assert serve["grpc"]["inputs"]["steps"]["int_val"] == [2, 0]
    assert shout["rest"]["body"]["inputs"]["text"][0] == {"b64": "b25l"}
    assert described["min_consumer"] <= described["producer"]
    assert described["batching"] == {"enabled": True, "max_batch_size": 32, "pads": False}
    assert described["requires_xla"] is False


def test_gate_runs_every_signature_and_keeps_the_loop(written):
    report = verify(written)
    assert report.signatures == ("serve", "serving_default", "shout")
    assert report.loops == 1
    assert report.runs == 3 * len(ALLOWED_BATCH_SIZES)
    assert not report.requires_xla


def test_gate_compares_every_signature_at_batches_of_1_2_7_and_the_largest(model, written):
    expected = _package.expected_of(make_signatures(model))
    sizes = {
        name: [len(next(iter(inputs.values()))) for inputs, _ in cases]
        for name, cases in expected.items()
    }
    assert sizes == {"serve": [1, 2, 7, 32], "shout": [1, 2, 7, 32]}
    assert verify(written, expected).compared == 8


def test_every_signature_is_warmed_up_at_every_allowed_batch_size(written):
    requests = _version.read_warmup(written)
    found = {
        (request.model_spec.signature_name, proto.tensor_shape.dim[0].size)
        for request in requests
        for proto in request.inputs.values()
    }
    names = ("serve", "serving_default", "shout")
    assert found == {(name, size) for name in names for size in ALLOWED_BATCH_SIZES}
    assert len(requests) == len(found)


def test_a_state_of_zeros_takes_no_room_in_the_warm_up_file(tmp_path):
    state = np.zeros((2, 1000), "float32")
    serve = Signature(lambda h: {"h": h}, {"h": ((None, 1000), "float32")}, {"h": state}, {"h": ""})
    path = str(tmp_path / "requests")
    _package._write_warmup(path, {"serve": serve}, "m")
    assert os.path.getsize(path) < 2000


def test_serving_default_shares_the_graph_of_serve(written):
    graph = _version.read_meta_graph(written)
    bodies = [f for f in graph.graph_def.library.function if len(f.node_def) > 5]
    loops = sum(node.op in ("While", "StatelessWhile") for f in bodies for node in f.node_def)
    assert loops == 1
    first, second = (graph.signature_def[key] for key in ("serve", "serving_default"))
    assert set(first.inputs) == set(second.inputs) and set(first.outputs) == set(second.outputs)


def test_each_variable_is_written_once(written, model):
    names = tf.train.list_variables(os.path.join(written, "variables", "variables"))
    shapes = sorted(tuple(shape) for name, shape in names if name.endswith("VARIABLE_VALUE"))
    assert shapes == sorted(tuple(variable.shape) for variable in model.variables)


def test_a_package_names_the_oldest_tensorflow_that_loads_it(written, model, tmp_path, monkeypatch):
    assert read_card(written)["oldest_tensorflow"] == "2.12"

    def serve(numbers):
        rows = tf.TensorArray("float32", size=0, dynamic_size=True, element_shape=(None,))
        return {"rows": tf.transpose(rows.write(0, numbers[:, 0]).stack())}

    sample = {"numbers": np.ones((2, 3), "float32")}
    grows = Signature(serve, {"numbers": ((None, 3), "float32")}, sample, {"rows": "a column"})
    directory = package(model, {"serve": grows}, "grows", tmp_path)
    assert read_card(directory)["oldest_tensorflow"] == "2.13"
    monkeypatch.setattr(_recipes, "TAG", "2.12.1")
    with pytest.raises(ValueError, match=r"needs TensorFlow 2.13 or newer.*serving:2.12.1"):
        package(model, {"serve": grows}, "grows", tmp_path)
    assert visible(os.path.dirname(directory)) == ["1"]


PLAIN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ponderzoo":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.path.remove("")  # the tests' own folder

import json
import keras
import numpy as np
import tensorflow as tf

directory = sys.argv[1]
with open(directory + "/assets.extra/signatures.json") as file:
    described = json.load(file)["signatures"]
package, said = tf.saved_model.load(directory), {}
for name, signature in described.items():
    inputs = {
        key: np.array(signature["rest"]["body"]["inputs"][key], tensor["dtype"])
        for key, tensor in signature["inputs"].items()
        if tensor["dtype"] != "string"
    } or {"text": np.array([b"one", b"two"], object)}
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    call, truth = getattr(package, name), package.signatures[name](**tensors)
    layer = keras.layers.TFSMLayer(directory, call_endpoint=name)
    backwards = dict(reversed(tensors.items()))
    answers = {
        "names": call(**tensors),
        "names, another order": call(**backwards),
        "a dict": call(tensors),
        "a dict, another order": call(backwards),
        "positions": call(*tensors.values()),
        "arrays": call(**inputs),
        "layer": layer(tensors),
    }
    for way, answer in answers.items():
        assert set(answer) == set(truth), (name, way)
        for key in truth:
            np.testing.assert_array_equal(answer[key], truth[key], err_msg=f"{name}, {way}, {key}")
    said[name] = len(answers)
assert not [name for name in sys.modules if name.split(".")[0] == "ponderzoo"]
print(json.dumps(said))
"""


def test_plain_tensorflow_calls_every_signature_by_name_by_dict_and_in_order(written, fresh):
    said = json.loads(fresh(PLAIN, written).splitlines()[-1])
    assert said == {"serve": 7, "shout": 7}


def ragged(lengths, function=None):
    """A signature that takes rows of any length, with or without the input that tells it."""

    def serve(numbers, lengths=None):
        real = tf.sequence_mask(lengths, tf.shape(numbers)[1], numbers.dtype)
        return {"total": tf.reduce_sum(numbers * real, axis=1)}

    inputs = {"numbers": ((None, None), "float32"), "lengths": ((None,), "int32")}
    sample = {"numbers": np.ones((2, 3), "float32"), "lengths": np.array([3, 1], "int32")}
    if not lengths:
        inputs.pop("lengths"), sample.pop("lengths")
        function = function or (lambda numbers: {"total": tf.reduce_sum(numbers, axis=1)})
    return {"serve": Signature(function or serve, inputs, sample, {"total": "a sum"})}


def read_batching(directory):
    path = os.path.join(directory, "batching_params.pbtxt")
    return _schema.read_text(path, _schema.BatchingParameters())


def read_card(directory):
    with open(os.path.join(directory, "assets.extra", "signatures.json")) as file:
        return json.load(file)


def test_a_package_says_how_to_batch_it(written):
    found = read_batching(written)
    assert list(found.allowed_batch_sizes) == [1, 2, 4, 8, 16, 32]
    assert found.max_batch_size.value == 32 and found.max_enqueued_batches.value == 100
    assert found.batch_timeout_micros.value == 2000 and found.num_batch_threads.value == 2
    assert not found.pad_variable_length_inputs
    assert "batching_params.pbtxt" in _version.manifest(written)


def test_rows_of_any_length_are_batched_only_where_lengths_are_told(model, tmp_path):
    padded = package(model, ragged(lengths=True), "padded", tmp_path)
    assert read_batching(padded).pad_variable_length_inputs
    assert read_card(padded)["batching"]["pads"]
    assert verify(padded).runs == 2 * len(ALLOWED_BATCH_SIZES) + 2  # padded
    alone = package(model, ragged(lengths=False), "alone", tmp_path)
    assert not os.path.exists(os.path.join(alone, "batching_params.pbtxt"))
    card = read_card(alone)["batching"]
    assert not card["enabled"] and "'serve' takes 'numbers' of any length" in card["why"]


def test_a_signature_that_reads_the_padding_is_refused(model, tmp_path):
    def serve(numbers, lengths):
        return {"total": tf.reduce_sum(numbers, axis=1) + 0 * tf.cast(lengths, tf.float32)}

    with pytest.raises(GateError, match="padded: 'total' differs from the same row without"):
        package(model, ragged(True, serve), "ponder", tmp_path)
    assert visible(tmp_path) == []


def test_versions_count_on_and_are_never_overwritten(model, tmp_path):
    signatures = make_signatures(model)
    (tmp_path / "ponder" / "007").mkdir(parents=True)
    assert package(model, signatures, "ponder", tmp_path).endswith("8")
    before = os.stat(tmp_path / "ponder" / "8" / "saved_model.pb").st_mtime_ns
    for version in (7, 8):
        with pytest.raises(FileExistsError, match=f"version {version} of ponder"):
            package(model, signatures, "ponder", tmp_path, version=version)
    assert os.stat(tmp_path / "ponder" / "8" / "saved_model.pb").st_mtime_ns == before
    assert visible(tmp_path / "ponder") == ["007", "8"]


def test_other_models_stay_in_the_config(model, tmp_path):
    block = 'config { name: "other" base_path: "/far/other" model_platform: "tensorflow" '
    block += "model_version_policy { specific { versions: 3 } } }"
    (tmp_path / "models.config").write_text(f"model_config_list {{ {block} }}")
    (tmp_path / "unlisted" / "1").mkdir(parents=True)
    package(model, make_signatures(model), "ponder", tmp_path)
    blocks = {block.name: block for block in read_config(tmp_path).model_config_list.config}
    assert sorted(blocks) == ["other", "ponder", "unlisted"]
    assert list(blocks["other"].model_version_policy.specific.versions) == [3]
    assert blocks["other"].base_path == "/far/other"


def test_bad_config_stops_before_anything_is_written(model, tmp_path):
    (tmp_path / "models.config").write_text("model_config_list { nonsense }")
    with pytest.raises(ValueError, match="is no ModelServerConfig"):
        package(model, make_signatures(model), "ponder", tmp_path)
    assert visible(tmp_path / "ponder") == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_leaves_no_version(model, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(_gate, "verify", fail)
    with pytest.raises(type(error)):
        package(model, make_signatures(model), "ponder", tmp_path)
    assert visible(tmp_path) == []


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_export import make_model, make_signatures, package
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
model = make_model()
package(model, make_signatures(model), "ponder", {output!r})
"""


def test_killed_writer_leaves_no_version_and_the_next_one_cleans_up(model, tmp_path):
    script = KILLED.format(tests=os.path.dirname(__file__), output=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (draft,) = os.listdir(tmp_path / "ponder")
    assert draft.startswith(".1.writing-")
    assert package(model, make_signatures(model), "ponder", tmp_path).endswith("1")
    assert os.listdir(tmp_path / "ponder") == ["1"]


KILLED_EVERYWHERE = """
import json, os, shutil, signal, sys
import numpy as np
from ponderzoo.export import _gate, _package, _repository
from ponderzoo.zoo.signatures._signature import Signature

whole, output = sys.argv[1:]
_package._write = lambda draft, *_: shutil.copytree(whole, draft)
_gate.verify = _package.expected_of = lambda *_: None
sample = {"x": np.zeros((2, 1), "float32")}
signatures = {"serve": Signature(None, {"x": ((None, 1), "float32")}, sample, {})}


def write(moment=None):
    seen = [0]

    def audit(event, arguments):
        # Every change of a name and every file that is opened, until the process ends.
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            if str(arguments[0]).startswith(output):
                seen[0] += 1
                if seen[0] == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    _package.package(None, signatures, "ponder", output)


def look():
    versions = _package.version_directories(os.path.join(output, "ponder"))
    broken = {v: list(map(str, _gate.damaged_files(path))) for v, path in versions.items()}
    files = list(map(str, _repository.failures(output)))
    blocks = _repository.read(output).model_config_list.config
    return [sorted(versions), any(broken.values()) or bool(files), len(blocks)]


moments, ended = [], False
while not ended:
    shutil.rmtree(output, ignore_errors=True)
    os.mkdir(output)
    child = os.fork()
    if not child:
        write(len(moments) + 1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ended = status == 0
    assert ended or os.WIFSIGNALED(status), status
    after = look()
    _package.package(None, signatures, "ponder", output)
    moments.append([after, look(), os.listdir(os.path.join(output, "ponder"))])
print(json.dumps(moments))
"""


def test_a_writer_killed_at_any_moment_leaves_whole_versions_alone(written, tmp_path, fresh):
    """The package is a copy here: what is killed is the way from a draft to a listed version."""
    moments = json.loads(fresh(KILLED_EVERYWHERE, written, tmp_path / "out").splitlines()[-1])
    assert len(moments) > 30
    for (versions, broken, listed), (later, broken_later, listed_later), names in moments:
        assert versions in ([], [1]) and not broken and listed in (0, 1)
        assert later == [*versions, len(versions) + 1] and not broken_later
        assert listed_later == 1 and sorted(names) == list(map(str, later))
    assert {len(versions) for (versions, *_), *_ in moments} == {0, 1}
    assert {listed for (_, _, listed), *_ in moments} == {0, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "name is letters"),
        ({"name": "run"}, "and not 'run'"),
        ({"version": -1}, "whole number"),
        ({"signatures": {}}, "first signature must be 'serve'"),
    ],
)
def test_arguments_are_refused_with_what_came(model, tmp_path, change, message):
    arguments = {"name": "ponder", "signatures": make_signatures(model), "version": None, **change}
    with pytest.raises(ValueError, match=message):
        package(model, output=tmp_path, **arguments)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({}, r"the sample has \[\]"),
        ({"state": np.zeros((2, 4))}, "must be float32 .* it is float64"),
        ({"state": np.zeros((2, 5), "float32")}, r"must be float32 \(None, 4\)"),
        ({"state": np.zeros((1, 4), "float32")}, "two rows or more"),
    ],
)
def test_sample_must_fit_the_inputs(model, tmp_path, sample, message):
    serve = Signature(lambda state: {}, {"state": ((None, 4), "float32")}, sample, {})
    with pytest.raises(ValueError, match=message):
        package(model, {"serve": serve}, "ponder", tmp_path)


def test_outputs_must_be_the_described_ones(model, tmp_path):
    inputs, sample = {"state": ((None, 4), "float32")}, {"state": np.zeros((2, 4), "float32")}
    serve = Signature(lambda state: {"other": state}, inputs, sample, {"state": "a state"})
    with pytest.raises(ValueError, match=r"must return a dict of \['state'\], got \['other'\]"):
        package(model, {"serve": serve}, "ponder", tmp_path)
    assert visible(tmp_path) == []


def refused(directory, *patterns, expected=None):
    with pytest.raises(GateError) as caught:
        verify(directory, expected)
    for pattern in patterns:
        assert pattern in str(caught.value)
    assert all(failure.file and failure.mend for failure in caught.value.failures)
    return caught.value


def test_gate_refuses_python_in_the_graph(tmp_path):
    def function(state):
        return {"state": tf.py_function(lambda x: x + 1, [state], tf.float32, name="python")}

    def shaped(state):
        return {"state": tf.ensure_shape(function(state)["state"], (None, 4))}

    refused(save(tmp_path / "1", shaped, numbers()), "EagerPyFunc calls Python", "No OpKernel")


def test_gate_refuses_requests_that_meet_in_a_variable(tmp_path):
    asked = tf.Variable(0.0)

    def function(state):
        return {"state": state + asked.assign_add(1.0)}

    archive = keras.export.ExportArchive()
    archive.track(asked)
    archive.add_endpoint("serve", function, input_signature=[numbers()])
    archive.write_out(str(tmp_path / "1"), verbose=False)
    refused(tmp_path / "1", "asked by 8 threads at once, answers otherwise: 'state' differs")


def test_gate_refuses_xla(tmp_path):
    double = tf.function(lambda x: x * 2, jit_compile=True)
    directory = save(tmp_path / "1", lambda state: {"state": double(state)}, numbers())
    refused(directory, "must be compiled by XLA", "XLA compilation disabled", "export --xla")


def test_xla_is_kept_where_it_is_asked_for(model, tmp_path):
    directory = package(model, make_signatures(model), "ponder", tmp_path, xla=True)
    assert read_card(directory)["requires_xla"] is True
    assert verify(directory).requires_xla
    script = (tmp_path / "run" / "serve.sh").read_text()
    assert "--xla_cpu_compilation_enabled=true" in script
    card = os.path.join(directory, "assets.extra", "signatures.json")
    with open(card) as file:
        text = file.read().replace('"requires_xla": true', '"requires_xla": false')
    with open(card, "w") as file:
        file.write(text)
    refused(directory, "must be compiled by XLA", "XLA compilation disabled", "were written")


def test_xla_compiles_the_model_and_leaves_the_checks_around_it(model, tmp_path):
    signatures = {"serve": make_signatures(model)["serve"]}
    unchecked = signatures["serve"].function

    def serve(state, steps):
        tf.debugging.Assert(tf.reduce_all(steps >= 0), ["steps must be 0 or more, got", steps])
        return unchecked(state, steps)

    signatures["serve"] = dataclasses.replace(signatures["serve"], function=serve)
    directory = package(model, signatures, "ponder", tmp_path, xla=True)
    served = tf.saved_model.load(directory).signatures["serve"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="steps must be 0 or more"):
        served(state=tf.ones((1, 4)), steps=tf.constant([-1]))
    assert "call" not in vars(model)


def test_xla_says_which_operation_it_cannot_compile(model, tmp_path):
    class Reading(keras.Model):
        def call(self, numbers):
            return tf.strings.to_number(tf.strings.as_string(numbers[:, 0]))

    reading = Reading()
    signatures = ragged(False, lambda numbers: {"total": reading(numbers)})
    with pytest.raises(ValueError, match="'serve' cannot be compiled by XLA: it has no AsString"):
        package(reading, signatures, "ponder", tmp_path, xla=True)
    with pytest.raises(ValueError, match="no signature calls the model, which XLA would compile"):
        package(model, ragged(True), "ponder", tmp_path, xla=True)
    assert visible(tmp_path) == []


def test_gate_refuses_a_keras_model_saved_by_tensorflow(model, tmp_path):
    function = tf.function(lambda state, steps: dict(zip("ab", model((state, steps)))))
    function = function.get_concrete_function(numbers(), numbers((None,), "steps", "int32"))
    tf.saved_model.save(model, tmp_path / "1", signatures=function)
    refused(tmp_path / "1", "Could not find variable")


def test_gate_refuses_missing_variables(copy):
    shutil.rmtree(copy / "variables")
    refused(copy, "there is no variables.index", "there is no variables.data", "Mend:")


def test_gate_refuses_the_variables_of_another_model(copy, model, tmp_path):
    other = make_model(seed=1)
    other = package(other, make_signatures(other), "other", tmp_path / "other")
    shutil.copytree(os.path.join(other, "variables"), copy / "variables", dirs_exist_ok=True)
    sample = make_signatures(model)["serve"].sample
    state, updates = model((sample["state"], sample["steps"]))
    outputs = {"state": state.numpy(), "updates": updates.numpy()}
    (copy / "assets.extra" / "manifest.json").unlink()
    error = refused(copy, "differs from the model", expected={"serve": [(sample, outputs)]})
    (failure,) = error.failures
    assert failure.file == "variables/"


def test_gate_refuses_damaged_variables(copy):
    (data,) = (copy / "variables").glob("variables.data-*")
    content = bytearray(data.read_bytes())
    content[5] ^= 255
    data.write_bytes(content)
    refused(copy, "Checksum does not match")


def test_gate_refuses_names_and_shapes_that_clients_trip_over(tmp_path):
    def function(keras_tensor, fixed):
        return {"Output-0": keras_tensor, "total": tf.reduce_sum(fixed)}

    specs = numbers(name="KerasTensor"), numbers((2, 4), name="fixed")
    directory = save(tmp_path / "1", function, *specs, signature="Serve")
    refused(
        directory,
        "a signature's name is snake case",
        "the input 'KerasTensor' is not snake case",
        "the output 'Output-0' is not snake case",
        "the input 'fixed' must start with a free batch axis, its shape is [2, 4]",
        "the output 'total' must start with a free batch axis, its shape is []",
    )


def test_gate_refuses_half_precision(tmp_path):
    directory = save(tmp_path / "1", lambda x: {"x": x}, numbers(name="x", dtype="float16"))
    refused(directory, "the input 'x' has type number 19 (DT_HALF)", "the output 'x'")


def test_gate_refuses_what_is_no_model(copy, tmp_path):
    with pytest.raises(GateError, match="cannot be read"):
        verify(tmp_path / "nothing")
    (copy / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(GateError, match="cannot be read"):
        verify(copy)


def test_gate_refuses_files_that_are_not_those_that_were_written(copy):
    with open(os.path.join(copy, "assets.extra", "manifest.json")) as file:
        names = [*json.load(file)]
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/card.md"} <= {*names}
    card = os.path.join(copy, "assets.extra", "card.md")
    with open(card, "w") as file:
        file.write("# Wonder")
    refused(copy, "assets.extra/card.md: its content is not what was written. Mend: copy the whole")
    with open(card, "w") as file:
        file.write("# Pon")
    refused(copy, "assets.extra/card.md: it has 5 bytes, 8 were written")
    os.remove(card)
    refused(copy, "assets.extra/card.md: it is not there")
    for content in ("", "[]", '{"saved_model.pb": 3}', '{"saved_model.pb": {}}'):
        with open(os.path.join(copy, "assets.extra", "manifest.json"), "w") as file:
            file.write(content)
        refused(copy, "assets.extra/manifest.json: it cannot be read")


def test_gate_refuses_another_tag(copy):
    from tensorflow.core.protobuf import saved_model_pb2

    file = copy / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    file.write_bytes(saved.SerializeToString())
    refused(copy, "must carry the tag 'serve' alone, found [['train']]")


def test_gate_ends_a_loop_without_end(tmp_path, monkeypatch):
    def function(state):
        (state,) = tf.while_loop(lambda state: tf.reduce_max(state) < 2, lambda s: (s,), (state,))
        return {"state": state}

    directory = save(tmp_path / "1", function, numbers())
    monkeypatch.setattr(_gate, "TIMEOUT", 3.0)
    with pytest.raises(GateError, match="more than 3 s"):
        verify(directory)


def test_gate_refuses_broken_warmup_requests(copy):
    file = copy / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-3])
    refused(copy, "is cut off")


def test_gate_refuses_more_warmup_requests_than_the_server_takes(copy):
    file = copy / "assets.extra" / "tf_serving_warmup_requests"
    content = file.read_bytes()
    records = 3 * len(ALLOWED_BATCH_SIZES)
    file.write_bytes(content * (1000 // records + 1))
    refused(copy, f"it has {records * (1000 // records + 1)} records, the server takes 1000")


SIZES = "allowed_batch_sizes: 8 allowed_batch_sizes: 32 "


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("max_batch_size: 32", "it cannot be read"),
        (
            "max_batch_size { value: 16 } " + SIZES,
            "the last of allowed_batch_sizes must be max_batch_size, 16, it is 32",
        ),
        (SIZES, "the last of allowed_batch_sizes must be max_batch_size, 1000, it is 32"),
        (
            "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 16 } " + SIZES,
            "must be max_execution_batch_size, 16, it is 32",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 32 allowed_batch_sizes: 8",
            "allowed_batch_sizes must be whole numbers that rise, they are [32, 8]",
        ),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be 1 to 1024, it is 0"),
        ("batch_timeout_micros { value: -1 }", "must be 0 to 60000000, it is -1"),
    ],
)
def test_gate_refuses_batching_that_no_server_takes(written, tmp_path, text, rule):
    (tmp_path / "batching_params.pbtxt").write_text(text)
    (failure,) = _gate._batching(tmp_path, _version.read_meta_graph(written))
    assert failure.file == "batching_params.pbtxt" and failure.mend
    assert rule in failure.rule


def test_gate_refuses_batching_of_rows_that_do_not_fit_together(model, tmp_path):
    text = "max_batch_size { value: 32 } pad_variable_length_inputs: "
    directory = package(model, ragged(lengths=False), "alone", tmp_path)
    with open(os.path.join(directory, "batching_params.pbtxt"), "w") as file:
        file.write(text + "true")
    refused(directory, "takes 'numbers' of any length without 'lengths'")
    directory = package(model, ragged(lengths=True), "padded", tmp_path)
    with open(os.path.join(directory, "batching_params.pbtxt"), "w") as file:
        file.write(text + "false")
    refused(directory, "takes rows of any length, and they are not padded")


def test_gate_refuses_a_card_that_cannot_be_read(copy):
    (copy / "assets.extra" / "signatures.json").write_text("[]")
    refused(copy, "assets.extra/signatures.json: ", "cannot be read")
