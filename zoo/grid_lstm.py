"""Grid Long Short-Term Memory (Kalchbrenner, Danihelka and Graves, 2015), arXiv:1507.01526."""

import keras

from ..layers import DeepLSTM, GridLSTM, Reencoder, SequenceMask, Words
from ._networks import build_bytes
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="Grid LSTM",
    title="Grid Long Short-Term Memory",
    authors="Nal Kalchbrenner, Ivo Danihelka, Alex Graves",
    year=2015,
    arxiv="1507.01526",
)
PATCH = 2


def build_symbols(task, machine, units, layers, tied, depth_last, spread):
    """A grid over time and depth, or the paper's baseline, on a task of symbols (section 4).

    Args:
        task: a task of symbols.
        machine: "grid", or "baseline" for stacked LSTM layers.
        units: of every block or layer.
        layers: the depth.
        tied: whether the layers of a grid share their weights.
        depth_last: whether depth has priority.
        spread: weights of a grid begin uniformly between minus and plus this; the paper's 0.08 goes
            with 400 units.

    Returns:
        `keras.Model`: `sequence` in, logits under the name of the task's answer out.

    Raises:
        ValueError: there is no such machine, or `spread` is 0 or less.
    """
    _check_machine(machine)
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    hidden = keras.ops.one_hot(sequence, task.classes)
    if machine == "grid":
        hidden = _sequence_grid(units, layers, tied, depth_last, spread)(hidden)
    else:
        stack = DeepLSTM(units, layers, peepholes=False, forget_bias=1.0, name="lstm")
        hidden = stack(hidden)
    logits = keras.layers.Dense(task.classes, name=task.answer)(hidden)
    return keras.Model({"sequence": sequence}, {task.answer: logits})


def build_text(task, machine, units, layers, tied, depth_last, spread):
    """The machines of `build_symbols` on bytes (section 4.3)."""
    _check_machine(machine)
    if machine == "grid":
        layer = _sequence_grid(units, layers, tied, depth_last, spread, return_state=True)
    else:
        layer = DeepLSTM(
            units, layers, peepholes=False, forget_bias=1.0, return_state=True, name="grid"
        )
    return build_bytes(layer)


def _sequence_grid(units, layers, tied, depth_last, spread, **options):
    if not spread > 0:
        raise ValueError(f"spread must be more than 0, got {spread}")
    return GridLSTM(
        units,
        layers,
        tied=tied,
        priority=[0] if depth_last else [],
        kernel_initializer=keras.initializers.RandomUniform(-spread, spread),
        name="grid",
        **options,
    )


def build_parity(task, machine, units, layers, tied):
    """A grid of depth alone, or a feed-forward net of tanh units (section 4.1 of version 1)."""
    _check_machine(machine)
    bits = keras.Input((task.bits,), name="bits")
    if machine == "grid":
        hidden = GridLSTM(units, layers, tied=tied, name="grid")(bits)
    else:
        hidden = bits
        for number in range(layers):
            hidden = keras.layers.Dense(units, "tanh", name=f"layer_{number}")(hidden)
    return keras.Model({"bits": bits}, {"parity": keras.layers.Dense(1, name="parity")(hidden)})


def build_image(task, machine, units, layers, tied, relu_depth):
    """A grid over the patches of an image and depth, from corner to corner (section 4.5).

    Every layer scans from another corner. What leaves the last one at all patches is averaged and
    seen by a softmax layer. The baseline is an LSTM that reads the rows of the image.
    """
    _check_machine(machine)
    image = keras.Input((28, 28), name="image")
    if machine == "grid":
        places = 28 // PATCH
        patches = keras.ops.reshape(image, (-1, places, PATCH, places, PATCH))
        patches = keras.ops.transpose(patches, (0, 1, 3, 2, 4))
        patches = keras.ops.reshape(patches, (-1, places, places, PATCH * PATCH))
        hidden = GridLSTM(
            units,
            layers,
            tied=tied,
            plain=[0] if relu_depth else [],
            plain_activation="relu",
            alternate_corners=True,
            name="grid",
        )(patches)
        hidden = keras.layers.GlobalAveragePooling2D(name="average")(hidden)
    else:
        hidden = image
        for number in range(layers):
            more = number + 1 < layers
            hidden = keras.layers.LSTM(units, return_sequences=more, name=f"lstm_{number}")(hidden)
    logits = keras.layers.Dense(10, name="digit")(hidden)
    return keras.Model({"image": image}, {"digit": logits})


def _check_machine(machine):
    if machine not in ("grid", "baseline"):
        raise ValueError(f"machine must be grid or baseline, got {machine!r}")


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


SYMBOLS = {
    "batch_size": 16,
    "learning_rate_schedule": "cosine",
    "decay_from": 0.7,
    "rehearsal": False,
    "evaluation_rows": 5000,
}

register(
    Entry(
        name="grid_lstm_addition",
        paper=PAPER,
        task="digit_addition",
        build=build_symbols,
        task_config={"digits": 6},
        config={
            "machine": "grid",
            "units": 64,
            "layers": 8,
            "tied": True,
            "depth_last": False,
            "spread": 0.2,
        },
        train={
            **SYMBOLS,
            "learning_rate": 6e-3,
            "curriculum": 0.2,
            "updates": 90_000,
            "steps_per_epoch": 200,
        },
        paper_result="15 digits: more than 99 % of sums right with 18 tied layers of 400 units "
        "(from memory)",
        baseline="LSTM",
        small={"units": 8, "layers": 2},
    )
)

register(
    Entry(
        name="grid_lstm_memorization",
        paper=PAPER,
        task="memorization",
        build=build_symbols,
        config={
            "machine": "grid",
            "units": 100,
            "layers": 4,
            "tied": True,
            "depth_last": False,
            "spread": 0.16,
        },
        train={
            **SYMBOLS,
            "learning_rate": 2e-3,
            "curriculum": 0.3,
            "updates": 12_000,
            "steps_per_epoch": 100,
        },
        paper_result="more than 99 % of sequences right with 43 tied layers of 100 units (from "
        "memory)",
        baseline="LSTM",
        small={"units": 8, "layers": 2},
    )
)

register(
    Entry(
        name="grid_lstm_parity",
        paper=PAPER,
        task="bit_parity",
        build=build_parity,
        task_config={"bits": 64},
        config={"machine": "grid", "units": 256, "layers": 8, "tied": True},
        train={
            "optimizer": "adagrad",
            "learning_rate": 0.06,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.8,
            "batch_size": 20,
            "curriculum": 0.02,
            "updates": 60_000,
            "steps_per_epoch": 250,
        },
        paper_result="solved for up to 250 bits",
        baseline="tanh layers",
        small={"units": 8, "layers": 2},
    )
)

register(
    Entry(
        name="grid_lstm_mnist",
        paper=PAPER,
        task="mnist",
        build=build_image,
        task_config={"shift": 2},
        config={"machine": "grid", "units": 24, "layers": 4, "tied": False, "relu_depth": False},
        train={
            "batch_size": 32,
            "learning_rate": 2e-3,
            "learning_rate_schedule": "cosine",
            "updates": 6000,
            "steps_per_epoch": 100,
        },
        paper_result="0.32 % error",
        baseline="LSTM over rows",
        small={"units": 8, "layers": 2},
    )
)

register(
    Entry(
        name="grid_lstm_translation",
        paper=PAPER,
        task="translation",
        build=build_translation,
        config={"machine": "grid", "units": 64, "layers": 2, "dropout": 0.2, "embedding": 48},
        train={
            "batch_size": 32,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "updates": 5000,
            "steps_per_epoch": 100,
            "validation_rows": 650,
            "evaluation_rows": 2000,
        },
        paper_result="BLEU-4 of 60.2 on BTEC, Chinese to English, with 15 references (from memory)",
        baseline="LSTM encoder and decoder",
        small={"units": 8, "layers": 2, "embedding": 8},
        small_task={"words": 60, "longest": 3},
    )
)

register(
    Entry(
        name="grid_lstm_wikipedia",
        paper=PAPER,
        task="characters",
        small_task={"length": 12},
        build=build_text,
        config={
            "machine": "grid",
            "units": 128,
            "layers": 3,
            "tied": True,
            "depth_last": True,
            "spread": 0.14,
        },
        train={
            "batch_size": 32,
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "updates": 6_000,
            "steps_per_epoch": 250,
        },
        paper_result="1.47 bits per character on enwik8, with 6 layers of 1,000 units",
        baseline="stacked LSTM",
        small={"units": 8, "layers": 2},
    )
)
