"""BLSTM-CTC (Fernandez, Graves and Schmidhuber, 2008), arXiv:0804.3269."""

from ._networks import build_ctc
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="BLSTM-CTC",
    title="Phoneme recognition in TIMIT with BLSTM-CTC",
    authors="Santiago Fernández, Alex Graves, Jürgen Schmidhuber",
    year=2008,
    arxiv="0804.3269",
)

register(
    Entry(
        name="blstm_ctc_phonemes",
        paper=PAPER,
        task="phonemes",
        task_config={"speed": 0.15, "level": 6.0},
        build=build_ctc,
        config={
            "features": "mfcc",
            "deltas": 2,
            "units": 128,
            "layers": 1,
            "bidirectional": True,
            "centred": False,
            "input_noise": 0.3,
            "weight_noise": 0.0,
        },
        train={
            "batch_size": 16,
            "learning_rate": 2e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 4000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 200,
        },
        paper_result="24.6 % on TIMIT by prefix search, 25.2 % by best path",
        small={"units": 8},
    )
)
