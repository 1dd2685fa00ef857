"""Neural Turing Machines (Graves, Wayne and Danihelka, 2014), arXiv:1410.5401."""

import keras

from ..layers import NTM, DeepLSTM, SequenceMask
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="NTM",
    title="Neural Turing Machines",
    authors="Alex Graves, Greg Wayne, Ivo Danihelka",
    year=2014,
    arxiv="1410.5401",
)
TRACE = {
    "read_weights": "where each head reads, (batch, time, heads * slots)",
    "write_weights": "where each head writes, (batch, time, heads * slots)",
    "reads": "the vectors read, (batch, time, heads * word size)",
    "adds": "the vectors added to memory, (batch, time, heads * word size)",
}


def build(task, machine, units, heads, memory_slots, word_size, shift_range, memory_budget=0):
    """A Neural Turing Machine, or the paper's baseline (sections 3 and 4.6).

    Args:
        task: the task, whose inputs and targets shape the model.
        machine: the controller, "lstm" or "feedforward"; or "baseline" for three stacked LSTM
            layers and no memory, all of which see the input and are seen by the output.
        units: of the controller, or of each layer of the baseline.
        heads: how many heads read, and as many write.
        memory_slots: N.
        word_size: M.
        shift_range: the farthest shift of a step.
        memory_budget: bytes in which training remembers the steps of a batch (Gruslys et al.,
            2016), 0 for as many as it takes.

    Returns:
        `keras.Model`: `sequence` and `lengths` in; `bits`, the logits of 1, out, and of a machine
        with memory what its heads did: `read_weights`, `write_weights`, `reads` and `adds`.

    Raises:
        ValueError: there is no such machine.
    """
    if machine not in ("lstm", "feedforward", "baseline"):
        raise ValueError(f"machine must be lstm, feedforward or baseline, got {machine!r}")
    sequence = keras.Input((None, task.channels), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask()(sequence, lengths)
    readout = keras.layers.Dense(task.outputs, name="bits")
    budget = {"memory_budget": memory_budget or None}
    if machine == "baseline":
        options = {"peepholes": False, "forget_bias": 1.0, "skips": True, **budget}
        stack = DeepLSTM(units, layers=3, name="lstm", **options)
        bits = readout(stack(sequence, mask=mask))
        return keras.Model({"sequence": sequence, "lengths": lengths}, {"bits": bits})
    hidden, trace = NTM(
        units,
        machine,
        memory_slots=memory_slots,
        word_size=word_size,
        read_heads=heads,
        write_heads=heads,
        shift_range=shift_range,
        return_sequences=True,
        return_trace=list(TRACE),
        name="ntm",
        **budget,
    )(sequence, mask=mask)
    outputs = {"bits": readout(hidden), **{name: trace[name] for name in TRACE}}
    return keras.Model({"sequence": sequence, "lengths": lengths}, outputs)


SMALL = {"units": 8, "memory_slots": 16, "word_size": 6}
SHARED = {"paper": PAPER, "build": build, "baseline": "LSTM", "told": TRACE}
MEMORY = {"memory_slots": 128, "word_size": 20, "shift_range": 1, "memory_budget": 0}
RECIPE = {
    "optimizer": "rmsprop",
    "learning_rate": 1e-4,
    "learning_rate_schedule": "cosine",
    "decay_from": 0.6,
    "clipvalue": 10.0,
    "batch_size": 16,
    "steps_per_epoch": 250,
    "evaluation_rows": 2000,
}

register(
    Entry(
        **SHARED,
        name="ntm_copy",
        task="copy",
        config={"machine": "lstm", "units": 100, "heads": 1, **MEMORY},
        train={**RECIPE, "updates": 20_000},
        small_task={"length": 4},
        paper_result="about 0.1 bits per sequence after 100,000 sequences (read off a curve); LSTM "
        "5 bits",
        small=SMALL,
    )
)

register(
    Entry(
        **SHARED,
        name="ntm_copy_long",
        task="copy",
        task_config={"length": 500},
        config={
            "machine": "lstm",
            "units": 100,
            "heads": 1,
            **MEMORY,
            "memory_slots": 512,
            "memory_budget": 50_000_000,
        },
        train={
            **RECIPE,
            "clipvalue": 0.0,  # the norm is bounded, not the elements
            "updates": 80,
            "steps_per_epoch": 20,
            "evaluation_rows": 100,
            "start": "ntm_copy",
        },
        small_task={"length": 4},
        paper_result="not tried; 120 vectors at most, after training on 20",
        small={**SMALL, "memory_budget": 100_000},
    )
)

register(
    Entry(
        **SHARED,
        name="ntm_associative_recall",
        task="associative_recall",
        config={"machine": "feedforward", "units": 256, "heads": 4, **MEMORY},
        train={**RECIPE, "updates": 8_000},
        paper_result="near 0 bits per sequence after 50,000 sequences; LSTM 14 (read off a curve)",
        small={**SMALL, "heads": 2},
    )
)

register(
    Entry(
        **SHARED,
        name="ntm_repeat_copy",
        task="repeat_copy",
        task_config={"bits": 6},
        config={"machine": "lstm", "units": 100, "heads": 1, **MEMORY},
        train={
            **RECIPE,
            "updates": 110_000,
            "decay_from": 0.8,
            "steps_per_epoch": 125,
            "curriculum": 5.0,
            "curriculum_start": 1,
            "seed": 2,
        },
        small_task={"length": 3, "repeats": 3},
        paper_result="near 0 bits per sequence; under 5 bits after 50,000 sequences (read off a "
        "curve)",
        small=SMALL,
    )
)

register(
    Entry(
        **SHARED,
        name="ntm_ngrams",
        small_task={"length": 12},
        task="ngrams",
        config={"machine": "lstm", "units": 100, "heads": 1, **MEMORY},
        train={**RECIPE, "updates": 15_000},
        paper_result="about 133.5 bits per sequence, optimum 133, LSTM 136 (read off a curve)",
        small=SMALL,
    )
)

register(
    Entry(
        **SHARED,
        name="ntm_priority_sort",
        task="priority_sort",
        config={"machine": "feedforward", "units": 512, "heads": 8, **MEMORY},
        train={**RECIPE, "updates": 15_000},
        small_task={"vectors": 5, "answers": 4},
        paper_result="about 20 bits per sequence after 1,000,000 sequences, LSTM 58 (read off a "
        "curve)",
        small={**SMALL, "heads": 2},
    )
)
