"""`make demo`: packages entries, and asks one server to think, write, draw, hear and play."""

import concurrent.futures
import contextlib
import difflib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time

import numpy as np

from .client import Client
from .commands import _command
from .server._server import Server

DIRECTORY = os.path.join("runs", "demo")
WORKERS = 2
OPEN = 300  # seconds for which the page can be looked at
ASKED = 20  # questions of each length
SENTENCE = "we write what you type"
SEEDS = "3", "7", "12"  # of digits
GAMES = "1", "2", "3", "4"
SURE = 0.9  # of what is read and seen

# Said by eSpeak NG (Duddington, 1995), as in the data set `tts_phones`, in a voice of its test.
RECORDING = os.path.join(os.path.dirname(__file__), "recording.flac")
SAID = "the clever girl walked in the garden at night"
PHONEMES = "pau dh ax k l eh v er g er l w ao k t ih n dh ax g aa r d ax n ae t n ay t pau"


def main():
    """Exit codes: 0 every answer was right, 1 `error: ...` in one line, 130 Ctrl-C."""
    try:
        _command.import_backend("")
        demo()
    except _command.ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def demo(directory=DIRECTORY, acts=None):
    """Packages what the acts need, serves it, and plays them.

    Args:
        directory: where pictures go, and packages in place of those of an earlier demo.
        acts: as `ACTS`; None for these.

    Raises:
        RuntimeError: an answer is wrong.
    """
    start, acts = time.monotonic(), ACTS if acts is None else acts
    exports = os.path.join(directory, "exports")
    shutil.rmtree(exports, ignore_errors=True)
    os.makedirs(exports)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context, _begin) as pool:
        entries = [pair for entries in acts.values() for pair in entries.items()]
        packages = [pool.submit(_package, *pair, exports) for pair in entries]
        try:
            _command.import_backend("all")
            for done in concurrent.futures.as_completed(packages):
                print(f"Package   {done.result()}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    with Server(exports, rest_port=0) as server, Client(server.address) as client:
        print(f"Server    {server.address}, gRPC; all that follows is asked there", flush=True)
        for act in acts:
            print(f"\n{act.__doc__}\n")
            act(client, directory)
        print(f"\nRight     every answer, after {time.monotonic() - start:.0f} seconds")
        _hold(server.rest_address)


def _begin():
    """Begins a process that packages, which Ctrl-C ends without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _command.import_backend("all")


def _package(name, signatures, exports):
    """Writes a package of an entry's `serve` and other signatures; returns what to tell of it."""
    from .. import zoo
    from ._package import package

    entry, start = zoo.info(name), time.monotonic()
    task, model = zoo.task_of(entry), zoo.load(name)
    served = entry.signatures(model, task)
    # One writer at a time works in a directory of packages, and here are several.
    with tempfile.TemporaryDirectory(dir=exports) as own:
        package(
            model,
            {key: served[key] for key in ("serve", *signatures)},
            name,
            own,
            card=entry.card or None,
            figures=entry.figures,
            entry=entry.origin(task),
        )
        path = shutil.move(os.path.join(own, name), exports)
    took = f"{time.monotonic() - start:.0f} s"
    return f"{os.path.relpath(path)}, {model.count_params():,} weights, {took}"


def _hold(address):
    """Keeps the page open where somebody can look at it and end it."""
    if sys.stdin and sys.stdin.isatty():
        print(f"Page      {address}, for {OPEN // 60} minutes, or until Ctrl-C", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(OPEN)
    else:
        print(f"Page      {address} until here: at a terminal it stays for {OPEN // 60} minutes")


def think(client, directory):
    """act_logic: the more gates it has to go through, the longer it thinks."""
    from ..trainers.tasks.logic import GATES

    rng = np.random.default_rng(0)
    gates = np.repeat(np.arange(1, 11), ASKED)
    bits = rng.integers(0, 2, (len(gates), 2))
    notation = _notation("act_logic")
    inputs = notation.read(
        [f"{a}{b} {' '.join(rng.choice(GATES, count))}" for (a, b), count in zip(bits, gates)]
    )
    outputs = client.predict("act_logic", inputs)
    texts = notation.show(inputs, outputs)
    right = np.array([text.endswith("right") for text in texts])
    means = []
    print(f"{texts[0]}\n{texts[-1]}\n\ngates     updates")
    for count in np.unique(gates):
        means.append(outputs["updates"][gates == count, 0].mean())
        told = f"{right[gates == count].sum()} of {ASKED} right"
        print(f"{count:<10}{means[-1]:<5.1f}{'▇' * round(4 * means[-1]):34}{told}")
    _check(right.mean() >= 0.99, f"act_logic answers {right.sum()} of {len(right)} questions right")
    _check(means[-1] > means[0], "act_logic does not think longer about more gates")


def write(client, directory):
    """handwriting_synthesis: writes a sentence, which blstm_ctc_handwriting then reads."""
    notation = _notation("handwriting_synthesis")
    inputs = notation.read([SENTENCE])
    outputs = client.predict("handwriting_synthesis", inputs)
    print(*notation.show(inputs, outputs), sep="\n")
    _command.write_pictures(notation.picture(inputs, outputs), directory, "handwriting")
    strokes = {"points": outputs["points"], "lengths": outputs["count"]}
    text = client.predict("blstm_ctc_handwriting", strokes)["text"][0].decode()
    print(f"read      {text}")
    # Points are drawn one after the other, so that another processor's rounding changes the hand.
    alike = difflib.SequenceMatcher(None, text, SENTENCE).ratio()
    _check(alike > SURE, f"expected {SENTENCE!r} to be read in what was written, got {text!r}")


def draw(client, directory):
    """draw_digits: draws digits step by step, which ram_digits then tells."""
    notation = _notation("draw_digits", "generate")
    inputs = notation.read(SEEDS)
    outputs = client.predict("draw_digits", inputs, "generate")
    for lines in zip(*(text.splitlines() for text in notation.show(inputs, outputs))):
        print("  ".join(line.removesuffix("|") for line in lines).rstrip())
    _command.write_pictures(notation.picture(inputs, outputs), directory, "digit")
    seen = client.predict("ram_digits", {"image": outputs["mean"], "seed": inputs["seed"]})
    chances = seen["probability"].max(axis=1)
    told = ", ".join(f"{digit} ({chance:.2f})" for digit, chance in zip(seen["digit"], chances))
    print(f"seen      {told}")
    _check(chances.min() > SURE, f"expected digits that are seen as such, got {told}")


def hear(client, directory):
    """blstm_ctc_phonemes: hears the phonemes of a sentence, from a voice that is new to it."""
    notation = _notation("blstm_ctc_phonemes", "decode")
    print(f"said      {SAID} ({os.path.relpath(RECORDING)})")
    inputs = notation.read([RECORDING])
    outputs = client.predict("blstm_ctc_phonemes", inputs, "decode")
    print(*notation.show(inputs, outputs), sep="\n")
    heard = b" ".join(outputs["phonemes"][0]).decode()
    _check(heard == PHONEMES, f"expected the phonemes {PHONEMES}, heard {heard}")


def play(client, directory):
    """dqn_catch: catches what falls, in games that the package plays by itself."""
    notation = _notation("dqn_catch", "play")
    inputs = notation.read(GAMES)
    outputs = client.predict("dqn_catch", inputs, "play")
    print(*notation.show(inputs, outputs), sep="\n")
    _command.write_pictures(notation.picture(inputs, outputs), directory, "catch")
    caught = int((outputs["rewards"].sum(axis=1) > 0).sum())
    _check(caught == len(GAMES), f"dqn_catch caught {caught} of {len(GAMES)}")


ACTS = {
    think: {"act_logic": ()},
    write: {"handwriting_synthesis": (), "blstm_ctc_handwriting": ()},
    draw: {"draw_digits": ("generate",), "ram_digits": ()},
    hear: {"blstm_ctc_phonemes": ("decode",)},
    play: {"dqn_catch": ("play",)},
}
"""Functions of a client and a directory, with entries and what they serve beside `serve`."""


def _notation(name, signature="serve"):
    from .. import zoo

    entry = zoo.info(name)
    return entry.notation(zoo.task_of(entry))[signature]


def _check(right, wrong):
    """Raises `RuntimeError` where an answer is not right."""
    if not right:
        raise RuntimeError(wrong)


if __name__ == "__main__":
    sys.exit(main())
