"""The queue that gathers requests, without TensorFlow behind it."""

import concurrent.futures
import threading
import time

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ponderzoo.export._schema import BatchingParameters
from ponderzoo.export._session import StatusError
from ponderzoo.export.server._batching import Batcher


def parameters(**fields):
    """`BatchingParameters` from plain values; `{"value": ...}` is put where it belongs."""
    plain = {"allowed_batch_sizes", "pad_variable_length_inputs"}
    return BatchingParameters(**{k: v if k in plain else {"value": v} for k, v in fields.items()})


class Doubler:
    """A session that doubles `x` and remembers the batches it was given."""

    def __init__(self, seconds=0.0):
        self.batches, self.seconds = [], seconds

    def __call__(self, feeds, fetches, timeout):
        time.sleep(self.seconds)
        self.batches.append(feeds["x"].copy())
        assert fetches == ["y"]
        return [feeds["x"] * 2]


@pytest.fixture
def batcher():
    made = []

    def make(run, **fields):
        made.append(Batcher(run, parameters(**fields)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask_together(batcher, arrays, timeout=None):
    """Answers, or errors, of requests that arrive at the same time, in their order."""
    gate = threading.Barrier(len(arrays))

    def ask(array):
        gate.wait()
        try:
            return batcher.run({"x": array}, ["y"], timeout)[0]
        except StatusError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(ask, arrays))


def rows(*values):
    return np.array(values, "float32")[:, None]


def test_requests_that_arrive_together_run_together(batcher):
    run = Doubler()
    one = batcher(run, max_batch_size=8, batch_timeout_micros=200_000, num_batch_threads=1)
    answers = ask_together(one, [rows(1), rows(2, 3), rows(4)])
    assert [answer.tolist() for answer in answers] == [[[2]], [[4], [6]], [[8]]]
    assert len(run.batches) == 1 and sorted(run.batches[0].ravel()) == [1, 2, 3, 4]


def test_full_batch_does_not_wait(batcher):
    one = batcher(Doubler(), max_batch_size=2, batch_timeout_micros=60_000_000)
    start = time.monotonic()
    ask_together(one, [rows(1), rows(2)])
    assert time.monotonic() - start < 10


def test_batch_is_filled_up_to_an_allowed_size_with_its_last_row_repeated(batcher):
    run = Doubler()
    one = batcher(run, max_batch_size=8, allowed_batch_sizes=[4, 8])
    assert one.run({"x": rows(5, 6, 7)}, ["y"])[0].ravel().tolist() == [10, 12, 14]
    assert run.batches[0].ravel().tolist() == [5, 6, 7, 5]


def test_rows_of_different_length_are_padded_with_their_first_element(batcher):
    run = Doubler()
    one = batcher(
        run, max_batch_size=2, batch_timeout_micros=60_000_000, pad_variable_length_inputs=True
    )
    long, short = np.array([[1, 2, 3]], "float32"), np.array([[7, 8]], "float32")
    answers = ask_together(one, [long, short])
    assert answers[0].tolist() == [[2, 4, 6]] and answers[1].tolist() == [[14, 16, 14]]


def test_large_request_is_split_where_that_is_allowed_and_refused_where_not(batcher):
    run = Doubler()
    limits = {"max_batch_size": 100, "max_execution_batch_size": 4, "allowed_batch_sizes": [4]}
    one = batcher(run, enable_large_batch_splitting=True, **limits)
    array = np.arange(10, dtype="float32")[:, None]
    np.testing.assert_array_equal(one.run({"x": array}, ["y"])[0], array * 2)
    assert max(map(len, run.batches)) == 4
    with pytest.raises(StatusError, match="Task size 5 is larger than maximum input batch size 4"):
        batcher(run, max_batch_size=4).run({"x": array[:5]}, ["y"])


def test_full_queue_is_unavailable(batcher):
    one = batcher(Doubler(0.5), max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    answers = ask_together(one, [rows(i) for i in range(6)])
    refused = [answer for answer in answers if isinstance(answer, StatusError)]
    assert 3 <= len(refused) <= 5
    for error in refused:
        assert error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "The batch scheduling queue to which this task was submitted is full" in str(error)


def test_request_that_waits_too_long_is_given_up_and_others_are_not(batcher):
    run = Doubler(0.6)
    one = batcher(run, max_batch_size=1, num_batch_threads=1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.run, {"x": rows(1)}, ["y"])
        time.sleep(0.1)
        with pytest.raises(StatusError, match="while waiting in batching queue") as caught:
            one.run({"x": rows(2)}, ["y"], 0.1)
        assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert first.result()[0].tolist() == [[2]]
    one.close()
    assert [batch.ravel().tolist() for batch in run.batches] == [[1]]


def test_one_wrong_type_does_not_harm_its_neighbours(batcher):
    def run(feeds, fetches, timeout):
        if feeds["x"].dtype != "float32":
            raise StatusError(3, "Expects arg[0] to be float but int32 is provided")
        return [feeds["x"] * 2]

    one = batcher(run, max_batch_size=8, batch_timeout_micros=100_000)
    right, wrong = ask_together(one, [rows(1), rows(1).astype("int32")])
    assert right.tolist() == [[2]] and "to be float" in str(wrong)


def test_failure_of_a_batch_reaches_everyone_in_it(batcher):
    def run(feeds, fetches, timeout):
        raise StatusError(13, "no")

    one = batcher(run, max_batch_size=8, batch_timeout_micros=100_000)
    assert [str(answer) for answer in ask_together(one, [rows(1), rows(2)])] == ["no", "no"]


def test_no_rows_run_alone(batcher):
    one = batcher(Doubler(), max_batch_size=8, batch_timeout_micros=60_000_000)
    assert one.run({"x": rows()[:0].reshape(0, 1)}, ["y"])[0].shape == (0, 1)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"allowed_batch_sizes": [4, 2], "max_batch_size": 4}, "must be whole numbers that rise"),
        ({"allowed_batch_sizes": [0, 4], "max_batch_size": 4}, "must be whole numbers that rise"),
        ({"allowed_batch_sizes": [2], "max_batch_size": 4}, "must be max_batch_size, 4, it is 2"),
        (
            {
                "allowed_batch_sizes": [4],
                "max_batch_size": 4,
                "enable_large_batch_splitting": True,
                "max_execution_batch_size": 2,
            },
            "must be max_execution_batch_size, 2, it is 4",
        ),
        ({"max_batch_size": 0}, "max_batch_size must be 1 or more, it is 0"),
        ({"max_execution_batch_size": 0}, "max_execution_batch_size must be 1 or more, it is 0"),
        ({"max_enqueued_batches": 0}, "max_enqueued_batches must be 1 or more, it is 0"),
        ({"num_batch_threads": 1025}, "num_batch_threads must be 1 to 1024, it is 1025; write"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be 0 to 60000000, it is -1"),
    ],
)
def test_contradictory_parameters_are_refused(fields, text):
    with pytest.raises(ValueError, match=text):
        Batcher(None, parameters(**fields))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    largest=st.integers(1, 5),
    splitting=st.booleans(),
)
def test_every_request_gets_its_own_rows(sizes, largest, splitting):
    limits = {"max_batch_size": 9, "num_batch_threads": 2, "batch_timeout_micros": 500}
    if splitting:
        limits |= {"enable_large_batch_splitting": True, "max_execution_batch_size": largest}
    one = Batcher(Doubler(), parameters(max_enqueued_batches=1000, **limits))
    arrays = [np.full((size, 1), number, "float32") for number, size in enumerate(sizes)]
    for array, answer in zip(arrays, ask_together(one, arrays)):
        np.testing.assert_array_equal(answer, array * 2)
    one.close()
