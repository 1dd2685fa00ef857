"""The gate: what a version directory must pass before it may be served."""

import dataclasses
import glob
import itertools
import os
import pickle
import re
import subprocess
import sys
import time

import numpy as np

from . import _schema, _tensors
from ._schema import broken_rules
from ._session import HALVES, THREADS, TYPES, StatusError
from ._version import (
    BATCHING,
    CARD,
    DEFAULT_SIGNATURE,
    LENGTHS,
    WARMUP,
    Failure,
    GateError,
    damaged_files,
    is_free,
    nodes_of,
    read_meta_graph,
    read_warmup,
    requires_xla,
    signatures_of,
    unbounded,
)

PADDING = 2

WARMUP_LIMIT = 1000
RELATIVE, ABSOLUTE = 1e-4, 1e-5
TIMEOUT = 600.0

_PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_XLA = "_XlaMustCompile"
_LOOPS = {"While", "StatelessWhile"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


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
        requires_xla: whether the server must be started with XLA on.
        seconds: how long it took.
    """

    directory: str
    signatures: tuple
    operations: int
    loops: int
    runs: int
    compared: int
    requires_xla: bool
    seconds: float


@dataclasses.dataclass
class _Run:
    label: str
    signature: str
    inputs: dict
    expected: dict | None = None
    padded: int | None = None  # the place of the request that this one is with padding


def verify(directory, expected=None):
    """Checks a version directory, then runs it as TensorFlow Serving will.

    The files are compared with the manifest, where there is one, and the graph is read for what the
    stock server cannot run. Then a fresh process without TensorFlow's Python loads the directory in
    the C++ session, with XLA off unless the package asks for it, and answers the expected cases,
    the warm-up requests, and one of them padded where the server would pad; one by one, and all of
    them again from several threads.

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
    nodes = nodes_of(graph)
    operations = {node.op for node in nodes}
    operations -= {f.signature.name for f in graph.graph_def.library.function}

    failures = [*damaged_files(directory), *_operations(operations)]
    try:
        xla = requires_xla(directory)
    except ValueError as error:
        xla = False
        failures.append(Failure(CARD, str(error), "copy the whole directory again"))
    if not xla:
        failures += _xla(graph, nodes)
    failures += _variables(directory, operations)
    failures += _batching(directory, graph)
    for name, signature in signatures_of(graph).items():
        failures.extend(_signature(name, signature))
    if DEFAULT_SIGNATURE not in signatures_of(graph):
        rule = f"there is no signature {DEFAULT_SIGNATURE!r}"
        failures.append(Failure("saved_model.pb", rule, "write it with ExportArchive"))

    runs, problems = _runs(directory, graph, expected or {})
    failures.extend(problems)
    runs += _padded_runs(runs, graph) if os.path.exists(os.path.join(directory, BATCHING)) else []
    answers = _answers(directory, graph, runs, xla)
    if isinstance(answers, StatusError):
        rule = f"the server's session cannot load it: {answers}"
        failures.append(Failure("saved_model.pb", rule, "export again"))
        raise GateError(directory, failures)
    answers, again = answers
    for index, (run, answer) in enumerate(zip(runs, answers)):
        if run.padded is None:
            failures.extend(_compare(run, answer))
        else:
            failures.extend(_compare_padded(run, answer, answers[run.padded]))
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
        requires_xla=xla,
        seconds=time.monotonic() - start,
    )


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
        mend = "take jit_compile=True off the function, or `ponderzoo export --xla` to keep it"
        yield Failure("saved_model.pb", rule, mend)


def _variables(directory, operations):
    if "VarHandleOp" not in operations:
        return
    for pattern in ("variables.index", "variables.data-*"):
        if not glob.glob(os.path.join(glob.escape(directory), "variables", pattern)):
            rule = f"the graph has variables and there is no {pattern}"
            yield Failure("variables/", rule, "copy the whole directory, or export again")


def _batching(directory, graph):
    """The rules of a `batching_params.pbtxt`, where there is one."""
    path = os.path.join(directory, BATCHING)
    if not os.path.exists(path):
        return
    try:
        given = _schema.read_text(path, _schema.BatchingParameters())
    except (ValueError, OSError) as error:
        yield Failure(BATCHING, f"it cannot be read: {error}", "export again, or take it away")
        return
    for rule, mend in broken_rules(given):
        yield Failure(BATCHING, rule, mend)
    for name, signature in signatures_of(graph).items():
        loose = unbounded(signature)
        if loose:
            rule = (
                f"signature {name!r} takes {loose[0]!r} of any length without {LENGTHS!r}; rows of "
                "different length would be padded with what looks real"
            )
            mend = f"take the file away, or give the signature an input {LENGTHS!r}"
            yield Failure(BATCHING, rule, mend)
        elif not given.pad_variable_length_inputs and any(map(is_free, signature.inputs.values())):
            rule = f"signature {name!r} takes rows of any length, and they are not padded"
            yield Failure(BATCHING, rule, "write pad_variable_length_inputs: true")


def _signature(name, signature):
    where = f"saved_model.pb, signature {name!r}"
    if not _NAME.fullmatch(name):
        yield Failure(where, "a signature's name is snake case", "rename it")
    served = [dtype.name for number, dtype in TYPES.items() if number not in HALVES]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for key, info in sorted(tensors.items()):
            if not _NAME.fullmatch(key):
                mend = "name it by keras.Input(name=...) and the keys of the returned dict"
                yield Failure(where, f"the {kind} {key!r} is not snake case", mend)
            if info.dtype not in TYPES or info.dtype in HALVES:
                rule = (
                    f"the {kind} {key!r} has type number {info.dtype} ({_type_name(info.dtype)}), "
                    f"which is none of {served}"
                )
                yield Failure(where, rule, "cast it to float32 inside the signature")
            shape = info.tensor_shape
            if shape.unknown_rank or not shape.dim or shape.dim[0].size != -1:
                sizes = "unknown" if shape.unknown_rank else [dim.size for dim in shape.dim]
                rule = f"the {kind} {key!r} must start with a free batch axis, its shape is {sizes}"
                yield Failure(
                    where, rule, "make the first axis None, for outputs by tf.ensure_shape"
                )


def _type_name(number):
    with _tensors.light_protos():
        from tensorflow.core.framework import types_pb2

    return types_pb2.DataType.Name(number) if number in types_pb2.DataType.values() else "unknown"


def _runs(directory, graph, expected):
    """The requests to run, and what is wrong with the requests themselves."""
    runs, failures = [], []
    for name, cases in expected.items():
        for inputs, outputs in cases:
            rows = len(next(iter(inputs.values()))) if inputs else 0
            runs.append(_Run(f"signature {name!r}, batch of {rows}", name, inputs, outputs))
    try:
        requests = read_warmup(directory)
        if len(requests) > WARMUP_LIMIT:
            rule = f"it has {len(requests)} records, the server takes {WARMUP_LIMIT}"
            failures.append(Failure(WARMUP, rule, "write fewer"))
            requests = []
        for index, request in enumerate(requests):
            inputs = {key: _tensors.from_proto(proto) for key, proto in request.inputs.items()}
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
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


def _padded_runs(runs, graph):
    """One request of each signature as a server pads it that batches it with longer ones.

    Every free size grows by `PADDING`, filled with the tensor's first element.
    """
    padded = {}
    for place, run in enumerate(runs):
        signature = graph.signature_def[run.signature]
        free = {key: info for key, info in signature.inputs.items() if is_free(info)}
        whole = all(run.inputs[key].size for key in free)
        if not free or unbounded(signature) or not whole or run.signature in padded:
            continue
        inputs = dict(run.inputs)
        for key, info in free.items():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            grown = [(0, PADDING if axis and size < 0 else 0) for axis, size in enumerate(sizes)]
            array = inputs[key]
            inputs[key] = np.pad(array, grown, constant_values=array.flat[0])
        padded[run.signature] = _Run(f"{run.label}, padded", run.signature, inputs, padded=place)
    return list(padded.values())


def _answers(directory, graph, runs, xla):
    """What `_session.probe` answers, with dicts of arrays for lists of them."""
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
            input=pickle.dumps((os.path.abspath(directory), calls, xla)),
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
        said = difference(answer[key], np.asarray(expected))
        if said:
            rule = f"{run.label}: {key!r} {said}"
            yield Failure("variables/", rule, "export again; the files differ from the model")


def _compare_padded(run, answer, plain):
    """What a row answers may not depend on how far the server has padded it."""
    if isinstance(plain, StatusError):
        return
    mend = f"look at {LENGTHS!r} alone for what is real, or take {BATCHING} away"
    if isinstance(answer, StatusError):
        yield Failure(BATCHING, f"{run.label} is refused: {answer}", mend)
        return
    for key, expected in plain.items():
        found = answer[key]
        if found.ndim == expected.ndim:
            found = found[tuple(map(slice, expected.shape))]
        said = difference(found, expected, "the same row without padding")
        if said:
            rule = f"{run.label}: {key!r} {said}"
            yield Failure(BATCHING, rule, mend)


def _compare_threads(run, answer, again):
    if isinstance(answer, StatusError):
        return
    for other in again:
        if isinstance(other, StatusError):
            said = f"is refused: {other}"
        else:
            differences = ((key, difference(other[key], answer[key])) for key in answer)
            said = next((f"answers otherwise: {k!r} {text}" for k, text in differences if text), "")
        if said:
            rule = f"{run.label}, asked by {THREADS} threads at once, {said}"
            mend = "let no request write what another one reads"
            yield Failure("saved_model.pb", rule, mend)
            return


def difference(found, expected, other="the model"):
    """In words, or an empty text where the two agree."""
    if expected.dtype.kind in "SU":
        expected = expected.astype(object)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return (
            f"is {found.dtype.name} {found.shape}, "
            f"{other} gives {expected.dtype.name} {expected.shape}"
        )
    if found.dtype.kind not in "fc":
        wrong = int(np.sum(found != expected))
        return f"differs from {other} in {wrong} of {found.size} values" if wrong else ""
    if np.allclose(found, expected, RELATIVE, ABSOLUTE, equal_nan=True):
        return ""
    return f"differs from {other} by up to {np.max(np.abs(found - expected)):.3g}"
