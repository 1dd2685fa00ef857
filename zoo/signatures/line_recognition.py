"""Lines of text as images in, the text that was read in them out."""

import numpy as np

from ...layers import ctc_best_path
from ._checks import check_lengths, check_range
from ._signature import Signature, handed_on

MOST_COLUMNS = 2000


def signatures(model, task, told):
    """`serve`: images of lines in, their text out, and where each character was read."""
    import tensorflow as tf

    characters = tf.constant(("", *task.alphabet))

    def serve(image, lengths):
        check_range("image", image, 0.0, 1.0)
        columns = tf.shape(image)[2]
        tf.debugging.Assert(
            (columns >= 1) & (columns <= MOST_COLUMNS),
            [f"image must have 1 to {MOST_COLUMNS} columns, got", columns],
        )
        check_lengths(lengths, image, "columns", axis=2)
        answer = model({"image": image, "lengths": lengths})
        logits = answer["text"]
        frames = tf.shape(logits)[1]
        # How many columns a frame sees.
        wide = -(-columns // frames)
        symbols, places = ctc_best_path(logits, -(-lengths // wide))
        text = tf.strings.reduce_join(tf.gather(characters, tf.maximum(symbols, 0)), axis=-1)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(symbols > 0, tf.int32), axis=-1))
        places = tf.where(places < 0, -1, places * wide)
        return {"text": text, "places": places[:, :longest], **handed_on(answer, told)}

    inputs = {name: ((None, *shape), dtype) for name, (shape, dtype) in task.input_spec.items()}
    outputs = {
        "text": "what was read, (batch,)",
        "places": "the column from which on each character was read, (batch, characters); -1 "
        "behind the last",
        **told,
    }
    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    return {"serve": Signature(serve, inputs, sample, outputs, images=("image",))}


def notation(task):
    """None: nobody writes an image."""
    return {}
