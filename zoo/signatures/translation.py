"""Texts in, their translations out."""

import numpy as np

from ...trainers.tasks.translation import END, UNKNOWN, tokens
from ._notation import Notation, expected, table
from ._signature import Signature, handed_on
from ._words import lookup

BLANK = r"[\s\pZ]+", " "
MARK = r"([^\pL\pN_ ])", r" \1 "
EXAMPLE = ("Wählen Sie Extras - Optionen.", "Neues Dokument öffnen")


def signatures(model, task, told):
    """`serve`: texts in, their translations out; `score`: what translations cost."""
    import tensorflow as tf

    words = {side: model.get_layer(f"{side}_words").words for side in ("source", "target")}
    places = {side: lookup(some, UNKNOWN) for side, some in words.items()}

    def read(side, name, texts):
        """Places `(batch, longest)`, 0 behind the end, and how many there are, as `tokens` does."""
        texts = tf.strings.lower(texts, "utf-8") if side == "source" else texts
        texts = tf.strings.regex_replace(texts, *BLANK)
        found = tf.strings.split(tf.strings.regex_replace(texts, *MARK))
        count = tf.cast(found.row_lengths(), tf.int32)
        tf.debugging.Assert(
            tf.reduce_all((count >= 1) & (count <= task.longest)),
            [f"{name} must have 1 to {task.longest} words and marks, got", count],
        )
        place = places[side](found.to_tensor("", shape=(None, task.longest)))
        return tf.where(tf.sequence_mask(count, task.longest), place, END), count

    def run(source, lengths, target):
        return model({"source": source, "lengths": lengths, "target": target})

    def bits_of(logits, said, count):
        """Of the first words and of the `<end>` behind them."""
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(said, logits)
        scored = tf.sequence_mask(count + 1, task.longest + 1)
        return tf.reduce_sum(tf.where(scored, nats, 0.0), axis=1) / np.log(2).astype("float32")

    def serve(text):
        source, lengths = read("source", "text", text)
        target = tf.fill((tf.shape(source)[0], task.longest + 1), END)

        def going(place, target):
            ended = tf.reduce_any(target[:, 1 : place + 1] == END, axis=1)
            return (place < task.longest) & ~tf.reduce_all(ended)

        def step(place, target):
            said = tf.argmax(run(source, lengths, target)["word"][:, place], -1, tf.int32)
            here = tf.range(task.longest + 1) == place + 1
            return place + 1, tf.where(here, said[:, None], target)

        _, target = tf.while_loop(going, step, (0, target), maximum_iterations=task.longest)
        said = tf.pad(target[:, 1:], [[0, 0], [0, 1]], constant_values=END)
        count = tf.argmax(said == END, axis=1, output_type=tf.int32)
        kept = tf.sequence_mask(count, task.longest + 1)
        spelled = tf.where(kept, tf.gather(words["target"], said), "")
        joined = tf.strings.strip(tf.strings.reduce_join(spelled, axis=1, separator=" "))
        # What follows the end was said without need.
        target = tf.where(tf.sequence_mask(count + 1, task.longest + 1), target, END)
        answer = run(source, lengths, target)
        return {
            "translation": tf.strings.regex_replace(joined, r" ([.,:;!?)…])", r"\1"),
            "bits": bits_of(answer["word"], said, count),
            **handed_on(answer, told),
        }

    def score(text, translation):
        source, lengths = read("source", "text", text)
        said, count = read("target", "translation", translation)
        target = tf.pad(said, [[0, 0], [1, 0]], constant_values=END)
        said = tf.pad(said, [[0, 0], [0, 1]], constant_values=END)
        answer = run(source, lengths, target)
        bits = bits_of(answer["word"], said, count)
        return {"bits": bits, "words": count, **handed_on(answer, told)}

    sample = notation(task)["serve"].sample
    string = ((None,), "string")
    return {
        "serve": Signature(
            serve,
            {"text": string},
            sample,
            {
                "translation": "the most probable word after those before it, up to the end, "
                "(batch,)",
                "bits": "-log2 of its probability, (batch,)",
                **told,
            },
        ),
        "score": Signature(
            score,
            {"text": string, "translation": string},
            {**sample, "translation": sample["text"][::-1]},
            {
                "bits": "-log2 of the probability of the translation, (batch,)",
                "words": "words and marks of the translation, (batch,)",
                **told,
            },
        ),
    }


def notation(task):
    """Texts as they are."""

    def read(texts):
        for text in texts:
            if not 1 <= len(tokens(text)) <= task.longest:
                raise expected(f"1 to {task.longest} words and punctuation marks", text)
        return {"text": np.array(texts, object)}

    def show(inputs, outputs):
        rows = zip(inputs["text"], outputs["translation"], outputs["bits"])
        return [
            table([("text", [text]), ("said", [said.decode()], f"   {bits:.2f} bits")])
            for text, said, bits in rows
        ]

    example = tuple(" ".join(tokens(text)[: task.longest]) for text in EXAMPLE)
    return {"serve": Notation(example, read, show)}
