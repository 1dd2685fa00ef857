"""Bits in, whether the number of ones is odd out."""

import numpy as np

from ._notation import Notation, expected, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: bits in, whether the number of ones is odd out."""
    import tensorflow as tf

    def serve(bits):
        tf.debugging.Assert(
            tf.reduce_all((bits >= 0) & (bits <= 1)), ["bits must be 0 or 1, got", bits]
        )
        answer = model({"bits": tf.cast(bits, tf.float32)})
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
                "odd": "1 if the number of ones is odd, (batch,)",
                "probability": "of 1, (batch,)",
                **told,
            },
        )
    }


def notation(task):
    """Bits as `0110`."""

    def read(texts):
        for text in texts:
            if len(text) != task.bits or set(text) - set("01"):
                raise expected(f"{task.bits} bits, 0 or 1, such as '{'01' * 4}'", text)
        return {"bits": np.array([[int(bit) for bit in text] for text in texts], "int32")}

    def show(inputs, outputs):
        texts = []
        for bits, odd, p in zip(inputs["bits"], outputs["odd"], outputs["probability"]):
            answer = f"{'odd' if odd else 'even'} ({p if odd else 1 - p:.2f})"
            texts.append(
                f"bits      {''.join(map(str, bits))}\n"
                f"ones      {answer}{verdict(odd == bits.sum() % 2)}"
            )
        return texts

    example = ("0110" * task.bits)[: task.bits], ("1" * task.bits)
    return {"serve": Notation(example, read, show)}
