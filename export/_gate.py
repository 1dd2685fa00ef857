"""The gate: what a version directory must pass before it may be served."""

import dataclasses
import glob
import hashlib
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import time

import numpy as np
from google.protobuf.message import DecodeError

from . import client
from ._session import THREADS, TYPES, StatusError

INIT_SIGNATURE = "__saved_model_init_op"
WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")
MANIFEST = os.path.join("assets.extra", "manifest.json")
RELATIVE, ABSOLUTE = 1e-4, 1e-5
TIMEOUT = 600.0

_PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_XLA = "_XlaMustCompile"
_LOOPS = {"While", "StatelessWhile"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


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


@dataclasses.dataclass(frozen=True)
class Report:
    """What the gate saw in a package that passed.

    Attributes:
        directory: the version directory.
        signatures: names of the signatures.
        operations: how many kinds of TensorFlow operation the graph uses.
        loops: how many while loops stand in the graph.
        runs: how many requests the session answered.
        compared: how many of them were compared with expected values.
        empty_batch: signature -> whether it answers a batch of no rows.
        seconds: how long it took.
    """

    directory: str
    signatures: tuple
    operations: int
    loops: int
    runs: int
    compared: int
    empty_batch: dict
    seconds: float


@dataclasses.dataclass
class _Run:
    label: str
    signature: str
    inputs: dict
    expected: dict | None = None


def read_meta_graph(directory):
    """The one `MetaGraphDef` of a version directory. Raises `GateError`."""
    with client.light_protos():
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
    with client.light_protos():
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


def verify(directory, expected=None):
    """Checks a version directory, then runs it as TensorFlow Serving will.

    The files are compared with the manifest, where there is one, and the graph is read for what the
    stock server cannot run. Then a fresh process without TensorFlow's Python loads the directory in
    the C++ session, with XLA off, and answers the expected cases, the warm-up requests and, to be
    reported alone, a batch of no rows; one by one, and all of them again from several threads.

    Args:
        directory: with `saved_model.pb` in it.
        expected: dict: signature name -> list of `(inputs, outputs)`, dicts of numpy arrays.
            Without it and without warm-up requests every signature is run on ones.

    Returns:
        `Report`.

    Raises:
        GateError: lists every rule the package breaks.
    """
    start = time.monotonic()
    graph = read_meta_graph(directory)
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    operations = {node.op for node in nodes}
    operations -= {f.signature.name for f in graph.graph_def.library.function}

    failures = [*_files(directory), *_operations(operations), *_xla(graph, nodes)]
    failures += _variables(directory, operations)
    for name, signature in signatures_of(graph).items():
        failures.extend(_signature(name, signature))
    if "serving_default" not in signatures_of(graph):
        rule = "there is no signature 'serving_default'"
        failures.append(Failure("saved_model.pb", rule, "write it with ExportArchive"))

    runs, problems = _runs(directory, graph, expected or {})
    failures.extend(problems)
    empty = _empty_runs(runs)
    answers = _answers(directory, graph, runs + list(empty.values()))
    if isinstance(answers, StatusError):
        rule = f"the server's session cannot load it: {answers}"
        failures.append(Failure("saved_model.pb", rule, "export again"))
        raise GateError(directory, failures)
    answers, again = answers
    for index, (run, answer) in enumerate(zip(runs, answers)):
        failures.extend(_compare(run, answer))
        failures.extend(_compare_threads(run, answer, again[index :: len(answers)]))
    if failures:
        raise GateError(directory, failures)
    return Report(
        directory=directory,
        signatures=tuple(signatures_of(graph)),
        operations=len(operations),
        loops=sum(node.op in _LOOPS for node in nodes),
        runs=len(answers),
        compared=sum(run.expected is not None for run in runs),
        empty_batch={
            name: not isinstance(answer, StatusError)
            for name, answer in zip(empty, answers[len(runs) :])
        },
        seconds=time.monotonic() - start,
    )


def _files(directory):
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


def _operations(operations):
    from tensorflow.python.framework import op_def_registry

    for name in sorted(operations & _PYTHON_OPERATIONS):
        mend = "write the function in TensorFlow or keras.ops"
        yield Failure("saved_model.pb", f"{name} calls Python, and a server has none", mend)
    for name in sorted(operations):
        if op_def_registry.get(name) is None:
            rule = f"the operation {name} is not TensorFlow's own"
            yield Failure("saved_model.pb", rule, "use TensorFlow's operations alone")


def _xla(graph, nodes):
    functions = graph.graph_def.library.function
    attributes = [(node.name, node.attr) for node in nodes]
    attributes += [(function.signature.name, function.attr) for function in functions]
    # Asked by `in` first: reading a key that is not there writes it.
    marked = [name for name, attr in attributes if _XLA in attr and attr[_XLA].b]
    if marked:
        rule = (
            f"{len(marked)} node(s) must be compiled by XLA ({marked[0]}), which servers switch off"
        )
        yield Failure("saved_model.pb", rule, "take jit_compile=True off the function")


def _variables(directory, operations):
    if "VarHandleOp" not in operations:
        return
    for pattern in ("variables.index", "variables.data-*"):
        if not glob.glob(os.path.join(glob.escape(directory), "variables", pattern)):
            rule = f"the graph has variables and there is no {pattern}"
            yield Failure("variables/", rule, "copy the whole directory, or export again")


def _signature(name, signature):
    where = f"saved_model.pb, signature {name!r}"
    if not _NAME.fullmatch(name):
        yield Failure(where, "a signature's name is snake case", "rename it")
    served = [dtype.name for dtype in TYPES.values()]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for key, info in sorted(tensors.items()):
            if not _NAME.fullmatch(key):
                mend = "name it by keras.Input(name=...) and the keys of the returned dict"
                yield Failure(where, f"the {kind} {key!r} is not snake case", mend)
            if info.dtype not in TYPES:
                rule = f"the {kind} {key!r} has type number {info.dtype}, which is none of {served}"
                yield Failure(where, rule, "cast it to float32 inside the signature")
            shape = info.tensor_shape
            if shape.unknown_rank or not shape.dim or shape.dim[0].size != -1:
                sizes = "unknown" if shape.unknown_rank else [dim.size for dim in shape.dim]
                rule = f"the {kind} {key!r} must start with a free batch axis, its shape is {sizes}"
                yield Failure(
                    where, rule, "make the first axis None, for outputs by tf.ensure_shape"
                )


def _runs(directory, graph, expected):
    """The requests to run, and what is wrong with the requests themselves."""
    runs, failures = [], []
    for name, cases in expected.items():
        for inputs, outputs in cases:
            rows = len(next(iter(inputs.values()))) if inputs else 0
            runs.append(_Run(f"signature {name!r}, batch of {rows}", name, inputs, outputs))
    try:
        for index, request in enumerate(read_warmup(directory)):
            inputs = {key: client.from_proto(proto) for key, proto in request.inputs.items()}
            name = request.model_spec.signature_name or "serving_default"
            runs.append(_Run(f"warm-up request {index}", name, inputs))
    except ValueError as error:
        failures.append(Failure(WARMUP, f"it cannot be read: {error}", "write it again"))
    signatures = signatures_of(graph)
    if not runs:
        for name, signature in signatures.items():
            ones = {key: _ones(info) for key, info in signature.inputs.items()}
            runs.append(_Run(f"signature {name!r}, ones", name, ones))
    sound = []
    for run in runs:
        if run.signature not in signatures:
            rule = f"{run.label} asks for {run.signature!r}; there are {sorted(signatures)}"
            failures.append(Failure("saved_model.pb", rule, "export the signature"))
        elif set(run.inputs) != set(signatures[run.signature].inputs):
            wanted = sorted(signatures[run.signature].inputs)
            rule = f"{run.label} sends {sorted(run.inputs)}, the signature takes {wanted}"
            failures.append(Failure("saved_model.pb", rule, "give both the same names"))
        else:
            sound.append(run)
    return sound, failures


def _ones(info):
    """An array of ones, with every free size 1, which is what `lengths` of 1 then agree with."""
    shape = [max(1, dim.size) for dim in info.tensor_shape.dim]
    dtype = TYPES.get(info.dtype, np.dtype("float32"))
    return np.full(shape, b"" if dtype.kind == "O" else 1, dtype)


def _empty_runs(runs):
    empty = {}
    for run in runs:
        if run.signature not in empty and all(np.ndim(value) for value in run.inputs.values()):
            inputs = {key: value[:0] for key, value in run.inputs.items()}
            empty[run.signature] = _Run("batch of 0", run.signature, inputs)
    return empty


def _answers(directory, graph, runs):
    """What `_session._probe` answers, with dicts of arrays for lists of them."""
    calls, keys = [], []
    for run in runs:
        signature = graph.signature_def[run.signature]
        feeds = {signature.inputs[key].name: value for key, value in run.inputs.items()}
        keys.append(sorted(signature.outputs))
        calls.append((feeds, [signature.outputs[key].name for key in keys[-1]]))
    # The processor alone: the exporting process may hold the whole memory of an accelerator.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        probe = subprocess.run(
            [sys.executable, "-m", f"{__package__}._session"],
            input=pickle.dumps((os.path.abspath(directory), calls)),
            capture_output=True,
            env=environment,
            timeout=TIMEOUT,
            check=True,
        )
    except subprocess.TimeoutExpired:
        rule = f"{len(calls)} requests took the session more than {TIMEOUT:.0f} s"
        mend = "look for a loop without end, or give smaller samples"
        raise GateError(directory, [Failure("saved_model.pb", rule, mend)]) from None
    except subprocess.CalledProcessError as error:
        tail = error.stderr.decode(errors="replace").strip()[-2000:]
        rule = f"the session's process ended with {error.returncode}: {tail}"
        mend = "find what the text tells of"
        raise GateError(directory, [Failure("saved_model.pb", rule, mend)]) from None
    answers = pickle.loads(probe.stdout)
    if isinstance(answers, StatusError):
        return answers
    return [
        [
            answer if isinstance(answer, StatusError) else dict(zip(names, answer))
            for names, answer in zip(itertools.cycle(keys), some)
        ]
        for some in answers
    ]


def _compare(run, answer):
    if isinstance(answer, StatusError):
        mend = "export with keras.export.ExportArchive, from what TensorFlow itself can run"
        yield Failure("saved_model.pb", f"{run.label} is refused: {answer}", mend)
        return
    if run.expected is None:
        return
    if set(answer) != set(run.expected):
        rule = f"{run.label} answers {sorted(answer)}, expected {sorted(run.expected)}"
        yield Failure("saved_model.pb", rule, "return the same keys")
        return
    for key, expected in run.expected.items():
        difference = _difference(answer[key], np.asarray(expected))
        if difference:
            rule = f"{run.label}: {key!r} {difference}"
            yield Failure("variables/", rule, "export again; the files differ from the model")


def _compare_threads(run, answer, again):
    if isinstance(answer, StatusError):
        return
    for other in again:
        if isinstance(other, StatusError):
            said = f"is refused: {other}"
        else:
            differences = ((key, _difference(other[key], answer[key])) for key in answer)
            said = next((f"answers otherwise: {k!r} {text}" for k, text in differences if text), "")
        if said:
            rule = f"{run.label}, asked by {THREADS} threads at once, {said}"
            mend = "let no request write what another one reads"
            yield Failure("saved_model.pb", rule, mend)
            return


def _difference(found, expected):
    """In words, or an empty text where the two agree."""
    if expected.dtype.kind in "SU":
        expected = expected.astype(object)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return (
            f"is {found.dtype.name} {found.shape}, "
            f"the model gives {expected.dtype.name} {expected.shape}"
        )
    if found.dtype.kind not in "fc":
        wrong = int(np.sum(found != expected))
        return f"differs from the model in {wrong} of {found.size} values" if wrong else ""
    if np.allclose(found, expected, RELATIVE, ABSOLUTE, equal_nan=True):
        return ""
    return f"differs from the model by up to {np.max(np.abs(found - expected)):.3g}"
