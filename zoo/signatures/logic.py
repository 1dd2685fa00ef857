"""Bits and gates in, truth values out."""

from ...trainers.tasks.logic import GATES, NO_GATE
from ._checks import check_lengths
from ._notation import Notation, expected, pad, updates, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: bits and gates in, truth values out."""
    import tensorflow as tf

    gates = task.gates

    def serve(bits, gates_applied, lengths):
        tf.debugging.Assert(
            tf.reduce_all((bits >= 0) & (bits <= 1)), ["bits must be 0 or 1, got", bits]
        )
        tf.debugging.Assert(
            tf.reduce_all((gates_applied >= -1) & (gates_applied < gates)),
            [f"gates_applied must be -1 (none) to {gates - 1}, got", gates_applied],
        )
        check_lengths(lengths, bits)
        shape = tf.shape(bits)
        one_hot = tf.reshape(tf.one_hot(gates_applied, 10), (shape[0], shape[1], 10 * gates))
        sequence = tf.concat([tf.cast(bits, tf.float32), one_hot], axis=-1)
        answer = model({"sequence": sequence, "lengths": lengths})
        truth = answer["truth"]
        return {
            "truth": tf.cast(truth > 0, tf.int32),
            "probability": tf.sigmoid(truth),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {
                "bits": ((None, None, 2), "int32"),
                "gates_applied": ((None, None, gates), "int32"),
                "lengths": ((None,), "int32"),
            },
            notation(task)["serve"].sample,
            {
                "truth": "truth value after the gates of each step, 0 or 1, (batch, time)",
                "probability": "of 1, (batch, time)",
                **told,
            },
        )
    }


def notation(task):
    """Vectors as `10 XOR AND | 1 NOR`: b_0 and b_1 first, then b_1 alone, each with its gates."""
    numbered = {gate.lower(): number for number, gate in enumerate(GATES)}
    rules = (
        "vectors with | between, such as '10 XOR AND | 1 NOR': the bits b_0 b_1, later b_1 alone, "
        f"then at most {task.gates} gates of {', '.join(GATES)}"
    )

    def read(texts):
        bits, applied = [], []
        for text in texts:
            vectors = [part.split() for part in text.split("|")]
            try:
                gates = [[numbered[name.lower()] for name in names] for _, *names in vectors]
                legal = all(
                    len(shown) == (1 if step else 2) and not set(shown) - set("01")
                    for step, (shown, *_) in enumerate(vectors)
                )
            except (KeyError, ValueError):
                legal = False
            if not legal or max(map(len, gates)) > task.gates:
                raise expected(rules, text)
            bits.append([list(map(int, shown.rjust(2, "0"))) for shown, *_ in vectors])
            applied.append([numbers + [NO_GATE] * (task.gates - len(numbers)) for numbers in gates])
        bits, lengths = pad(bits, 0, "int32")
        applied, _ = pad(applied, NO_GATE, "int32")
        return {"bits": bits, "gates_applied": applied, "lengths": lengths}

    def show(inputs, outputs):
        _, targets = task.lay(inputs["bits"], inputs["gates_applied"], inputs["lengths"])
        texts = []
        for row, length in enumerate(inputs["lengths"]):
            vectors = zip(inputs["bits"][row, :length], inputs["gates_applied"][row])
            told = [_vector(*vector, first=not step) for step, vector in enumerate(vectors)]
            answers, right = outputs["truth"][row, :length], targets["truth"][row, :length]
            width, counts = max(map(len, ("vector", *told))), updates(outputs, row, length)
            columns = [
                [f"{cell:{width}}" for cell in ("vector", *told)],
                [f"  {cell:>6}" for cell in ("answer", *("FT"[answer] for answer in answers))],
            ]
            if counts:
                columns.append([f"  {cell:>7}" for cell in ("updates", *counts)])
            columns.append(["", *map(verdict, answers == right)])
            texts.append("\n".join("".join(cells).rstrip() for cells in zip(*columns)))
        return texts

    example = ("10 XOR | 1 NOR | 0 if/then", f"01 {' '.join(GATES[: task.gates])} | 1")
    return {"serve": Notation(example, read, show)}


def _vector(bits, gates, first):
    """`10 XOR AND`, bits b_0 b_1 and gates; b_0 is shown in the first vector only."""
    shown = bits if first else bits[1:]
    return " ".join(["".join(map(str, shown)), *(GATES[gate] for gate in gates if gate >= 0)])
