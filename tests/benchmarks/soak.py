"""A server under full load whose models are swapped all the time: what fails, what grows?

Two entries are exported, `ponderzoo serve` serves them. Clients, half of them by gRPC and half by
REST, ask all signatures in turn and compare every answer with the C++ session's own. Every few
seconds the next version of one model is renamed into its place, and the one before the last goes.

Exit code 1: a request failed or was answered wrongly, a version did not come up, or the resident
memory of the server rose by more than `--limit` a minute, and by 10 MB or more in all, in the
second half, in which caches are full.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
from google.protobuf import json_format
from ponderzoo.export._session import disable_xla
from ponderzoo.export._tensors import from_proto
from ponderzoo.export.client import Client
from ponderzoo.export.server._models import Model
from serving import ServerProcess
from tensorflow_serving.apis import predict_pb2

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--minutes", type=float, default=5.0)
PARSER.add_argument("--entries", nargs="+", default=["act_parity", "act_logic"])
PARSER.add_argument("--clients", type=int, default=8)
PARSER.add_argument("--swap_seconds", type=float, default=3.0)
PARSER.add_argument("--limit", type=float, default=3.0, help="megabytes a minute")
PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
SWING = 10.0  # megabytes, by which memory goes up and down in any case
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


class Question:
    """A request of one signature, by both wires, and what it is answered."""

    def __init__(self, model, signature, card):
        request = json_format.ParseDict(card["grpc"], predict_pb2.PredictRequest())
        self.model, self.signature, rest = model.name, signature, card["rest"]
        self.inputs = {key: from_proto(proto) for key, proto in request.inputs.items()}
        self.path, self.body = rest["path"], json.dumps(rest["body"]).encode()
        self.expected = model.predict(request)

    def by_grpc(self, client):
        return client.predict(self.model, self.inputs, self.signature)

    def by_rest(self, connection):
        connection.request("POST", self.path, self.body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text.decode()}")
        outputs = json.loads(text)["outputs"]
        return outputs if len(self.expected) > 1 else {next(iter(self.expected)): outputs}

    def check(self, outputs):
        for key, expected in self.expected.items():
            found = np.asarray(outputs[key])
            if expected.dtype.kind == "O":
                found = np.array([getattr(x, "encode", lambda x=x: x)() for x in found.flat])
                np.testing.assert_array_equal(found, expected.ravel())
            else:
                np.testing.assert_allclose(found, expected, **TOLERANCE)


def questions(directory):
    """Of all signatures of a version directory."""
    card = json.loads((directory / "assets.extra" / "signatures.json").read_text())
    model = Model(card["model"], 1, str(directory))
    found = [Question(model, name, one) for name, one in card["signatures"].items()]
    model.close()
    return found


class Load:
    """Clients in threads of their own, for a `with` block."""

    def __init__(self, server, some, clients):
        self.latencies, self.failures, self._ended = [], [], threading.Event()
        ways = [(self._grpc, server.address), (self._rest, server.rest_address)]
        self._threads = [
            threading.Thread(target=ways[n % 2][0], args=(ways[n % 2][1], some[n:] + some[:n]))
            for n in range(clients)
        ]

    def _grpc(self, address, some):
        # No second try: a swap must not fail a single request.
        with Client(address, retries=0) as client:
            self._ask(some, lambda question: question.by_grpc(client))

    def _rest(self, address, some):
        with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            self._ask(some, lambda question: question.by_rest(connection))

    def _ask(self, some, call):
        for question in itertools.cycle(some):
            if self._ended.is_set():
                return
            start = time.perf_counter()
            try:
                outputs = call(question)
                self.latencies.append(time.perf_counter() - start)
                question.check(outputs)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def take(self):
        """The latencies since the last call, in milliseconds."""
        taken, self.latencies = self.latencies, []
        return np.array(taken) * 1e3

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        for thread in self._threads:
            thread.join()


def swap(home, address):
    """Brings the next version of a model and takes away the one before the last."""
    numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdecimal())
    last = numbers[-1]
    draft = home / "draft"
    shutil.copytree(home / str(last), draft)
    draft.rename(home / str(last + 1))
    end = time.monotonic() + 60
    with Client(address) as client:
        while client.status(home.name).get(last + 1, {}).get("state") != "AVAILABLE":
            if time.monotonic() > end:
                raise RuntimeError(f"{home.name}/{last + 1} does not come up")
            time.sleep(0.1)
    for number in numbers[:-1]:
        shutil.rmtree(home / str(number))


def slope(x, y):
    """Of the line through the second half of the points, by least squares."""
    half = len(x) // 2
    return float(np.polyfit(x[half:], y[half:], 1)[0])


def soak(server, load, homes, flags):
    """Rows of minutes, megabytes and versions loaded, one a second."""
    rows, versions, answered, start = [], len(homes), 0, time.monotonic()
    next_swap, next_line = start + flags.swap_seconds, start + 10
    homes = itertools.cycle(homes)
    print(f"{'seconds':>8} {'requests':>9} {'failed':>7} {'p50 ms':>7} {'p99 ms':>7} {'MB':>7} "
          f"{'versions':>8}")  # fmt: skip
    while (now := time.monotonic()) < start + 60 * flags.minutes:
        if now >= next_swap:
            swap(next(homes), server.address)
            versions, next_swap = versions + 1, now + flags.swap_seconds
        rows.append(((now - start) / 60, server.memory(), versions))
        if now >= next_line:
            took, next_line = load.take(), next_line + 10
            answered += len(took)
            p50, p99 = np.percentile(took, [50, 99]) if len(took) else (np.nan, np.nan)
            print(
                f"{now - start:8.0f} {answered:9} {len(load.failures):7} {p50:7.1f} {p99:7.1f} "
                f"{rows[-1][1]:7.1f} {versions:8}",
                flush=True,
            )
        time.sleep(min(1.0, max(0.0, next_swap - time.monotonic())))
    return np.array(rows).T


def main():
    flags = PARSER.parse_args()
    disable_xla()
    with tempfile.TemporaryDirectory() as directory:
        command = [*PROGRAM, "export", *flags.entries, "--output", directory]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        homes = [pathlib.Path(directory, name) for name in flags.entries]
        some = [question for home in homes for question in questions(home / "1")]
        command = [*PROGRAM, "serve", directory, "--port", "0", "--rest_port", "0"]
        with ServerProcess(directory, command) as server, Load(server, some, flags.clients) as load:
            minutes, memory, versions = soak(server, load, homes, flags)
        ended = server.process.returncode
    per_minute, per_swap = slope(minutes, memory), slope(versions, memory)
    print(
        f"\n{len(load.failures)} requests failed; resident memory {memory[0]:.0f} MB at first, "
        f"{memory[-1]:.0f} MB at last, {memory.max():.0f} MB at most; in the second half "
        f"{per_minute:+.2f} MB a minute, {per_swap:+.3f} MB a swap; the server ended with {ended}"
    )
    for text in sorted(set(load.failures))[:5]:
        print(text[:300])
    grows = per_minute > flags.limit and per_minute * minutes[-1] / 2 > SWING
    return int(bool(load.failures) or grows or ended != 0)


if __name__ == "__main__":
    sys.exit(main())
