"""ByteNet, by what each of its numbers depends on, and a place at a time; and its beam search."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import ByteNet, ByteNetStack, beam_search

BLOCKS = "relu", "multiplicative"
each_block = pytest.mark.parametrize("block", BLOCKS)
each_precision = pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 1e-5), ("float64", 1e-12)], ids=["float32", "float64"]
)


def filled(layer):
    """The layer with weights that are all of chance, none zero, and few ReLUs off."""
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(0.5 * rng.normal(size=weight.shape) + weight.name.endswith("shift"))
    return layer


def stack_of(blocks=7, block="relu", dtype="float64", units=4, **more):
    stack = ByteNetStack(units, blocks, block, dtype=dtype, **more)
    stack.build((None, None, 2 * units))
    return filled(stack)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@each_block
@pytest.mark.parametrize("causal", [True, False], ids=["decoder", "encoder"])
def test_all_within_reach_is_seen_and_nothing_else(block, causal):
    stack, steps = stack_of(3, block, causal=causal, most_dilation=2), 20
    reach = stack.receptive_field
    assert reach == 1 + 2 * (1 + 2 + 1)
    x = drawn(1, steps, 8)
    changed = np.repeat(x, steps, axis=0)
    changed[np.arange(steps), np.arange(steps), 0] += 1  # all features: normalized away
    found = np.any(np.abs(stack(changed).numpy() - stack(x).numpy()) > 1e-12, axis=-1)
    ahead = np.arange(steps) - np.arange(steps)[:, None]
    low = 0 if causal else -(reach // 2)
    np.testing.assert_array_equal(found, (ahead >= low) & (ahead < low + reach))


@pytest.mark.parametrize(("blocks", "reach"), [(5, 63), (30, 373)], ids=["one set", "six sets"])
def test_receptive_field_is_that_of_the_construction(blocks, reach):
    stack = stack_of(blocks, units=8)
    assert stack.receptive_field == reach
    assert stack.dilations[:7] == [1, 2, 4, 8, 16, 1, 2][:blocks]
    x = tf.constant(drawn(1, 400, 16))
    with tf.GradientTape() as tape:
        tape.watch(x)
        last = stack(x)[:, -1, 0]
    # What came the long way, through every block, would be lost in what came by the stream if a
    # place were moved.
    found = np.any(tape.gradient(last, x) != 0, axis=(0, 2))
    np.testing.assert_array_equal(found, np.arange(400) >= 400 - reach)


def plain(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)


def by_hand(stack, x):
    """The stack on numpy, place by place, from the equations."""
    for block, r in zip(stack.blocks, stack.dilations):
        scale, shift = zip(*(map(np.asarray, norm) for norm in block.norms))
        narrow, (kernel, bias), wide = (
            [np.asarray(w) for w in weights]
            for weights in (block.narrow, block.convolution, block.wide)
        )
        h = np.maximum(plain(x) * scale[0] + shift[0], 0) @ narrow[0] + narrow[1]
        h = plain(h) * scale[1] + shift[1]
        if stack.block == "relu":
            h = np.maximum(h, 0)
        z, taps = bias + np.zeros((*h.shape[:2], 1)), len(kernel)
        for place, tap in itertools.product(range(h.shape[1]), range(taps)):
            seen = place - r * (taps - 1 - tap if stack.causal else taps // 2 - tap)
            if 0 <= seen < h.shape[1]:
                z[:, place] += h[:, seen] @ kernel[tap]
        if stack.block == "multiplicative":
            *gates, u = np.split(z, 4, axis=-1)
            g1, g2, g3 = (1 / (1 + np.exp(-g)) for g in gates)
            z = g1 * np.tanh(g2 * h + g3 * np.tanh(u))
        x = x + np.maximum(plain(z) * scale[2] + shift[2], 0) @ wide[0] + wide[1]
    return x


@each_block
@pytest.mark.parametrize("causal", [True, False], ids=["decoder", "encoder"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_stack_is_what_the_equations_say(block, causal, size):
    stack = stack_of(3, block, causal=causal, kernel_size=size)
    x = drawn(2, 9, 8)
    np.testing.assert_allclose(stack(x), by_hand(stack, x), rtol=1e-12, atol=1e-12)


@each_block
@each_precision
@pytest.mark.parametrize("parts", [[1] * 20, [3, 1, 16], [0, 20, 0]], ids=["steps", "parts", "0"])
def test_parts_with_queues_give_the_numbers_of_the_whole(block, dtype, most, parts):
    stack = stack_of(4, block, dtype, return_state=True, most_dilation=4)
    x = drawn(2, 20, 8)
    whole, *end = stack(x)
    found, state = [], None
    for first, size in zip(np.cumsum([0, *parts]), parts):
        y, *state = stack(x[:, first : first + size], initial_state=state)
        found.append(y)
    scale = np.abs(whole).max()
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, rtol=0, atol=most * scale)
    for a, b in zip(state, end, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=10 * most)


@each_block
@pytest.mark.parametrize("causal", [True, False], ids=["decoder", "encoder"])
@pytest.mark.parametrize("holes", ["behind", "within"])
def test_masked_steps_count_as_if_they_were_not_there(block, causal, holes):
    stack = stack_of(4, block, causal=causal, return_state=causal, zero_output_for_mask=True)
    x, mask = drawn(3, 12, 8), np.ones((3, 12), bool)
    mask[0, 7:], mask[2] = False, False
    if holes == "within":
        mask[0, [0, 3]] = mask[1, 5] = False
    x[~mask] = 1e6
    found = keras.tree.flatten(stack(x, mask=mask))
    for row in range(3):
        alone = keras.tree.flatten(stack(x[row : row + 1, mask[row]]))
        np.testing.assert_allclose(found[0][row][mask[row]], alone[0][0], rtol=1e-12, atol=1e-12)
        for a, b in zip(found[1:], alone[1:], strict=True):
            np.testing.assert_allclose(a[row], b[0], rtol=1e-12, atol=1e-12)
    assert not np.any(found[0][~mask])


@each_block
def test_queues_begin_as_padding_in_front_would_leave_them(block):
    """Zeros where a convolution reads: zeros in front would be normalized into other numbers."""
    stack = stack_of(4, block, return_state=True)
    x = drawn(1, 6, 8)
    y, *_ = stack(x)
    padded, *_ = stack(
        np.pad(x, ((0, 0), (9, 0), (0, 0))), mask=np.arange(15)[None] >= 9, initial_state=None
    )
    np.testing.assert_allclose(padded[:, 9:], y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"block": "tanh"}, "block must be one of .*; got 'tanh'"),
        ({"kernel_size": 4}, "kernel_size must be odd; got 4"),
        ({"most_dilation": 6}, "most_dilation must be a power of 2; got 6"),
        ({"blocks": 0}, "blocks must be a whole number from 1 on; got 0"),
        ({"causal": False, "return_state": True}, "has no state to return: causal=False"),
        ({"units": 3}, "ByteNetStack of 3 units needs a sequence of 6 features; got"),
    ],
)
def test_what_cannot_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        ByteNetStack(**{"units": 4, "blocks": 2, **wrong}).build((None, None, 8))


def net_of(dtype="float64", units=3, **more):
    net = ByteNet(units, 3, 3, dtype=dtype, **more)
    net.build((None, None, 2 * units), (None, None, 2 * units))
    return filled(net)


each_combination = pytest.mark.parametrize("combination", ["add", "concatenate"])


@each_combination
def test_a_target_sees_what_stands_before_it_and_the_source_within_reach(combination):
    net = net_of(combination=combination, ratio=1.0)
    source, target = drawn(1, 16, 6), drawn(1, 16, 6, seed=1)
    before = net(source, target).numpy()
    half, reach = net.encoder.receptive_field // 2, net.decoder.receptive_field
    for at in range(16):
        other = target.copy()
        other[:, at, 0] += 1
        found = np.flatnonzero(np.any(net(source, other).numpy() != before, axis=(0, 2)))
        np.testing.assert_array_equal(found, np.arange(at, min(16, at + reach)))
        other = source.copy()
        other[:, at, 0] += 1
        found = np.flatnonzero(np.any(net(other, target).numpy() != before, axis=(0, 2)))
        last = min(16, at + half + reach)
        np.testing.assert_array_equal(found, np.arange(max(0, at - half), last))


def test_the_source_is_laid_out_over_as_many_places_as_its_target_may_have():
    net = net_of(ratio=1.2, extra=1)
    assert [net.unfolded(n) for n in (0, 1, 5, 10, 11)] == [1, 3, 7, 13, 15]
    # 1.2 * 5 is more than 6 where numbers are binary.
    np.testing.assert_array_equal(net.unfolded(tf.constant([0, 5])), [1, 7])
    encoded = net.encode(drawn(2, 10, 6), np.array([5, 10])).numpy()
    assert encoded.shape == (2, 13, 6)
    assert np.all(encoded[0, :7] != 0) and not np.any(encoded[0, 7:]) and np.all(encoded[1] != 0)


@pytest.mark.parametrize("ratio", [0.3, 1.2, 2.0])
def test_what_stands_behind_the_end_of_a_source_has_no_influence(ratio):
    net, lengths = net_of(ratio=ratio, extra=1), np.array([4, 9, 0])
    source, target = drawn(3, 9, 6), drawn(3, 25, 6, seed=1)
    found = net(source, target, lengths).numpy()
    for row, length in enumerate(lengths):
        alone = net(source[row : row + 1, :length], target[row : row + 1])
        np.testing.assert_allclose(found[row], alone[0], rtol=1e-12, atol=1e-12)


def test_behind_the_unfolding_the_decoder_sees_zeros():
    net = net_of(ratio=1.0)
    source, target = drawn(1, 4, 6), drawn(1, 60, 6, seed=1)
    output, _ = net.decode(target, net.encode(source))
    seen = np.pad(net.encode(source), ((0, 0), (0, 56), (0, 0)))
    np.testing.assert_allclose(output, net.decoder(target + seen), rtol=1e-12, atol=1e-12)


@each_precision
@each_combination
def test_a_place_at_a_time_gives_the_numbers_of_a_whole_pass(dtype, most, combination):
    net = net_of(dtype, combination=combination)
    source, target, lengths = drawn(2, 6, 6), drawn(2, 12, 6, seed=1), np.array([6, 3])
    whole, encoded = net(source, target, lengths), net.encode(source, lengths)

    @tf.function
    def generated(target):
        said = tf.TensorArray(whole.dtype, 12)
        queues = net.decoder.get_initial_state(2)

        def body(place, said, *queues):
            y, queues = net.decode(target[:, place, None], encoded, place, queues)
            return place + 1, said.write(place, y[:, 0]), *queues

        _, said, *_ = tf.while_loop(lambda place, *_: place < 12, body, (0, said, *queues))
        return tf.transpose(said.stack(), [1, 0, 2])

    found = generated(tf.constant(target, dtype))
    np.testing.assert_allclose(found, whole, rtol=0, atol=most * np.abs(whole).max())


def test_concatenation_makes_a_decoder_of_about_four_times_the_weights():
    added, joined = (net_of(units=24, combination=c) for c in ("add", "concatenate"))
    assert 3.8 < joined.decoder.count_params() / added.decoder.count_params() < 4.0
    assert joined.encoder.count_params() == added.encoder.count_params()


@pytest.mark.parametrize(("source", "target"), [(0, 3), (1, 1), (3, 0), (0, 0)])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_sequences_may_be_empty(source, target, jit):
    net = net_of(extra=2)
    run = tf.function(net, jit_compile=jit, autograph=False)
    found = run(drawn(1, source, 6), drawn(1, target, 6), np.array([source]))
    assert found.shape == (1, target, 6) and np.all(np.isfinite(found))


def test_lengths_may_be_known_to_the_graph_alone():
    net = net_of(extra=1)
    run = tf.function(net, input_signature=[tf.TensorSpec((None, None, 6), tf.float64)] * 2)
    for source, target in ((5, 7), (0, 3), (4, 0), (9, 2)):
        given = drawn(2, source, 6), drawn(2, target, 6)
        np.testing.assert_allclose(run(*given), net(*given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ratio": 0.0}, "ratio must be more than 0, and less than 1000; got 0.0"),
        ({"extra": -1}, "extra must be a whole number from 0 on; got -1"),
        ({"combination": "dot"}, "combination must be one of .*; got 'dot'"),
        ({"units": 2}, "needs a source of shape .batch, source, 4.; got"),
    ],
)
def test_what_no_net_can_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        ByteNet(**{"units": 3, **wrong}).build((None, None, 6), (None, None, 6))


# Beam search.

ODDS = np.log(np.random.default_rng(3).dirichlet(np.ones(3), size=(2, 27)))


def remembering(symbols, place, state):
    """Odds that depend on all three symbols before: the state matters."""
    row, past = state
    past = (past * 3 + symbols) % 27
    return tf.gather_nd(ODDS, tf.stack([row, past], axis=1)), (row, past)


def searched(width, longest=4, n_best=1):
    state = tf.range(2), tf.zeros((2,), tf.int32)
    return beam_search(remembering, state, 2, 0, 0, width, longest, n_best)


def every(row, longest):
    """All sequences that end, with their log-probabilities, the best first."""
    found = {}
    for size in range(longest):
        for body in itertools.product((1, 2), repeat=size):
            past, total = 0, 0.0
            for last, symbol in zip((0, *body), (*body, 0)):
                past = (past * 3 + last) % 27
                total += ODDS[row, past, symbol]
            found[(*body, *[0] * (longest - size))] = total
    return sorted(found.items(), key=lambda item: -item[1])


def test_a_wide_beam_finds_the_most_probable_of_all_sequences():
    said, logp, ended = map(np.asarray, searched(width=50, n_best=5))
    assert ended.all()
    for row in range(2):
        for found, costs, (expected, total) in zip(said[row], logp[row], every(row, 4)):
            assert tuple(found) == expected
            np.testing.assert_allclose(costs.sum(), total, rtol=1e-12)


def test_a_beam_of_one_is_greedy():
    said, logp, _ = map(np.asarray, searched(width=1, longest=6))
    for row in range(2):
        past, last = 0, 0
        for place in range(6):
            past = (past * 3 + last) % 27
            last = ODDS[row, past].argmax()
            assert said[row, 0, place] == last
            np.testing.assert_allclose(logp[row, 0, place], ODDS[row, past, last])
            if last == 0:
                break


def test_a_wider_beam_finds_nothing_less_probable_here():
    totals = [np.sum(searched(width)[1], axis=-1) for width in (1, 2, 4, 8, 16)]
    assert np.all(np.diff(totals, axis=0)[1:] >= -1e-12)


def test_only_what_has_ended_counts_where_anything_has():
    """The most probable hypothesis is still open: it stands behind all that have ended."""
    odds = tf.math.log(tf.constant([[0.1, 0.9]], tf.float64))
    said, logp, ended = beam_search(
        lambda symbols, place, state: (tf.repeat(odds, len(symbols), axis=0), state),
        (),
        1,
        0,
        0,
        width=3,
        longest=2,
        n_best=3,
    )
    np.testing.assert_array_equal(said[0], [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(ended[0], [True, True, False])
    np.testing.assert_allclose(np.exp(np.sum(logp[0], axis=1)), [0.1, 0.09, 0.81])


def test_places_without_a_hypothesis_are_impossible():
    _, logp, ended = searched(width=5, longest=1, n_best=5)
    np.testing.assert_array_equal(
        np.isfinite(np.sum(logp, axis=-1)), [[True] * 3 + [False] * 2] * 2
    )
    np.testing.assert_array_equal(ended[:, 0], [True, True])


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_compiled_beam_is_the_same(jit):
    run = tf.function(lambda: searched(6, n_best=3), jit_compile=jit, autograph=False)
    for a, b in zip(run(), searched(6, n_best=3)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"width": 0}, "width must be a whole number from 1 on; got 0"),
        ({"width": 2, "n_best": 3}, "n_best must be at most the width, 2; got 3"),
        ({"longest": 0}, "longest must be a whole number from 1 on; got 0"),
    ],
)
def test_what_no_beam_can_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        beam_search(lambda symbols, place, state: (ODDS[0, :1], state), (), 1, 0, 0, **wrong)
