"""Models that keep their state from batch to batch, where running text is learnt and measured."""

import keras
from keras import ops

BEGINS = "begins"


class Stateful(keras.Model):
    """A model of a fixed number of rows that goes on, at each call, where its rows stopped.

    The states of layers that return them, or of such layers with noise around them, are variables
    here. So gradients stop at the end of a batch, and what is kept of a run has the state in it.

    Args:
        model: a functional model, whose weights these are.
        rows: of every batch.
        trains: whether layers shall know that they are trained, and make noise, where this model
            is.

    Call arguments:
        inputs: as those of the model, with `begins`, `(rows,)`: rows that are not 0 begin anew.
            Without it the model is called as it is.
    """

    def __init__(self, model, rows, trains=True):
        super().__init__()
        self.model, self.rows, self.trains = model, rows, trains
        self.states = []

        def going_on(layer):
            if not getattr(getattr(layer, "layer", layer), "return_state", False):
                return layer
            layer = _GoingOn(layer, rows)
            self.states += layer.states
            return layer

        self.reader = keras.models.clone_model(model, clone_function=going_on)

    @property
    def input(self):
        """The inputs by name."""
        return {**self.model.input, BEGINS: None}

    @property
    def output(self):
        """The outputs by name."""
        return self.model.output

    def call(self, inputs, training=False):
        training = bool(training) and self.trains
        if BEGINS not in inputs:
            return self.model(inputs, training=training)
        # Loops want to know the rows, which Keras does not tell of the batches of a stream.
        inputs = {
            name: ops.reshape(x, (self.rows, *(-1 if n is None else n for n in x.shape[1:])))
            for name, x in inputs.items()
        }
        begins = ops.cast(inputs.pop(BEGINS), "bool")[:, None]
        for state in self.states:
            state.assign(ops.where(begins, ops.zeros_like(state.value), state.value))
        return self.reader(inputs, training=training)


def plain(model):
    """The model that begins anew with every call."""
    return model.model if isinstance(model, Stateful) else model


class _GoingOn(keras.layers.Layer):
    """A layer that begins with the state in which it ended."""

    def __init__(self, layer, rows):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        _, *states = layer.output
        self.states = [
            self.add_weight((rows, *state.shape[1:]), "zeros", state.dtype, trainable=False)
            for state in states
        ]
        self.built = True

    def call(self, inputs, training=False, **kwargs):
        begin = [ops.stop_gradient(state.value) for state in self.states]
        output, *end = self.layer(inputs, initial_state=begin, training=training, **kwargs)
        for state, value in zip(self.states, end):
            state.assign(value)
        return output, *end

    def compute_output_spec(self, inputs, training=False, **kwargs):
        return self.layer.compute_output_spec(inputs, **kwargs)
