"""The files of one version of a package, and how they are read."""

import dataclasses
import hashlib
import json
import os
import re

from google.protobuf.message import DecodeError

from . import _tensors

INIT_SIGNATURE = "__saved_model_init_op"
BATCHING = "batching_params.pbtxt"
DEFAULT_SIGNATURE = "serving_default"
EXTRA = "assets.extra"
CARD = os.path.join(EXTRA, "signatures.json")
TOLD = os.path.join(EXTRA, "card.md")
FIGURES = os.path.join(EXTRA, "figures")
WARMUP = os.path.join(EXTRA, "tf_serving_warmup_requests")
MANIFEST = os.path.join(EXTRA, "manifest.json")

OLDEST = "2.12"
"""The oldest TensorFlow that packages have answered in."""

_SINCE = {("TensorListSetItem", "resize_if_index_out_of_bounds"): "2.13"}
"""Attributes of operations that came later, of those that packages have: the first version."""

LENGTHS = "lengths"
"""The input that says how much of each row is real."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """One rule that a package breaks: where, what, and how to mend it."""

    file: str
    rule: str
    mend: str

    def __str__(self):
        return f"{self.file}: {self.rule}. Mend: {self.mend}."


class GateError(ValueError):
    """A package that must not be served; `failures` is a list of `Failure`."""

    def __init__(self, directory, failures):
        lines = "".join(f"\n  {failure}" for failure in failures)
        super().__init__(f"{directory} breaks {len(failures)} rule(s) of serving:{lines}")
        self.directory, self.failures = directory, failures


def read_meta_graph(directory):
    """The one `MetaGraphDef` of a version directory. Raises `GateError`."""
    with _tensors.light_protos():
        from tensorflow.core.protobuf import saved_model_pb2

    path = os.path.join(directory, "saved_model.pb")
    try:
        with open(path, "rb") as file:
            graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    except (OSError, DecodeError) as error:
        failure = Failure("saved_model.pb", f"it cannot be read ({error})", "export again")
        raise GateError(directory, [failure]) from error
    for graph in graphs:
        if list(graph.meta_info_def.tags) == ["serve"]:
            return graph
    found = [list(graph.meta_info_def.tags) for graph in graphs]
    rule = f"one meta graph must carry the tag 'serve' alone, found {found}"
    raise GateError(directory, [Failure("saved_model.pb", rule, "write it with ExportArchive")])


def read_warmup(directory):
    """The warm-up requests of a version directory, a list of `PredictRequest`.

    Raises `ValueError` where the file is no TFRecord of prediction logs.
    """
    with _tensors.light_protos():
        from tensorflow_serving.apis import prediction_log_pb2

    path = os.path.join(directory, WARMUP)
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        data = file.read()
    requests, start = [], 0
    while start < len(data):
        # A record: length (8 bytes), its checksum (4), the message, its checksum (4).
        length = int.from_bytes(data[start : start + 8], "little")
        start += 12
        if start + length + 4 > len(data):
            raise ValueError(
                f"{path} is cut off. Please verify your warmup data is in TFRecord format."
            )
        log = prediction_log_pb2.PredictionLog()
        try:
            log.MergeFromString(data[start : start + length])
        except DecodeError as error:
            raise ValueError(f"{path} holds no PredictionLog: {error}") from error
        requests.append(log.predict_log.request)
        start += length + 4
    return requests


def manifest(directory):
    """Path of each file in a version directory but the manifest -> its `bytes` and `sha256`."""
    found = {}
    for folder, _, files in os.walk(directory):
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), directory)
            if path != MANIFEST:
                with open(os.path.join(folder, file), "rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                    found[path] = {"bytes": content.tell(), "sha256": digest}
    return dict(sorted(found.items()))


def signatures_of(graph):
    """Signature name -> `SignatureDef`, without the entry that initialises the model."""
    return {name: s for name, s in sorted(graph.signature_def.items()) if name != INIT_SIGNATURE}


def unbounded(signature):
    """Inputs of a `SignatureDef` that a server which pads them would change.

    TensorFlow Serving batches rows of different length by repeating a tensor's first element.
    That is harmless where the input `lengths` says what is real; without it, every input with a
    free size beside the batch is listed here.
    """
    if LENGTHS in signature.inputs:
        return []
    return [key for key, info in sorted(signature.inputs.items()) if is_free(info)]


def is_free(info):
    """Whether a `TensorInfo` has a free size beside the batch."""
    shape = info.tensor_shape
    return shape.unknown_rank or any(dim.size < 0 for dim in shape.dim[1:])


def nodes_of(graph):
    """Every node of a `MetaGraphDef`, those of its functions included."""
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    return nodes


def oldest_tensorflow(graph):
    """The oldest version that knows all attributes in a `MetaGraphDef`, such as "2.13".

    An older one takes such a graph, ignores what it does not know and fails at the first request.
    """
    found = {
        since
        for node in nodes_of(graph)
        for (operation, attribute), since in _SINCE.items()
        if node.op == operation and attribute in node.attr
    }
    return newest({OLDEST, *found})


def newest(versions):
    """The highest of some versions of TensorFlow, as text; None where there are none."""
    return max(versions, key=_numbers, default=None)


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


def read_card(directory):
    """The signature card of a version directory, a dict; an empty one where there is none.

    Raises `ValueError` where it cannot be read.
    """
    path = os.path.join(directory, CARD)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return {**json.load(file)}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error})") from error


def requires_xla(directory):
    """Whether the package of a version directory asks for XLA, by its signature card.

    Raises `ValueError` where the card cannot be read.
    """
    return read_card(directory).get("requires_xla") is True


def damaged_files(directory):
    """What the manifest of a version directory says otherwise, as `Failure`s."""
    path, mend = os.path.join(directory, MANIFEST), "copy the whole directory again"
    if not os.path.exists(path):
        return
    try:
        with open(path, encoding="utf-8") as file:
            written = {name: (row["bytes"], row["sha256"]) for name, row in json.load(file).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        yield Failure(MANIFEST, f"it cannot be read ({type(error).__name__}: {error})", mend)
        return
    found = manifest(directory)
    for name, (size, digest) in written.items():
        if name not in found:
            yield Failure(name, "it is not there, the manifest has it", mend)
        elif found[name]["bytes"] != size:
            yield Failure(name, f"it has {found[name]['bytes']} bytes, {size} were written", mend)
        elif found[name]["sha256"] != digest:
            yield Failure(name, "its content is not what was written", mend)
