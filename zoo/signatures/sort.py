"""Numbers in, their ascending order out."""

import math

from ._checks import check_lengths
from ._notation import Notation, expected, pad, table, updates, verdict
from ._signature import Signature, handed_on

MEANINGS = {
    "updates": "N at each input, then at each answer of the row, (batch, 2 * time)",
    "remainder": "R likewise, (batch, 2 * time)",
}


def signatures(model, task, told):
    """`serve`: numbers in, their ascending order out."""
    import tensorflow as tf

    def serve(numbers, lengths):
        check_lengths(lengths, numbers)
        size = tf.shape(numbers)[1]
        time = tf.range(2 * size)
        shown = tf.sequence_mask(lengths, 2 * size)
        values = tf.where(shown, tf.pad(numbers, [[0, 0], [0, size]]), 0.0)
        flag = tf.cast(time == lengths[:, None] - 1, tf.float32)
        sequence = tf.stack([values, flag], axis=-1)
        answer = model({"sequence": sequence, "lengths": 2 * lengths})
        order = tf.argmax(answer["order"], axis=-1, output_type=tf.int32)
        rank = tf.range(size)
        real = rank < lengths[:, None]
        order = tf.gather(order, tf.minimum(lengths[:, None] + rank, 2 * size - 1), batch_dims=1)
        # A guess beyond the row becomes its last number, however far the batch is padded.
        last = tf.maximum(lengths[:, None] - 1, 0)
        listed = tf.gather(numbers, tf.minimum(order, last), batch_dims=1)
        return {
            "order": tf.where(real, order, -1),
            "ascending": tf.where(real, listed, 0.0),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"numbers": ((None, None), "float32"), "lengths": ((None,), "int32")},
            notation(task)["serve"].sample,
            {
                "order": "indices of the numbers in ascending order, (batch, time); -1 at padding",
                "ascending": "the numbers in that order, (batch, time); 0 at padding",
                **{name: MEANINGS.get(name, meaning) for name, meaning in told.items()},
            },
        )
    }


def notation(task):
    """Numbers as `0.3 -1 2`."""

    def read(texts):
        rows = []
        for text in texts:
            try:
                values = [float(number) for number in text.split()]
            except ValueError:
                values = []
            if not 0 < len(values) <= task.numbers or not all(map(math.isfinite, values)):
                what = f"1 to {task.numbers} numbers with spaces between, such as '0.3 -1 2'"
                raise expected(what, text)
            rows.append(values)
        numbers, lengths = pad(rows, 0, "float32")
        return {"numbers": numbers, "lengths": lengths}

    def show(inputs, outputs):
        _, targets = task.lay(inputs["numbers"], inputs["lengths"])
        texts = []
        for row, length in enumerate(inputs["lengths"]):
            numbers, order = inputs["numbers"][row], outputs["order"][row]
            written = [f"{number:g}" for number in numbers[:length]]
            given = [written[i] if i < length else "?" for i in order[:length]]
            right = [written[i] for i in targets["order"][row, length : 2 * length]]
            counts = updates(outputs, row, 2 * length)
            lines = [
                ("numbers", written),
                ("updates", counts[:length]),
                ("ascending", given, verdict(given == right)),
                ("updates", counts[length:]),
            ]
            texts.append(table(line for line in lines if counts or line[0] != "updates"))
        return texts

    example = ("0.3 -1 2 0.05 -0.4", "1.5 -0.2", "-1.1 0.7 0.6 -2")
    short = (" ".join(text.split()[: task.numbers]) for text in example)
    return {"serve": Notation(tuple(short), read, show)}
