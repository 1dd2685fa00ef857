"""The embedded server against a bare loop of C-API calls, by concurrency.

Clients, and the bare loop, run in this process; the servers are `ponderzoo serve` processes on the
same packages, one as it is and one with `--enable_batching`. Rounds are interleaved, every number
is the median over rounds. Ratios are what counts: a time means nothing outside its own table.

    bare     `Session.run` of one row on arrays, by as many threads; the limit of any server here
    grpc     `Client.predict` of one row, a client a thread
    batched  the same, of the server that batches
    rest     the same request in REST's column form, a kept connection a thread
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
from google.protobuf import json_format
from ponderzoo.export._session import disable_xla
from ponderzoo.export._tensors import from_proto, to_lists
from ponderzoo.export.client import Client
from ponderzoo.export.server._models import Model
from tensorflow_serving.apis import predict_pb2

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--entries", nargs="+", default=["act_parity", "act_logic", "ntm_copy"])
PARSER.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 32])
PARSER.add_argument("--rounds", type=int, default=5)
PARSER.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
PARSER.add_argument("--stretch", type=int, default=1, help="repeats every text so often")
FLAGS = PARSER.parse_args()

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]


@contextlib.contextmanager
def served(directory, *flags):
    """Ports of gRPC and REST of a `ponderzoo serve` process."""
    command = [*PROGRAM, "serve", directory, "--port", "0", "--rest_port", "0", *flags]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True)
    try:
        # "NAME/VERSION is ready on ADDRESS" for every model, then "REST ...: http://ADDRESS".
        addresses = []
        while not addresses or not addresses[-1].startswith("http"):
            addresses.append(process.stdout.readline().split()[-1])
        yield addresses[0], addresses[-1].removeprefix("http://")
    finally:
        process.terminate()
        process.wait()


class Bare:
    """Runs of the session on arrays, in this process."""

    def __init__(self, directory, inputs):
        self.model = Model("bare", 1, directory)
        signature = self.model.signatures["serve"]
        self.feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        self.fetches = [signature.outputs[key].name for key in sorted(signature.outputs)]

    @contextlib.contextmanager
    def caller(self):
        yield lambda: self.model.session.run(self.feeds, self.fetches)


class Grpc:
    """Requests by the client."""

    def __init__(self, address, name, inputs):
        self.address, self.name, self.inputs = address, name, inputs

    @contextlib.contextmanager
    def caller(self):
        with Client(self.address) as client:
            yield lambda: client.predict(self.name, self.inputs)


class Rest:
    """Requests by HTTP."""

    def __init__(self, address, name, body):
        self.address, self.path = address, f"/v1/models/{name}:predict"
        self.body = json.dumps(body).encode()

    @contextlib.contextmanager
    def caller(self):
        connection = http.client.HTTPConnection(self.address)

        def call():
            connection.request("POST", self.path, self.body)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(text.decode())

        yield call
        connection.close()


def measure(variant, concurrency, seconds):
    """Latencies in seconds, and calls a second, of `concurrency` callers at once."""
    gate = threading.Barrier(concurrency)

    def ask():
        with variant.caller() as call:
            call()
            gate.wait()
            begin, took = time.perf_counter(), []
            while time.perf_counter() - begin < seconds:
                start = time.perf_counter()
                call()
                took.append(time.perf_counter() - start)
            return took, time.perf_counter() - begin

    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        results = [one.result() for one in [pool.submit(ask) for _ in range(concurrency)]]
    latencies = [took for one, _ in results for took in one]
    return latencies, len(latencies) / max(elapsed for _, elapsed in results)


def table(name, directory, plain, batching):
    """Measures one entry and prints its table."""
    with open(os.path.join(directory, name, "1", "assets.extra", "signatures.json")) as file:
        card = json.load(file)["signatures"]["serve"]
    body = card["rest"]["body"]
    request = json_format.ParseDict(card["grpc"], predict_pb2.PredictRequest())
    inputs = {key: from_proto(proto)[:1] for key, proto in request.inputs.items()}
    for key, value in inputs.items():
        if value.dtype.kind == "O":
            inputs[key] = value * FLAGS.stretch
    body["inputs"] = {key: to_lists(value) for key, value in inputs.items()}
    variants = {
        "bare": Bare(os.path.join(directory, name, "1"), inputs),
        "grpc": Grpc(plain[0], name, inputs),
        "batched": Grpc(batching[0], name, inputs),
        "rest": Rest(plain[1], name, body),
    }
    longer = f", texts {FLAGS.stretch} times as long" * (FLAGS.stretch > 1)
    print(f"\n## {name}, one row a request{longer}\n")
    print("| clients | variant | p50 ms | p95 | p99 | p50 x bare | calls/s | x bare | x grpc |")
    print("|---|---|---|---|---|---|---|---|---|")
    for concurrency in FLAGS.concurrency:
        found = {key: [] for key in variants}
        for _ in range(FLAGS.rounds):
            for key, variant in variants.items():
                latencies, rate = measure(variant, concurrency, FLAGS.seconds)
                points = np.percentile(latencies, [50, 95, 99]) * 1e3
                found[key].append([*points, rate])
        rows = {key: [statistics.median(c) for c in zip(*some)] for key, some in found.items()}
        for key, (p50, p95, p99, rate) in rows.items():
            print(
                f"| {concurrency} | {key} | {p50:.2f} | {p95:.2f} | {p99:.2f} "
                f"| {p50 / rows['bare'][0]:.2f} | {rate:.0f} | {rate / rows['bare'][3]:.2f} "
                f"| {rate / rows['grpc'][3]:.2f} |",
                flush=True,
            )
    variants["bare"].model.close()


def main():
    disable_xla()
    with tempfile.TemporaryDirectory() as directory:
        command = [*PROGRAM, "export", *FLAGS.entries, "--output", directory]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with served(directory) as plain, served(directory, "--enable_batching") as batching:
            for name in FLAGS.entries:
                table(name, directory, plain, batching)


if __name__ == "__main__":
    main()
