"""Texts in, texts out, a character at a time, by a beam."""

import numpy as np

from ...layers import beam_search
from ...trainers.tasks._character_pairs import END, SIDES, UNKNOWN, gradient_norms
from ._notation import Notation, expected, table
from ._signature import Signature, handed_on
from ._words import lookup

BEAM, BEST = 12, 3


def pair_signatures(model, task, told, clean=lambda text: text, known=False):
    """`serve` (a beam search), `score` and `saliency` of a model of `CharacterPairs`.

    The model has layers `source_words` and `target_words`, which know the alphabet; `net`, which
    encodes and decodes as `ByteNet` does; and `head`.

    Args:
        model, task, told: as of the signatures of a task.
        clean: what is done to the texts of a source, and to those of a target, before they are
            read: a function of a string tensor, or two by side.
        known: whether all characters must be those of the alphabet.
    """
    import tensorflow as tf

    clean = clean if isinstance(clean, dict) else dict.fromkeys(SIDES, clean)
    words = {side: model.get_layer(f"{side}_words") for side in SIDES}
    net, head = model.get_layer("net"), model.get_layer("head")
    places = {side: lookup(layer.words, UNKNOWN) for side, layer in words.items()}
    longest = dict(zip(SIDES, task.longest))
    most = longest["target"] + 1

    def read(side, name, texts):
        """Places `(batch, characters)`, 0 behind the end, and how many there are."""
        found = tf.strings.unicode_split(clean[side](texts), "UTF-8")
        count = tf.cast(found.row_lengths(), tf.int32)
        tf.debugging.Assert(
            tf.reduce_all((count >= 1) & (count <= longest[side])),
            [f"{name} must have 1 to {longest[side]} characters, got", count],
        )
        place = places[side](found.to_tensor(""))
        real = tf.sequence_mask(count, tf.shape(place)[1])
        if known:
            tf.debugging.Assert(
                tf.reduce_all((place != UNKNOWN) | ~real),
                [f"{name} must be of the characters {''.join(task.alphabet[2:])!r}, got", texts],
            )
        return tf.where(real, place, END), count

    def laid(text, translation):
        """The inputs of the model, and what it should say."""
        source, lengths = read("source", "text", text)
        said, count = read("target", "translation", translation)
        right = tf.pad(said, [[0, 0], [0, 1]], constant_values=END)
        target = tf.pad(said, [[0, 0], [1, 0]], constant_values=END)
        return {"source": source, "lengths": lengths, "target": target}, right, count

    def serve(text):
        source, lengths = read("source", "text", text)
        encoded = net.encode(words["source"](source), lengths)
        batch = tf.shape(source)[0]

        def step(symbols, place, state):
            encoded, *queues = state
            vectors = words["target"](symbols[:, None])
            hidden, queues = net.decode(vectors, encoded, place, queues)
            return head(hidden)[:, 0], (encoded, *queues)

        state = encoded, *net.decoder.get_initial_state(batch)
        said, logp, ended = beam_search(step, state, batch, END, END, BEAM, most, BEST)
        kept = tf.cast(tf.cumsum(tf.cast(said == END, tf.int32), axis=-1) == 0, tf.int32)
        spelled = tf.where(kept > 0, tf.gather(words["target"].words, said), "")
        texts = tf.strings.reduce_join(spelled, axis=-1)
        return {
            "translation": texts[:, 0],
            "log_probability": tf.reduce_sum(logp[:, 0], axis=-1),
            "log_probabilities": logp[:, 0],
            "truncated": ~ended[:, 0],
            "hypotheses": texts,
            "hypothesis_log_probabilities": tf.reduce_sum(logp, axis=-1),
        }

    def score(text, translation):
        inputs, right, count = laid(text, translation)
        answer = model(inputs)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(right, answer["character"])
        scored = tf.sequence_mask(count + 1, tf.shape(right)[1])
        bits = tf.where(scored, nats, 0.0) / np.log(2).astype("float32")
        return {
            "bits": tf.reduce_sum(bits, axis=1),
            "bits_per_character": tf.reduce_sum(bits, axis=1) / tf.cast(count + 1, tf.float32),
            "log_probabilities": tf.where(scored, -nats, 0.0),
            **handed_on(answer, told),
        }

    def saliency(text, translation, position):
        inputs, right, count = laid(text, translation)
        tf.debugging.Assert(
            tf.reduce_all((position >= 0) & (position <= count)),
            ["position must be 0 to the characters of the translation,", count, "got", position],
        )
        chosen = tf.range(tf.shape(right)[1]) == position[:, None]
        source, target = gradient_norms(model, inputs, right, chosen)
        return {"source_norms": source, "target_norms": target}

    sample = pair_notation(task)["serve"].sample
    said = np.array([answer.encode() for answer in task.answers], object)
    string = ((None,), "string")
    behind = "the last is that of the end, 0 behind it, (batch, characters)"
    return {
        "serve": Signature(
            serve,
            {"text": string},
            sample,
            {
                "translation": f"the most probable text that a beam of {BEAM} finds, (batch,)",
                "log_probability": "natural, with that of its end, (batch,)",
                "log_probabilities": f"of each of its characters; {behind}",
                "truncated": "whether it has no end within the characters there are, (batch,)",
                "hypotheses": f"the {BEST} most probable texts, (batch, {BEST})",
                "hypothesis_log_probabilities": f"likewise, (batch, {BEST})",
            },
        ),
        "score": Signature(
            score,
            {"text": string, "translation": string},
            {**sample, "translation": said},
            {
                "bits": "-log2 of the probability of the translation and of its end, (batch,)",
                "bits_per_character": "the same, divided by its characters and the end, (batch,)",
                "log_probabilities": f"natural, of each of its characters; {behind}",
                **told,
            },
        ),
        "saliency": Signature(
            saliency,
            {"text": string, "translation": string, "position": ((None,), "int32")},
            {**sample, "translation": said, "position": np.array([0, 1], "int32")},
            {
                "source_norms": "norm of the gradient of the log-probability of the translation's "
                "character at `position` by the vector of each character of the text, (batch, "
                "characters)",
                "target_norms": "the same by the vector of the beginning and of each character of "
                "the translation, zero from `position` + 1 on, (batch, characters + 1)",
            },
        ),
    }


def pair_notation(task, count=len, what="characters", known=False):
    """Texts as they are, of 1 to so many `what` as `count` counts and the task allows."""
    longest = task.longest[0]

    def read(texts):
        for text in texts:
            if not 1 <= count(text) <= longest or (known and set(text) - {*task.alphabet}):
                raise expected(f"1 to {longest} {what}", text)
        return {"text": np.array(texts, object)}

    def show(inputs, outputs):
        rows = zip(inputs["text"], outputs["translation"], outputs["log_probability"])
        return [
            table([("text", [text]), ("said", [said.decode()], f"   {-nats / np.log(2):.2f} bits")])
            for text, said, nats in rows
        ]

    return {"serve": Notation(task.example, read, show)}
