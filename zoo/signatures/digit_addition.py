"""Two numbers in, their sum out."""

import numpy as np

from ._notation import Notation, expected, table, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: two numbers as digit strings in, their sum as a digit string out."""
    import tensorflow as tf

    digits = task.digits

    def serve(numbers):
        columns = tf.shape(numbers)[1]
        tf.debugging.Assert(columns == 2, ["numbers must have 2 columns, got", columns])
        legal = tf.strings.regex_full_match(numbers, f"[0-9]{{1,{digits}}}")
        count = tf.strings.length(numbers)
        tf.debugging.Assert(
            tf.reduce_all(legal) & tf.reduce_all(count[:, 0] == count[:, 1]),
            [f"numbers must be two of equally many digits, 1 to {digits}, got", numbers],
        )
        parts = ["-", numbers[:, 0], "-", numbers[:, 1], "-" * task.steps]
        text = tf.strings.substr(tf.strings.join(parts), 0, task.steps)
        read = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32)
        sequence = tf.where(read == ord("-"), task.delimiter, read - ord("0"))
        answer = model({"sequence": sequence})
        probability = tf.nn.softmax(answer["digits"])
        best = tf.argmax(probability, axis=-1)
        written = tf.strings.reduce_join(tf.gather([*"0123456789-"], best), axis=-1)
        first = 2 * count[:, 0] + 2
        said = tf.strings.regex_replace(
            tf.strings.substr(written, first, tf.fill(tf.shape(first), digits + 1)), "-.*", ""
        )
        place = tf.range(task.steps) - first[:, None]
        scored = (place >= 0) & (place < tf.strings.length(said)[:, None])
        sure = tf.where(scored, tf.reduce_max(probability, axis=-1), 1.0)
        sure = tf.reduce_min(sure, axis=-1)
        return {"sum": said, "probability": sure, **handed_on(answer, told)}

    return {
        "serve": Signature(
            serve,
            {"numbers": ((None, 2), "string")},
            notation(task)["serve"].sample,
            {
                "sum": "the sum, as digits, (batch,)",
                "probability": "of the digit that it is least sure of, (batch,)",
                **told,
            },
        )
    }


def notation(task):
    """Two numbers as `381 + 456`."""

    def read(texts):
        rows = [text.replace("+", " ").split() for text in texts]
        for text, numbers in zip(texts, rows):
            plain = [n.isascii() and n.isdecimal() and len(n) <= task.digits for n in numbers]
            if len(numbers) != 2 or not all(plain) or len(numbers[0]) != len(numbers[1]):
                what = (
                    f"two numbers of equally many digits, 1 to {task.digits}, such as '381 + 456'"
                )
                raise expected(what, text)
        return {"numbers": np.array(rows, object)}

    def show(inputs, outputs):
        texts = []
        for numbers, said, sure in zip(inputs["numbers"], outputs["sum"], outputs["probability"]):
            said, right = said.decode(), str(sum(map(int, numbers)))
            lines = [("numbers", [" + ".join(numbers)])]
            lines += [("answer", [said], f" ({sure:.2f}){verdict(said == right)}")]
            texts.append(table([*lines, *([("truth", [right])] if said != right else [])]))
        return texts

    example = [("9" * n, "1" * n) for n in (task.digits, max(1, task.digits - 1))]
    return {"serve": Notation(tuple(" + ".join(pair) for pair in example), read, show)}
