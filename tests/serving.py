"""A small model with two versions, and the requests that tests of serving send to it."""

import pathlib
import sys

import grpc
import keras
import numpy as np
import tensorflow as tf
from ponderzoo.export._package import package
from ponderzoo.export.client import to_proto
from ponderzoo.zoo._registry import Signature
from tensorflow.core.framework import tensor_pb2
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


if __name__ == "__main__":
    output = pathlib.Path(sys.argv[1])
    write_packages([make_model(), make_model(1.0)], output)
    (output / "batching").write_text(BATCHING)
