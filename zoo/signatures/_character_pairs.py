"""Texts in, texts out, a character at a time, by a beam."""

import numpy as np

from ...layers import beam_search
from ...trainers.tasks._character_pairs import END, SIDES, UNKNOWN, gradient_norms
from ._notation import Notation, expected, table
from ._signature import Signature, handed_on
from ._words import lookup

BEAM, BEST = 12, 3


class _Pairs:
    """What a model of `CharacterPairs` serves, as functions of a graph."""

    def __init__(self, model, task, told, clean, known):
        self.model, self.task, self.told, self.known = model, task, told, known
        self.clean = clean if isinstance(clean, dict) else dict.fromkeys(SIDES, clean)
        self.words = {side: model.get_layer(f"{side}_words") for side in SIDES}
        self.places = {side: lookup(layer.words, UNKNOWN) for side, layer in self.words.items()}
        self.longest = dict(zip(SIDES, task.longest))

    def read(self, side, name, texts):
        """Places `(batch, characters)`, 0 behind the end, and how many there are."""
        import tensorflow as tf

        found = tf.strings.unicode_split(self.clean[side](texts), "UTF-8")
        count = tf.cast(found.row_lengths(), tf.int32)
        tf.debugging.Assert(
            tf.reduce_all((count >= 1) & (count <= self.longest[side])),
            [f"{name} must have 1 to {self.longest[side]} characters, got", count],
        )
        place = self.places[side](found.to_tensor(""))
        real = tf.sequence_mask(count, tf.shape(place)[1])
        if self.known:
            alphabet = "".join(self.task.alphabet[2:])
            tf.debugging.Assert(
                tf.reduce_all((place != UNKNOWN) | ~real),
                [f"{name} must be of the characters {alphabet!r}, got", texts],
            )
        return tf.where(real, place, END), count

    def laid(self, text, translation):
        """The inputs of the model, and what it should say."""
        import tensorflow as tf

        source, lengths = self.read("source", "text", text)
        said, count = self.read("target", "translation", translation)
        right = tf.pad(said, [[0, 0], [0, 1]], constant_values=END)
        target = tf.pad(said, [[0, 0], [1, 0]], constant_values=END)
        return {"source": source, "lengths": lengths, "target": target}, right, count

    def serve(self, text):
        import tensorflow as tf

        source, lengths = self.read("source", "text", text)
        net, head = self.model.get_layer("net"), self.model.get_layer("head")
        encoded, batch = net.encode(self.words["source"](source), lengths), tf.shape(source)[0]

        def step(symbols, place, state):
            encoded, *queues = state
            vectors = self.words["target"](symbols[:, None])
            hidden, queues = net.decode(vectors, encoded, place, queues)
            return head(hidden)[:, 0], (encoded, *queues)

        state, most = (encoded, *net.decoder.get_initial_state(batch)), self.longest["target"] + 1
        said, logp, ended = beam_search(step, state, batch, END, END, BEAM, most, BEST)
        kept = tf.cast(tf.cumsum(tf.cast(said == END, tf.int32), axis=-1) == 0, tf.int32)
        spelled = tf.where(kept > 0, tf.gather(self.words["target"].words, said), "")
        texts = tf.strings.reduce_join(spelled, axis=-1)
        return {
            "translation": texts[:, 0],
            "log_probability": tf.reduce_sum(logp[:, 0], axis=-1),
            "log_probabilities": logp[:, 0],
            "truncated": ~ended[:, 0],
            "hypotheses": texts,
            "hypothesis_log_probabilities": tf.reduce_sum(logp, axis=-1),
        }

    def score(self, text, translation):
        import tensorflow as tf

        inputs, right, count = self.laid(text, translation)
        answer = self.model(inputs)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(right, answer["character"])
        scored = tf.sequence_mask(count + 1, tf.shape(right)[1])
        bits = tf.where(scored, nats, 0.0) / np.log(2).astype("float32")
        return {
            "bits": tf.reduce_sum(bits, axis=1),
            "bits_per_character": tf.reduce_sum(bits, axis=1) / tf.cast(count + 1, tf.float32),
            "log_probabilities": tf.where(scored, -nats, 0.0),
            **handed_on(answer, self.told),
        }

    def saliency(self, text, translation, position):
        import tensorflow as tf

        inputs, right, count = self.laid(text, translation)
        tf.debugging.Assert(
            tf.reduce_all((position >= 0) & (position <= count)),
            ["position must be 0 to the characters of the translation,", count, "got", position],
        )
        chosen = tf.range(tf.shape(right)[1]) == position[:, None]
        source, target = gradient_norms(self.model, inputs, right, chosen)
        return {"source_norms": source, "target_norms": target}


BEHIND = "the last is that of the end, 0 behind it, (batch, characters)"
SERVED = {
    "translation": f"the most probable text that a beam of {BEAM} finds, (batch,)",
    "log_probability": "natural, with that of its end, (batch,)",
    "log_probabilities": f"of each of its characters; {BEHIND}",
    "truncated": "whether it has no end within the characters there are, (batch,)",
    "hypotheses": f"the {BEST} most probable texts, (batch, {BEST})",
    "hypothesis_log_probabilities": f"likewise, (batch, {BEST})",
}
SCORED = {
    "bits": "-log2 of the probability of the translation and of its end, (batch,)",
    "bits_per_character": "the same, divided by its characters and the end, (batch,)",
    "log_probabilities": f"natural, of each of its characters; {BEHIND}",
}
NORMS = {
    "source_norms": "norm of the gradient of the log-probability of the translation's character at "
    "`position` by the vector of each character of the text, (batch, characters)",
    "target_norms": "the same by the vector of the beginning and of each character of the "
    "translation, zero from `position` + 1 on, (batch, characters + 1)",
}


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
    pairs = _Pairs(model, task, told, clean, known)
    text = {"text": ((None,), "string")}
    both = {**text, "translation": ((None,), "string")}
    one = pair_notation(task)["serve"].sample
    two = {**one, "translation": np.array([answer.encode() for answer in task.answers], object)}
    return {
        "serve": Signature(pairs.serve, text, one, SERVED),
        "score": Signature(pairs.score, both, two, {**SCORED, **told}),
        "saliency": Signature(
            pairs.saliency,
            {**both, "position": ((None,), "int32")},
            {**two, "position": np.array([0, 1], "int32")},
            NORMS,
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
