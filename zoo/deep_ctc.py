"""Deep recurrent networks with CTC (Graves, Mohamed and Hinton, 2013), arXiv:1303.5778."""

from ._networks import build_ctc
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="deep LSTM-CTC",
    title="Speech Recognition with Deep Recurrent Neural Networks",
    authors="Alex Graves, Abdel-rahman Mohamed, Geoffrey Hinton",
    year=2013,
    arxiv="1303.5778",
)

register(
    Entry(
        name="deep_ctc_phonemes",
        paper=PAPER,
        task="phonemes",
        task_config={"speed": 0.15, "level": 6.0},
        build=build_ctc,
        config={
            "features": "log_mel",
            "deltas": 2,
            "units": 96,
            "layers": 3,
            "bidirectional": True,
            "centred": False,
            "input_noise": 0.0,
            "weight_noise": 0.075,
        },
        train={
            "batch_size": 16,
            "learning_rate": 2e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "noise_from": 0.4,
            "updates": 3000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 200,
        },
        paper_result="18.6 % on TIMIT with three layers of 250 units, 23.9 % with one",
        baseline="one layer",
        small={"units": 8, "layers": 2},
    )
)
