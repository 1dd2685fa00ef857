"""Sequence transducers: a prediction network beside the transcription network, and their joint."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import OwnDense, sequence_spec, serializable, sum_dtype, whole
from ._recurrent_loop import lstm_step
from .ctc_loss import sure_of_blank
from .peephole_lstm import PeepholeLSTM
from .transducer_search import transducer_greedy


@serializable
class OneHotLabels(keras.layers.Layer):
    """Labels as the prediction network of a transducer reads them (Graves, 2012, section 2.1).

    Args:
        classes: of labels, blank included.
        blank: the class that puts out nothing, here the null symbol before the first label.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        labels: integers of any shape.

    Returns:
        `(..., classes - 1)`: 1 at the place of the label among all but blank; zeros for blank and
        for negative numbers, which are padding.

    Raises:
        ValueError: `blank` is no class, or there is no class besides.

    Example:
        >>> OneHotLabels(3)(keras.ops.array([[0, 2, 1]])).numpy().tolist()
        [[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711.
    """

    def __init__(self, classes: int, blank: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False
        self.classes = whole("classes", classes, 2)
        self.blank = whole("blank", blank, 0)
        if self.blank >= self.classes:
            raise ValueError(f"blank must be a class, 0 to {classes - 1}; got {blank!r}")

    def call(self, labels):
        labels = ops.cast(labels, "int32")
        there = ops.logical_and(labels >= 0, labels != self.blank)
        place = ops.where(labels > self.blank, labels - 1, labels)
        vectors = ops.one_hot(ops.where(there, place, 0), self.classes - 1)
        vectors = ops.cast(vectors, self.compute_dtype)
        return vectors * ops.cast(there, self.compute_dtype)[..., None]

    def compute_output_spec(self, labels):
        return keras.KerasTensor((*labels.shape, self.classes - 1), dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "blank": self.blank}


@serializable
class RNNTransducer(keras.layers.Layer):
    """What turns the output of a transcription network into that of a transducer (Graves, 2012).

    A prediction network, an LSTM, reads the labels so far, as one-hot vectors, the null symbol as
    zeros. Its row p_u after u labels and the row f_t of the transcription network make the logits
    of what follows at frame t after u labels. In the first paper (sections 2.1 and 2.2) they are
    added,

        logits = W_f f_t + b_f + W_p p_u + b_p,

    in the second (Graves, Mohamed and Hinton, 2013, section 3.2) joined by a hidden layer,

        logits = W_y tanh(W_f f_t + W_p p_u + b) + b_y.

    Args:
        classes: of labels, blank included.
        units: of the prediction network.
        joint_units: of the hidden layer, or 0 to add.
        blank: the class that puts out nothing.
        max_symbols: the most labels that greedy decoding takes from a frame.
        peepholes: of the prediction network.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        transcription: `(batch, time, features)`.
        labels: `(batch, labels)` integers, what is to be put out; negative behind the last.
        lengths: `(batch,)` integers, frames of each row.

    Returns:
        The logits of the lattice, `(batch, time, labels + 1, classes)`, sure of blank at padded
        frames; the labels that greedy decoding takes, `(batch, most)` int32, and the frames that
        emit them; -1 behind the last. No gradient goes through decoding, which does not look at
        `labels`.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        `lengths` say which frames are padding, a mask is not read. What padded frames hold, and
        labels behind the last, has no influence on the loss.

    Example:
        >>> layer = RNNTransducer(classes=5, units=4, joint_units=3)
        >>> lattice, labels, frames = layer(
        ...     keras.ops.ones((2, 3, 6)),
        ...     labels=keras.ops.array([[1, 2], [3, -1]]),
        ...     lengths=keras.ops.array([3, 3]),
        ... )
        >>> lattice.shape
        TensorShape([2, 3, 3, 5])

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711;
        Graves, Mohamed and Hinton, 2013, arXiv:1303.5778.
    """

    def __init__(
        self,
        classes: int,
        units: int,
        joint_units: int = 0,
        blank: int = 0,
        max_symbols: int = 4,
        peepholes: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.joint_units = whole("joint_units", joint_units, 0)
        self.max_symbols = whole("max_symbols", max_symbols, 1)
        self.supports_masking = True
        options = {"dtype": self.dtype_policy}
        self.spoken = OneHotLabels(classes, blank, name="spoken", **options)
        self.classes, self.blank = self.spoken.classes, self.spoken.blank
        self.prediction = PeepholeLSTM(units, peepholes=peepholes, name="prediction", **options)
        width = self.joint_units or self.classes
        self.from_transcription = keras.layers.Dense(width, name="from_transcription", **options)
        self.from_prediction = OwnDense(
            width, use_bias=not self.joint_units, name="from_prediction", **options
        )
        self.readout = None
        if self.joint_units:
            self.readout = OwnDense(self.classes, name="readout", **options)

    def build(self, transcription_shape, labels_shape=None, lengths_shape=None):
        sequence_spec("RNNTransducer", transcription_shape, "transcription")
        for layer, width in (
            (self.prediction, self.classes - 1),
            (self.from_transcription, transcription_shape[-1]),
            (self.from_prediction, self.units),
            (self.readout, self.joint_units),
        ):
            if layer is not None and not layer.built:
                layer.build((None, None, width))

    def call(self, transcription, labels, lengths, mask=None, training=False):
        labels = ops.cast(labels, "int32")
        start = ops.full((ops.shape(labels)[0], 1), self.blank, "int32")
        before = ops.concatenate([start, labels], axis=1)
        predicted = self.from_prediction(self.prediction(self.spoken(before), training=training))
        transcribed = self.from_transcription(ops.cast(transcription, self.compute_dtype))
        lattice = transcribed[:, :, None] + predicted[:, None]
        if self.readout:
            lattice = self.readout(ops.tanh(lattice))
        lattice = sure_of_blank(lattice, lengths, self.blank)
        decoder = self.decoder()
        found, moments, _ = transducer_greedy(
            decoder.predict,
            decoder.join,
            decoder.initial_state,
            ops.stop_gradient(transcribed),
            lengths,
            self.blank,
            self.max_symbols,
        )
        return lattice, found, moments

    def decoder(self):
        """`predict`, `join` and `initial_state`, as the searches want them, without gradients.

        Rows of the transcription are those behind `from_transcription`.
        """
        return _Decoder(self)

    def compute_output_spec(self, transcription, labels, lengths, mask=None, training=False):
        if not self.built:
            self.build(transcription.shape)
        (batch, time, _), places = transcription.shape, labels.shape[1]
        places = None if places is None else places + 1
        most = None if time is None else time * self.max_symbols
        found, moments = (keras.KerasTensor((batch, most), dtype="int32") for _ in range(2))
        lattice = (batch, time, places, self.classes)
        return keras.KerasTensor(lattice, dtype=self.compute_dtype), found, moments

    def compute_mask(self, transcription, labels=None, lengths=None, mask=None):
        return None, None, None

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "units": self.units,
            "joint_units": self.joint_units,
            "blank": self.blank,
            "max_symbols": self.max_symbols,
            "peepholes": self.prediction.peepholes,
        }


class _Decoder:
    """One step of the networks at a time; the weights are read once."""

    def __init__(self, layer):
        self.layer, cell = layer, layer.prediction
        self.dtype = sum_dtype(layer.compute_dtype)
        self.kernel, self.recurrent, self.bias, *peepholes = self._fixed(cell)
        self.peepholes = peepholes[0] if peepholes else None
        self.from_prediction = self._fixed(layer.from_prediction)
        self.readout = layer.readout and self._fixed(layer.readout)

    def _fixed(self, layer):
        return [
            ops.cast(ops.stop_gradient(backend.value(v)), self.dtype)
            for v in layer.trainable_variables
        ]

    def initial_state(self, rows):
        """h and c, zero."""
        return [ops.zeros((rows, self.layer.units), self.dtype)] * 2

    def predict(self, labels, state):
        """The row of the prediction network after one label more, and its state."""
        spoken = ops.cast(self.layer.spoken(labels), self.dtype)
        h, c = state
        z = spoken @ self.kernel + self.bias + h @ self.recurrent
        h, c = lstm_step(z, c, self.peepholes)
        return _affine(h, *self.from_prediction), [h, c]

    def join(self, transcribed, predicted):
        """The logits of what comes next."""
        joined = ops.cast(transcribed, self.dtype) + predicted
        return _affine(ops.tanh(joined), *self.readout) if self.readout else joined


def _affine(x, kernel, bias=None):
    return x @ kernel if bias is None else x @ kernel + bias
