"""A SavedModel in the C++ session that TensorFlow Serving runs, through TensorFlow's C API.

Nothing here imports TensorFlow's Python. With it come kernels (`py_function`), casts and shape
checks that the stock server does not have; the bare library fails where the server fails, and with
the same words.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import glob
import importlib.util
import os
import pickle
import re
import sys

import ml_dtypes
import numpy as np

STRING = 7
TYPES = {
    1: np.dtype("float32"),
    2: np.dtype("float64"),
    3: np.dtype("int32"),
    4: np.dtype("uint8"),
    5: np.dtype("int16"),
    6: np.dtype("int8"),
    STRING: np.dtype("object"),
    8: np.dtype("complex64"),
    9: np.dtype("int64"),
    10: np.dtype("bool"),
    14: np.dtype(ml_dtypes.bfloat16),
    17: np.dtype("uint16"),
    18: np.dtype("complex128"),
    19: np.dtype("float16"),
    22: np.dtype("uint32"),
    23: np.dtype("uint64"),
}
"""TensorFlow's type numbers, the same in the C API and in `TensorProto.dtype`."""

HALVES = (14, 19)
"""Those of them that REST cannot read or write, so that no package has them in a signature."""

NUMBERS = {dtype: number for number, dtype in TYPES.items()}
"""The way back from numpy's types."""

THREADS = 8  # that ask at once in `probe`

_INVALID_ARGUMENT = 3
_TSTRING_BYTES = 24

_int64s = ctypes.POINTER(ctypes.c_int64)
_pointers = ctypes.POINTER(ctypes.c_void_p)


class StatusError(RuntimeError):
    """A refusal with a code (`absl::StatusCode`, the same numbers as gRPC's) and a text."""

    def __init__(self, code, message):
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self):
        return self.message


_ROOT = re.compile(r"\d+ root error\(s\) found\.\s*\(0\)[\w ]*: (.*?)\n\s*\(1\)", re.DOTALL)
_NODE = re.compile(
    r"\s*(\[\[)?(\{\{(function_)?node [^}]*\}\})+(\]\])?|\n\t \[\[.*?\]\]|\s*\[Op:\w+\]"
)
_SENTENCE = re.compile(r"\[([A-Za-z][^\[\]]* [^\[\]]*)\]")


def in_words(text):
    """What TensorFlow says of an error, as a sentence for people and without names of nodes.

    An assertion in a graph says `assertion failed: [bits must be 0 or 1, got] [2 7]` and where it
    stands; here it is `bits must be 0 or 1, got [2 7]`.
    """
    root = _ROOT.match(text)
    text = _NODE.sub("", root[1] if root else text).strip()
    told = text.removeprefix("assertion failed: ")
    return text if told == text else _SENTENCE.sub(r"\1", told)


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


_outputs = ctypes.POINTER(_Output)
_buffer = ctypes.POINTER(_Buffer)
_handle = ctypes.c_void_p

_FUNCTIONS = {
    "TF_NewStatus": (_handle,),
    "TF_DeleteStatus": (None, _handle),
    "TF_GetCode": (ctypes.c_int, _handle),
    "TF_Message": (ctypes.c_char_p, _handle),
    "TF_NewBuffer": (_buffer,),
    "TF_NewBufferFromString": (_buffer, ctypes.c_char_p, ctypes.c_size_t),
    "TF_DeleteBuffer": (None, _buffer),
    "TF_NewGraph": (_handle,),
    "TF_DeleteGraph": (None, _handle),
    "TF_GraphOperationByName": (_handle, _handle, ctypes.c_char_p),
    "TF_NewSessionOptions": (_handle,),
    "TF_DeleteSessionOptions": (None, _handle),
    "TF_SetConfig": (None, _handle, ctypes.c_char_p, ctypes.c_size_t, _handle),
    "TF_LoadSessionFromSavedModel": (
        _handle,
        _handle,
        _buffer,
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_int,
        _handle,
        _buffer,
        _handle,
    ),
    "TF_SessionRun": (
        None,
        _handle,
        _buffer,
        _outputs,
        _pointers,
        ctypes.c_int,
        _outputs,
        _pointers,
        ctypes.c_int,
        _pointers,
        ctypes.c_int,
        _buffer,
        _handle,
    ),
    "TF_CloseSession": (None, _handle, _handle),
    "TF_DeleteSession": (None, _handle, _handle),
    "TF_AllocateTensor": (_handle, ctypes.c_int, _int64s, ctypes.c_int, ctypes.c_size_t),
    "TF_DeleteTensor": (None, _handle),
    "TF_TensorType": (ctypes.c_int, _handle),
    "TF_NumDims": (ctypes.c_int, _handle),
    "TF_Dim": (ctypes.c_int64, _handle, ctypes.c_int),
    "TF_TensorByteSize": (ctypes.c_size_t, _handle),
    "TF_TensorElementCount": (ctypes.c_int64, _handle),
    "TF_TensorData": (_handle, _handle),
    "TF_StringInit": (None, _handle),
    "TF_StringCopy": (None, _handle, ctypes.c_char_p, ctypes.c_size_t),
    "TF_StringGetDataPointer": (_handle, _handle),
    "TF_StringGetSize": (ctypes.c_size_t, _handle),
    "TF_StringDealloc": (None, _handle),
}


@contextlib.contextmanager
def quiet():
    """Sends what C++ code prints while it is loaded to nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@functools.cache
def _library():
    """The C API of the installed TensorFlow. Raises `ImportError` where there is none."""
    spec = importlib.util.find_spec("tensorflow")
    folders = spec.submodule_search_locations if spec else []
    files = [file for folder in folders for file in glob.glob(f"{folder}/libtensorflow_cc*")]
    if not files:
        raise ImportError(
            f"no libtensorflow_cc stands in {list(folders)}; is tensorflow installed?"
        )
    with quiet():
        library = ctypes.CDLL(files[0])
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def disable_xla():
    """Switches XLA off in this whole process, as the stock server does when it starts.

    There is no switch for one session, so a process that also trains must not call this.
    """
    _library()["_ZN10tensorflow21DisableXlaCompilationEv"]()


def release_memory():
    """Gives memory that is free back to the system, where the C library can."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Status:
    """A `TF_Status` for a `with` block; raises what it holds at the end."""

    def __enter__(self):
        self._handle = _library().TF_NewStatus()
        return self._handle

    def __exit__(self, kind, error, traceback):
        library = _library()
        code = library.TF_GetCode(self._handle)
        message = library.TF_Message(self._handle).decode(errors="replace")
        library.TF_DeleteStatus(self._handle)
        if code and error is None:
            raise StatusError(code, message)


def _new_tensor(array):
    array = np.asarray(array, order="C")
    if array.dtype.kind in "SU":
        array = array.astype(object)
    if array.dtype not in NUMBERS:
        raise StatusError(_INVALID_ARGUMENT, f"no tensor can hold numpy's {array.dtype}")
    library, number = _library(), NUMBERS[array.dtype]
    size = array.size * _TSTRING_BYTES if number == STRING else array.nbytes
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = library.TF_AllocateTensor(number, shape, array.ndim, size)
    start = library.TF_TensorData(tensor)
    if number == STRING:
        for index, value in enumerate(array.ravel()):
            value = value.encode() if isinstance(value, str) else bytes(value)
            library.TF_StringInit(start + index * _TSTRING_BYTES)
            library.TF_StringCopy(start + index * _TSTRING_BYTES, value, len(value))
    elif size:
        ctypes.memmove(start, array.ctypes.data, size)
    return tensor


def _read_tensor(tensor):
    library = _library()
    number = library.TF_TensorType(tensor)
    if number not in TYPES:
        raise StatusError(_INVALID_ARGUMENT, f"numpy cannot hold a tensor of type number {number}")
    shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
    array = np.empty(shape, TYPES[number])
    start = library.TF_TensorData(tensor)
    if number == STRING:
        for index in range(array.size):
            string = start + index * _TSTRING_BYTES
            size = library.TF_StringGetSize(string)
            array.flat[index] = ctypes.string_at(library.TF_StringGetDataPointer(string), size)
    elif array.nbytes:
        ctypes.memmove(array.ctypes.data, start, array.nbytes)
    return array


def _delete_input(tensor):
    """Frees a tensor of `_new_tensor`; the C API leaves the strings in it to whoever made them."""
    library = _library()
    if library.TF_TensorType(tensor) == STRING:
        start = library.TF_TensorData(tensor)
        for index in range(library.TF_TensorElementCount(tensor)):
            library.TF_StringDealloc(start + index * _TSTRING_BYTES)
    library.TF_DeleteTensor(tensor)


def varint(number):
    """The bytes that protobuf writes for a whole number from 0."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


class Session:
    """A SavedModel, loaded and initialised; `run` may be called from many threads.

    Args:
        directory: the version directory, with `saved_model.pb` in it.
        tags: the tags of the meta graph.
        apart: whether it has threads of its own, which the runs of other sessions cannot hold.

    Attributes:
        meta_graph: the serialized `MetaGraphDef`; the signatures are in it.

    Raises:
        StatusError: TensorFlow could not load the directory.
    """

    def __init__(self, directory, tags=("serve",), apart=False):
        library = _library()
        names = (ctypes.c_char_p * len(tags))(*(tag.encode() for tag in tags))
        options, meta_graph = library.TF_NewSessionOptions(), library.TF_NewBuffer()
        self._session, self._graph = None, library.TF_NewGraph()
        self._found = {}
        try:
            if apart:
                with _Status() as status:
                    # ConfigProto with its ninth field, use_per_session_threads, alone.
                    library.TF_SetConfig(options, b"\x48\x01", 2, status)
            with _Status() as status:
                self._session = library.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    os.fsencode(directory),
                    names,
                    len(tags),
                    self._graph,
                    meta_graph,
                    status,
                )
            self.meta_graph = ctypes.string_at(meta_graph[0].data, meta_graph[0].length)
        except StatusError:
            self.close()
            raise
        finally:
            library.TF_DeleteBuffer(meta_graph)
            library.TF_DeleteSessionOptions(options)

    def run(self, feeds, fetches, timeout=None):
        """Runs the graph.

        Args:
            feeds: dict: tensor name (`"serve_sequence:0"`) -> numpy array.
            fetches: list of tensor names.
            timeout: seconds after which TensorFlow gives up, or None.

        Returns:
            A list of numpy arrays in the order of `fetches`; strings are `bytes` objects.

        Raises:
            StatusError: TensorFlow refused the run, in its own words.
        """
        library = _library()
        sources = (_Output * len(feeds))(*map(self._find, feeds))
        targets = (_Output * len(fetches))(*map(self._find, fetches))
        results = (ctypes.c_void_p * len(fetches))()
        tensors, options = [], None
        try:
            tensors.extend(map(_new_tensor, feeds.values()))
            if timeout is not None:
                # RunOptions with its second field, timeout_in_ms, alone.
                message = b"\x10" + varint(max(1, round(timeout * 1000)))
                options = library.TF_NewBufferFromString(message, len(message))
            with _Status() as status:
                library.TF_SessionRun(
                    self._session,
                    options,
                    sources,
                    (ctypes.c_void_p * len(tensors))(*tensors),
                    len(tensors),
                    targets,
                    results,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            return [_read_tensor(tensor) for tensor in results]
        finally:
            # Results first: an output may share the memory of an input.
            for tensor in filter(None, results):
                library.TF_DeleteTensor(tensor)
            for tensor in tensors:
                _delete_input(tensor)
            if options:
                library.TF_DeleteBuffer(options)

    def _find(self, name):
        if name not in self._found:
            operation, _, index = name.partition(":")
            handle = _library().TF_GraphOperationByName(self._graph, operation.encode())
            if not handle:
                raise StatusError(_INVALID_ARGUMENT, f"Tensor {name} was not found in the Graph")
            self._found[name] = _Output(handle, int(index or 0))
        return self._found[name]

    def cancel(self):
        """Ends the runs that are under way; they raise, as all that follow do."""
        with _Status() as status:
            _library().TF_CloseSession(self._session, status)

    def close(self):
        """Frees the session. No run may be under way; a second call does nothing."""
        library = _library()
        session, self._session = self._session, None
        graph, self._graph = self._graph, None
        if session:
            with _Status() as status:
                library.TF_CloseSession(session, status)
            with _Status() as status:
                library.TF_DeleteSession(session, status)
        if graph:
            library.TF_DeleteGraph(graph)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _attempt(function, *arguments):
    try:
        return function(*arguments)
    except StatusError as error:
        return error


def probe():
    """The gate's other half, in a process of its own: pickles in on stdin, pickles out on stdout.

    Reads `(directory, [(feeds, fetches), ...], xla)` and writes two lists with the arrays or the
    `StatusError` of each run, or the one `StatusError` of the load. The first list is of the runs
    one by one, the second of all runs several times over, `THREADS` at a time.
    """
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    directory, runs, xla = pickle.load(sys.stdin.buffer)
    if not xla:
        disable_xla()
    session = _attempt(Session, directory)
    if not isinstance(session, StatusError):
        answers = [_attempt(session.run, *run) for run in runs]
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            times = max(2, -(-4 * THREADS // max(1, len(runs))))
            again = list(pool.map(lambda run: _attempt(session.run, *run), runs * times))
        pickle.dump((answers, again), answer)
    else:
        pickle.dump(session, answer)
    answer.close()


if __name__ == "__main__":
    # Under its own name, so that what is pickled here can be read by who imports this module.
    importlib.import_module(f"{__package__}._session").probe()
