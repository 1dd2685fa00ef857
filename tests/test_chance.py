"""Chance as an input: published and JAX's own words, one row whatever is around it, and laws."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from ponderzoo.layers import _chance
from ponderzoo.layers._chance import bits, fold, gumbel, normal, uniform
from scipy import stats

SEEDS = np.array([0, 1, -1, 2**31 - 1, -(2**31), 1234567], "int32")
DTYPES = ["float16", "bfloat16", "float32", "float64"]
LAWS = [(uniform, stats.uniform), (normal, stats.norm), (gumbel, stats.gumbel_r)]
MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


def answers(seed):
    """What must be the same to the bit, and what within rounding, as dicts of tensors."""
    step = ops.cast(3, "int32")
    exact = dict(zip(("high", "low"), bits(seed, 7)))
    exact |= {"number": fold(seed, step), "name": fold(fold(seed, "noise"), 2**32 - 1)}
    exact |= {f"uniform_{x}": uniform(seed, (2, 3), dtype=x) for x in DTYPES if x[0] != "b"}
    close = {draw.__name__: draw(seed, (5, 100), start=step) for draw, _ in LAWS}
    return exact, close


def assert_same(found, expected):
    for name, right in expected[0].items():
        np.testing.assert_array_equal(found[0][name], right, err_msg=name)
    for name, right in expected[1].items():
        np.testing.assert_allclose(found[1][name], right, rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(counter, key, expected):
    words = [ops.convert_to_tensor(np.uint32([word])) for word in (*key, *counter)]
    found = _chance._threefry(words[:2], words[2:])
    assert [int(word[0]) for word in found] == list(expected)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_traced_and_eager_numbers_are_the_same(mode):
    function = tf.function(
        answers, input_signature=[tf.TensorSpec([None], "int32")], jit_compile=mode == "xla"
    )
    assert_same(function(SEEDS), answers(SEEDS))


def test_an_export_gives_the_same_numbers(tmp_path):
    module = tf.Module()
    module.answers = tf.function(answers, input_signature=[tf.TensorSpec([None], "int32")])
    tf.saved_model.save(module, tmp_path)
    assert_same(tf.saved_model.load(tmp_path).answers(SEEDS), answers(SEEDS))


def jax_answers(path):
    import jax

    found = {}
    for mode, run in (("eager", answers), ("jit", jax.jit(answers))):
        for part, values in zip(("exact", "close"), run(SEEDS)):
            found |= {f"{mode}/{part}/{name}": np.asarray(x) for name, x in values.items()}
    # Without `jax_enable_x64` what should be float64 is float32, which ends elsewhere.
    words = [ops.full((1, 1), 2**32 - 1, "uint32")] * 2
    found["below_one"] = np.asarray(_chance._uniform(*words, "float64"))
    with jax.enable_x64(True):
        found["float64"] = np.asarray(uniform(SEEDS, (9,), dtype="float64"))
        keys = [jax.random.key(int(seed)) for seed in SEEDS.astype("uint32")]
        found["jax"] = np.stack([jax.random.bits(key, 7, "uint64") for key in keys])
    np.savez(path, **found)


def test_jax_gives_the_same_numbers_and_has_the_same_words_itself(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    code = "import sys, test_chance; test_chance.jax_answers(sys.argv[1])"
    fresh(code, tmp_path / "answers.npz", backend="jax")
    with np.load(tmp_path / "answers.npz") as found:
        expected = answers(SEEDS)
        del expected[0]["uniform_float64"]
        for mode in ("eager", "jit"):
            parts = [{n: found[f"{mode}/exact/{n}"] for n in expected[0]}]
            assert_same([*parts, {n: found[f"{mode}/close/{n}"] for n in expected[1]}], expected)
        assert found["below_one"] == np.float32(1 - 2**-24)
        assert found["float64"].dtype == "float64"
        np.testing.assert_array_equal(found["float64"], uniform(SEEDS, (9,), dtype="float64"))
        high, low = (np.uint64(word) for word in bits(SEEDS, 7))
        np.testing.assert_array_equal(found["jax"], (high << np.uint64(32)) + low)


@pytest.mark.parametrize("draw, _", LAWS)
def test_a_row_depends_on_its_seed_alone(draw, _):
    together = ops.convert_to_numpy(draw(SEEDS, (3, 5)))
    # A logarithm in the middle of a vector may round otherwise than one at its end.
    error = 0 if draw is uniform else 1e-6
    np.testing.assert_allclose(draw(SEEDS[::-1], (3, 5))[::-1], together, error, error)
    for seed, row in zip(SEEDS, together):
        np.testing.assert_allclose(draw([seed], (3, 5))[0], row, error, error)
        np.testing.assert_allclose(draw([seed] * 9, (3, 5))[8], row, error, error)


def test_seeds_count_modulo_two_to_the_32_whatever_their_type():
    expected = bits(SEEDS, 5)
    for seeds in (SEEDS.astype("int64"), SEEDS.astype("int64") + 2**32, SEEDS.astype("uint32")):
        np.testing.assert_array_equal(bits(seeds, 5), expected)
    np.testing.assert_array_equal(bits(np.int8([-1, 0]), 5), bits([-1, 0], 5))
    np.testing.assert_array_equal(fold(SEEDS, -1), fold(SEEDS, 2**32 - 1))


def test_more_numbers_begin_with_the_same_ones():
    np.testing.assert_array_equal(uniform(SEEDS, (9, 4))[:, :5], uniform(SEEDS, (5, 4)))


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_draws_step_by_step_what_one_draw_would_be(mode):
    def loop(seed):
        drawn = tf.TensorArray("float32", 6, element_shape=[None, 4])
        for step in tf.range(6):
            drawn = drawn.write(step, uniform(seed, (4,), start=step * 4))
        return tf.transpose(drawn.stack(), [1, 0, 2])

    np.testing.assert_array_equal(MODES[mode](loop)(SEEDS), uniform(SEEDS, (6, 4)))


def test_rows_may_be_at_different_steps():
    steps = np.int32([0, 7, 3, 3, 5, 1])
    together, folded = uniform(SEEDS, (4,), start=steps), fold(SEEDS, steps)
    for row, (seed, step) in enumerate(zip(SEEDS, steps)):
        np.testing.assert_array_equal(together[row], uniform([seed], (4,), start=int(step))[0])
        np.testing.assert_array_equal(folded[row], fold([seed], int(step))[0])


def test_folded_seeds_and_the_seeds_themselves_have_streams_of_their_own():
    seeds = np.arange(-50, 50)
    numbers = [0, 1, 2, -1, "noise", "mixture"]
    parts = [seeds, *(fold(seeds, x) for x in numbers)]
    parts += [fold(parts[1], 0), fold(parts[1], 1), fold(parts[2], 0)]
    rows = np.concatenate([uniform(part, (64,), dtype="float64") for part in parts])
    assert len(np.unique(rows)) == rows.size
    away = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert abs(away.std() * 8 - 1) < 0.01 and abs(away).max() < 0.8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_word_gives_0_or_1_or_what_is_not_finite(mode, dtype, monkeypatch):
    ends = np.uint32([0, 1, 2, 2**31, 2**32 - 2**9, 2**32 - 2**7, 2**32 - 2, 2**32 - 1])
    high, low = (x.reshape(1, -1) for x in np.meshgrid(ends, ends))
    monkeypatch.setattr(_chance, "bits", lambda *_: (tf.constant(high), tf.constant(low)))
    shape = (high.size,)

    def extremes(seed):
        drawn = [draw(seed, shape, dtype=dtype) for draw, _ in LAWS]
        return *drawn, ops.log(drawn[0]), ops.log(1 - drawn[0])

    found = MODES[mode](extremes)(tf.constant([0]))
    assert {x.dtype.name for x in found} == {dtype}
    number, *others = (np.float64(x) for x in found)
    assert number.min() > 0 and number.max() < 1 and number.max() > 0.99
    assert all(np.isfinite(x).all() for x in others)
    assert 5 < others[0].max() < 9.6 and others[1].max() > 22


@pytest.mark.parametrize("draw, law", LAWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_follow_their_law(draw, law, dtype):
    along = np.float64(draw([5], (200_000,), dtype=dtype)).ravel()
    across = np.float64(draw(np.arange(-100_000, 100_000), (1,), dtype=dtype)).ravel()
    for numbers in (along, across):
        assert stats.kstest(numbers, law.cdf).pvalue > 0.01
        mean, variance, skewness = law.stats(moments="mvs")
        assert abs(numbers.mean() - mean) < 4 * np.sqrt(variance / numbers.size)
        assert abs(numbers.var() / variance - 1) < 0.02
        assert abs(stats.skew(numbers) - skewness) < 0.05


def test_normal_numbers_have_the_tails_of_their_law():
    numbers = np.abs(normal(np.arange(1000), (4000,)))
    for sigmas in (3, 4, 4.5):
        expected = 2 * stats.norm.sf(sigmas) * numbers.size
        assert abs((numbers > sigmas).sum() - expected) < 4 * np.sqrt(expected)


def test_neighbouring_seeds_and_neighbouring_numbers_are_uncorrelated():
    rows = np.float64(normal(np.arange(-100, 100), (4096,)))
    seeds = np.corrcoef(rows)[np.triu_indices(200, 1)] * np.sqrt(4096)
    numbers = np.corrcoef(rows[:, :100].T)[np.triu_indices(100, 1)] * np.sqrt(200)
    for scores in (seeds, numbers):
        assert abs(scores.mean()) < 0.05 and abs(scores.std() - 1) < 0.03
        assert abs(scores).max() < 5.5


def test_half_of_all_bits_are_set_and_bits_are_independent():
    words = np.concatenate(bits(np.arange(2000), 50)).astype("uint32")
    ones = np.unpackbits(words.reshape(-1, 1).view("uint8"), axis=1).astype("float64")
    count = len(ones)
    assert abs(ones.mean(0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(count)
    away = np.corrcoef(ones.T)[np.triu_indices(32, 1)]
    assert abs(away).max() < 4.5 / np.sqrt(count)


@pytest.mark.parametrize("draw, law", LAWS)
@pytest.mark.parametrize("dtype, error", [("float32", 1e-6), ("float16", 5e-4), ("bfloat16", 4e-3)])
def test_all_types_round_the_same_number(draw, law, dtype, error):
    seeds = np.arange(100)
    truth, found = (draw(seeds, (1000,), dtype=x) for x in ("float64", dtype))
    assert truth.dtype == "float64" and found.dtype == dtype
    # Rounding moves a number along its law; where the law is thin it moves the farther.
    np.testing.assert_allclose(law.cdf(np.float64(found)), law.cdf(truth), rtol=0, atol=error)


def test_shapes():
    assert uniform(SEEDS, ()).shape == (6,) and uniform(SEEDS, (2, 0)).shape == (6, 2, 0)
    assert normal(SEEDS[:0], (3, 2)).shape == (0, 3, 2)
    assert fold(SEEDS, 1).shape == (6, 2)
    graph = tf.function(
        lambda seed, time: normal(seed, (time, 2)),
        input_signature=[tf.TensorSpec([None], "int32"), tf.TensorSpec([], "int32")],
    )
    np.testing.assert_array_equal(graph(SEEDS, 5), normal(SEEDS, (5, 2)))


def test_numbers_are_of_floatx_by_default():
    assert normal(SEEDS, (1,)).dtype == keras.config.floatx()


@pytest.mark.parametrize("seed", [3, [[1, 2, 3]], [0.0, 1.0], [[[1, 2]]], [True]])
def test_what_is_no_seed_a_row_is_refused(seed):
    for function in (lambda: bits(seed, 1), lambda: fold(seed, 1)):
        with pytest.raises(ValueError, match=r"\(batch,\) integers"):
            function()


@pytest.mark.parametrize("temperature", [0.0, 1.2e-38, 1e-37, 1e-20])
def test_next_to_cold_the_most_probable_level_is_taken(temperature):
    logits = np.array([[1, 50, 2], [-300, -400, -299], [1e30, 2e30, -1e30]], "float32")
    temperature = np.full(3, temperature, "float32")
    for number in (0.1, 0.9):
        chosen = _chance.choose(*map(ops.array, (logits, temperature)), number * ops.ones(3))
        np.testing.assert_array_equal(chosen, [1, 2, 1])
