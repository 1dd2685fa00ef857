"""Translation with the Grid LSTM (Kalchbrenner, Danihelka and Graves, 2015, section 4.4)."""

import keras
import numpy as np

from ..layers import Reencoder, SequenceMask, Words
from ..trainers.translation import END, UNKNOWN, tokens
from ._notation import Notation, expected, table
from ._registry import Signature

HASHES = 2**62
BLANK = r"[\s\pZ]+", " "
MARK = r"([^\pL\pN_ ])", r" \1 "
EXAMPLE = ("Wählen Sie Extras - Optionen.", "Neues Dokument öffnen")


def build_translation(task, machine, units, layers, dropout, embedding=0):
    """A grid that reads the source again for each word of the target.

    Args:
        task: a task of translation.
        machine: "grid", or "baseline" for an encoder and a decoder of LSTM layers.
        units: of every block or layer.
        layers: the depth.
        dropout: share of the words that are left out of what is read in training, and of what the
            output layer reads.
        embedding: numbers that stand for a word where it is read, and that it is told from where it
            is said; 0 for a row of every kernel that reads words, and all that the layers say.

    Returns:
        `keras.Model`: `source`, `lengths` and `target` in, logits `word` out. Its layers
        `source_words` and `target_words` hold the words.

    Raises:
        ValueError: there is no such machine.
    """
    source, target = (keras.Input((None,), dtype="int32", name=f) for f in ("source", "target"))
    lengths = keras.Input((), dtype="int32", name="lengths")
    read, said = (
        Words(task.vocabulary(name), name=f"{name}_words")(places)
        for name, places in (("source", source), ("target", target))
    )
    if embedding:
        read, said = (
            keras.layers.Dense(embedding, use_bias=False, name=f"{name}_embedding")(words)
            for name, words in (("source", read), ("target", said))
        )
    # All of a word or nothing of it.
    read, said = (
        keras.layers.Dropout(dropout, noise_shape=(None, None, 1), name=f"{name}_dropout")(words)
        for name, words in (("source", read), ("target", said))
    )
    if machine == "grid":
        hidden = Reencoder(units, layers, name="grid")(read, said, lengths)
    elif machine == "baseline":
        hidden = _encoder_decoder(read, said, SequenceMask()(source, lengths), units, layers)
    else:
        raise ValueError(f"machine must be grid or baseline, got {machine!r}")
    hidden = keras.layers.Dropout(dropout, name="dropout")(hidden)
    if embedding:
        hidden = keras.layers.Dense(embedding, name="said_embedding")(hidden)
    logits = keras.layers.Dense(task.words, name="word")(hidden)
    return keras.Model({"source": source, "lengths": lengths, "target": target}, {"word": logits})


def _encoder_decoder(read, said, mask, units, layers):
    """Layers of a decoder begin with the last state of those of the encoder."""
    for number in range(layers):
        encoder, decoder = (
            keras.layers.LSTM(
                units, return_sequences=True, return_state=True, name=f"{name}_{number}"
            )
            for name in ("encoder", "decoder")
        )
        read, *state = encoder(read, mask=mask)
        said, *_ = decoder(said, initial_state=state)
    return said


def translation_signatures(model, task):
    """`serve`: texts in, their translations out; `score`: what translations cost."""
    import tensorflow as tf

    words = {side: model.get_layer(f"{side}_words").words for side in ("source", "target")}
    hashes, order = {}, {}
    for side, some in words.items():
        found = tf.strings.to_hash_bucket_fast(some, HASHES).numpy()
        order[side] = np.argsort(found).astype("int32")
        hashes[side] = found[order[side]]

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
        asked = tf.strings.to_hash_bucket_fast(
            found.to_tensor("", shape=(None, task.longest)), HASHES
        )
        last = len(hashes[side]) - 1
        near = tf.minimum(tf.searchsorted(hashes[side], tf.reshape(asked, [-1])), last)
        near = tf.reshape(near, tf.shape(asked))
        known = tf.gather(hashes[side], near) == asked
        place = tf.where(known, tf.gather(order[side], near), UNKNOWN)
        return tf.where(tf.sequence_mask(count, task.longest), place, END), count

    def run(source, lengths, target):
        return model({"source": source, "lengths": lengths, "target": target})["word"]

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
            said = tf.argmax(run(source, lengths, target)[:, place], -1, tf.int32)
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
        return {
            "translation": tf.strings.regex_replace(joined, r" ([.,:;!?)…])", r"\1"),
            "bits": bits_of(run(source, lengths, target), said, count),
        }

    def score(text, translation):
        source, lengths = read("source", "text", text)
        said, count = read("target", "translation", translation)
        target = tf.pad(said, [[0, 0], [1, 0]], constant_values=END)
        said = tf.pad(said, [[0, 0], [0, 1]], constant_values=END)
        return {"bits": bits_of(run(source, lengths, target), said, count), "words": count}

    sample = translation_notation(task)["serve"].sample
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
            },
        ),
        "score": Signature(
            score,
            {"text": string, "translation": string},
            {**sample, "translation": sample["text"][::-1]},
            {
                "bits": "-log2 of the probability of the translation, (batch,)",
                "words": "words and marks of the translation, (batch,)",
            },
        ),
    }


def translation_notation(task):
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
