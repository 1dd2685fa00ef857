"""The few things that `keras.ops` lacks, once for each backend.

differentiable      a function with its own gradient
vjp                 outputs, and the map from their cotangents to those of the arguments
vjp_and_more        the same of a function that says more, which has no cotangents
vjp_and_uses        the same, and what the weights are multiplied with
updating            a function that assigns to variables, as one compiled step
value_and_gradients of a function of variables
instead             the values of one function with the gradient of another
lstm_kernel         an LSTM over a sequence as one operation of the runtime, where it has one
taken               steps of sequences by their numbers
value               the tensor of a variable, never the variable itself
dense               a ragged or sparse tensor with its rows filled up, all others as they are
buffer, write, write_all, read, stack    lists of equal tensors that a loop fills one by one;
                    `read` reads tensors as well
traced              a function as a graph, where that is faster than step by step
frozen, thawed      such a list that is kept for a gradient, and one to write on from there
part                some steps of a tensor
open_parts, lay_part, close_parts    a tensor whose parts a loop finishes in any order
item_bytes          of a number of a dtype
unrecorded          a context in which no gradient is recorded
compiles            whether XLA compiles what is traced, so that all sizes are known then
open_rows, commit, close_rows    a matrix whose rows a loop finishes in any order
"""

import contextlib

import keras
from keras import ops

if keras.backend.backend() not in ("tensorflow", "jax"):
    raise ImportError(
        "ponderzoo runs on Keras's tensorflow and jax backends, not on "
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
    )

_jit_in_graphs = True


def allow_jit(allowed):
    global _jit_in_graphs
    before, _jit_in_graphs = _jit_in_graphs, bool(allowed)
    return before


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.eager import record
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    def differentiable(primal, forward, backward, save=True):
        """Returns `primal` as a function whose gradient is `backward`.

        Args:
            primal: `primal(*tensors) -> tuple of tensors`.
            forward: `forward(*tensors) -> (the same tuple, residuals)`.
            backward: `backward(residuals, cotangents) -> a cotangent or None for each tensor`.
            save: whether to run `forward` at once. Without it `primal` runs, and `forward` follows
                only where a gradient is asked for.
        """

        @tf.custom_gradient
        def function(*tensors):
            outputs, residuals = forward(*tensors) if save else (primal(*tensors), None)

            def gradient(*cotangents):
                saved = residuals if save else forward(*tensors)[1]
                return backward(saved, cotangents)

            return outputs, gradient

        # A variable is a tensor to Keras, and none to TensorFlow where gradients are written.
        return lambda *tensors: function(*map(tf.convert_to_tensor, tensors))

    def vjp(function, *primals):
        with tf.GradientTape() as tape:
            tape.watch(primals)
            outputs = function(*primals)

        def pull(cotangents):
            return tape.gradient(
                outputs, primals, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )

        return outputs, pull

    def vjp_and_more(function, *primals):
        """`vjp` of the first of two answers, and the second."""
        more = []

        def first(*primals):
            outputs, second = function(*primals)
            more.append(second)
            return outputs

        return *vjp(first, *primals), more[0]

    def vjp_and_uses(function, weights, *primals):
        """`vjp` of `function(weights, *primals)`, whose `pull` also says what the weights do.

        `pull(cotangents)` returns the cotangents of `primals`, and for each weight the pairs `(a,
        dz)` of its uses, `z = a @ weight`, or `(None, dz)` for `z = a + weight`. So `a^T dz` of
        many updates can be taken in one product. Returns None instead of the pairs where a weight
        is used otherwise.
        """
        weights = [tf.identity(weight) for weight in weights]
        with tf.GradientTape() as tape:
            tape.watch(primals)
            outputs = function(weights, *primals)
        uses = None if tf.executing_eagerly() else [_uses(weight) for weight in weights]
        if uses is not None and None in uses:
            uses = None

        def pull(cotangents):
            targets = [z for some in uses or [] for _, z in some]
            gradients = tape.gradient(
                outputs,
                [*primals, *targets],
                cotangents,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            rest = iter(gradients[len(primals) :])
            pairs = uses and [[(a, next(rest)) for a, _ in some] for some in uses]
            return gradients[: len(primals)], pairs

        return outputs, pull

    def _uses(weight):
        uses = []
        for operation in weight.consumers():
            z = operation.outputs[0]
            if (
                operation.type == "MatMul"
                and operation.inputs[1] is weight
                and not operation.get_attr("transpose_a")
                and not operation.get_attr("transpose_b")
            ):
                uses.append((operation.inputs[0], z))
            elif (
                operation.type in ("AddV2", "BiasAdd")
                and len(weight.shape) == 1
                and weight.shape[0] == z.shape[-1]
                and len(z.shape) == 2
            ):
                uses.append((None, z))
            else:
                return None
        return uses

    def updating(function, variables, compiled):
        """`function(*arguments)` as one step, which XLA compiles where it is to be `compiled`.

        Args:
            function: of nests of arrays; all that it reads and assigns to is in `variables`.
        """
        return tf.function(function, autograph=False, jit_compile=compiled)

    def value_and_gradients(function, variables, others):
        """`function()`, a scalar, and its gradients by `variables`, 0 where it has none of one.

        It may assign to `others`, and is called once.
        """
        with tf.GradientTape() as tape:
            answer = function()
        return answer, tape.gradient(
            answer,
            [variable.value for variable in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    def instead(fast, exact):
        """`fast` as a function whose gradient is that of `exact`, of the same tensors."""

        @tf.custom_gradient
        def function(*tensors):
            def gradient(*cotangents):
                return vjp(exact, *tensors)[1](list(cotangents))

            return fast(*tensors), gradient

        return function

    def has_lstm_kernel(dtype):
        """Whether `lstm_kernel` can run here. XLA has no such operation, and needs none."""
        return dtype == "float32" and not compiles()

    def lstm_kernel(sequence, kernel, bias, peepholes, h, c):
        """Outputs and cells of all steps, `(time, batch, units)`.

        Args:
            sequence: `(time, batch, features)`.
            kernel: `(features + units, 4 * units)`: input, forget, candidate, output gate.
            bias: `(4 * units,)`.
            peepholes: `(3, units)`, of the input, forget and output gate, or None.
            h, c: `(batch, units)`, the state before the first step.
        """
        nothing = tf.zeros_like(bias[: c.shape[-1]])
        peep = [nothing] * 3 if peepholes is None else tf.unstack(peepholes)
        found = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.shape(sequence, "int64")[0],
            x=sequence,
            cs_prev=c,
            h_prev=h,
            w=kernel,
            wci=peep[0],
            wcf=peep[1],
            wco=peep[2],
            b=bias,
            cell_clip=0.0,
            use_peephole=peepholes is not None,
        )
        return found.h, found.cs

    def taken(x, places):
        """`(batch, places, ...)`, the steps of `(batch, time, ...)` at `(batch, places)`."""
        return tf.gather(x, places, batch_dims=1)

    def value(variable):
        return tf.convert_to_tensor(variable.value)

    def dense(x, padding):
        if isinstance(x, tf.SparseTensor):
            return tf.sparse.to_dense(x, padding)
        return x.to_tensor(padding) if isinstance(x, tf.RaggedTensor) else x

    def buffer(size, like):
        return tf.TensorArray(like.dtype, size, element_shape=like.shape, clear_after_read=False)

    def write(array, index, value):
        return array.write(index, value)

    def read(array, index):
        return array.read(index) if isinstance(array, tf.TensorArray) else tf.gather(array, index)

    def frozen(buffer):
        # Eager lists change as they are written to, and a gradient may be asked for twice.
        return buffer.stack() if compiles() or tf.executing_eagerly() else buffer

    def thawed(x):
        if isinstance(x, tf.TensorArray):
            return x
        list_ = tf.TensorArray(
            x.dtype, tf.shape(x)[0], element_shape=x.shape[1:], clear_after_read=False
        )
        return list_.unstack(x)

    def part(x, begin, count, axis=0):
        """`(count, ...)`, the entries of a tensor from `begin` on along an axis."""
        shape = [n if n is not None else tf.shape(x)[i] for i, n in enumerate(x.shape)]
        shape[axis] = count
        begins = [begin if i == axis else 0 for i in range(len(shape))]
        known = [count if isinstance(count, int) else None, *x.shape[:axis], *x.shape[axis + 1 :]]
        return tf.ensure_shape(ops.moveaxis(tf.slice(x, begins, shape), axis, 0), known)

    def unrecorded():
        return record.stop_recording() if tf.executing_eagerly() else contextlib.nullcontext()

    def compiles():
        return not tf.executing_eagerly() and GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        )

    def may_jit():
        """Whether a graph is traced that XLA does not compile as a whole, but may in part."""
        return _jit_in_graphs and not tf.executing_eagerly() and not compiles()

    def jit(function):
        return tf.function(function, autograph=False, jit_compile=True)

    def traced(function):
        return tf.function(function, autograph=False)

    def bucket(length):
        """The least of 8, 10, 12, 14, 16, 20, 24, ... not below a length, `()` int32."""
        sizes = [base << k for k in range(24) for base in (8, 10, 12, 14)]
        return tf.gather(sizes, tf.searchsorted(sizes, [length])[0])

    def _ragged():
        # Outside XLA a scatter inside a loop copies its whole target at every iteration.
        return not compiles()

else:
    import jax

    def differentiable(primal, forward, backward, save=True):
        function = jax.custom_vjp(primal)
        function.defvjp(forward, lambda *arguments: tuple(backward(*arguments)))
        return function

    def vjp(function, *primals):
        return jax.vjp(function, *primals)

    def vjp_and_more(function, *primals):
        return jax.vjp(function, *primals, has_aux=True)

    def vjp_and_uses(function, weights, *primals):
        outputs, pull = jax.vjp(lambda *primals: function(weights, *primals), *primals)
        return outputs, lambda cotangents: (pull(cotangents), None)

    def updating(function, variables, compiled):
        def step(values, *arguments):
            mapping = zip(variables, values)
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                answer = function(*arguments)
                return answer, [scope.get_current_value(variable) for variable in variables]

        if compiled:
            step = jax.jit(step)

        def update(*arguments):
            answer, values = step([variable.value for variable in variables], *arguments)
            for variable, value in zip(variables, values):
                variable.assign(value)
            return answer

        return update

    def value_and_gradients(function, variables, others):
        def stateless(values, rest):
            mapping = [*zip(variables, values), *zip(others, rest)]
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                answer = function()
                return answer, [scope.get_current_value(variable) for variable in others]

        values, rest = ([variable.value for variable in some] for some in (variables, others))
        (answer, rest), gradients = jax.value_and_grad(stateless, has_aux=True)(values, rest)
        for variable, value in zip(others, rest):
            variable.assign(value)
        return answer, gradients

    def has_lstm_kernel(dtype):
        return False

    def taken(x, places):
        places = ops.reshape(places, (*places.shape, *[1] * (len(x.shape) - 2)))
        return ops.take_along_axis(x, places, axis=1)

    def value(variable):
        return variable.value

    def dense(x, padding):
        return x

    def buffer(size, like):
        return ops.zeros((size, *like.shape), like.dtype)

    def write(array, index, value):
        return jax.lax.dynamic_update_index_in_dim(array, value, index, 0)

    def read(array, index):
        # By dynamic_index_in_dim an LSTM trains a quarter slower.
        return array[index]

    def frozen(buffer):
        return buffer

    def thawed(x):
        return x

    def part(x, begin, count, axis=0):
        return ops.moveaxis(jax.lax.dynamic_slice_in_dim(x, begin, count, axis), axis, 0)

    def unrecorded():
        return contextlib.nullcontext()

    def compiles():
        return True

    def may_jit():
        return False

    def traced(function):
        return function

    def _ragged():
        return False


def write_all(buffers, index, values):
    """`write` to every buffer of a nest."""
    return keras.tree.map_structure(lambda x, value: write(x, index, value), buffers, values)


def stack(buffer):
    """All tensors of a buffer as one."""
    return buffer.stack() if hasattr(buffer, "stack") else buffer


def open_parts(length, count, like, axis=0):
    """A handle for a tensor of entries as `like` along an axis, `count` parts of them."""
    if not _ragged():
        shape = list(ops.shape(like))
        return ops.zeros((*shape[:axis], length, *shape[axis:]), like.dtype)
    return tf.TensorArray(like.dtype, count, infer_shape=False, element_shape=(None, *like.shape))


def lay_part(handle, number, begin, x, axis=0):
    """Writes entries `(count, ...)`, the part of this number, which begins there."""
    if _ragged():
        return handle.write(number, x)
    start = [begin if i == axis else 0 for i in range(len(x.shape))]
    return ops.slice_update(handle, start, ops.moveaxis(x, 0, axis))


def close_parts(handle, axis=0):
    """The tensor of all parts."""
    return ops.moveaxis(handle.concat(), 0, axis) if hasattr(handle, "concat") else handle


def item_bytes(dtype):
    """Of a number of a dtype."""
    dtype = keras.backend.standardize_dtype(dtype)
    return 1 if dtype == "bool" else int("".join(filter(str.isdigit, dtype))) // 8


def open_rows(count, likes):
    """A handle for as many `(count, width)` matrices as `likes`, `(batch, width)` tensors, has."""
    if not _ragged():
        return tuple(ops.zeros((count + 1, like.shape[-1]), like.dtype) for like in likes)

    def array(dtype, *width):
        rows = tf.TensorArray(
            dtype, 1, dynamic_size=True, infer_shape=False, element_shape=(None, *width)
        )
        # No rows at first: where nothing is ever committed there is still something to join.
        return rows.write(0, tf.zeros((0, *width), dtype))

    return (array("int32"), *(array(like.dtype, like.shape[-1]) for like in likes))


def commit(handle, step, index, keep, values):
    """Writes the rows of `values` that `keep` names to rows `index`; `step` counts the commits."""
    if not _ragged():
        (last, _) = ops.shape(handle[0])
        target = ops.where(keep, index, last - 1)[:, None]
        return tuple(ops.scatter_update(h, target, v) for h, v in zip(handle, values))
    chosen = tf.where(keep)[:, 0]
    return tuple(h.write(step + 1, tf.gather(v, chosen)) for h, v in zip(handle, (index, *values)))


def close_rows(handle, count):
    """The finished matrices; rows never committed are zero."""
    if not _ragged():
        return [matrix[:count] for matrix in handle]
    index, *matrices = (array.concat() for array in handle)
    return [tf.scatter_nd(index[:, None], m, (count, m.shape[-1])) for m in matrices]
