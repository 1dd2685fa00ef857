"""A small model with two versions, and the requests that tests of serving send to it."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys

import grpc
import keras
import numpy as np
import tensorflow as tf
from ponderzoo.export._package import package
from ponderzoo.export._tensors import to_proto
from ponderzoo.export.server._readers import LARGE
from ponderzoo.zoo.signatures._signature import Signature
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
SAMPLE = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def make_model(bias=0.0):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="state")
    outputs = keras.layers.Dense(4, "tanh", bias_initializer=keras.initializers.Constant(bias))
    return keras.Model(inputs, outputs(inputs))


def make_signatures(model):
    def serve(state, scale):
        state = model(state) * scale[:, None]
        return {"state": state, "norm": tf.norm(state, axis=1)}

    def shout(text):
        return {"text": tf.strings.upper(text)}

    def repeat(state, times):
        """Calls the model `times[0]` times, to keep the session busy for as long as one likes."""
        return {
            "state": keras.ops.while_loop(
                lambda step, _: step < times[0],
                lambda step, state: (step + 1, model(state)),
                (tf.constant(0), state),
            )[1]
        }

    def near(state):
        """Leaves out rows that are far off, which no batch may hold then."""
        return {"state": tf.boolean_mask(state, state[:, 0] > -100)}

    def any_length(sequence):
        return {"sum": tf.reduce_sum(sequence, axis=1)}

    state, whole = {"state": ((None, 4), "float32")}, ((None,), "int32")
    return {
        "serve": Signature(
            serve,
            {**state, "scale": ((None,), "float32")},
            {"state": SAMPLE, "scale": np.ones(3, "float32")},
            {"state": "scaled", "norm": "its length"},
        ),
        "shout": Signature(
            shout,
            {"text": ((None,), "string")},
            {"text": np.array([b"a", b"b"], object)},
            {"text": "in capitals"},
        ),
        "repeat": Signature(
            repeat,
            {**state, "times": whole},
            {"state": SAMPLE, "times": np.ones(3, "int32")},
            {"state": "the last one"},
        ),
        "near": Signature(near, state, {"state": SAMPLE}, {"state": "rows that are not far off"}),
        "any": Signature(
            any_length,
            {"sequence": ((None, None), "float32")},
            {"sequence": SAMPLE},
            {"sum": "of each row"},
        ),
    }


ONES = np.ones(3, "float32")


def write_packages(models, output, name="dense"):
    """Every model as the next version of one."""
    for model in models:
        package(model, make_signatures(model), name, output)
    return output


def write_unsound(output, name):
    """A model that no gate lets through: "python" calls Python, "unknown" what nobody knows.

    It stands in `models.config` beside the others.
    """

    def serve(state):
        call = {"python": lambda: tf.py_function(tf.identity, [state], tf.float32)}
        return {"state": call.get(name, lambda: tf.tanh(state))()}

    archive = keras.export.ExportArchive()
    spec = tf.TensorSpec((None, 4), "float32", name="state")
    archive.add_endpoint("serve", serve, input_signature=[spec])
    archive.write_out(str(output / name / "1"), verbose=False)
    path = output / name / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.op = node.op.replace("Tanh", "TanhOfSomebody")
    path.write_bytes(saved.SerializeToString())
    _list(output)


def write_odd(output):
    """A model `odd` of what no package has: all types, and names `tf.Example` would be read by.

    It stands in `models.config` beside the others.
    """
    archive = keras.export.ExportArchive()
    for name, key, dtype, answer in (
        ("serve", "inputs", "string", "outputs"),
        ("score", "inputs", "string", "scores"),
        ("half", "half", "float16", "half"),
        ("brain", "half", "bfloat16", "half"),
        ("short", "short", "uint16", "short"),
        ("bit", "bit", "bool", "bit"),
        ("byte", "byte", "int8", "byte"),
        ("long", "long", "int64", "long"),
        ("double", "double", "float64", "double"),
    ):
        spec = tf.TensorSpec((None,), dtype, name=key)
        archive.add_endpoint(
            name,
            lambda value, answer=answer: {answer: tf.identity(value)},
            input_signature=[spec],
        )
    archive.write_out(str(output / "odd" / "1"), verbose=False)
    _list(output)


def _list(output):
    names = sorted(path.parent.parent.name for path in output.glob("*/*/saved_model.pb"))
    blocks = (
        f'name: "{one}" base_path: "{output / one}" model_platform: "tensorflow"'
        for one in dict.fromkeys(names)
    )
    write_config(output / "models.config", *blocks)


def request(name="dense", signature="", version=None, label=None, outputs=(), **inputs):
    message = predict_pb2.PredictRequest(output_filter=outputs)
    message.model_spec.name, message.model_spec.signature_name = name, signature
    if version is not None:
        message.model_spec.version.value = version
    if label is not None:
        message.model_spec.version_label = label
    for key, value in (inputs or {"state": SAMPLE, "scale": np.ones(3, "float32")}).items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else to_proto(value)
        message.inputs[key].CopyFrom(proto)
    return message


def write_config(path, *blocks):
    path.write_text("model_config_list {" + "".join(f"config {{ {b} }}" for b in blocks) + "}")
    return path


BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 50000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 4
allowed_batch_sizes: 32
"""


SERVE = """
import json, sys
from ponderzoo.export.server import _models, _readers, _server
_models.WARMUP_SECONDS = 20.0
_readers.LARGE = int(sys.argv[3])
sys.exit(_server.serve(sys.argv[1], port=0, rest_port=0, **json.loads(sys.argv[2])))
"""


class ServerProcess:
    """A server in a process of its own, for a `with` block, whatever becomes of it.

    Args:
        directory: what it serves.
        command: what starts it; its answer must be as that of `ponderzoo serve`.
        large: bytes of a request from which on another process reads it.
        options: of `serve`.
    """

    def __init__(self, directory, command=None, large=LARGE, **options):
        script = [sys.executable, "-c", SERVE, directory, json.dumps(options), large]
        self._command = command or script

    def __enter__(self):
        self.process = subprocess.Popen(
            list(map(str, self._command)), stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if " is ready on " in line:
                self.address = line.split()[-1]
            elif line.startswith("REST "):
                self.rest_address = line.split()[-1].removeprefix("http://")
                return self
        raise RuntimeError(f"the server did not start: {self.process.wait()}")

    def children(self):
        """The processes that it has started, by their numbers."""
        numbers = []
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                numbers += map(int, task.read_text().split())
        return numbers

    def memory(self, what="VmRSS"):
        """Megabytes of it and its children, as Linux counts them; `VmHWM` is the most ever."""
        total = 0
        for number in (self.process.pid, *self.children()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = pathlib.Path(f"/proc/{number}/status").read_text()
                found = re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)
                total += int(found[1]) if found else 0  # none of one that is about to end
        return total / 1024

    def __exit__(self, *exception):
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.stdout.close()


if __name__ == "__main__":
    output = pathlib.Path(sys.argv[1])
    write_packages([make_model(), make_model(1.0)], output)
    write_unsound(output, "python")
    write_odd(output)
    (output / "batching").write_text(BATCHING)
