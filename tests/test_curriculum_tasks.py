"""The tasks of automated curricula: texts that n-gram models made up, and small stories."""

import collections
import itertools
import random

import numpy as np
import pytest
from ponderzoo import trainers
from ponderzoo.trainers.data import babi, sotu_ngrams
from ponderzoo.trainers.data.sotu_ngrams import ALPHABET, KneserNey
from ponderzoo.trainers.tasks._stories import FAMILIES, MOST_WORDS, vocabulary

TEXT = "the people of the states, and the union of the people. a state of the union."


def kneser_ney(text, order, history, symbol):
    """The probability by the paper's recursion, counted anew from the text."""

    def counts(size, highest):
        grams = [text[i : i + size] for i in range(len(text) - size + 1)]
        if highest:
            return collections.Counter(grams)
        longer = {text[i : i + size + 1] for i in range(len(text) - size)}
        return collections.Counter(gram[1:] for gram in longer)

    if order < 0:
        return 1 / len(ALPHABET)
    # The recursion is over what is counted once below the highest order.
    table = counts(order + 1, history[0])
    of = list(table.values())
    once, twice = of.count(1), of.count(2)
    discount = once / (once + 2 * twice) if once and twice else 0.5
    context = history[1][len(history[1]) - order :]
    after = {gram: n for gram, n in table.items() if gram[:order] == context}
    lower = kneser_ney(text, order - 1, (False, history[1]), symbol)
    if not after:
        return lower
    total = sum(after.values())
    kept = max(after.get(context + symbol, 0) - discount, 0)
    return (kept + discount * len(after) * lower) / total


@pytest.mark.parametrize("order", [0, 1, 3])
def test_probabilities_are_those_of_the_recursion(order):
    codes = sotu_ngrams.coded(TEXT)
    model = KneserNey(codes, 3)
    for history in ("the", "uni", "zzz", "f t"):
        before = sum(ALPHABET.index(c) << 5 * i for i, c in enumerate(history[3 - order :][::-1]))
        found = model.probabilities(order, np.full(len(ALPHABET), before), np.arange(len(ALPHABET)))
        truth = [kneser_ney(TEXT, order, (True, history), symbol) for symbol in ALPHABET]
        np.testing.assert_allclose(found, truth, rtol=1e-12)
        assert found.sum() == pytest.approx(1)


def test_what_is_written_has_the_probabilities_that_it_tells():
    model, rng = KneserNey(sotu_ngrams.coded(TEXT), 2), np.random.default_rng(0)
    before = np.full(40_000, ALPHABET.index("t") << 5 | ALPHABET.index("h"))
    drawn = np.bincount(model._drawn(2, before, rng), minlength=len(ALPHABET)) / len(before)
    expected = model.probabilities(2, before[: len(ALPHABET)], np.arange(len(ALPHABET)))
    np.testing.assert_allclose(drawn, expected, atol=0.01)


def test_more_characters_that_decide_cost_less():
    codes = sotu_ngrams.coded((TEXT + " ") * 3)
    texts, bits = sotu_ngrams.corpora(codes, 2, 200, 30)
    assert texts.shape == (3, 200, 30) and texts.max() < len(ALPHABET)
    assert all(high < low for low, high in itertools.pairwise(bits))


def test_text_is_small_letters_with_single_spaces():
    told = "".join(ALPHABET[c] for c in sotu_ngrams.coded("Fellow-Citizens:\n 1,000 of you."))
    assert told == "fellow citizens , of you."


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ngrams")
    sotu_ngrams.sample(folder)
    return trainers.task("ngram_texts", root=str(folder))


def test_burn_in_is_read_and_not_scored(texts):
    inputs, targets = texts.batch(np.random.default_rng(0), 5, (10, 10))
    assert inputs["sequence"].shape == targets["next"].shape == (5, 149)
    assert (targets["next"][:, :49] == -1).all() and (targets["next"][:, 49:] >= 0).all()
    # What is scored is the text itself, a step later.
    assert (inputs["sequence"][:, 50:] == targets["next"][:, 49:-1]).all()
    assert list(texts.lessons) == [str(order) for order in range(11)]


def test_splits_have_texts_of_their_own(texts):
    found = [
        {tuple(row) for row in sotu_ngrams.load(texts.path, split)[0].reshape(-1, 150)}
        for split in ("train", "validation", "test")
    ]
    assert [len(rows) for rows in found] == [11 * 16, 11 * 2, 11 * 2]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]


def test_texts_that_are_not_there_are_asked_for(tmp_path):
    task = trainers.task("ngram_texts", root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`ponderzoo data fetch sotu_ngrams` makes it"):
        task.batch(np.random.default_rng(0), 2)
    for fields, message in (({"orders": 11}, "1 to 10, got 11"), ({"burn_in": 150}, "1 to 149")):
        with pytest.raises(ValueError, match=message):
            trainers.task("ngram_texts", **fields)


# Stories


def told_by(name, count=300):
    return [FAMILIES[name](random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_of_known_words_and_not_to_be_guessed(name):
    known, answers = {*vocabulary()}, collections.Counter()
    for statements, question, answer in told_by(name):
        words = " ".join([*statements, question, answer]).split()
        assert {*words} <= known
        assert len(words) - 1 + len(statements) + 1 <= MOST_WORDS
        answers[answer] += 1
    assert len(answers) > 1 and max(answers.values()) < 0.65 * 300


def test_vocabulary_has_no_word_that_is_never_said():
    said = {
        word
        for name in FAMILIES
        for statements, question, answer in told_by(name, 3000)
        for word in " ".join([*statements, question, answer]).split()
    }
    assert {*vocabulary()} == said | {".", "?"}


def where_at_last(statements, who):
    """Where the last statement that names someone has them."""
    return next(s.split()[-1] for s in reversed(statements) if s.split()[0] == who)


def test_answers_are_right():
    for statements, question, answer in told_by("one_fact"):
        assert answer == where_at_last(statements, question.split()[-1])
    for statements, _, answer in told_by("counting"):
        taken = collections.Counter()
        for statement in statements:
            _, verb, _, thing = statement.split()
            taken[thing] += 1 if verb == "took" else -1
        assert ("none", "one", "two").index(answer) == sum(taken.values())
    for statements, question, answer in told_by("three_facts"):
        (who, *_, thing), last = statements_of(statements, "took")[0].split(), question.split()[-1]
        walked = [
            s.split()[-1] for s in statements if s.split()[0] == who and s.split()[1] != "took"
        ]
        assert question.split()[3] == thing and answer == walked[walked.index(last) - 1]
    for statements, question, answer in told_by("path"):
        steps = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
        relations = [s.split() for s in statements]
        places = {question.split()[6]: (0, 0)}
        for _ in range(2):
            for _, one, _, way, _, _, other in relations:
                x, y = steps[way]
                if other in places:
                    places[one] = places[other][0] + x, places[other][1] + y
                elif one in places:
                    places[other] = places[one][0] - x, places[one][1] - y
        ways = [steps[way] for way in answer.split("+")]
        assert places[question.split()[-1]] == tuple(map(sum, zip(*ways)))
    for statements, question, answer in told_by("size"):
        pairs = {(s.split()[1], s.split()[-1]) for s in statements}
        pairs |= {(a, d) for (a, b), (c, d) in itertools.product(pairs, pairs) if b == c}
        pairs |= {(a, d) for (a, b), (c, d) in itertools.product(pairs, pairs) if b == c}
        one, other = question.split()[2], question.split()[-1]
        assert (one, other) in pairs and answer == ("yes" if "larger" in question else "no")


def statements_of(statements, word):
    return [statement for statement in statements if word in statement.split()]


def test_stories_have_few_shapes():
    task, rng = trainers.task("stories"), np.random.default_rng(0)
    shapes = set()
    for lesson in task.lessons.values():
        inputs, _ = task.batch(rng, 16, lesson)
        assert inputs["lengths"].max() <= inputs["sequence"].shape[1]
        asked = inputs["sequence"][np.arange(16), inputs["lengths"] - 1]
        assert set(asked) == {task.vocabulary.index("?")}
        shapes.add(inputs["sequence"].shape[1])
    assert shapes <= {16, 32, 64}
    with pytest.raises(ValueError, match="a family must be one of"):
        task.batch(rng, 2, "riddle")


def test_files_of_babi_are_read(tmp_path):
    (tmp_path / "qa2_two-supporting-facts_train.txt").write_text(
        "1 Mary got the milk.\n2 Where is the milk? \thall\t1\n3 Mary went to the hall.\n"
        "4 How do you go? \tn,s\t1 3\n1 John slept.\n2 Who slept? \tJohn\t1\n"
    )
    (tmp_path / "qa2_two-supporting-facts_test.txt").write_text("1 A b.\n2 Who? \tx\t1\n")
    (tmp_path / "readme.txt").write_text("nothing")
    told = babi.load(tmp_path)
    both = told["validation"]["qa2"] + told["train"]["qa2"]
    assert [answer for _, answer in both] == ["hall", "n,s", "john"]
    assert [" ".join(words) for words, _ in both] == [
        "mary got the milk . where is the milk ?",
        "mary got the milk . mary went to the hall . how do you go ?",
        "john slept . who slept ?",
    ]
    task = trainers.task("stories", root=str(tmp_path))
    assert task.families == ("qa2",) and "n,s" in task.vocabulary and task.longest == 16
    with pytest.raises(ValueError, match="words must be 22 or more, got 5"):
        _ = trainers.task("stories", root=str(tmp_path), words=5).vocabulary


@pytest.mark.parametrize("line", ["Mary went", "1 ", "x Where? \thall\t1", "1 Where? \thall"])
def test_files_that_are_not_of_babi_are_named(tmp_path, line):
    path = tmp_path / "qa1_train.txt"
    path.write_text(f"1 Mary went.\n{line}\n")
    with pytest.raises(ValueError, match=f"line 2 of {path} is no statement or question of bAbI"):
        babi.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="root= names a directory with your own copy"):
        babi.load(tmp_path / "nowhere")
