"""Large bodies are read in processes of their own.

To parse JSON or a message holds Python's lock from the first byte to the last, and nobody else, not
even who asks for the status, would be answered meanwhile. `Readers` belongs to the server; the rest
of this file runs in the processes, which know neither TensorFlow nor gRPC.
"""

import contextlib
import gc
import importlib
import os
import pickle
import queue
import resource
import subprocess
import sys
import threading

import numpy as np

from .._session import StatusError, release_memory
from .._tensors import BLOCK
from . import _reading

LARGE = 2**16
"""Bytes of a body from which on another process reads it."""

PROCESSES = min(4, os.cpu_count() or 1)

MEMORY = 2**33
"""Bytes of memory that such a process may have; no more than half of what there is."""

_RESOURCE_EXHAUSTED = 8


class Readers:
    """Answers as the functions of `_reading`, which it calls here or in another process.

    A process is started when there is no other one for a large body, reads one at a time, and is
    killed when the caller's time is over. What is taken back is neither parsed nor copied here.

    Attributes:
        processes: those that live, and perhaps some that have died.
    """

    def __init__(self):
        self._lock, self.processes = threading.Lock(), set()
        self._free = queue.LifoQueue()
        for _ in range(PROCESSES):
            self._free.put(None)

    def read(self, function, caller, body, *arguments, weight=None):
        """The answer of a function of `_reading`.

        Args:
            function: its name.
            caller: `Caller`.
            body: bytes, its first argument.
            arguments: the others.
            weight: bytes of the body that take time to read; None for all.

        Raises:
            StatusError: as the function does; or the caller's time is over, or the body takes more
                memory to read than there is.
        """
        if (len(body) if weight is None else weight) < LARGE:
            return getattr(_reading, function)(body, *arguments, caller)
        process = self._take(caller)
        try:
            answer = self._ask(process, caller, body, (function, arguments))
        finally:
            self._free.put(process if process.poll() is None else None)
        if isinstance(answer, MemoryError):
            text = f"a body of {len(body)} bytes takes more memory to read than there is for it"
            raise StatusError(_RESOURCE_EXHAUSTED, text)
        try:
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            del answer  # a circle with its traceback, which holds the body

    def _take(self, caller):
        process = None
        while True:
            with contextlib.suppress(queue.Empty):
                process = self._free.get(timeout=min(1.0, caller.left() or 1.0))
                break
        if process is None or process.poll() is not None:
            try:
                process = _start()
            except BaseException:
                self._free.put(None)
                raise
            with self._lock:
                self.processes = {one for one in self.processes if one.poll() is None}
                self.processes.add(process)
        return process

    def _ask(self, process, caller, body, question):
        with _killed_when_late(process, caller):
            try:
                pickle.dump((*question, len(body)), process.stdin)
                process.stdin.write(body)
                process.stdin.flush()
                answer, sizes = pickle.load(process.stdout)
                # Their memory is first touched when Python's lock is not held.
                buffers = [np.empty(size, "uint8") for size in sizes]
                if any(process.stdout.readinto(buffer) < len(buffer) for buffer in buffers):
                    raise EOFError
            except (OSError, EOFError, pickle.UnpicklingError):
                process.kill()
                process.wait()
                caller.left()
                return MemoryError()
        return _through(_unpack_strings, pickle.loads(answer, buffers=buffers))

    def close(self):
        """Ends the processes; nobody may be reading."""
        with self._lock:
            for process in self.processes:
                process.kill()
                process.wait()
                process.stdin.close()
                process.stdout.close()


def _start():
    # In a group of its own: Ctrl-C is the server's, which lets the others answer first.
    # Pipes as wide as anybody may have them: fewer turns between the processes.
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}._readers", str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        process_group=0,
        pipesize=2**20,
    )


@contextlib.contextmanager
def _killed_when_late(process, caller):
    """Inside, a process is killed when its caller leaves or has no time left."""
    lock, over = threading.Lock(), False

    def kill():
        with lock:
            if not over:
                process.kill()

    left = caller.left()
    timer = threading.Timer(left, kill) if left is not None else None
    caller.on_leave(kill)
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        if timer:
            timer.cancel()


def _through(turn, value):
    """A value with what `turn` makes of its arrays, where it has any; as it is where not."""
    if not isinstance(value, tuple):
        return value
    *others, arrays = value
    return *others, {key: turn(array) for key, array in arrays.items()}


def _pack_strings(array):
    """What goes from one process to the other at once and not string by string, as numbers do."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O":
        return array
    strings = array.ravel().tolist()
    ends = np.cumsum([len(string) for string in strings], dtype="int64")
    return array.shape, ends, np.frombuffer(b"".join(strings), "uint8")


def _unpack_strings(array):
    if not isinstance(array, tuple):
        return array
    shape, ends, joined = array
    strings, view, start = np.empty(len(ends), object), memoryview(joined), 0
    for first in range(0, len(ends), BLOCK):
        for index, end in enumerate(ends[first : first + BLOCK].tolist(), first):
            strings[index], start = bytes(view[start:end]), end
    return strings.reshape(shape)


def _bound(memory):
    """Bounds the memory of this process, which is to end before the server where there is none."""
    with contextlib.suppress(OSError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        most, (_, hard) = min(memory, pages // 2), resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def work(memory):
    """Reads bodies from stdin until there are no more, and writes what `_reading` answers.

    Args:
        memory: bytes that this process may have.
    """
    _bound(memory)
    gc.disable()  # documents have no circles
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, arguments, size = pickle.load(questions)
            body = bytearray(size)
            if questions.readinto(body) < size:
                return
        except EOFError:
            return
        try:
            answer = _through(_pack_strings, getattr(_reading, function)(body, *arguments))
        except (MemoryError, SystemError):
            return  # libraries that lack memory are in no state to go on
        except Exception as error:
            answer = error.with_traceback(None)
            answer.__context__ = None
        buffers = []
        text = pickle.dumps(answer, 5, buffer_callback=buffers.append)
        del answer, body
        views = [buffer.raw() for buffer in buffers]
        pickle.dump((text, [view.nbytes for view in views]), answers)
        for view in views:
            answers.write(view)
        answers.flush()
        del buffers, views, text
        release_memory()


if __name__ == "__main__":
    # Under its own name, so that what is pickled here can be read by who imports this module.
    importlib.import_module(f"{__package__}._readers").work(int(sys.argv[1]))
