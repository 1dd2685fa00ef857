"""Numbers in, their sum out."""

import numpy as np
from ponderzoo.zoo.signatures._notation import Notation, expected
from ponderzoo.zoo.signatures._signature import Signature


def signatures(model, task, told):
    """`serve`: numbers in, the most probable sum out."""
    import tensorflow as tf

    def serve(numbers):
        logits = model({"numbers": tf.cast(numbers, tf.float32)})["total"]
        return {"total": tf.argmax(logits, axis=-1, output_type=tf.int32)}

    return {
        "serve": Signature(
            serve,
            {"numbers": ((None, task.count), "int32")},
            notation(task)["serve"].sample,
            {"total": "the sum, (batch,)"},
        )
    }


def notation(task):
    """Numbers as `1 + 2`."""

    def read(texts):
        rows = np.zeros((len(texts), task.count), "int32")
        for row, text in zip(rows, texts):
            numbers = text.replace("+", " ").split()
            if not 0 < len(numbers) <= task.count or not all(n.isdecimal() for n in numbers):
                raise expected(f"1 to {task.count} numbers such as '1 + 2'", text)
            row[: len(numbers)] = [int(n) for n in numbers]
        return {"numbers": rows}

    def show(inputs, outputs):
        return [str(total) for total in outputs["total"]]

    return {"serve": Notation(("1 + 2", "3"), read, show)}
