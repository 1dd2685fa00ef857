"""ByteNet (Kalchbrenner, Espeholt, Simonyan, van den Oord, Graves and Kavukcuoglu, 2016)."""

import math

import keras

from ..layers import ByteNet, ByteNetStack, DeepLSTM, Words
from ..layers._base import whole
from ._registry import Entry, Paper, register
from .signatures import characters

PAPER = Paper(
    mechanism="ByteNet",
    title="Neural Machine Translation in Linear Time",
    authors="Nal Kalchbrenner, Lasse Espeholt, Karen Simonyan, Aaron van den Oord, Alex Graves, "
    "Koray Kavukcuoglu",
    year=2016,
    arxiv="1610.10099",
)


def build_text(task, machine, units, blocks, dropout):
    """The decoder alone, of multiplicative blocks, which predicts bytes (section 4).

    Args:
        task: `Characters`.
        machine: "bytenet"; or "lstm" for one layer with as many weights in the place of the blocks.
        units: d, the features inside of a block; the stream has twice as many.
        blocks: how many there are.
        dropout: share of what the output layer reads that is left out in training.

    Returns:
        `keras.Model`: `sequence` in, the logits `next` of the byte after each out.

    Raises:
        ValueError: there is no such machine, or a number is not what it must be.
    """
    units, blocks = whole("units", units, 1), whole("blocks", blocks, 1)
    if machine == "bytenet":
        decoder = ByteNetStack(units, blocks, "multiplicative", return_state=True, name="decoder")
    elif machine == "lstm":
        # 4 h (2 d + h) = 16 d^2 for each block.
        hidden = round(units * (math.sqrt(1 + 4 * blocks) - 1))
        decoder = DeepLSTM(hidden, 1, forget_bias=1.0, return_state=True, name="decoder")
    else:
        raise ValueError(f"machine must be bytenet or lstm, got {machine!r}")
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    hidden, *_ = decoder(keras.layers.Embedding(characters.BYTES, 2 * units, name="read")(sequence))
    logits = _head(hidden, 2 * units, characters.BYTES, dropout)
    return keras.Model({"sequence": sequence}, {"next": logits})


def build_pairs(task, units, encoder_blocks, decoder_blocks, ratio, extra, combination, dropout):
    """A decoder on top of an encoder, of ReLU blocks (section 3).

    Args:
        task: a task of `CharacterPairs`.
        units: d, the features inside of a block; the streams have twice as many.
        encoder_blocks, decoder_blocks: how many blocks each has.
        ratio, extra: a and b of dynamic unfolding; `task.unfolding()` has those of the data.
        combination: "add" or "concatenate".
        dropout: share of what the output layer reads that is left out in training.

    Returns:
        `keras.Model`: `source`, `lengths` and `target` in, logits `character` out. Its layers
        `source_words` and `target_words` hold the characters.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.
    """
    net = ByteNet(units, encoder_blocks, decoder_blocks, ratio, extra, combination, name="net")
    source, target = (keras.Input((None,), dtype="int32", name=f) for f in ("source", "target"))
    lengths = keras.Input((), dtype="int32", name="lengths")
    read, said = (
        Words(task.alphabet, 2 * units, name=f"{name}_words")(places)
        for name, places in (("source", source), ("target", target))
    )
    hidden = net(read, said, lengths)
    logits = _head(hidden, 2 * units, task.classes, dropout)
    inputs = {"source": source, "lengths": lengths, "target": target}
    return keras.Model(inputs, {"character": logits})


def _head(hidden, features, classes, dropout):
    """Logits of what reads the stream behind the last block."""
    layers = [
        keras.Input((None, hidden.shape[-1])),
        keras.layers.LayerNormalization(),
        keras.layers.ReLU(),
        keras.layers.Dense(features, "relu"),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(classes),
    ]
    return keras.Sequential(layers, name="head")(hidden)


def text_signatures(model, task):
    """What a model of bytes serves (see `byte_signatures`), its queues as states."""
    import tensorflow as tf

    read, decoder, head = (model.get_layer(name) for name in ("read", "decoder", "head"))
    _, *states = decoder.output
    name = "queue" if isinstance(decoder, ByteNetStack) else "state"

    def run(codes, mask, state):
        hidden, *state = decoder(read(codes), mask=mask, initial_state=state)
        return head(tf.identity(hidden)), state, {}  # without its mask, which no head minds

    shapes = {f"{name}_{i}": x.shape[1:] for i, x in enumerate(states)}
    return characters.byte_signatures(run, shapes)


RECIPE = {"learning_rate": 1e-3, "learning_rate_schedule": "cosine", "decay_from": 0.5}
MUON = {"optimizer": "muon", "learning_rate": 1e-2, "learning_rate_schedule": "cosine"}
PAIRS = {"paper": PAPER, "build": build_pairs}
SMALL = {"units": 4, "encoder_blocks": 4, "decoder_blocks": 2, "ratio": 1.2}
CONFIG = {"combination": "add", "dropout": 0.0}

register(
    Entry(
        name="bytenet_wikipedia",
        paper=PAPER,
        task="characters",
        task_config={"length": 300, "context": 100},
        small_task={"length": 12, "context": 4},
        build=build_text,
        config={"machine": "bytenet", "units": 64, "blocks": 10, "dropout": 0.1},
        small={"units": 4, "blocks": 2},
        own_signatures=text_signatures,
        own_notation=characters.notation,
        train={
            **MUON,
            "batch_size": 16,
            "updates": 2_500,
            "steps_per_epoch": 250,
        },
        paper_result="enwik8: 1.31 bits per character, with 30 blocks and d = 512",
        baseline="LSTM",
    )
)

NUMBERS = {
    **PAIRS,
    "task": "number_words",
    "small_task": {"below": 100},
    "small": SMALL,
    "train": {**RECIPE, "batch_size": 32, "updates": 10_000, "steps_per_epoch": 250},
    "paper_result": "no number; not a task of the paper's",
}

register(
    Entry(
        **NUMBERS,
        name="bytenet_numbers",
        config={
            **CONFIG,
            "units": 32,
            "encoder_blocks": 10,
            "decoder_blocks": 3,
            "ratio": 0.1,
            "extra": 4,
        },
    )
)

register(
    Entry(
        **NUMBERS,
        name="bytenet_number_words",
        task_config={"to_words": True},
        config={
            **CONFIG,
            "units": 32,
            "encoder_blocks": 5,
            "decoder_blocks": 10,
            "ratio": 7.1,
            "extra": 14,
        },
    )
)

register(
    Entry(
        **PAIRS,
        name="bytenet_translation",
        task="character_translation",
        small_task={"characters": 60, "longest_words": 3},
        config={
            **CONFIG,
            "units": 64,
            "encoder_blocks": 10,
            "decoder_blocks": 10,
            "ratio": 0.8,
            "extra": 17,
            "dropout": 0.2,
        },
        small=SMALL,
        train={
            **MUON,
            "batch_size": 32,
            "updates": 5_000,
            "steps_per_epoch": 250,
            "validation_rows": 650,
            "evaluation_rows": 650,
        },
        paper_result="English to German, WMT: BLEU of 23.75 and 0.521 bits per character on "
        "NewsTest 2014",
    )
)
