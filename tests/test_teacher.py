"""The teacher: a bandit, a memory of rewards, and lessons; of numbers alone."""

import json

import numpy as np
import pytest
from ponderzoo.trainers import Teacher
from ponderzoo.trainers._teacher import Exp3S, Reservoir


def steps_until(bandit, best, rng, share=0.5, most=20_000):
    """Pulls until an arm that is always paid 1, the others -1, has a share of the pulls."""
    for step in range(most):
        if bandit.probabilities[best] > share:
            return step
        arm = rng.choice(len(bandit.log_weights), p=bandit.probabilities)
        bandit.update(arm, 1.0 if arm == best else -1.0)
    raise AssertionError(f"arm {best} never had {share}")


@pytest.mark.parametrize(("arms", "expected"), [(11, 2150), (20, 2550), (169, 3800)])
def test_bandit_finds_the_best_arm(arms, expected):
    found = [steps_until(Exp3S(arms), 3, np.random.default_rng(seed)) for seed in range(3)]
    assert np.mean(found) == pytest.approx(expected, rel=0.1)


def test_bandit_finds_another_arm_that_becomes_the_best():
    bandit, rng = Exp3S(11), np.random.default_rng(0)
    while bandit.updates < 5000:
        arm = rng.choice(11, p=bandit.probabilities)
        bandit.update(arm, 1.0 if arm == 3 else -1.0)
    assert 0.8 < bandit.probabilities[3] < 0.95 + 0.05 / 11
    assert steps_until(bandit, 7, rng) == pytest.approx(2100, rel=0.15)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("exploration", [0.05, 1.0])
def test_bandit_does_what_the_paper_writes(bias, exploration):
    arms, rate, rng = 4, 0.3, np.random.default_rng(1)
    bandit, weights = Exp3S(arms, rate, exploration, bias), np.zeros(arms)
    for t in range(1, 60):
        share = np.exp(weights) / np.exp(weights).sum()
        chances = (1 - exploration) * share + exploration / arms
        np.testing.assert_allclose(bandit.probabilities, chances, rtol=1e-9)
        arm, reward = rng.integers(arms), rng.uniform(-1, 1)
        gains = [((reward if i == arm else 0) + bias) / chances[i] for i in range(arms)]
        grown = [np.exp(weights[i] + rate * gains[i]) for i in range(arms)]
        weights = np.array(
            [
                np.log(
                    (1 - 1 / t) * grown[i]
                    + 1 / t / (arms - 1) * sum(grown[j] for j in range(arms) if j != i)
                )
                for i in range(arms)
            ]
        )
        bandit.update(arm, reward)


def test_bandit_stays_a_number_after_many_and_huge_rewards():
    bandit = Exp3S(5, rate=50.0, exploration=0.0)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(2000):
            bandit.update(2, 1.0)
            bandit.update(0, -1.0)
    chances = bandit.probabilities
    assert chances.sum() == pytest.approx(1) and chances.argmax() == 2 and (chances >= 0).all()


def test_reservoir_is_a_uniform_sample_of_all_that_was_seen():
    counts = np.zeros(40)
    for seed in range(2000):
        reservoir, rng = Reservoir(10), np.random.default_rng(seed)
        for value in np.random.default_rng([seed]).permutation(40):
            reservoir.add(float(value), rng)
        assert len(reservoir.kept) == 10 and reservoir.kept == sorted(reservoir.kept)
        counts[np.array(reservoir.kept, int)] += 1
    # 500 of each, with a standard deviation of 19.
    assert np.abs(counts - 500).max() < 80
    first, last = Reservoir(5), np.random.default_rng(0)
    for value in range(1000):
        first.add(value, last)
    assert min(first.kept) < 900  # no window of the last ones


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_quantiles_are_those_of_numpy(count):
    numbers, rng = np.random.default_rng(count).normal(size=count), np.random.default_rng(0)
    reservoir = Reservoir(100)
    for number in numbers:
        reservoir.add(number, rng)
    for share in (0, 0.2, 0.5, 0.8, 1):
        assert reservoir.quantile(share) == pytest.approx(np.quantile(numbers, share))


def test_progress_is_paid_by_its_place_in_the_past():
    teacher = Teacher("ab")
    assert teacher.reward(123.0) == 0  # nothing to compare with
    for number in range(101):
        teacher.past.add(float(-number), np.random.default_rng(0))
    rewards = {-100: -1, -80: -1, -65: -0.5, -50: 0, -35: 0.5, -20: 1, 0: 1}
    for progress, reward in rewards.items():
        assert teacher.reward(progress) == pytest.approx(reward)


def test_progress_that_never_changed_is_paid_by_its_sign():
    teacher = Teacher("ab")
    for _ in range(10):
        assert teacher.report(3, 2) == 0
    assert [teacher.reward(x) for x in (0.5, 1.0, 2.0)] == [-1, 0, 1]


def test_progress_counts_by_its_cost():
    teacher = Teacher("ab")
    for cost in (1, 2, 4):
        teacher.report(8, 0, cost)
    assert teacher.past.kept == [2, 4, 8]


def learn(teacher, lessons):
    """Each report is of the lesson's number, with some noise of the past."""
    chosen = []
    for number in range(lessons):
        chosen.append(teacher.next())
        teacher.report(chosen[-1] + np.sin(number), 0, 1 + number % 3)
    return chosen


def test_state_of_plain_types_goes_on_bit_for_bit():
    settings = {"rate": 0.05, "reservoir": 50, "seed": 3}
    unbroken = Teacher(range(4), **settings)
    expected = learn(unbroken, 300)
    broken, found = Teacher(range(4), **settings), []
    for number in range(300):
        if number % 70 == 0:
            state = json.loads(json.dumps(broken.state))
            broken = Teacher(range(4), **settings)
            broken.state = state
        found.append(broken.next())
        assert broken.next() == found[-1]  # it stays until it is reported
        broken.report(found[-1] + np.sin(number), 0, 1 + number % 3)
    assert found == expected and broken.state == unbroken.state


def test_teacher_gives_more_of_what_is_learnt():
    teacher = Teacher(range(4), rate=0.03, seed=1)
    learn(teacher, 600)
    assert teacher.probabilities.argmax() == 3 and teacher.probabilities[3] > 0.5
    assert 1 <= teacher.told()["lessons_chosen_from"] < 3


def test_lessons_are_drawn_by_their_probabilities():
    teacher = Teacher({"a": 1, "b": 2, "c": 3})
    teacher.bandit.log_weights = np.log([0.2, 0.3, 0.5])
    drawn = np.zeros(3)
    for number in range(4000):
        teacher.bandit.updates = number
        drawn[teacher.next() - 1] += 1
    np.testing.assert_allclose(drawn / 4000, teacher.probabilities, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lessons": ["a"]}, "2 arms or more to choose from, got 1"),
        ({"lessons": ["a", "a"]}, "must differ"),
        ({"rate": 0.0}, "rate must be more than 0, got 0.0"),
        ({"exploration": 1.5}, "exploration must be from 0 to 1, got 1.5"),
        ({"bias": -1.0}, "bias must be 0 or more"),
        ({"low": 0.8, "high": 0.2}, "0 <= low < high <= 1, got 0.8 and 0.2"),
        ({"reservoir": 1}, "reservoir must be 2 or more, got 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Teacher(**{"lessons": ["a", "b"], **settings})


def test_what_is_no_progress_is_refused_and_changes_nothing():
    teacher = Teacher("ab")
    state = teacher.state
    for report in ((float("nan"), 0), (1, float("inf")), (1, 0, 0), (1, 0, -2)):
        with pytest.raises(ValueError, match="no progress can be told from"):
            teacher.report(*report)
    with pytest.raises(ValueError, match="the state is that of 3 lessons, the teacher has 2"):
        teacher.state = Teacher("abc").state
    assert teacher.state == state
