"""Processes, on one machine or several, that train one run together on JAX."""

import atexit
import contextlib
import io
import json
import os
import re
import sys
import zlib

import keras
import numpy as np

from ..layers import AdaptiveWeightNoise
from ..layers._noisy import NoisyWeights
from ._outlived import outlived_by

PATIENCE = 300  # seconds to wait for the others
DRAWN_BY_ROWS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


class ProcessGroup:
    """The processes that train a run together; each computes with its share of every batch.

    All get the same arguments but for `process_id`, draw the same batches, and hold the same
    weights, which they change alike: gradients and metrics of all rows are added up in one
    reduction, and clipped after that. Process 0 alone has the run directory.

    A process computes on the first device that it sees. It can be in one group only, before it has
    computed anything. Who can reach the coordinator's port can take part: it belongs in a network
    of one's own.

    Args:
        coordinator: "HOST:PORT" of process 0, where the others find it.
        num_processes: how many there are.
        process_id: the number of this one, from 0 on.

    Raises:
        ValueError: for arguments that name no group, and where Keras does not run on JAX.
    """

    def __init__(self, coordinator: str = "", num_processes: int = 1, process_id: int = 0) -> None:
        self.coordinator, self.num_processes = coordinator, num_processes
        self.process_id = process_id
        if num_processes < 1:
            raise ValueError(f"num_processes must be 1 or more, got {num_processes}")
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id must be 0 to {num_processes - 1} of {num_processes} processes, "
                f"got {process_id}"
            )
        if num_processes == 1:
            return
        address = re.fullmatch(r"\S+:(\d{1,5})", coordinator)
        if not address or not 0 < int(address[1]) < 2**16:
            raise ValueError(
                f"the coordinator must be HOST:PORT, such as trainer-0:9000, got {coordinator!r}"
            )
        if keras.backend.backend() != "jax":
            raise ValueError(
                "processes train together on JAX alone (KERAS_BACKEND=jax): on TensorFlow, Keras "
                "clips the gradient of each before they are added up, which is another training"
            )

    @property
    def leads(self):
        """Whether this process has the run directory."""
        return self.process_id == 0

    def check(self, recipe):
        """Raises `ValueError` where a recipe cannot be shared out."""
        if self.num_processes == 1:
            return
        if not recipe.by_rows:
            raise ValueError(
                f"learning={recipe.learning} takes one process: what it keeps from batch to batch "
                "or plays is not shared out; learning=supervised is"
            )
        if recipe.batch_size % self.num_processes:
            raise ValueError(
                f"batch_size must be a multiple of num_processes ({self.num_processes}), "
                f"got {recipe.batch_size}"
            )

    @contextlib.contextmanager
    def joined(self):
        """Meets the others, and leaves them together.

        Where they do not come, or one of them goes, this process says so in a line and ends, by
        exit code 1 or JAX's abort, whichever is first.
        """
        if self.num_processes == 1:
            yield
            return
        import jax

        jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
        which = f"process {self.process_id} of {self.num_processes}"
        again = "start all of them again, and the run goes on where it stood"
        with last_words() as words:
            try:
                place = f"at {self.coordinator} within {PATIENCE} s, or the port is taken"
                words(f"error: {which} did not meet the others {place}")
                jax.distributed.initialize(
                    self.coordinator,
                    self.num_processes,
                    self.process_id,
                    cluster_detection_method="deactivate",
                    initialization_timeout=PATIENCE,
                )
                words(f"error: {which} was ended, or has lost another one: {again}")
                yield
                jax.distributed.shutdown()
            except BaseException as error:
                if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
                    why = " ".join(str(error).split())[-200:]
                    gone = f"{which} cannot go on, most likely since another one has ended ({why})"
                    words(f"error: {gone}: {again}")
                    os._exit(1)  # what JAX does itself about now, so that no one can catch it
                atexit.register(os._exit, 1)  # JAX would wait for the others first, for minutes
                raise

    def share(self, value):
        """What process 0 has, a value of plain types, in all of them."""
        if self.num_processes == 1:
            return value
        return json.loads(self._send(json.dumps(value).encode()))

    def share_arrays(self, arrays):
        """The named arrays of process 0, bit for bit, in all of them."""
        if self.num_processes == 1:
            return arrays
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        with np.load(io.BytesIO(self._send(buffer.getvalue()))) as found:
            return {name: found[name] for name in found.files}

    def _send(self, content):
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.uint32(len(content))))
        content = content if self.leads else bytes(size)
        return broadcast_one_to_all(np.frombuffer(content, "uint8")).tobytes()

    def compare(self, model):
        """Raises `ValueError` in all processes where what is not trained differs between them."""
        if self.num_processes == 1:
            return
        from jax.experimental.multihost_utils import process_allgather

        variables = model.non_trainable_variables
        sums = [zlib.crc32(np.asarray(variable).tobytes()) for variable in variables]
        alike = np.all(np.diff(process_allgather(np.array(sums, "uint32")), axis=0) == 0, axis=0)
        differing = [variable.path for variable, same in zip(variables, alike) if not same]
        if differing:
            raise ValueError(
                f"the rows of a batch change {', '.join(differing)} of the model, of which each "
                "process has another by now: train it in one process"
            )

    def where(self, condition):
        """The numbers of the processes where something holds, in all of them."""
        held = bool(condition)
        if self.num_processes > 1:
            from jax.experimental.multihost_utils import process_allgather

            held = process_allgather(np.bool_(held))
        return np.flatnonzero(held).tolist()

    def rows(self, batch):
        """This process's rows of the arrays of a batch, a nest."""
        if self.num_processes == 1:
            return batch

        def own(array):
            count = len(array) // self.num_processes
            return array[self.process_id * count :][:count]

        return keras.tree.map_structure(own, batch)

    def train(self, model):
        """Has the `fit` of a compiled model learn from the rows of all processes.

        What layers draw for rows they draw for those of all processes, as one would.

        Raises:
            ValueError: the model has a layer that needs all rows in one process.
        """
        if self.num_processes == 1:
            return
        for layer in model._flatten_layers():
            if isinstance(layer, DRAWN_BY_ROWS):
                layer.call = self._drawing_for_all(layer.call)
            elif isinstance(layer, AdaptiveWeightNoise) or _draws_by_rows(layer):
                raise ValueError(
                    f"the layer {layer.name} ({type(layer).__name__}) needs all rows of a batch in "
                    "one process: train without it, or in one process"
                )
        model.train_function = self._step(model)

    def _drawing_for_all(self, call):
        def drawing(inputs, training=False):
            if not training:
                return call(inputs, training=training)
            count = inputs.shape[0]
            first, behind = self.process_id * count, self.num_processes * count
            padding = [(first, behind - first - count), *[(0, 0)] * (len(inputs.shape) - 1)]
            return call(keras.ops.pad(inputs, padding), training=True)[first : first + count]

        return drawing

    def _step(self, model):
        """The `train_function` of a model: a step of the optimizer by the rows of all processes.

        Collectives within a model's loops would take most of the time. So each process has a model
        of its own, and one flat array of gradients and metrics is added up between two functions
        that XLA compiles.
        """
        import jax
        from jax.flatten_util import ravel_pytree

        total = unravel = None

        def own(weights, others, optimizer, metrics, batch):
            nonlocal unravel
            x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
            loss = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
            zeros = [jax.numpy.zeros_like(metric) for metric in metrics]
            (_, (loss, outputs, others, counted)), gradients = loss(
                weights, others, zeros, x, y, weight, training=True, optimizer_variables=optimizer
            )
            _, counted = model._update_metrics_variables(counted, loss, x, y, outputs, weight)
            flat, unravel = ravel_pytree((gradients, counted))
            return others, flat

        def update(weights, optimizer, metrics, flat):
            gradients, counted = unravel(flat)
            gradients = [gradient / self.num_processes for gradient in gradients]
            weights, optimizer = model.optimizer.stateless_apply(optimizer, gradients, weights)
            metrics = [before + more for before, more in zip(metrics, counted)]
            with keras.StatelessScope(zip(model.metrics_variables, metrics)):
                logs = model.get_metrics_result()
            return logs, weights, optimizer, metrics

        if model.jit_compile:
            own, update = jax.jit(own, donate_argnums=1), jax.jit(update, donate_argnums=(0, 1, 2))

        def step(state, batches):
            nonlocal total
            total = total or self._total()
            # What has just been reset stands on no device, and would be compiled anew.
            weights, others, optimizer, metrics = jax.device_put(state, jax.local_devices()[0])
            others, flat = own(weights, others, optimizer, metrics, next(batches))
            logs, weights, optimizer, metrics = update(weights, optimizer, metrics, total(flat))
            return logs, (weights, others, optimizer, metrics)

        return step

    def _total(self):
        """A function that adds up an array over all processes."""
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        count = self.num_processes
        firsts = [
            next(device for device in jax.devices() if device.process_index == process)
            for process in range(count)
        ]
        mesh = Mesh(firsts, ("processes",))
        split, whole = (NamedSharding(mesh, PartitionSpec(*some)) for some in (["processes"], []))
        add = jax.jit(lambda rows: jax.numpy.sum(rows, axis=0), out_shardings=whole)

        def total(flat):
            shape = (count, *flat.shape)
            rows = jax.make_array_from_single_device_arrays(shape, split, [flat[None]])
            return add(rows).addressable_data(0)

        return total


def _draws_by_rows(layer):
    """Whether a layer draws numbers for the rows of a batch while it is trained."""
    if not layer._seed_generators or isinstance(layer, NoisyWeights):
        return False
    rates = [getattr(layer, name, None) for name in ("dropout", "recurrent_dropout")]
    return any(rate is None or rate > 0 for rate in rates)


@contextlib.contextmanager
def last_words():
    """Gives a function of a line, which a shell says where this process ends before the context.

    JAX's runtime aborts the process where others are missing, by C++ whose many lines go nowhere
    here, on either stream. A line takes the place of the one before.
    """
    with outlived_by('echo "$line"') as words, _python_alone("stdout"), _python_alone("stderr"):
        yield words


@contextlib.contextmanager
def _python_alone(name):
    """Leaves a stream of this process, "stdout" or "stderr", to Python, and C++ nothing of it."""
    python = getattr(sys, name)
    python.flush()
    descriptor = {"stdout": 1, "stderr": 2}[name]
    kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
    text = {"encoding": python.encoding, "errors": python.errors}
    setattr(sys, name, os.fdopen(kept, "w", buffering=1, **text))
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        getattr(sys, name).close()
        setattr(sys, name, python)
