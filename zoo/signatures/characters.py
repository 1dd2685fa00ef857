"""Bytes: the next one, what a text costs, how it goes on."""

import numpy as np

from ._checks import check_range, greatest
from ._notation import Notation, expected, over_text
from ._sampling import ASKED, check_sampling, drawn, prompts, sample_of, unroll
from ._signature import Signature
from ._words import codes_of

BYTES = 256
MOST_SAMPLED = 1024


def signatures(model, task, told):
    """What a model serves that ends with a layer which returns its states, and with `next`.

    The layer is unrolled by its states, so nothing that `told` names is there; a model that tells
    more of each byte calls `byte_signatures`.
    """
    import tensorflow as tf

    *_, layer, head = model.layers
    _, *states = layer.output

    def run(codes, mask, state):
        hidden, *state = layer(tf.one_hot(codes, BYTES), mask=mask, initial_state=state)
        return head(hidden), state, {}

    return byte_signatures(run, {f"state_{i}": x.shape[1:] for i, x in enumerate(states)})


def byte_signatures(run, states, told=None):
    """`serve` (the next byte), `score`, `sample` and `step` of a model of bytes.

    A text is read from its first byte on; padding behind it is skipped.

    Args:
        run: `run(codes (batch, time), mask (batch, time) or None, list of states or None)` gives
            the logits of the next bytes `(batch, time, 256)`, the list of states behind the last
            real byte, and a dict of further numbers `(batch, time)`, one for each byte.
        states: dict: name of a state -> its shape without the batch.
        told: dict: name of a further number -> what it means.
    """
    import tensorflow as tf

    told = told or {}

    def read_on(codes, lengths=None, state=None):
        mask = None if lengths is None else tf.sequence_mask(lengths, tf.shape(codes)[1])
        logits, state, more = run(codes, mask, state)
        return tf.nn.log_softmax(logits), state, more

    characters = tf.constant([bytes([code]) for code in range(BYTES)])

    def serve(text):
        codes, lengths = codes_of(text)
        logp, _, more = read_on(codes, lengths)
        last = tf.gather(logp, tf.maximum(lengths - 1, 0), batch_dims=1)
        best = tf.argmax(last, axis=-1)
        return {
            "next_bytes": tf.gather(characters, best),
            "probability": tf.exp(tf.reduce_max(last, axis=-1)),
            **more,
        }

    def score(text):
        codes, lengths = codes_of(text)
        logp, _, more = read_on(codes, lengths)
        real = tf.sequence_mask(lengths - 1, tf.shape(codes)[1] - 1)
        given = -tf.gather(logp[:, :-1], codes[:, 1:], batch_dims=2) / np.log(2)
        entropy = -tf.reduce_sum(tf.exp(logp) * logp, axis=-1) / np.log(2)
        whole = tf.sequence_mask(lengths, tf.shape(codes)[1])
        return {
            "bits": tf.pad(tf.where(real, given, 0.0), [[0, 0], [1, 0]]),
            "entropy": tf.where(whole, entropy, 0.0),
            **more,
        }

    def step(**inputs):
        check_range("code", inputs["code"], 0, BYTES - 1)
        state = [inputs[name] for name in states]
        logp, state, more = read_on(inputs["code"][:, None], state=state)
        state = {f"next_{name}": value for name, value in zip(states, state)}
        more = {name: value[:, 0] for name, value in more.items()}
        return {"probabilities": tf.exp(logp[:, 0]), **state, **more}

    def sample(prompt, length, temperature, seed):
        check_sampling(length, temperature, MOST_SAMPLED)
        codes, lengths = codes_of(prompt)
        logp, state, _ = read_on(codes, lengths)
        last = tf.gather(logp, tf.maximum(lengths - 1, 0), batch_dims=1)

        def draw(place, logp):
            return drawn(logp, temperature, seed, place)

        def read_one(code, state):
            logp, state, more = read_on(code[:, None], state=state)
            return logp[:, 0], state, {name: more[name][:, 0] for name in told}

        longest = greatest(length, 1, MOST_SAMPLED)
        said, numbers = unroll(read_one, last, state, draw, longest, told)
        kept = tf.sequence_mask(length, longest)
        text = tf.strings.reduce_join(tf.where(kept, tf.gather(characters, said), b""), axis=-1)
        return {
            "text_bytes": text,
            **{name: tf.where(kept, x, 0.0) for name, x in numbers.items()},
        }

    written = notation()
    text = {"text": ((None,), "string")}
    last = {
        "next_bytes": "the most probable byte after the text, (batch,)",
        "probability": "its probability, (batch,)",
    }
    scores = {
        "bits": "-log2 of the probability of each byte but the first, (batch, bytes)",
        "entropy": "entropy in bits of the distribution after each byte, (batch, bytes)",
    }
    state_inputs = {name: ((None, *shape), "float32") for name, shape in states.items()}
    zeros = {name: np.zeros((2, *shape), "float32") for name, shape in states.items()}
    return {
        "serve": Signature(serve, text, written["serve"].sample, {**last, **told}),
        "score": Signature(score, text, written["score"].sample, {**scores, **told}),
        "sample": Signature(
            sample,
            ASKED,
            sample_of(written["sample"].sample),
            {
                "text_bytes": "what follows the prompt, `length` bytes, (batch,)",
                **{name: f"{meaning}, of these bytes" for name, meaning in told.items()},
            },
        ),
        "step": Signature(
            step,
            {"code": ((None,), "int32"), **state_inputs},
            {"code": np.array([84, 111], "int32"), **zeros},
            {
                "probabilities": "of the 256 bytes that may come next, (batch, 256)",
                **{
                    f"next_{name}": "state to send with the next byte; zeros to begin"
                    for name in states
                },
                **{name: f"{meaning}, without time" for name, meaning in told.items()},
            },
        ),
    }


def notation(task=None):
    """A text as it is; `sample` goes on with it for 80 bytes."""

    def read(texts):
        if not all(texts):
            raise expected("a text of one character or more", "")
        content = np.empty(len(texts), object)
        content[:] = [text.encode(errors="surrogateescape") for text in texts]
        return {"text": content}

    def read_prompts(texts):
        return prompts(read(texts)["text"], 80, 0.5)

    def show(inputs, outputs):
        from ...trainers.tasks.characters import quote

        return [
            f"{over_text(text, ponder(outputs, row, len(text)))}\n"
            f"next      {quote(np.frombuffer(byte, np.uint8))} ({probability:.2f})"
            for row, (text, byte, probability) in enumerate(
                zip(inputs["text"], outputs["next_bytes"], outputs["probability"])
            )
        ]

    def show_scores(inputs, outputs):
        texts = []
        for row, text in enumerate(inputs["text"]):
            bits = outputs["bits"][row, : len(text)].astype("float64")
            bits[0] = np.nan  # nothing was expected before the first byte
            entropy, updates = outputs["entropy"][row, : len(text)], ponder(outputs, row, len(text))
            mean = f"{np.nanmean(bits):.2f}" if len(text) > 1 else "no"
            lines = over_text(text, {"bits": bits, "entropy": entropy, **updates})
            means = [f"{x.mean():.2f} {name}" for name, x in updates.items()]
            told = ", ".join([f"{mean} bits per character", *means])
            texts.append(f"{lines}\nmean      {told}")
        return texts

    def show_samples(inputs, outputs):
        return [
            over_text(
                prompt + text,
                {
                    name: [*np.full(len(prompt), np.nan), *updates]
                    for name, updates in ponder(outputs, row, len(text)).items()
                },
            )
            for row, (prompt, text) in enumerate(zip(inputs["prompt"], outputs["text_bytes"]))
        ]

    def ponder(outputs, row, length):
        updates = outputs.get("updates")
        return {} if updates is None else {"updates": updates[row, :length].astype("float64")}

    example = ("The history of [[", "of the ")
    return {
        "serve": Notation(example, read, show),
        "score": Notation(example, read, show_scores),
        "sample": Notation(example, read_prompts, show_samples),
    }
