"""Associative LSTM (Danihelka et al., 2016), arXiv:1602.03032."""

import keras

from ..layers import AssociativeLSTM, PeepholeLSTM, SequenceMask
from ._networks import build_bytes
from ._registry import Entry, Paper, register

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


SHARED = {"paper": PAPER, "baseline": "LSTM", "small": {"units": 8, "copies": 2}}
CONFIG = {
    "machine": "associative",
    "units": 128,
    "copies": 8,
    "forget_bias": 1.0,
    "use_recurrent_candidate": False,
}
RECIPE = {
    "learning_rate_schedule": "cosine",
    "decay_from": 0.6,
    "batch_size": 16,
    "steps_per_epoch": 500,
    "evaluation_rows": 5000,
}

register(
    Entry(
        **SHARED,
        name="associative_lstm_copy",
        task="episodic_copy",
        small_task={"length": 3, "delay": 5},
        build=build,
        config=CONFIG,
        train={**RECIPE, "updates": 9000, "steps_per_epoch": 250},
        paper_result="learnt, the faster the more copies; LSTM of the same size much slower "
        "(curves)",
    )
)

register(
    Entry(
        **SHARED,
        name="associative_lstm_assignment",
        task="variable_assignment",
        small_task={"variables": 2, "name_length": 2},
        build=build,
        config=CONFIG,
        train={**RECIPE, "updates": 40_000, "learning_rate": 3e-3},
        paper_result="learnt, the faster the more copies; LSTM far behind (curves)",
    )
)

register(
    Entry(
        **SHARED,
        name="associative_lstm_arithmetic",
        task="arithmetic",
        build=build,
        config=CONFIG,
        train={**RECIPE, "updates": 60_000},
        paper_result="ahead of LSTM (curves)",
    )
)

register(
    Entry(
        **SHARED,
        name="associative_lstm_xml",
        task="xml_modelling",
        small_task={"length": 20},
        build=build,
        config=CONFIG,
        train={**RECIPE, "updates": 20_000, "learning_rate": 3e-3},
        paper_result="learnt, the faster the more copies; LSTM of the same size behind (curves)",
    )
)

register(
    Entry(
        **SHARED,
        name="associative_lstm_wikipedia",
        task="characters",
        small_task={"length": 12},
        build=build_text,
        config={**CONFIG, "copies": 4},
        train={**RECIPE, "updates": 12_000, "batch_size": 10, "evaluation_rows": 2000},
        paper_result="bits per character no clear gain over an LSTM (enwik8, figures only)",
    )
)
