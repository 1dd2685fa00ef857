"""bAbI: twenty tasks of small stories with questions (Weston et al., 2015), from your own copy.

It is no longer where it was published. A copy is a directory of text files, one or more a task and
split, as `qa1_single-supporting-fact_train.txt` or `qa1_train.txt`, of 1,000 or 10,000 questions.
"""

import os
import re

from . import _store

REMEDY = (
    "bAbI cannot be downloaded any more; root= names a directory with your own copy of its files, "
    "qa1_..._train.txt and so on"
)
NAME = re.compile(r"(qa\d+)_(?:.*_)?(train|valid|test)\.txt")
WORD = re.compile(r"[^\W\d_]+|[.?]")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
HELD_OUT = 10  # one question of so many, where there is no file for validation


def path(cache_dir=None):
    """The directory in which a copy is looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "babi")


def available(cache_dir=None):
    """Whether a copy, or a part of one, is there."""
    return bool(_files(path(cache_dir)))


def fetch(cache_dir=None):
    """The directory of a copy. Raises `RuntimeError` where it is not: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def load(folder):
    """The questions of a copy.

    Returns:
        Dict: split -> dict: name of a task, `qa1` and so on in their order -> list of pairs: the
        words of the statements so far and of the question, small, with `.` and `?`; and the answer,
        one word, or several with commas between.

    Raises:
        FileNotFoundError: there is no file of training.
        ValueError: a file is no such file, or a task lacks one.
    """
    found = {split: {} for split in SPLITS.values()}
    for task, split, file in _files(folder):
        found[SPLITS[split]].setdefault(task, []).extend(questions(file))
    if not found["train"]:
        raise FileNotFoundError(f"no file qa1_..._train.txt in {folder}; {REMEDY}")
    for task, told in found["train"].items():
        if task not in found["validation"]:
            found["validation"][task] = told[::HELD_OUT]
            found["train"][task] = [x for i, x in enumerate(told) if i % HELD_OUT]
        for split, tasks in found.items():
            if not tasks.get(task):
                raise ValueError(f"{folder} has no questions of {task} for {split}")
    order = sorted(found["train"], key=lambda task: int(task[2:]))
    return {split: {task: tasks[task] for task in order} for split, tasks in found.items()}


def _files(folder):
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = ((NAME.fullmatch(name), os.path.join(folder, name)) for name in names)
    return [(*match.groups(), file) for match, file in found if match]


def questions(file):
    """The questions of a file. Raises `ValueError` where it is none of bAbI's."""
    found, told = [], []
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            place, _, rest = line.strip().partition(" ")
            text, *answer = rest.split("\t")
            words = WORD.findall(text.lower())
            if not place.isdecimal() or not words or len(answer) not in (0, 2):
                raise ValueError(f"line {number} of {file} is no statement or question of bAbI")
            told = [] if place == "1" else told
            if answer:
                found.append((told + words, answer[0].strip().lower()))
            else:
                told = told + words
    return found


def sample(folder):
    """Writes two tasks of a few stories in the form of bAbI's files, for tests."""
    for task, name in (("qa1", "one"), ("qa2", "two")):
        for split in ("train", "test"):
            lines = [
                f"1 {who} went to the {place}.\n2 Where is {who}? \t{place}\t1\n"
                for who in ("Mary", "John", "Ann", "Bob")
                for place in ("hall", "yard", "park")
            ]
            content = "".join(lines).encode()
            _store.write(content, os.path.join(folder, f"{task}_{name}_{split}.txt"))
