"""What an agent remembers: the same as lists would, in a file, however its process ends."""

import numpy as np
import pytest
from ponderzoo.trainers._replay import Replay

SHAPE = 2, 3, 1


def step_of(rng, age, actors, planes=1):
    """A step of each actor with a frame of chance; games are over or cut off at times."""
    over = rng.random(actors) < 0.2
    return {
        "frame": rng.integers(0, 256, (actors, 2, 3, planes), "uint8"),
        "action": rng.integers(0, 4, actors),
        "reward": rng.normal(size=actors),
        "over": over,
        "cut": ~over & (rng.random(actors) < 0.1),
        "age": age,
    }


def fill(replay, first, last, planes=1, seed=0):
    """Adds the steps of these numbers, each as its number alone decides; returns them."""
    age, steps = np.zeros(replay.actors, int), []
    for number in range(last):
        one = step_of(np.random.default_rng([seed, number]), age, replay.actors, planes)
        age = np.where(one["over"] | one["cut"], 0, age + 1)
        steps.append(one)
        if number >= first:
            replay.add(**one)
    return steps


def brute(steps, kept, frames):
    """All that may be drawn, by plain lists: bytes of frames, action, reward, over and next."""
    first = max(0, len(steps) - kept)
    first += frames - 1 if first else 0
    found = set()

    def seen(number, actor):
        stack = [steps[number]["frame"][actor]]
        while len(stack) < frames:
            stack.insert(0, steps[number - 1]["frame"][actor] if begun(number, actor) else stack[0])
            number -= begun(number, actor)
        return np.concatenate(stack, axis=-1).tobytes()

    def begun(number, actor):
        return steps[number]["age"][actor] > 0

    for number in range(first, len(steps) - 1):
        for actor, (action, reward) in enumerate(
            zip(steps[number]["action"], steps[number]["reward"])
        ):
            over = bool(steps[number]["over"][actor])
            if not steps[number]["cut"][actor]:
                after = b"" if over else seen(number + 1, actor)
                found.add(
                    (seen(number, actor), int(action), float(np.float32(reward)), over, after)
                )
    return found


def drawn(replay, rng, size=20_000):
    found = replay.sample(rng, size)
    rows = zip(*(found[name] for name in ("frames", "action", "reward", "over", "next_frames")))
    return {
        (frames.tobytes(), int(action), float(reward), bool(over), b"" if over else after.tobytes())
        for frames, action, reward, over, after in rows
    }


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("actors, planes", [(1, 1), (3, 2)])
@pytest.mark.parametrize("added", [6, 30, 31, 97])
def test_exactly_what_lists_would_hold_is_drawn(frames, actors, planes, added, tmp_path):
    """Also at the write head, where the ring is full, and at the beginnings of games."""
    replay = Replay(tmp_path / "r", (2, 3, planes), actors, 20 * actors, 5, frames)
    steps = fill(replay, 0, added, planes)
    assert drawn(replay, np.random.default_rng(0)) == brute(steps, 20, frames)


def test_each_step_is_as_likely_and_the_seed_decides_which(tmp_path):
    replay = Replay(tmp_path / "r", SHAPE, 2, 20, 3)
    fill(replay, 0, 50)
    found = replay.sample(np.random.default_rng(7), 40_000)
    _, counts = np.unique(found["reward"], return_counts=True)
    assert counts.min() > 0.9 * counts.mean() and counts.max() < 1.1 * counts.mean()
    again = replay.sample(np.random.default_rng(7), 40_000)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert found["frames"].dtype == "uint8" and found["action"].dtype == "int32"


@pytest.mark.parametrize("saved", [15, 40, 63])
def test_steps_after_the_last_save_are_laid_over_none_that_are_needed(saved, tmp_path):
    """The process goes on for as long as it may, ends anyhow, and begins again at the save."""
    spare, path = 9, tmp_path / "r"
    unbroken = Replay(tmp_path / "other", SHAPE, 2, 40, spare, 2)
    fill(unbroken, 0, saved)
    replay = Replay(path, SHAPE, 2, 40, spare, 2)
    fill(replay, 0, saved + spare)  # never flushed, never closed
    again = Replay(path, SHAPE, 2, 40, spare, 2, head=saved)
    for more in range(spare):
        one, other = (r.sample(np.random.default_rng(1), 500) for r in (unbroken, again))
        for name in one:
            np.testing.assert_array_equal(one[name][~one["over"]], other[name][~one["over"]])
        for some in (unbroken, again):
            fill(some, saved + more, saved + more + 1)


def test_frames_are_kept_once(tmp_path):
    Replay(tmp_path / "r", (84, 84, 1), 8, 800, 0, 4)
    assert (tmp_path / "r").stat().st_size < 800 * (84 * 84 + 16)


def test_a_file_that_is_not_there_or_cut_is_refused_in_a_line(tmp_path):
    path = tmp_path / "r"
    with pytest.raises(FileNotFoundError):
        Replay(path, SHAPE, 1, 20, 3, head=5)
    Replay(path, SHAPE, 1, 20, 3)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"r is damaged or cut off .*bytes and not"):
        Replay(path, SHAPE, 1, 20, 3, head=5)


def test_too_little_is_refused(tmp_path):
    with pytest.raises(ValueError, match="capacity of 12 steps or more, got 11"):
        Replay(tmp_path / "r", SHAPE, 2, 11, 3, frames=4)
    replay = Replay(tmp_path / "r", SHAPE, 2, 12, 3, frames=4)
    fill(replay, 0, 1)
    with pytest.raises(ValueError, match="1 steps of an actor are too few"):
        replay.sample(np.random.default_rng(0), 1)
