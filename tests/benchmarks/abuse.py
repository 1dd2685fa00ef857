"""How long the embedded server takes to tell a model's status while it is sent far too much.

The server, who sends a request of some 40 MB, and who asks for the status and the health without a
pause until that one is answered, are three processes. A row tells the milliseconds of the slowest
answer and of the median one, each the worst of all rounds and the median over rounds.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ponderzoo.export._session import varint
from ponderzoo.export._tensors import UNLIMITED, light_protos

with light_protos():
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=10)
PARSER.add_argument("--values", type=int, default=10_000_000)
PARSER.add_argument("--only", help="abuses whose name has this in it")


def field(number, content):
    """A field of bytes, as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def predict(tensor, name="sequence"):
    """A `PredictRequest` for the signature that takes sequences."""
    spec = field(1, b"dense") + field(3, b"any")
    return field(1, spec) + field(2, field(1, name.encode()) + field(2, tensor))


def tensor(dtype, values, rest):
    """A `TensorProto` of so many values in a column."""
    shape = field(2, b"\x08" + varint(values)) + field(2, b"\x08\x01")
    return b"\x08" + varint(dtype) + field(2, shape) + rest


def messages(size):
    """Abuses by gRPC with so many values, each a method and a message."""
    whole = predict(tensor(1, size, field(5, bytes(4 * size))))
    yield "floats, answered by as many", "Predict", whole
    yield "the same as content", "Predict", predict(tensor(1, size, field(4, bytes(4 * size))))
    yield "small int64", "Predict", predict(tensor(9, size, field(10, b"\1" * size)))
    yield "four times as many", "Predict", predict(tensor(9, 4 * size, field(10, b"\1" * 4 * size)))
    yield (
        "a tenth of it, empty strings",
        "Predict",
        predict(tensor(7, size // 10, field(8, b"") * (size // 10))),
    )
    yield "inputs without a name", "Predict", field(1, field(1, b"dense")) + b"\x12\x00" * size
    names = b"".join(field(2, field(1, b"%x" % number)) for number in range(size // 40))
    yield "a fortieth of it, inputs", "Predict", field(1, field(1, b"dense")) + names
    yield "damaged at the end", "Predict", whole + b"\xff"
    yield (
        "empty examples",
        "Classify",
        field(1, field(1, b"dense")) + field(2, field(1, b"\x0a\x00" * size)),
    )
    yield "unknown fields", "GetModelMetadata", b"\x58\x01" * (2 * size)


def bodies(size):
    """Abuses by REST, each a name and the document."""
    head = b'{"signature_name":"any","'
    yield "empty lists", head + b'inputs":[' + b"[]," * (size - 1) + b"[]]}"
    yield "rows of empty lists", head + b'instances":[' + b"[]," * (size - 1) + b"[]]}"
    yield "numbers", head + b'inputs":[[' + b"0.5," * (size - 1) + b"0.5]]}"
    yield "numbers, answered by as many", head + b'inputs":[' + b"[1]," * (size - 1) + b"[1]]}"


def by_grpc(address, method, message):
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        try:
            call = channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
            return f"OK, {len(call(message))} bytes"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()[:80]}"


def by_rest(address, body):
    with contextlib.closing(http.client.HTTPConnection(address, timeout=600)) as connection:
        connection.request("POST", "/v1/models/dense:predict", body)
        answer = connection.getresponse()
        return f"{answer.status}, {len(answer.read())} bytes"


def probes(address, stack):
    """Functions that ask for the status and for the health."""
    channel = stack.enter_context(grpc.insecure_channel(address))
    question = get_model_status_pb2.GetModelStatusRequest()
    question.model_spec.name = "dense"
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    check = health_pb2_grpc.HealthStub(channel).Check
    return {
        "status": lambda: status(question),
        "health": lambda: check(health_pb2.HealthCheckRequest()),
    }


def watch(asks, ended):
    """Milliseconds that each probe took, one after another, until `ended()`."""
    took = {name: [] for name in asks}
    while not (took["health"] and ended()):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask()
            took[name].append(1e3 * (time.perf_counter() - start))
            time.sleep(0.001)
    return took


def row(name, asks, rounds, send=None, pool=None):
    """Measures one abuse and prints its line; without `send`, a second in which there is none."""
    worst, middle, seconds, answer = {key: [] for key in asks}, {key: [] for key in asks}, [], ""
    for _ in range(rounds):
        start = time.perf_counter()
        if send:
            future = pool.submit(*send)
            took = watch(asks, future.done)
            answer = future.result()
        else:
            took = watch(asks, lambda start=start: time.perf_counter() - start > 1)
        seconds.append(time.perf_counter() - start)
        for key, some in took.items():
            worst[key].append(max(some))
            middle[key].append(statistics.median(some))
    cells = []
    for key in asks:
        cells += [max(worst[key]), statistics.median(worst[key]), statistics.median(middle[key])]
    numbers = " | ".join(f"{cell:.1f}" for cell in cells)
    print(f"| {name} | {statistics.median(seconds):.1f} | {numbers} | {answer} |", flush=True)


def main():
    flags = PARSER.parse_args()
    from serving import ServerProcess, make_model, write_packages

    size = flags.values
    abuses = [(f"gRPC {n}: {what}", by_grpc, n, m) for what, n, m in messages(size)]
    abuses += [(f"REST: {what}", by_rest, None, body) for what, body in bodies(size)]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        output = write_packages([make_model()], pathlib.Path(directory))
        server = stack.enter_context(ServerProcess(output, rest_timeout=600.0))
        pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(1, context))
        asks = probes(server.address, stack)
        print("| beside | s | status: worst | its median | median | health: worst | its median "
              "| median | answer |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        row("nothing", asks, flags.rounds)
        for name, function, method, body in abuses:
            if flags.only and flags.only not in name:
                continue
            where = [server.address, method] if method else [server.rest_address]
            row(name, asks, flags.rounds, [function, *where, body], pool)


if __name__ == "__main__":
    main()
