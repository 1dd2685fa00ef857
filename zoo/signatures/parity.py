"""Vectors of -1, 0 and 1 in, whether the number of ones is odd out."""

import numpy as np

from ._checks import check_range
from ._notation import Notation, expected, updates, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: vectors of -1, 0 and 1 in, whether the number of ones is odd out."""
    import tensorflow as tf

    def serve(bits):
        check_range("bits", bits, -1, 1)
        answer = model({"sequence": tf.cast(bits[:, None], tf.float32)})
        odd = answer["parity"][:, 0]
        return {
            "odd": tf.cast(odd > 0, tf.int32),
            "probability": tf.sigmoid(odd),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"bits": ((None, task.bits), "int32")},
            notation(task)["serve"].sample,
            {
                "odd": "1 where the number of +1 entries is odd, else 0, (batch,)",
                "probability": "of odd, (batch,)",
                **told,
            },
        )
    }


def notation(task):
    """A vector as `1011-0`, with - for -1; zeros fill it up."""

    def read(texts):
        rows = []
        for text in texts:
            letters = "".join(text.split())
            if not 0 < len(letters) <= task.bits or set(letters) - set("-01"):
                what = f"1 to {task.bits} of 1, 0 and - (for -1), such as 1011-0"
                raise expected(what, text)
            rows.append(["-01".index(letter) - 1 for letter in letters.ljust(task.bits, "0")])
        return {"bits": np.array(rows, "int32")}

    def show(inputs, outputs):
        texts = []
        rows = zip(inputs["bits"], outputs["odd"], outputs["probability"])
        for row, (bits, odd, p) in enumerate(rows):
            answer = f"{'odd' if odd else 'even'} ({p if odd else 1 - p:.2f})"
            lines = [
                f"bits      {''.join('-01'[bit + 1] for bit in bits)}",
                f"ones      {answer}{verdict(odd == (bits > 0).sum() % 2)}",
                *(f"updates   {count}" for count in updates(outputs, row, 1)),
            ]
            texts.append("\n".join(lines))
        return texts

    example = ("1011-0", "-1-10010", "0110-01-110100-1")
    return {"serve": Notation(tuple(text[: task.bits] for text in example), read, show)}
