"""Symbols in, the same symbols out."""

import numpy as np

from ._checks import check_lengths
from ._notation import Notation, expected, pad, table, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: symbols in, the same symbols out."""
    import tensorflow as tf

    def serve(symbols, lengths):
        most = tf.shape(symbols)[1]
        time = tf.range(2 * most + 2)
        shown = tf.sequence_mask(lengths, most)
        check_lengths(lengths, symbols, "symbols")
        tf.debugging.Assert(
            tf.reduce_all((symbols >= 0) & (symbols < task.symbols) | ~shown),
            [f"symbols must be 0 to {task.symbols - 1}, got", symbols],
        )
        shown = tf.where(shown, symbols, task.delimiter)
        sequence = tf.pad(shown, [[0, 0], [1, most + 1]], constant_values=task.delimiter)
        answer = model({"sequence": sequence})
        probability = tf.nn.softmax(answer["symbols"])
        place = tf.clip_by_value(lengths[:, None] + 1 + tf.range(most), 0, time[-1])
        said = tf.gather(probability, place, batch_dims=1)
        real = tf.sequence_mask(lengths, most)
        # The delimiter is no answer where one is due.
        said = said[..., : task.symbols]
        best = tf.argmax(said, axis=-1, output_type=tf.int32)
        return {
            "answer": tf.where(real, best, -1),
            "probability": tf.where(real, tf.reduce_max(said, axis=-1), 0.0),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"symbols": ((None, None), "int32"), "lengths": ((None,), "int32")},
            notation(task)["serve"].sample,
            {
                "answer": "the symbols that it remembers, (batch, time); -1 behind the end",
                "probability": "of each, (batch, time)",
                **told,
            },
        )
    }


def notation(task):
    """Symbols as `5 17 63`."""

    def read(texts):
        rows = [text.split() for text in texts]
        for text, symbols in zip(texts, rows):
            plain = [s.isascii() and s.isdecimal() and int(s) < task.symbols for s in symbols]
            if not plain or not all(plain):
                what = f"numbers from 0 to {task.symbols - 1} with spaces between, such as '5 17 3'"
                raise expected(what, text)
        symbols, lengths = pad([list(map(int, row)) for row in rows], 0, "int32")
        return {"symbols": symbols, "lengths": lengths}

    def show(inputs, outputs):
        texts = []
        for row, length in enumerate(inputs["lengths"]):
            right, said = inputs["symbols"][row, :length], outputs["answer"][row, :length]
            mark = verdict((right == said).all())
            lines = [("symbols", map(str, right)), ("answer", map(str, said), mark)]
            texts.append(table((name, list(cells), *rest) for name, cells, *rest in lines))
        return texts

    rng = np.random.default_rng(0)
    example = [rng.integers(0, task.symbols, task.length) for _ in range(2)]
    return {"serve": Notation(tuple(" ".join(map(str, row)) for row in example), read, show)}
