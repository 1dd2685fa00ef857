"""Symbols in, the same symbols out, after a pause."""

from ._checks import check_lengths
from ._notation import Notation, expected, pad, table, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: symbols, blanks and the delimiter in, what is answered at every step out."""
    import tensorflow as tf

    def serve(sequence, lengths):
        steps = tf.shape(sequence)[1]
        check_lengths(lengths, sequence)
        tf.debugging.Assert(
            tf.reduce_all((sequence >= 0) & (sequence < task.classes)),
            [f"sequence must be of symbols 0 to {task.classes - 1}, got", sequence],
        )
        answer = model({"sequence": sequence, "lengths": lengths})
        logits = answer["symbol"]
        real = tf.sequence_mask(lengths, steps)
        probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
        return {
            "symbols": tf.where(real, tf.argmax(logits, axis=-1, output_type=tf.int32), -1),
            "probability": tf.where(real, probability, 0.0),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"sequence": ((None, None), "int32"), "lengths": ((None,), "int32")},
            notation(task)["serve"].sample,
            {
                "symbols": "the most probable symbol at every step, (batch, time); -1 at padding",
                "probability": "of each of them, (batch, time); 0 at padding",
                **told,
            },
        )
    }


def notation(task):
    """The symbols to copy, as `3 1 7`; blanks and the delimiter are put behind them."""

    def read(texts):
        rows = []
        for text in texts:
            symbols = [int(s) if s.isascii() and s.isdecimal() else -1 for s in text.split()]
            legal = all(0 <= symbol < task.symbols for symbol in symbols)
            if not legal or not 0 < len(symbols) <= task.length:
                what = f"1 to {task.length} symbols of 0 to {task.symbols - 1}, such as '3 1 2'"
                raise expected(what, text)
            rows.append(symbols)
        inputs, _ = task.lay(*pad(rows, 0, "int32"))
        return inputs

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            count = (steps - task.delay - 1) // 2
            asked = slice(steps - count, steps)
            shown, given = inputs["sequence"][row, :count], outputs["symbols"][row, asked]
            lines = [
                ("symbols", task.spelled(shown).split()),
                ("answers", task.spelled(given).split(), verdict((shown == given).all())),
                ("sure of", [f"{p:.2f}" for p in outputs["probability"][row, asked]]),
            ]
            texts.append(table(lines))
        return texts

    longest = " ".join(str(i % task.symbols) for i in range(3, 3 + task.length))
    return {"serve": Notation((longest, "0"), read, show)}
