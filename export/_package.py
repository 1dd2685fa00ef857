"""Writes a model as a version directory that TensorFlow Serving can load."""

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil

import keras
import numpy as np

from . import _gate, client
from ._server import CONFIG, ModelServerConfig, parse_config, version_directories
from ._session import STRING, TYPES

BATCH_SIZES = (1, 2, 7)
"""Rows of the requests that warm a model up and that the gate compares."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def package(model, signatures, name, output, version=None, card=None):
    """Writes `output/<name>/<version>/` and lists the model in `output/models.config`.

    The directory is written under another name, passes the gate there, is brought to disk and
    takes its name in one step: at any moment the version is whole or not there. One writer at a
    time works in `output`; others wait.

    Args:
        model: a built `keras.Model`.
        signatures: dict: name -> `Signature`; the first is what `serving_default` answers too.
        name: the name to serve it under.
        output: directory of all models.
        version: a number; None for one more than the highest there is.
        card: text of the model card, written beside the signatures.

    Returns:
        The absolute path of the version directory.

    Raises:
        FileExistsError: the version is there already.
        GateError: TensorFlow Serving could not serve it.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: an argument is not what it should be.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"only Keras's TensorFlow backend exports, this is {keras.backend.backend()}; "
            "load the .keras file under KERAS_BACKEND=tensorflow"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(f"a model's name is letters, digits and _.-, got {name!r}")
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(f"a version is a whole number from 0, got {version!r}")
    _check(signatures)

    output = os.path.abspath(output)
    home = os.path.join(output, name)
    os.makedirs(home, exist_ok=True)
    with _alone(output):
        _read_config(output)
        taken = version_directories(home)
        if version is None:
            version = max(taken, default=0) + 1
        if version in taken or os.path.lexists(os.path.join(home, str(version))):
            raise FileExistsError(
                f"version {version} of {name} stands in {home} already; "
                "a version never changes, so export the next one"
            )
        final = os.path.join(home, str(version))
        draft = os.path.join(home, f".{version}.writing-{os.getpid()}")
        _sweep(home)
        try:
            _write(draft, model, signatures, name, card)
            _gate.verify(draft, _expected(signatures))
            _to_disk(draft)
            os.rename(draft, final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(home)
            raise
        _sync(home)
        _list_model(output, name, home)
    return final


def rows(arrays, count):
    """A batch of `count` rows, taken from a dict of arrays in turn."""
    return {
        key: np.take(array, np.arange(count) % len(array), axis=0) for key, array in arrays.items()
    }


def _check(signatures):
    if not signatures or next(iter(signatures)) != "serve":
        raise ValueError(f"the first signature must be 'serve', got {list(signatures)}")
    for name, signature in signatures.items():
        if set(signature.sample) != set(signature.inputs):
            raise ValueError(
                f"signature {name!r}: the sample has {sorted(signature.sample)}, "
                f"the inputs are {sorted(signature.inputs)}"
            )
        for key, (shape, dtype) in signature.inputs.items():
            array = np.asarray(signature.sample[key])
            kinds = ("object", "bytes", "str") if dtype == "string" else (dtype,)
            same = array.ndim == len(shape) and all(
                size in (None, found) for size, found in zip(shape, array.shape)
            )
            if not same or not array.dtype.name.startswith(kinds) or len(array) < 2:
                raise ValueError(
                    f"signature {name!r}: the sample of {key!r} must be {dtype} {tuple(shape)} "
                    f"with two rows or more, it is {array.dtype.name} {array.shape}"
                )


def _write(directory, model, signatures, name, card):
    import tensorflow as tf

    # The model itself is not tracked: the functions bring their variables along, and a tracked
    # model would put every variable into the checkpoint a second time.
    archive = keras.export.ExportArchive()
    for key, signature in signatures.items():
        specs = [
            tf.TensorSpec(shape, dtype, name=input_name)
            for input_name, (shape, dtype) in signature.inputs.items()
        ]
        archive.add_endpoint(key, _endpoint(key, signature), input_signature=specs)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(directory, options=options, verbose=False)

    extra = os.path.join(directory, "assets.extra")
    os.makedirs(extra)
    _write_warmup(os.path.join(directory, _gate.WARMUP), signatures, name)
    graph = _gate.read_meta_graph(directory)
    texts = {"signatures.json": _describe(graph, model.count_params(), signatures, name)}
    if card:
        texts["card.md"] = card
    for file_name, text in texts.items():
        with open(os.path.join(extra, file_name), "w", encoding="utf-8") as file:
            file.write(text)
    with open(os.path.join(directory, _gate.MANIFEST), "w", encoding="utf-8") as file:
        json.dump(_gate.manifest(directory), file, indent=1)


def _endpoint(name, signature):
    """The signature as a function of tensors in order, which is what ExportArchive calls."""
    import tensorflow as tf

    def endpoint(*tensors):
        # A wrong shape is refused here, by the input's name and not by some kernel's.
        named = {
            key: tf.ensure_shape(tensor, shape, name=key)
            for tensor, (key, (shape, _)) in zip(tensors, signature.inputs.items())
        }
        outputs = signature.function(**named)
        if not isinstance(outputs, dict) or set(outputs) != set(signature.outputs):
            found = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
            raise ValueError(
                f"signature {name!r} must return a dict of {sorted(signature.outputs)}, got {found}"
            )
        return outputs

    return endpoint


def _expected(signatures):
    """What the Keras side answers, run eagerly: signature -> list of (inputs, outputs)."""
    import tensorflow as tf

    def answer(signature, inputs):
        # On the processor, as in the gate: accelerators round otherwise.
        with tf.device("CPU:0"):
            tensors = {
                key: tf.constant(inputs[key], dtype) for key, (_, dtype) in signature.inputs.items()
            }
            outputs = signature.function(**tensors)
        return {key: np.asarray(value) for key, value in outputs.items()}

    return {
        name: [
            (inputs, answer(signature, inputs))
            for inputs in (rows(signature.sample, count) for count in BATCH_SIZES)
        ]
        for name, signature in signatures.items()
    }


def _request(model, name, arrays, typed=False):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, name
    for key, array in arrays.items():
        request.inputs[key].CopyFrom(client.to_proto(array, typed))
    return request


def _write_warmup(path, signatures, model):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(path) as writer:
        for name, signature in signatures.items():
            for count in BATCH_SIZES:
                log = prediction_log_pb2.PredictionLog()
                request = _request(model, name, rows(signature.sample, count))
                log.predict_log.request.CopyFrom(request)
                writer.write(log.SerializeToString())


def _describe(graph, parameters, signatures, model):
    """What a person or a program must know to call the model, as JSON."""
    from google.protobuf import json_format

    described = {}
    for name, signature in signatures.items():
        written, sample = graph.signature_def[name], rows(signature.sample, 2)
        request = _request(model, name, sample, typed=True)
        described[name] = {
            "inputs": {key: _tensor(written.inputs[key]) for key in signature.inputs},
            "outputs": {
                key: {**_tensor(written.outputs[key]), "meaning": meaning}
                for key, meaning in signature.outputs.items()
            },
            "grpc": json_format.MessageToDict(request, preserving_proto_field_name=True),
            "rest": {
                "path": f"/v1/models/{model}:predict",
                "body": {
                    "signature_name": name,
                    "inputs": {key: _plain(array.tolist()) for key, array in sample.items()},
                },
            },
        }
    text = json.dumps(
        {
            "model": model,
            "parameters": parameters,
            "default_signature": next(iter(signatures)),
            "signatures": described,
            "tensorflow_version": graph.meta_info_def.tensorflow_version,
            "producer": graph.graph_def.versions.producer,
            "min_consumer": graph.graph_def.versions.min_consumer,
        },
        indent=1,
    )
    # Innermost lists on one line each; a line break never stands inside a JSON string.
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n"


def _tensor(info):
    """Dtype and shape of a `TensorInfo`, with None where a size is free."""
    shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    dtype = TYPES[info.dtype].name if info.dtype in TYPES else str(info.dtype)
    return {"dtype": "string" if info.dtype == STRING else dtype, "shape": shape}


def _plain(value):
    """Nested lists for JSON; strings as REST wants them, `{"b64": ...}`."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        value = value.encode()
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@contextlib.contextmanager
def _alone(output):
    """Holds the directory's lock, which the kernel frees however the holder ends."""
    with open(os.path.join(output, ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(home):
    """Removes what dead writers left; whoever holds the lock knows that none is alive."""
    for entry in os.listdir(home):
        if re.fullmatch(r"\.\d+\.writing-\d+", entry):
            shutil.rmtree(os.path.join(home, entry), ignore_errors=True)


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_disk(directory):
    for folder, _, files in os.walk(directory, topdown=False):
        for file in files:
            _sync(os.path.join(folder, file))
        _sync(folder)


def _read_config(output):
    path = os.path.join(output, CONFIG)
    return parse_config(path) if os.path.exists(path) else ModelServerConfig()


def _list_model(output, name, home):
    """Adds the model to `models.config`, with other models of `output` that are not in it yet."""
    from google.protobuf import text_format

    config = _read_config(output)
    blocks = {block.name: block for block in config.model_config_list.config}
    found = {entry: os.path.join(output, entry) for entry in sorted(os.listdir(output))}
    unlisted = {
        key: path for key, path in found.items() if key not in blocks and version_directories(path)
    }
    for key, path in {**unlisted, name: home}.items():
        block = blocks.get(key) or config.model_config_list.config.add(name=key)
        block.base_path, block.model_platform = path, "tensorflow"
    draft = os.path.join(output, f".{CONFIG}.writing")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text_format.MessageToString(config))
    parse_config(draft)
    _sync(draft)
    os.replace(draft, os.path.join(output, CONFIG))
    _sync(output)
