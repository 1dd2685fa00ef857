"""A story with a question in, the answer out."""

import re

import numpy as np

from ._notation import Notation, expected
from ._signature import Signature, handed_on
from ._words import lookup

MOST_WORDS = 1000


def signatures(model, task, told):
    """`serve`: the text of a story and its question in, the answer and its probability out."""
    import tensorflow as tf

    words = tf.constant(task.vocabulary)
    places = lookup(list(task.vocabulary), -1)

    def serve(text):
        spaced = tf.strings.regex_replace(tf.strings.lower(text), "([.?])", r" \1 ")
        split = tf.strings.split(spaced)
        lengths = tf.cast(split.row_lengths(), tf.int32)
        padded = split.to_tensor("")
        tf.debugging.Assert(
            tf.reduce_all((lengths > 0) & (lengths <= MOST_WORDS)),
            [f"text must have 1 to {MOST_WORDS} words, got", lengths],
        )
        found = places(padded)
        real = tf.sequence_mask(lengths, tf.shape(padded)[1])
        tf.debugging.Assert(
            tf.reduce_all((found >= 0) | ~real),
            ["text has words that no story has; got", tf.boolean_mask(padded, real & (found < 0))],
        )
        answer = model({"sequence": tf.where(real, found, 0), "lengths": lengths})
        chances = tf.nn.softmax(answer["answer"])
        return {
            "answer": tf.gather(words, tf.argmax(chances, axis=-1)),
            "probability": tf.reduce_max(chances, axis=-1),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"text": ((None,), "string")},
            notation(task)["serve"].sample,
            {
                "answer": "a word, or several with + between, (batch,)",
                "probability": "of the answer, (batch,)",
                **told,
            },
        )
    }


def notation(task):
    """A story and a question, as people write them."""
    known = set(task.vocabulary)

    def read(texts):
        for text in texts:
            found = re.sub("([.?])", r" \1 ", text.lower()).split()
            if not 0 < len(found) <= MOST_WORDS or set(found) - known:
                new = sorted(set(found) - known)
                raise expected(f"a story and a question of known words, not {new[:5]}", text)
        content = np.empty(len(texts), object)
        content[:] = [text.encode() for text in texts]
        return {"text": content}

    def show(inputs, outputs):
        rows = zip(outputs["answer"], outputs["probability"])
        return [f"{answer.decode()} ({chance:.2f})" for answer, chance in rows]

    rng = np.random.default_rng(0)
    few = [task.one(rng, family, "test")[0] for family in task.families[:2]]
    example = tuple(re.sub(r" ([.?])", r"\1", " ".join(words)) for words in few)
    return {"serve": Notation(example, read, show)}
