"""Bits and gates in, truth values out."""

import numpy as np

from ._checks import check_lengths
from ._notation import Notation, expected, verdict
from ._signature import PONDER, Signature, _ponder


def logic_signatures(model, task):
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
        truth = tf.sigmoid(answer["truth"])
        return {"truth": tf.cast(truth > 0.5, tf.int32), "probability": truth, **_ponder(answer)}

    return {
        "serve": Signature(
            serve,
            {
                "bits": ((None, None, 2), "int32"),
                "gates_applied": ((None, None, gates), "int32"),
                "lengths": ((None,), "int32"),
            },
            logic_notation(task)["serve"].sample,
            {
                "truth": "truth value after the gates of each step, 0 or 1, (batch, time)",
                "probability": "of 1, (batch, time)",
                **PONDER,
            },
        )
    }


def logic_notation(task):
    """Vectors as `10 XOR AND | 1 NOR`: b_0 and b_1 first, then b_1 alone, each with its gates."""
    from ...trainers.tasks.logic import GATES, TRUTH

    numbered = {gate.lower(): number for number, gate in enumerate(GATES)}
    rules = (
        "vectors with | between, such as '10 XOR AND | 1 NOR': the bits b_0 b_1, later b_1 alone, "
        f"then at most {task.gates} gates of {', '.join(GATES)}"
    )

    def read(texts):
        rows, most = [], 0
        for text in texts:
            vectors = [part.split() for part in text.split("|")]
            try:
                gates = [[numbered[name.lower()] for name in names] for _, *names in vectors]
                legal = all(
                    len(bits) == (1 if step else 2) and not set(bits) - set("01")
                    for step, (bits, *_) in enumerate(vectors)
                )
            except (KeyError, ValueError):
                legal = False
            if not legal or max(map(len, gates)) > task.gates:
                raise expected(rules, text)
            bits = [[0] * (2 - len(bits)) + [int(bit) for bit in bits] for bits, *_ in vectors]
            rows.append((bits, gates))
            most = max(most, len(vectors))
        bits = np.zeros((len(rows), most, 2), "int32")
        applied = np.full((len(rows), most, task.gates), -1, "int32")
        for row, (shown, gates) in enumerate(rows):
            bits[row, : len(shown)] = shown
            for step, numbers in enumerate(gates):
                applied[row, step, : len(numbers)] = numbers
        lengths = np.array([len(shown) for shown, _ in rows], "int32")
        return {"bits": bits, "gates_applied": applied, "lengths": lengths}

    def show(inputs, outputs):
        texts = []
        for row, length in enumerate(inputs["lengths"]):
            lines, last = [], inputs["bits"][row, 0, 0]
            for step in range(length):
                older, newer = last, inputs["bits"][row, step, 1]
                gates = [gate for gate in inputs["gates_applied"][row, step] if gate >= 0]
                told = [f"{newer}" if step else f"{older}{newer}", *(GATES[gate] for gate in gates)]
                for gate in gates:
                    newer, older = TRUTH[gate * 4 + newer * 2 + older], newer
                last = newer
                answer, updates = outputs["truth"][row, step], outputs["updates"][row, step]
                lines.append(
                    (" ".join(told), "FT"[answer], f"{updates:.0f}", verdict(answer == last))
                )
            width = max(len("vector"), *(len(told) for told, *_ in lines))
            lines = [("vector", "answer", "updates", ""), *lines]
            texts.append(
                "\n".join(f"{a:{width}}  {b:>6}  {c:>7}{d}".rstrip() for a, b, c, d in lines)
            )
        return texts

    example = ("10 XOR | 1 NOR | 0 if/then", f"01 {' '.join(GATES[: task.gates])} | 1")
    return {"serve": Notation(example, read, show)}
