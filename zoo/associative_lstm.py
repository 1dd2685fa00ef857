"""Associative LSTM (Danihelka et al., 2016), arXiv:1602.03032."""

import keras
import numpy as np

from ..layers import AssociativeLSTM, PeepholeLSTM, SequenceMask
from ._bytes import build_bytes, byte_notation, signatures_of_layer
from ._lengths import check_lengths
from ._notation import Notation, expected, pad, table, verdict
from ._registry import Entry, Paper, Signature, register

PAPER = Paper(
    mechanism="Associative LSTM",
    title="Associative Long Short-Term Memory",
    authors="Ivo Danihelka, Greg Wayne, Benigno Uria, Nal Kalchbrenner, Alex Graves",
    year=2016,
    arxiv="1602.03032",
)


def build(task, machine, units, copies, forget_bias, use_recurrent_candidate):
    """An Associative LSTM or the paper's baseline, an LSTM, on symbols one-hot.

    Args:
        task: the task, whose symbols and target shape the model.
        machine: "associative" or "baseline".
        units: of the layer.
        copies: S, how often the memory holds everything. No weight depends on it.
        forget_bias: what the bias of the forget gates begins with.
        use_recurrent_candidate: whether the update sees the output before; the baseline's does.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, the logits of the task's target out.

    Raises:
        ValueError: there is no such machine.
    """
    _check_machine(machine)
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    options = {"return_sequences": True, "name": "memory"}
    if machine == "associative":
        memory = AssociativeLSTM(
            units,
            copies=copies,
            forget_bias=forget_bias,
            use_recurrent_candidate=use_recurrent_candidate,
            **options,
        )
    else:
        memory = PeepholeLSTM(units, peepholes=False, forget_bias=forget_bias, **options)
    hidden = memory(
        keras.ops.one_hot(sequence, task.classes), mask=SequenceMask()(sequence, lengths)
    )
    (name,) = task.target_spec
    logits = keras.layers.Dense(task.classes, name=name)(hidden)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {name: logits})


def build_text(task, machine, units, copies, forget_bias, use_recurrent_candidate):
    """The machines of `build` on bytes."""
    _check_machine(machine)
    if machine == "associative":
        layer = AssociativeLSTM(
            units,
            copies=copies,
            forget_bias=forget_bias,
            use_recurrent_candidate=use_recurrent_candidate,
            return_sequences=True,
            return_state=True,
            name="memory",
        )
    else:
        layer = PeepholeLSTM(
            units, peepholes=False, forget_bias=forget_bias, return_state=True, name="memory"
        )
    return build_bytes(layer)


def _check_machine(machine):
    if machine not in ("associative", "baseline"):
        raise ValueError(f"machine must be associative or baseline, got {machine!r}")


def copy_signatures(model, task):
    """`serve`: symbols, blanks and the delimiter in, what is answered at every step out."""
    import tensorflow as tf

    def serve(sequence, lengths):
        steps = tf.shape(sequence)[1]
        check_lengths(lengths, sequence)
        tf.debugging.Assert(
            tf.reduce_all((sequence >= 0) & (sequence < task.classes)),
            [f"sequence must be of symbols 0 to {task.classes - 1}, got", sequence],
        )
        logits = model({"sequence": sequence, "lengths": lengths})["symbol"]
        real = tf.sequence_mask(lengths, steps)
        probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
        return {
            "symbols": tf.where(real, tf.argmax(logits, axis=-1, output_type=tf.int32), -1),
            "probability": tf.where(real, probability, 0.0),
        }

    return {
        "serve": Signature(
            serve,
            {"sequence": ((None, None), "int32"), "lengths": ((None,), "int32")},
            copy_notation(task)["serve"].sample,
            {
                "symbols": "the most probable symbol at every step, (batch, time); -1 at padding",
                "probability": "of each of them, (batch, time); 0 at padding",
            },
        )
    }


def copy_notation(task):
    """The symbols to copy, as `3 1 7`; blanks and the delimiter are put behind them."""

    def read(texts):
        rows = []
        for text in texts:
            symbols = [int(s) if s.isascii() and s.isdecimal() else -1 for s in text.split()]
            legal = all(0 <= symbol < task.symbols for symbol in symbols)
            if not legal or not 0 < len(symbols) <= task.length:
                what = f"1 to {task.length} symbols of 0 to {task.symbols - 1}, such as '3 1 2'"
                raise expected(what, text)
            rows.append(symbols)
        inputs, _ = task.lay(*pad(rows, 0, "int32"))
        return inputs

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            count = (steps - task.delay - 1) // 2
            asked = slice(steps - count, steps)
            shown, given = inputs["sequence"][row, :count], outputs["symbols"][row, asked]
            lines = [
                ("symbols", task.spelled(shown).split()),
                ("answers", task.spelled(given).split(), verdict((shown == given).all())),
                ("sure of", [f"{p:.2f}" for p in outputs["probability"][row, asked]]),
            ]
            texts.append(table(lines))
        return texts

    longest = " ".join(str(i % task.symbols) for i in range(3, 3 + task.length))
    return {"serve": Notation((longest, "0"), read, show)}


def text_signatures(model, task):
    """`serve`: a text in, what should follow it out, character by character the most probable."""
    import tensorflow as tf

    trained, head = model.get_layer("memory"), model.get_layer("next")
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
        lengths = tf.strings.length(text)
        longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
        read = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=longest), tf.int32)
        real = tf.sequence_mask(lengths, longest)
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
            text_notation(task)["serve"].sample,
            {
                "answer": "the characters that should follow the text, (batch,)",
                "probability": "of the answer, (batch,)",
            },
        )
    }


def text_notation(task):
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


RECIPE = {
    "learning_rate_schedule": "cosine",
    "decay_from": 0.6,
    "batch_size": 16,
    "steps_per_epoch": 500,
    "evaluation_rows": 5000,
}


def _register(
    name, task, signatures, notation, copies, train, paper, notes="", build=build, **task_config
):
    register(
        Entry(
            name=f"associative_lstm_{name}",
            paper=PAPER,
            task=task,
            build=build,
            signatures=signatures,
            notation=notation,
            task_config=task_config,
            config={
                "machine": "associative",
                "units": 128,
                "copies": copies,
                "forget_bias": 1.0,
                "use_recurrent_candidate": False,
            },
            train={**RECIPE, **train},
            paper_result=paper,
            baseline="LSTM",
            notes=notes,
        )
    )


_register(
    "copy",
    "episodic_copy",
    copy_signatures,
    copy_notation,
    copies=8,
    train={"updates": 9000, "steps_per_epoch": 250},
    paper="learnt, the faster the more copies; LSTM of the same size much slower (curves)",
    notes=(
        "Batches of 16; the paper's were of 2 (from memory). In pilots of one seed 1,000 updates "
        "came to 14.5 bits with 8 copies, 19.6 with one and 24.5 with the LSTM, where symbols "
        "drawn by chance cost 16.5. A forget bias of 0 learns as fast as one of 1, with larger "
        "spikes."
    ),
)
_register(
    "assignment",
    "variable_assignment",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 40_000, "learning_rate": 3e-3},
    paper="learnt, the faster the more copies; LSTM far behind (curves)",
    notes=(
        "Batches of 16; the paper's were of 2 (from memory). The learning rate decides: at 1e-3, "
        "in batches of 16 or of 2, the network names one of the values that it was told, but not "
        "the one that was asked for, with two variables of one letter as with four of four, for "
        "as long as it was tried, 8,000 to 30,000 updates. At 3e-3 it needs no curriculum."
    ),
)
_register(
    "arithmetic",
    "arithmetic",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 60_000},
    paper="ahead of LSTM (curves)",
)
_register(
    "xml",
    "xml_modelling",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 20_000, "learning_rate": 3e-3},
    paper="learnt, the faster the more copies; LSTM of the same size behind (curves)",
)
_register(
    "wikipedia",
    "characters",
    signatures_of_layer("memory"),
    byte_notation,
    build=build_text,
    copies=4,
    train={"updates": 12_000, "batch_size": 10, "evaluation_rows": 2000},
    paper="bits per character no clear gain over an LSTM (enwik8, figures only)",
)
