"""Learning by lessons that a teacher chooses."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from ponderzoo import layers, trainers, zoo
from ponderzoo.trainers import Curriculum, Teacher, fit
from ponderzoo.trainers._task import Task
from ponderzoo.trainers._weights import take_weights
from ponderzoo.trainers.learning import syllabus
from ponderzoo.zoo._settings import changes, choose
from test_generation import gaussians, least_divergence

RATE, WEIGHTS = 0.5, np.array([[0.5], [-1.0], [0.25], [2.0]])
STEP = {
    "learning": "syllabus",
    "optimizer": "sgd",
    "momentum": 0.0,
    "clipnorm": 0.0,
    "learning_rate": RATE,
}
SOME = ("prediction_gain", "gradient_variational_complexity_gain")
RECIPE = {
    "learning": "syllabus",
    "learning_rate": 0.02,
    "updates": 60,
    "steps_per_epoch": 15,
    "batch_size": 8,
    "teacher_rate": 0.05,
    "lesson_looks": 2,
    "lesson_rows": 20,
    "validation_rows": 20,
    "evaluation_rows": 20,
    "histograms": 2,
    "solved": 0.3,
    "ema": 0.5,
}


@dataclasses.dataclass(frozen=True)
class Sides(Task):
    """Is the first of four numbers above 0? The harder, the more of the others there are."""

    @property
    def input_spec(self):
        return {"numbers": ((4,), "float32")}

    @property
    def target_spec(self):
        return {"above": ((1,), "float32")}

    @property
    def difficulties(self):
        return 1, 2, 3

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high = difficulty if isinstance(difficulty, tuple) else (difficulty or 1,) * 2
        numbers = rng.normal(size=(size, 4)).astype("float32")
        numbers[:, 1 + rng.integers(low, high + 1) :] = 0
        return {"numbers": numbers}, {"above": (numbers[:, :1] > 0).astype("float32")}


def logistic(noisy=False):
    """A logistic regression of four weights, in distributions that make no noise yet."""
    numbers = keras.Input((4,), name="numbers")
    layer = keras.layers.Dense(1, use_bias=False, name="dense")
    if noisy:
        layer = layers.AdaptiveWeightNoise(layer, examples=50, stddev=0.3)
    model = keras.Model({"numbers": numbers}, {"above": layer(numbers)})
    getattr(layer, "layer", layer).kernel.assign(WEIGHTS)
    if noisy:
        layer.active.assign(0.0)
    return model


def taught(model, signal, *batches, task=None, compiled=False, **recipe):
    """Progress by an update from the same weights on, for each pair of batches."""
    recipe = trainers.Recipe.parse({**STEP, "signal": signal, **recipe})
    learner, start, found = (
        syllabus.Learner(model, task or Sides(), recipe),
        model.get_weights(),
        [],
    )
    learner.compile(recipe.make_optimizer(), jit_compile=compiled)
    learner.optimizer.build(model.trainable_variables)
    for pair in batches:
        model.set_weights(start)
        learner.train_on_batch(pair)
        found.append(learner.before - learner.after)
    return found


def some_batches(count=2, size=16):
    return [Sides().batch(np.random.default_rng(i), size, 3) for i in range(count)]


def cost(weights, batch):
    """The loss of a logistic regression, and its gradient."""
    x, y = (np.float64(next(iter(part.values()))) for part in batch)
    z = x @ weights
    return np.logaddexp(0, np.where(y > 0, -z, z)).mean(), x.T @ (1 / (1 + np.exp(-z)) - y) / len(x)


def complexity(weights, stddev=0.3):
    """Of one layer, in nats, from the paper's formula, and its gradient by differences."""

    def nats(w):
        middle, count = w.mean(), w.size
        variance = (stddev**2 + (w - middle) ** 2).mean()
        return count * np.log(np.sqrt(variance) / stddev)

    shift = 1e-6 * np.eye(4)[..., None]
    slope = np.array([(nats(weights + d) - nats(weights - d)) / 2e-6 for d in shift])
    return nats(weights), slope[:, None]


def expected(signal, batch, other, penalty=0.0):
    """The signal's value by plain formulas."""
    weights, (_, gradient) = WEIGHTS, cost(WEIGHTS, batch)
    after = weights - RATE * (gradient + penalty * weights)
    measured = other if signal in syllabus.ELSEWHERE else batch
    return {
        "l2_gain": (after**2).sum() - (weights**2).sum(),
        "variational_complexity_gain": complexity(after)[0] - complexity(weights)[0],
        "gradient_prediction_gain": (gradient**2).sum(),
        "gradient_l2_gain": -(weights * gradient).sum(),
        "gradient_variational_complexity_gain": -(complexity(weights)[1] * gradient).sum(),
        "uniform": 0,
        "target": 0,
    }.get(signal, cost(weights, measured)[0] - cost(after, measured)[0])


def check(signals=syllabus.SIGNALS, compiled=False):
    """Compares signals with plain formulas."""
    batch, other = some_batches()
    for signal in signals:
        noisy, penalty = "variational" in signal, 0.1 if signal == "l2_gain" else 0.0
        batches = batch, other if signal in syllabus.ELSEWHERE else None
        settings = {"compiled": compiled, "weight_penalty": penalty}
        found = taught(logistic(noisy), signal, batches, **settings)
        truth = expected(signal, batch, other, penalty)
        assert found[0] == pytest.approx(truth, rel=2e-4, abs=1e-6), signal


@pytest.mark.parametrize("compiled", [False, True])
def test_signals_are_what_the_paper_writes(compiled):
    check(compiled=compiled)


def test_signals_are_the_same_under_jax(fresh):
    code = "import test_syllabus as t; t.check(t.SOME, True); t.check(t.SOME)"
    fresh(code, backend="jax")


@pytest.mark.parametrize(
    ("by_gradient", "measured", "noisy", "share"),
    [
        ("gradient_prediction_gain", "prediction_gain", False, 1),
        ("gradient_l2_gain", "l2_gain", False, 2),
        ("gradient_variational_complexity_gain", "variational_complexity_gain", True, 1),
    ],
)
def test_gradients_promise_what_small_steps_keep(by_gradient, measured, noisy, share):
    rate, batches = 0.01, [(batch, None) for batch in some_batches(12)]
    promised, kept = (
        taught(logistic(noisy), signal, *batches, learning_rate=rate)
        for signal in (by_gradient, measured)
    )
    assert np.corrcoef(promised, kept)[0, 1] > 0.99
    np.testing.assert_allclose(np.mean(kept), share * rate * np.mean(promised), rtol=0.1)


def distributions(model):
    """`gaussians` of each layer that has any."""
    noisy = (x for x in model.layers if isinstance(x, layers.AdaptiveWeightNoise))
    return [gaussians(layer) for layer in noisy]


def nats(distributions):
    """The divergence of all layers from the best prior of each."""
    return sum(least_divergence(*some) for some in distributions)


@pytest.mark.parametrize(("name", "noisy"), [("curriculum_ngrams", 2), ("curriculum_stories", 3)])
def test_complexity_gains_of_texts_are_those_of_their_gaussians(name, noisy):
    """Where the cost of weights has no share in an update, that tells the gradient of the data."""
    entry, rng, rate = zoo.info(name), np.random.default_rng(0), 1e-3
    task = zoo.task_of(entry)
    texts = name == "curriculum_ngrams"
    batch = task.lay(rng.integers(0, task.classes, (4, 150))) if texts else task.batch(rng, 4)
    for signal in ("variational_complexity_gain", "gradient_variational_complexity_gain"):
        model = entry.build(task, units=8, stddev=0.1, examples=1e12)
        before = distributions(model)
        (found,) = taught(model, signal, (batch, None), task=task, learning_rate=rate)
        after = distributions(model)
        expected = nats(after) - nats(before)
        if signal in syllabus.BY_GRADIENT:
            # What a small step against the gradient of the data adds.
            some = 1e-3
            there, back = (
                nats([x + sign * some * (y - x) for x, y in zip(before, after)]) for sign in (1, -1)
            )
            expected = (there - back) / (2 * some) / rate
        assert len(before) == noisy and found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("name", ["curriculum_ngrams", "curriculum_stories"])
def test_a_model_of_distributions_is_asked_by_their_means(name, tmp_path):
    entry = zoo.info(name)
    task = zoo.task_of(entry)
    plain, noisy = (entry.build(task, units=8, stddev=stddev) for stddev in (0.0, 0.1))
    plain.save(tmp_path / "plain.keras")
    take_weights(noisy, str(tmp_path / "plain.keras"))
    one, other = (
        signature.function(**signature.sample)
        for signature in (entry.signatures(model, task)["serve"] for model in (plain, noisy))
    )
    np.testing.assert_array_equal(one["answer"], other["answer"])
    np.testing.assert_allclose(one["probability"], other["probability"], rtol=1e-5)


def chancy():
    """A model in which chance is everywhere."""
    numbers = keras.Input((4,), name="numbers")
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(numbers))
    dense = layers.AdaptiveWeightNoise(keras.layers.Dense(1), examples=50, stddev=0.5)
    return keras.Model({"numbers": numbers}, {"above": dense(hidden)})


@pytest.mark.parametrize("signal", ["prediction_gain", "self_prediction_gain"])
def test_chance_is_the_same_before_and_after(signal):
    batch, other = some_batches()
    other = None if signal == "prediction_gain" else other
    assert taught(chancy(), signal, (batch, other), learning_rate=0.0) == [0]


@pytest.mark.parametrize("signal", ["prediction_gain", "mean_prediction_gain"])
def test_looking_changes_nothing_that_is_learnt(signal):
    keras.utils.set_random_seed(1)
    one = chancy()
    two = keras.models.clone_model(one)
    two.set_weights(one.get_weights())
    for generator, like in zip(two.variables, one.variables):
        generator.assign(like)
    batch, other = some_batches()
    taught(one, signal, (batch, None if signal == "prediction_gain" else other))
    taught(two, "uniform", (batch, None))
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=ours.path)


def test_prediction_gain_of_small_steps_is_above_0():
    batches = [(batch, None) for batch in some_batches(8)]
    assert min(taught(logistic(), "prediction_gain", *batches, learning_rate=0.01)) > 0


# Runs


def run(run_dir, task=None, **recipe):
    keras.utils.set_random_seed(0)
    return fit(chancy, task or Sides(), RECIPE | recipe, str(run_dir))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir, run(run_dir)


def test_run_tells_of_its_lessons(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir, metrics = finished
    told = json.loads((run_dir / "syllabus.json").read_text())
    assert told["names"] == ["1", "2", "3"] and told["updates"] == [30, 60]
    assert np.shape(told["errors"]) == (2, 3) and np.shape(told["probabilities"]) == (4, 3)
    np.testing.assert_allclose(np.sum(told["probabilities"], axis=1), 1)
    assert told["steps"] == [15, 30, 45, 60]
    summary = metrics["lessons"]
    assert summary["lessons"] == 3 and summary["solved"] == sum(
        error < 0.3 for error in told["errors"][-1]
    )
    for figure in ("syllabus", "lesson_curves"):
        assert (run_dir / "figures" / f"{figure}.png").stat().st_size > 0
    events = EventAccumulator(str(run_dir / "logs"), size_guidance={"tensors": 0}).Reload()
    written = set(events.Tags()["tensors"])
    assert {"lessons", "figures/syllabus", "details/lessons_chosen_from"} <= written


def test_lessons_count_as_solved_from_the_first_look_below_the_error(finished):
    lessons = syllabus.Lessons(chancy(), Sides(), trainers.Recipe.parse(RECIPE), None)
    errors = np.array([[0.5, 0.4, 0.5], [0.2, 0.2, 0.4], [0.4, 0.2, 0.1], [0.1, 0.1, 0.1]])
    told = {"errors": errors, "updates": np.array([15, 30, 45, 60])}
    lessons.curves |= {**told, "steps": np.array([20, 50, 70, 90])}
    assert lessons.measured() == {
        "lessons": 3,
        "solved": 3,
        "error_of_lessons": pytest.approx(0.1),
        "updates_until_half_of_lessons": 30,
        "steps_until_half_of_lessons": 50,
        "updates_until_all_lessons": 60,
        "steps_until_all_lessons": 90,
        "updates_until_last_lesson": 45,
        "steps_until_last_lesson": 70,
    }


@pytest.mark.parametrize(
    ("signal", "chances"), [("uniform", [1 / 3, 1 / 3, 1 / 3]), ("target", [0, 0, 1])]
)
def test_baselines_have_no_teacher(tmp_path, signal, chances):
    run(tmp_path, signal=signal, figures=False, updates=30)
    told = json.loads((tmp_path / "syllabus.json").read_text())
    np.testing.assert_allclose(told["probabilities"], [chances] * 2)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"signal": "gain"}, "signal must be one of"),
        ({"signal": "variational_complexity_gain"}, "needs a model with layers of Adaptive"),
        ({"curriculum": 0.5}, "curriculum must be 0"),
        ({"low_quantile": 0.9}, "0 <= low < high <= 1"),
        ({"teacher_rate": 0.0}, "teacher_rate must be more than 0"),
    ],
)
def test_what_does_not_suit_is_refused_before_anything_is_written(tmp_path, recipe, message):
    with pytest.raises(ValueError, match=message):
        fit(logistic, Sides(), RECIPE | recipe, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(ValueError, match="task characters has no lessons"):
        trainers.Recipe.parse(RECIPE).check(trainers.task("characters"))
    with pytest.raises(ValueError, match="no levels: cumulative must be 0"):
        trainers.Recipe.parse(RECIPE | {"cumulative": True}).check(trainers.task("repeat_copy"))


def test_runs_of_several_signals_stand_side_by_side(finished, tmp_path):
    recipe = trainers.Recipe.parse(RECIPE)
    run(tmp_path, signal="uniform", figures=False)
    kinds = {"as registered": [finished[0]], "signal=uniform": [tmp_path], "other": ["nowhere"]}
    figures = recipe.compared(kinds, Sides())
    assert figures.keys() == {"lessons_of_settings", "syllabus_of_settings"} <= {*recipe.captions}
    assert len(figures["lessons_of_settings"].axes[0].lines) == 2
    assert len(figures["syllabus_of_settings"].axes) == 3  # with the bar of colours
    assert recipe.compared({"one": [finished[0]], "other": ["nowhere"]}, Sides()) == {}


@pytest.mark.parametrize("name", ["act_addition", "ntm_priority_sort", "grid_lstm_addition"])
def test_entries_take_a_teacher_in_the_place_of_their_threshold(name):
    entry = zoo.info(name)
    pairs = ["learning=syllabus", "curriculum=0.0", "signal=l2_gain"]
    pairs = [pair for pair in pairs if entry.train.get("curriculum") or "curr" not in pair]
    chosen = choose(entry, pairs)
    assert chosen["recipe"]["updates"] == entry.train["updates"]
    assert {*changes(entry, chosen)} == {*pairs}
    task = zoo.task_of(entry)
    recipe = trainers.Recipe.parse(chosen["recipe"])
    recipe.check(task)
    assert len(recipe.lessons(task)) == len(task.difficulties)
    with pytest.raises(ValueError, match="no learning is called 'sylabus'"):
        choose(entry, ["learning=sylabus"])


# Lessons of tasks


def test_lessons_are_levels_and_may_be_cumulative():
    assert Sides().lessons == {"1": (1, 1), "2": (2, 2), "3": (3, 3)}
    recipe = trainers.Recipe.parse(RECIPE | {"cumulative": True})
    assert recipe.lessons(Sides()) == {"1": (1, 1), "2": (1, 2), "3": (1, 3)}


@pytest.mark.parametrize("name", ["addition", "priority_sort", "repeat_copy", "digit_addition"])
def test_every_lesson_of_a_task_gives_batches(name):
    task, rng = trainers.task(name), np.random.default_rng(0)
    lessons = list(task.lessons.values())
    for lesson in (lessons[0], lessons[len(lessons) // 2], lessons[-1]):
        inputs, targets = task.batch(rng, 3, lesson)
        assert all(len(x) == 3 for x in (*inputs.values(), *targets.values()))
        steps = inputs.get("lengths", [next(iter(inputs.values())).shape[1]])
        assert task.duration(inputs) == max(steps)


def test_lessons_of_repeat_copy_are_a_grid_of_few_shapes():
    task, rng = trainers.task("repeat_copy", length=13, repeats=13), np.random.default_rng(0)
    assert len(task.lessons) == 169 and list(task.lessons)[-1] == "13 x 13"
    shapes = set()
    for name, lesson in task.lessons.items():
        inputs, targets = task.batch(rng, 2, lesson)
        length, repeats = map(int, name.split(" x "))
        assert set(inputs["lengths"]) == {length * (repeats + 1) + 2}
        assert task.duration(inputs) == length * (repeats + 1) + 2
        asked = (targets["bits"] >= 0).any(axis=-1).sum(axis=1)
        assert set(asked) == {length * repeats + 1}
        shapes.add(inputs["sequence"].shape[1])
    assert len(shapes) <= 7 and max(shapes) == 13 * 14 + 2


# Models of others


def test_callback_has_any_model_taught():
    rng = np.random.default_rng(0)

    class Data(keras.utils.PyDataset):
        lesson, seen = None, []

        def __len__(self):
            return 5

        def show(self, lesson):
            self.lesson = lesson
            self.seen.append(lesson)

        def batch(self, lesson):
            x = rng.normal(size=(16, 3)).astype("float32")
            return x, x[:, :1] if lesson == "learnt" else np.zeros((16, 1), "float32")

        def __getitem__(self, index):
            return self.batch(self.lesson)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    teacher, data = Teacher(["learnt", "idle"], rate=0.1, seed=1), Data()
    model.fit(data, epochs=8, verbose=0, callbacks=[Curriculum(teacher, data.show, data.batch)])
    assert len(data.seen) == 8 and set(data.seen) == {"learnt", "idle"}
    assert teacher.state["updates"] == teacher.state["seen"] == 8
    assert max(teacher.past.kept) > 0.01  # the loss by each of five updates
