"""Writes a model as a version directory that TensorFlow Serving can load."""

import contextlib
import json
import os
import re
import shutil

import keras
import numpy as np

from . import _gate, _recipes, _repository, _schema, _tensors, _version
from ._config import version_directories
from ._session import STRING, TYPES

ALLOWED_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Rows that a server fills its batches up to, and of the requests that warm a model up."""

BATCH_SIZES = (1, 2, 7, ALLOWED_BATCH_SIZES[-1])
"""Rows of the requests that the gate compares with the model's own answers."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def package(
    model,
    signatures,
    name,
    output,
    version=None,
    card=None,
    figures=None,
    entry=None,
    versions=None,
    labels=None,
    xla=False,
):
    """Writes `output/<name>/<version>/` and lists the model in `output/models.config`.

    The directory is written under another name, passes the gate there, is brought to disk and
    takes its name in one step: at any moment the version is whole or not there. One writer at a
    time works in `output`; others wait. Beside the models stand `monitoring.config` and, in `run/`,
    recipes to serve them.

    Args:
        model: a built `keras.Model`.
        signatures: dict: name -> `Signature`; the first is what `serving_default` answers too.
        name: the name to serve it under.
        output: directory of all models.
        version: a number; None for one more than the highest there is.
        card: text of the model card, written beside the signatures.
        figures: directory of the PNG files that the card shows; they are written beside it, too.
        entry: what to tell of the model's origin, a dict of plain values.
        versions: which versions to serve: "latest:2", "all" or "specific:1,2"; None for what
            `models.config` says already, the latest one where it says nothing.
        labels: dict: label -> version number, beside those that are there.
        xla: compile the model with XLA, wherever a signature calls it; what a signature does around
            it, such as to check inputs or to read text, stays as it is. Servers must then be
            started with XLA on, and compile once for every shape that they are asked in.

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
    if not _NAME.fullmatch(name) or name == _recipes.FOLDER:
        raise ValueError(
            f"a model's name is letters, digits and _.-, and not {_recipes.FOLDER!r}, got {name!r}"
        )
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(f"a version is a whole number from 0, got {version!r}")
    _check(signatures)
    if xla:
        _check_xla(model, signatures)

    output = os.path.abspath(output)
    home = os.path.join(output, name)
    os.makedirs(home, exist_ok=True)
    with _repository.alone(output):
        taken = version_directories(home)
        if version is None:
            version = max(taken, default=0) + 1
        if version in taken or os.path.lexists(os.path.join(home, str(version))):
            raise FileExistsError(
                f"version {version} of {name} stands in {home} already; "
                "a version never changes, so export the next one"
            )
        config = _repository.plan(output, name, version, versions, labels)
        final = os.path.join(home, str(version))
        draft = os.path.join(home, f".{version}.writing-{os.getpid()}")
        _sweep(home)
        try:
            _write(draft, model, signatures, name, (card, figures, entry), xla)
            _recipes.check_image(draft)
            _gate.verify(draft, expected_of(signatures))
            _to_disk(draft)
            os.rename(draft, final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(home)
            raise
        _repository.sync(home)
        _repository.publish(output, config)
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


def _check_xla(model, signatures):
    """Raises `ValueError` for what XLA cannot compile, with the operation's name."""
    import tensorflow as tf

    mend, compiles = "export without --xla", False
    for name, signature in signatures.items():
        with tf.device("CPU:0"):
            tensors = {
                key: tf.constant(signature.sample[key], dtype)
                for key, (_, dtype) in signature.inputs.items()
            }
            try:
                with _compiled(model) as calls:
                    tf.function(signature.function, autograph=False)(**tensors)
            except tf.errors.OpError as error:
                found = re.findall(r"(\w+) \(No registered '\w+' OpKernel", error.message)
                why = f"it has no {', '.join(sorted({*found}))}" if found else error.message
                raise ValueError(
                    f"the model of signature {name!r} cannot be compiled by XLA: {why}; {mend}"
                ) from error
        compiles |= bool(calls)
    if not compiles:
        raise ValueError(f"no signature calls the model, which XLA would compile; {mend}")


@contextlib.contextmanager
def _compiled(model):
    """In graphs traced within, XLA compiles the model; gives a list that each call grows."""
    import tensorflow as tf

    plain, calls = model.call, []

    def call(*args, **kwargs):
        calls.append(model.name)
        return plain(*args, **kwargs)

    # Past Keras's own `__setattr__`, which would track the function as a part of the model.
    vars(model)["call"] = tf.function(call, jit_compile=True, autograph=False)
    try:
        yield calls
    finally:
        del vars(model)["call"]


def _write(directory, model, signatures, name, told, xla):
    import tensorflow as tf

    card, figures, entry = told
    # The model itself is not tracked: the functions bring their variables along, and a tracked
    # model would put every variable into the checkpoint a second time.
    archive = keras.export.ExportArchive()
    with _compiled(model) if xla else contextlib.nullcontext():
        for key, signature in signatures.items():
            archive.add_endpoint(key, _endpoint(key, signature))
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(directory, options=options, verbose=False)

    os.makedirs(os.path.join(directory, _version.EXTRA))
    _write_warmup(os.path.join(directory, _version.WARMUP), signatures, name)
    graph = _version.read_meta_graph(directory)
    parameters, batching = _batching(graph)
    about = {
        "model": name,
        "parameters": model.count_params(),
        "batching": batching,
        "requires_xla": xla,
    }
    if entry:
        about["entry"] = entry
    texts = {_version.CARD: _describe(graph, signatures, name, about)}
    if parameters is not None:
        texts[_version.BATCHING] = _schema.write_text(parameters)
    if card:
        texts[_version.TOLD] = card
    for file_name, text in texts.items():
        with open(os.path.join(directory, file_name), "w", encoding="utf-8") as file:
            file.write(text)
    if figures and os.path.isdir(figures):
        copied = os.path.join(directory, _version.FIGURES)
        shutil.copytree(figures, copied, ignore=_all_but_pictures)
    with open(os.path.join(directory, _version.MANIFEST), "w", encoding="utf-8") as file:
        json.dump(_version.manifest(directory), file, indent=1)


def _all_but_pictures(_, names):
    return [name for name in names if not name.endswith(".png")]


def _batching(graph):
    """`BatchingParameters` of a package, None where rows may not be batched, and the card's words.

    A server batches all signatures of a model or none.
    """
    signatures = _version.signatures_of(graph)
    for name, signature in signatures.items():
        loose = _version.unbounded(signature)
        if loose and name != _version.DEFAULT_SIGNATURE:
            why = (
                f"{name!r} takes {loose[0]!r} of any length without an input {_version.LENGTHS!r}; "
                "a server pads with the first element, which would look real"
            )
            return None, {"enabled": False, "why": why}
    pads = any(_version.is_free(info) for s in signatures.values() for info in s.inputs.values())
    parameters = _schema.BatchingParameters(
        allowed_batch_sizes=ALLOWED_BATCH_SIZES, pad_variable_length_inputs=pads
    )
    # One batch runs while the next is put together; the operations of a run share all cores anyhow.
    # TensorFlow Serving itself takes as many threads as there are cores, for all models together.
    parameters.num_batch_threads.value = 2
    parameters.max_batch_size.value = ALLOWED_BATCH_SIZES[-1]
    parameters.batch_timeout_micros.value = 2000
    parameters.max_enqueued_batches.value = 100
    words = {"enabled": True, "max_batch_size": ALLOWED_BATCH_SIZES[-1], "pads": pads}
    if pads:
        words["why"] = (
            f"rows of different length are padded; {_version.LENGTHS!r} says what is real, in the "
            "answers too, which are as long as the longest row of the batch"
        )
    return parameters, words


def _endpoint(name, signature):
    """The signature as a TensorFlow function, traced for all ways to call it.

    Whoever loads the package in TensorFlow gives the tensors by name, as one dict, which is what
    `keras.layers.TFSMLayer` hands over, or in order. All ways share one graph.
    """
    import tensorflow as tf

    specs = {
        key: tf.TensorSpec(shape, dtype, name=key)
        for key, (shape, dtype) in signature.inputs.items()
    }

    def answer(*tensors):
        # A wrong shape is refused here, by the input's name and not by some kernel's.
        named = {
            key: tf.ensure_shape(tensor, shape, name=key)
            for tensor, (key, (shape, _)) in zip(tensors, signature.inputs.items())
        }
        with tf.control_dependencies([_check_rows(named)]):
            named = {key: tf.identity(tensor) for key, tensor in named.items()}
        outputs = signature.function(**named)
        if not isinstance(outputs, dict) or set(outputs) != set(signature.outputs):
            found = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
            raise ValueError(
                f"signature {name!r} must return a dict of {sorted(signature.outputs)}, got {found}"
            )
        return outputs

    graph = tf.function(answer, autograph=False).get_concrete_function(*specs.values())

    def endpoint(*tensors, **named):
        if tensors and isinstance(tensors[0], dict):
            (named,) = tensors
        return graph(*(named[key] for key in specs) if named else tensors)

    endpoint = tf.function(endpoint, autograph=False)
    # The first one becomes the signature, the names of whose inputs servers go by.
    endpoint.get_concrete_function(**specs)
    endpoint.get_concrete_function(specs)
    endpoint.get_concrete_function(*specs.values())
    return endpoint


def _check_rows(named):
    """The operation that refuses no rows, and unequally many, before some kernel does."""
    import tensorflow as tf

    rows = tf.stack([tf.shape(tensor)[0] for tensor in named.values()])
    told = [f"inputs must have equally many rows, one or more; {', '.join(named)} have", rows]
    return tf.debugging.Assert(tf.reduce_all((rows == rows[0]) & (rows > 0)), told)


def expected_of(signatures):
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
        request.inputs[key].CopyFrom(_tensors.to_proto(array, typed))
    return request


def _write_warmup(path, signatures, model):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    first = next(iter(signatures.values()))
    with tf.io.TFRecordWriter(path) as writer:
        for name, signature in {**signatures, _version.DEFAULT_SIGNATURE: first}.items():
            for count in ALLOWED_BATCH_SIZES:
                log = prediction_log_pb2.PredictionLog()
                request = _request(model, name, rows(signature.sample, count))
                for key, array in rows(signature.sample, count).items():
                    if array.size and np.all(array == array.flat[0]):
                        # One value stands for all that follow: the zeros of a state take no room.
                        one = _tensors.to_proto(array.reshape(-1)[:1], typed=True)
                        one.tensor_shape.CopyFrom(request.inputs[key].tensor_shape)
                        request.inputs[key].CopyFrom(one)
                log.predict_log.request.CopyFrom(request)
                writer.write(log.SerializeToString())


def _describe(graph, signatures, model, about):
    """What a person or a program must know to call the model, as JSON; `about` comes first."""
    from google.protobuf import json_format

    described = {}
    for name, signature in signatures.items():
        written, sample = graph.signature_def[name], rows(signature.sample, 2)
        request = _request(model, name, sample, typed=True)
        described[name] = {
            "inputs": {
                key: {**_tensor(written.inputs[key]), **_shown(signature, key)}
                for key in signature.inputs
            },
            "outputs": {
                key: {**_tensor(written.outputs[key]), "meaning": meaning, **_shown(signature, key)}
                for key, meaning in signature.outputs.items()
            },
            "grpc": json_format.MessageToDict(request, preserving_proto_field_name=True),
            "rest": {
                "path": f"/v1/models/{model}:predict",
                "body": {
                    "signature_name": name,
                    "inputs": {key: _tensors.to_lists(array) for key, array in sample.items()},
                },
            },
        }
    text = json.dumps(
        {
            **about,
            "default_signature": next(iter(signatures)),
            "signatures": described,
            "oldest_tensorflow": _version.oldest_tensorflow(graph),
            "tensorflow_version": graph.meta_info_def.tensorflow_version,
            "producer": graph.graph_def.versions.producer,
            "min_consumer": graph.graph_def.versions.min_consumer,
        },
        indent=1,
    )
    # Innermost lists on one line each; a line break never stands inside a JSON string.
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n"


def _shown(signature, key):
    """How a person is to see a tensor, where its numbers say too little."""
    return {
        **({"names": list(signature.names[key])} if key in signature.names else {}),
        **({"image": True} if key in signature.images else {}),
        **({"map": True} if key in signature.maps else {}),
        **({"levels": signature.levels} if key in signature.images and signature.levels else {}),
        **({"over": signature.over[key]} if key in signature.over else {}),
    }


def _tensor(info):
    """Dtype and shape of a `TensorInfo`, with None where a size is free."""
    shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    dtype = TYPES[info.dtype].name if info.dtype in TYPES else str(info.dtype)
    return {"dtype": "string" if info.dtype == STRING else dtype, "shape": shape}


def _sweep(home):
    """Removes what dead writers left; whoever holds the lock knows that none is alive."""
    for entry in os.listdir(home):
        if re.fullmatch(r"\.\d+\.writing-\d+", entry):
            shutil.rmtree(os.path.join(home, entry), ignore_errors=True)


def _to_disk(directory):
    for folder, _, files in os.walk(directory, topdown=False):
        for file in files:
            _repository.sync(os.path.join(folder, file))
        _repository.sync(folder)
