"""Requests that arrive together run together, by TensorFlow Serving's rules of batching."""

import collections
import concurrent.futures
import itertools
import math
import threading
import time

import grpc
import numpy as np

from .._schema import broken_rules, largest_run, number_of
from ._refusals import invalid, refuse

LARGEST_BATCH = 2**31 - 1
"""Bytes of one input, filled and padded; a request may not have more either."""


class _Task:
    """A request, or a piece of a large one, that waits for its part of a batch."""

    def __init__(self, feeds, size, deadline):
        self.feeds, self.size, self.deadline = feeds, size, deadline
        self.future = concurrent.futures.Future()


class _Batch:
    def __init__(self, ripe):
        self.tasks, self.size, self.ripe = [], 0, ripe


class Batcher:
    """Gathers the runs of one model into batches.

    A batch is run when it is full or when its first task has waited `batch_timeout_micros`,
    whichever comes first, by one of `num_batch_threads` threads. It is filled up to the next of
    `allowed_batch_sizes` with copies of its last task's first row, whose answers are dropped.

    Args:
        run: `run(feeds, fetches, timeout) -> list of arrays`, such as `Session.run`.
        parameters: a `BatchingParameters`.

    Raises:
        ValueError: the parameters contradict each other.
    """

    def __init__(self, run, parameters):
        self._session_run = run
        self._pad = parameters.pad_variable_length_inputs
        self._sizes = list(parameters.allowed_batch_sizes)

        for rule, mend in broken_rules(parameters):
            raise ValueError(f"{rule}; {mend}")
        self.largest = number_of(parameters, "max_batch_size")
        self._split = parameters.enable_large_batch_splitting.value
        self._execution = number_of(parameters, largest_run(parameters))
        self._timeout = number_of(parameters, "batch_timeout_micros") / 1e6
        self._most_waiting = number_of(parameters, "max_enqueued_batches")
        self._changed = threading.Condition()
        self._queues = collections.defaultdict(collections.deque)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name="batching", daemon=True)
            for _ in range(number_of(parameters, "num_batch_threads"))
        ]
        for thread in self._threads:
            thread.start()

    def run(self, feeds, fetches, timeout=None):
        """As `Session.run`, as a part of a batch.

        Raises:
            StatusError: TensorFlow's refusal, or that of the queue.
        """
        rows = self._rows(feeds)
        if rows > self.largest:
            message = f"Task size {rows} is larger than maximum input batch size {self.largest}"
            raise invalid(message)
        if not rows:
            return self._session_run(feeds, fetches, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        # A wrong type is refused by TensorFlow, alone and not with its neighbours.
        key = tuple((name, array.dtype) for name, array in feeds.items()), tuple(fetches)
        tasks = self._enqueue(key, feeds, rows, deadline)
        parts = []
        for task in tasks:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                parts.append(task.future.result(left))
            except concurrent.futures.TimeoutError:
                text = "Run() timeout exceeded while waiting in batching queue"
                raise refuse(grpc.StatusCode.DEADLINE_EXCEEDED, text) from None
        if len(parts) == 1:
            return parts[0]
        return [_join(arrays, name) for arrays, name in zip(zip(*parts), fetches)]

    @staticmethod
    def _rows(feeds):
        if any(array.ndim == 0 for array in feeds.values()):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        rows = {len(array) for array in feeds.values()}
        if len(rows) > 1:
            text = "Batching Run() input tensors must have equal 0th-dimension size"
            raise invalid(text)
        return rows.pop() if rows else 0

    def _enqueue(self, key, feeds, rows, deadline):
        """Lays the rows into the open batch and, where they may be split, into new ones."""
        tasks = []
        with self._changed:
            queue = self._queues[key]
            room = self._execution - queue[-1].size if queue else 0
            if not self._split and rows > room:
                room = 0
            more = -(-(rows - room) // self._execution) if rows > room else 0
            if len(queue) + more > self._most_waiting:
                text = (
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {len(queue)} batches enqueued and max_enqueued_batches is "
                    f"{self._most_waiting}"
                )
                raise refuse(grpc.StatusCode.UNAVAILABLE, text)
            start = 0
            while start < rows:
                if not queue or not room:
                    queue.append(_Batch(time.monotonic() + self._timeout))
                    room = self._execution
                end = min(rows, start + room)
                piece = {name: array[start:end] for name, array in feeds.items()}
                task = _Task(piece if end - start < rows else feeds, end - start, deadline)
                queue[-1].tasks.append(task)
                queue[-1].size += task.size
                tasks.append(task)
                start, room = end, 0
            self._changed.notify()
        return tasks

    def _work(self):
        while True:
            with self._changed:
                key, batch = self._next()
            if batch is None:
                return
            self._run_batch(key, batch)

    def _next(self):
        """Waits for the batch that is ripe first and takes it; None where there will be none."""
        while True:
            now, soonest = time.monotonic(), None
            for key, queue in self._queues.items():
                if queue:
                    full = len(queue) > 1 or queue[0].size >= self._execution
                    ripe = now if full or self._closed else queue[0].ripe
                    if soonest is None or ripe < soonest[0]:
                        soonest = ripe, key
            if soonest is None and self._closed:
                return None, None
            if soonest and soonest[0] <= now:
                return soonest[1], self._queues[soonest[1]].popleft()
            self._changed.wait(soonest[0] - now if soonest else None)

    def _run_batch(self, key, batch):
        now = time.monotonic()
        tasks = [task for task in batch.tasks if task.deadline is None or task.deadline > now]
        for task in batch.tasks:
            if task not in tasks:
                text = "Run() timeout exceeded while waiting in batching queue"
                task.future.set_exception(refuse(grpc.StatusCode.DEADLINE_EXCEEDED, text))
        if not tasks:
            return
        deadlines = [task.deadline for task in tasks]
        timeout = None if None in deadlines else max(deadlines) - now
        try:
            answers = self._together(key, tasks, timeout)
        except Exception as error:
            for task in tasks:
                task.future.set_exception(error)
            return
        for task, answer in zip(tasks, answers):
            task.future.set_result(answer)

    def _together(self, key, tasks, timeout):
        inputs, fetches = key
        size = sum(task.size for task in tasks)
        filled = next((allowed for allowed in self._sizes if allowed >= size), size)
        feeds = {name: self._merge(name, tasks, filled - size) for name, _ in inputs}
        outputs = self._session_run(feeds, list(fetches), timeout)
        for output in outputs:
            if output.ndim == 0 or len(output) != filled:
                text = (
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors"
                )
                raise refuse(grpc.StatusCode.FAILED_PRECONDITION, text)
        ends = list(itertools.accumulate(task.size for task in tasks))
        return [
            [output[end - task.size : end] for output in outputs] for task, end in zip(tasks, ends)
        ]

    def _merge(self, name, tasks, fill):
        arrays = [task.feeds[name] for task in tasks]
        shape = arrays[0].shape[1:]
        pad = any(array.shape[1:] != shape for array in arrays)
        if pad:
            if not self._pad or len({array.ndim for array in arrays}) > 1:
                text = (
                    f"Tensors with name '{name}' from different tasks have different shapes and "
                    "padding is turned off. Set pad_variable_length_inputs to true, or ensure that "
                    "all tensors with the same name have equal dimensions starting with the first "
                    "dim."
                )
                raise refuse(grpc.StatusCode.FAILED_PRECONDITION, text)
            shape = np.max([array.shape[1:] for array in arrays], axis=0).tolist()
        size = (sum(map(len, arrays)) + fill) * math.prod(shape) * arrays[0].itemsize
        if size > LARGEST_BATCH:
            text = f"A batch of '{name}' would take {size} bytes, {LARGEST_BATCH} are the most"
            raise refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        if pad:
            arrays = [_padded(array, shape) for array in arrays]
        if fill:
            arrays.append(np.repeat(arrays[-1][:1], fill, axis=0))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def close(self):
        """Runs what waits, then ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


def _padded(array, shape):
    """Filled up with the first element, as the stock server does."""
    whole = np.full((len(array), *shape), array.flat[0] if array.size else 0, array.dtype)
    whole[tuple(slice(size) for size in array.shape)] = array
    return whole


def _join(arrays, name):
    if len({array.shape[1:] for array in arrays}) > 1:
        text = f"Pieces of a large request were padded to different shapes in '{name}'"
        raise refuse(grpc.StatusCode.FAILED_PRECONDITION, text)
    return np.concatenate(arrays)
