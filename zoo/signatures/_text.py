"""Texts that ask for an answer in, the answer out."""

import numpy as np

from ...trainers._weights import bare
from ._notation import Notation, expected, verdict
from ._signature import Signature
from ._words import codes_of


def signatures(model, task, told):
    """`serve`: a text in, what should follow it out, character by character the most probable.

    The layer `memory` is unrolled by its states, so nothing that `told` names is there.
    """
    import tensorflow as tf

    trained, head = bare(model.get_layer("memory")), model.get_layer("next")
    layer = trained
    if not trained.return_state:
        config = {**trained.get_config(), "name": "memory_step", "return_state": True}
        layer = type(trained).from_config(config)
        layer.cell = trained.cell
        layer.build((None, None, task.classes))
    places = np.full(256, -1, "int32")
    places[[ord(character) for character in task.alphabet]] = np.arange(task.classes)
    characters = tf.constant([character.encode() for character in task.alphabet])
    stop = task.alphabet.index(task.stop) if task.stop else -1

    def run(codes, mask=None, state=None):
        hidden, *state = layer(tf.one_hot(codes, task.classes), mask=mask, initial_state=state)
        return tf.nn.log_softmax(head(hidden)), state

    def serve(text):
        read, lengths = codes_of(text)
        real = tf.sequence_mask(lengths, tf.shape(read)[1])
        codes = tf.where(real, tf.gather(places, read), 0)
        tf.debugging.Assert(
            tf.reduce_all(codes >= 0),
            [f"text must be of the characters {task.alphabet}, got", text],
        )
        logp, state = run(codes, real)
        last = tf.gather(logp, tf.maximum(lengths - 1, 0), batch_dims=1)
        ended = tf.zeros_like(lengths, tf.bool)

        def body(i, logp, ended, total, *state_and_drawn):
            *state, drawn = state_and_drawn
            code = tf.argmax(logp, axis=-1, output_type=tf.int32)
            written = tf.where(ended, b"", tf.gather(characters, code))
            total += tf.where(ended, 0.0, tf.reduce_max(logp, axis=-1))
            logp, state = run(code[:, None], state=state)
            return i + 1, logp[:, 0], ended | (code == stop), total, *state, drawn.write(i, written)

        drawn = tf.TensorArray(tf.string, task.most_answered, element_shape=[None])
        *_, total, _, _, drawn = tf.while_loop(
            lambda i, *_: i < task.most_answered,
            body,
            (0, last, ended, tf.zeros_like(last[:, 0]), *state, drawn),
        )
        return {
            "answer": tf.strings.reduce_join(drawn.stack(), axis=0),
            "probability": tf.exp(total),
        }

    return {
        "serve": Signature(
            serve,
            {"text": ((None,), "string")},
            notation(task)["serve"].sample,
            {
                "answer": "the characters that should follow the text, (batch,)",
                "probability": "of the answer, (batch,)",
            },
        )
    }


def notation(task):
    """A text that asks for an answer, as the task writes it."""

    def read(texts):
        for text in texts:
            if not text or set(text) - set(task.alphabet):
                raise expected(task.rules, text)
        content = np.empty(len(texts), object)
        content[:] = [text.encode() for text in texts]
        return {"text": content}

    def show(inputs, outputs):
        texts = []
        for text, answer, probability in zip(
            inputs["text"], outputs["answer"], outputs["probability"]
        ):
            right, answer = task.solve(text.decode()), answer.decode()
            mark = "" if right is None else verdict(answer == right)
            texts.append(f"{answer} ({probability:.2f}){mark}")
        return texts

    return {"serve": Notation(tuple(task.example), read, show)}
