"""Words of a text as it runs on: the next one, what a text costs, how it goes on."""

import numpy as np

from ._checks import check_range, greatest
from ._notation import Notation, expected
from ._sampling import ASKED, check_sampling, drawn, prompts, sample_of, unroll
from ._signature import Signature
from ._words import lookup, words_of

MOST_SAMPLED = 256


def signatures(model, task, told):
    """`serve` (the next word), `score`, `sample` and `step` of a model of words.

    Words have spaces between them, and `<eos>` ends a sentence; what the model does not know is
    `<unk>`. The layers behind `words` are unrolled by their states, so nothing that `told` names is
    there.
    """
    import tensorflow as tf

    embed, layer, head = (model.get_layer(name) for name in ("words", "hidden", "next"))
    _, *states = layer.output
    names = [f"state_{i}" for i in range(len(states))]
    spelled, places = tf.constant(embed.words), lookup(embed.words, embed.words.index("<unk>"))

    def read_on(codes, lengths=None, state=None):
        mask = None if lengths is None else tf.sequence_mask(lengths, tf.shape(codes)[1])
        hidden, *state = layer(embed(codes), mask=mask, initial_state=state)
        logits = embed(head(hidden), reverse=True) if embed.units else head(hidden)
        return tf.nn.log_softmax(logits), state

    def read(text):
        words, lengths = words_of(text)
        return places(words), lengths

    def serve(text):
        codes, lengths = read(text)
        logp, _ = read_on(codes, lengths)
        last = tf.gather(logp, tf.maximum(lengths - 1, 0), batch_dims=1)
        best = tf.argmax(last, axis=-1)
        return {
            "next_words": tf.gather(spelled, best),
            "probability": tf.exp(tf.reduce_max(last, axis=-1)),
        }

    def score(text):
        codes, lengths = read(text)
        logp, _ = read_on(codes, lengths)
        real = tf.sequence_mask(lengths - 1, tf.shape(codes)[1] - 1)
        given = -tf.gather(logp[:, :-1], codes[:, 1:], batch_dims=2) / np.log(2)
        return {
            "bits": tf.pad(tf.where(real, given, 0.0), [[0, 0], [1, 0]]),
            "words": lengths,
        }

    def step(**inputs):
        check_range("code", inputs["code"], 0, len(embed.words) - 1)
        state = [inputs[name] for name in names]
        logp, state = read_on(inputs["code"][:, None], state=state)
        state = {f"next_{name}": value for name, value in zip(names, state)}
        return {"probabilities": tf.exp(logp[:, 0]), **state}

    def sample(prompt, length, temperature, seed):
        check_sampling(length, temperature, MOST_SAMPLED)
        codes, lengths = read(prompt)
        logp, state = read_on(codes, lengths)
        last = tf.gather(logp, tf.maximum(lengths - 1, 0), batch_dims=1)

        def draw(place, logp):
            return drawn(logp, temperature, seed, place)

        def read_one(code, state):
            logp, state = read_on(code[:, None], state=state)
            return logp[:, 0], state, {}

        longest = greatest(length, 1, MOST_SAMPLED)
        said, _ = unroll(read_one, last, state, draw, longest)
        kept = tf.sequence_mask(length, longest)
        said = tf.ragged.boolean_mask(tf.gather(spelled, said), kept)
        return {"text": tf.strings.reduce_join(said, axis=-1, separator=" ")}

    written = notation(task)
    text = {"text": ((None,), "string")}
    zeros = {name: np.zeros((2, *x.shape[1:]), "float32") for name, x in zip(names, states)}
    state_inputs = {name: ((None, *x.shape[1:]), "float32") for name, x in zeros.items()}
    return {
        "serve": Signature(
            serve,
            text,
            written["serve"].sample,
            {
                "next_words": "the most probable word after the text, (batch,)",
                "probability": "its probability, (batch,)",
            },
        ),
        "score": Signature(
            score,
            text,
            written["score"].sample,
            {
                "bits": "-log2 of the probability of each word but the first, (batch, words)",
                "words": "words of the text, (batch,)",
            },
        ),
        "sample": Signature(
            sample,
            ASKED,
            sample_of(written["sample"].sample),
            {"text": "what follows the prompt, `length` words, (batch,)"},
        ),
        "step": Signature(
            step,
            {"code": ((None,), "int32"), **state_inputs},
            {"code": np.array([0, 1], "int32"), **zeros},
            {
                "probabilities": "of the words that may come next, (batch, words)",
                **{
                    f"next_{name}": "state to send with the next word; zeros to begin"
                    for name in names
                },
            },
            {"probabilities": embed.words},
        ),
    }


def notation(task=None):
    """Words with spaces between; `sample` goes on with them for 30 words."""

    def read(texts):
        if not all(text.split() for text in texts):
            raise expected("a word or more", "")
        return {"text": np.array(texts, object)}

    def read_prompts(texts):
        return prompts(read(texts)["text"], 30, 0.7)

    def show(inputs, outputs):
        rows = zip(inputs["text"], outputs["next_words"], outputs["probability"])
        return [f"{text} ... {word.decode()} ({p:.2f})" for text, word, p in rows]

    def show_scores(inputs, outputs):
        texts = []
        for text, bits in zip(inputs["text"], outputs["bits"]):
            words = text.split()
            told = " ".join(f"{word} ({b:.1f})" for word, b in zip(words[1:], bits[1:]))
            mean = f"{np.mean(bits[1 : len(words)]):.2f}" if len(words) > 1 else "no"
            texts.append(f"{words[0]} {told}\nmean      {mean} bits a word")
        return texts

    def show_samples(inputs, outputs):
        rows = zip(inputs["prompt"], outputs["text"])
        return [f"{prompt} {text.decode()}" for prompt, text in rows]

    example = ("the state of the", "we must <eos> the congress")
    return {
        "serve": Notation(example, read, show),
        "score": Notation(example, read, show_scores),
        "sample": Notation(example, read_prompts, show_samples),
    }
