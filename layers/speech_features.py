"""Audio into frames of features, within the model, and their normalisation."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ._base import serializable, sum_dtype, whole


class _SpeechFeatures(keras.layers.Layer):
    """What `LogMel` and `MFCC` share; they say what of the mel bands is kept."""

    def __init__(
        self,
        rate: int,
        window: float,
        step: float,
        bands: int,
        lowest_frequency: float,
        highest_frequency: float,
        energy: bool,
        deltas: int,
        delta_window: int,
        preemphasis: float,
        floor: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Half precision would hear the audio in 11 bits.
        self.autocast = False
        self.rate = whole("rate", rate, 1)
        self.window, self.step = float(window), float(step)
        for name, seconds in (("window", self.window), ("step", self.step)):
            if not round(seconds * self.rate) >= 1:
                raise ValueError(
                    f"{name} must be in seconds, and one sample or more at {rate} Hz; got {seconds}"
                )
        self.bands = whole("bands", bands, 1)
        self.lowest_frequency, self.highest_frequency = lowest_frequency, highest_frequency
        self.energy = bool(energy)
        self.deltas = whole("deltas", deltas, 0)
        self.delta_window = whole("delta_window", delta_window, 1)
        if not 0 <= preemphasis < 1:
            raise ValueError(f"preemphasis must lie in [0, 1); got {preemphasis!r}")
        if not floor > 0:
            raise ValueError(f"floor must be positive; got {floor!r}")
        self.preemphasis, self.floor = float(preemphasis), float(floor)
        self._samples = round(self.window * self.rate)
        self._hop = round(self.step * self.rate)
        self._size = 2 ** (self._samples - 1).bit_length()
        highest = self.rate / 2 if highest_frequency is None else highest_frequency
        if not 0 <= lowest_frequency < highest <= self.rate / 2:
            raise ValueError(
                "lowest_frequency and highest_frequency must rise between 0 and half the rate, "
                f"{self.rate / 2} Hz; got {lowest_frequency!r} and {highest_frequency!r}"
            )
        self._mel = _mel_filters(self._size, self.rate, self.bands, lowest_frequency, highest)

    def call(self, audio, lengths):
        audio = ops.convert_to_tensor(audio)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(audio.dtype)):
            raise ValueError(
                "audio must be of floats between -1 and 1 (int16 samples are divided by 32768); "
                f"got {audio.dtype}"
            )
        audio = ops.cast(audio, sum_dtype(self.compute_dtype))
        samples = ops.shape(audio)[1]
        lengths = ops.minimum(ops.cast(lengths, "int32"), samples)
        real = ops.arange(samples, dtype="int32") < lengths[:, None]
        # What stands in the padding may be no number at all, and its gradient is to be none.
        frames = self._frames(ops.where(real, audio, ops.zeros_like(audio)), samples)
        lengths = ops.maximum(0, 1 + (lengths - self._samples) // self._hop)
        places = ops.arange(ops.shape(frames)[1], dtype="int32")
        real = (places < lengths[:, None])[:, :, None]
        orders = [self._static(frames)]
        for _ in range(self.deltas):
            orders.append(self._delta(orders[-1], lengths, places, real))
        features = ops.concatenate(orders, axis=-1)
        features = ops.where(real, features, ops.zeros_like(features))
        return ops.cast(features, self.compute_dtype), lengths

    def _count(self, samples):
        """How many whole windows fit."""
        if isinstance(samples, int):
            return max(0, 1 + (samples - self._samples) // self._hop)
        return ops.maximum(0, 1 + (samples - self._samples) // self._hop)

    def _frames(self, audio, samples):
        starts = self._hop * ops.arange(self._count(samples), dtype="int32")
        within = ops.arange(self._samples, dtype="int32")
        return ops.take(audio, starts[:, None] + within, axis=1)

    def _static(self, frames):
        """Spectral features, and log energy, of `(batch, frames, samples)`."""
        before = ops.concatenate([frames[:, :, :1], frames[:, :, :-1]], axis=-1)
        shaped = (frames - self.preemphasis * before) * self._constant(np.hamming(self._samples))
        # TensorFlow's own padding forgets batches without a frame.
        shaped = ops.pad(shaped, [[0, 0], [0, 0], [0, self._size - self._samples]])
        real, imaginary = ops.rfft(shaped, self._size)
        power = ops.square(real) + ops.square(imaginary)
        features = self._spectral(self._log(ops.matmul(power, self._constant(self._mel))))
        if not self.energy:
            return features
        energy = self._log(ops.sum(ops.square(frames), axis=-1, keepdims=True))
        return ops.concatenate([features, energy], axis=-1)

    def _delta(self, features, lengths, places, real):
        """Slopes of the regression lines through each frame and its neighbours."""
        last = ops.where(places[:, None] == lengths[:, None, None] - 1, features, 0.0)
        held = ops.where(real, features, ops.sum(last, axis=1, keepdims=True))
        top = ops.shape(features)[1] - 1
        total = ops.zeros_like(features)
        for reach in range(1, self.delta_window + 1):
            after = ops.take(held, ops.minimum(places + reach, top), axis=1)
            before = ops.take(held, ops.maximum(places - reach, 0), axis=1)
            total = total + reach * (after - before)
        return total / (2 * sum(reach**2 for reach in range(1, self.delta_window + 1)))

    def _log(self, values):
        return ops.log(ops.maximum(values, self._constant(self.floor)))

    def _constant(self, array):
        return ops.convert_to_tensor(array, dtype=sum_dtype(self.compute_dtype))

    def compute_output_spec(self, audio, lengths):
        batch, samples = audio.shape
        frames = None if samples is None else self._count(samples)
        width = (self._width + self.energy) * (1 + self.deltas)
        return (
            keras.KerasTensor((batch, frames, width), dtype=self.compute_dtype),
            keras.KerasTensor((batch,), dtype="int32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "window": self.window,
            "step": self.step,
            "bands": self.bands,
            "lowest_frequency": self.lowest_frequency,
            "highest_frequency": self.highest_frequency,
            "energy": self.energy,
            "deltas": self.deltas,
            "delta_window": self.delta_window,
            "preemphasis": self.preemphasis,
            "floor": self.floor,
        }


@serializable
class LogMel(_SpeechFeatures):
    """Logarithms of the energy in mel bands, log energy, and their derivatives in time.

    The input of Graves, Mohamed and Hinton (2013, section 3): 40 bands and the energy with first
    and second derivatives, 123 features a frame. Per frame, as HTK does it: x[n] - preemphasis *
    x[n - 1] (the first sample is its own predecessor), a Hamming window, the power spectrum of the
    next power of two samples, triangular filters that are equally wide on the mel scale 1127 ln(1 +
    f / 700), logarithm. (HTK adds up magnitudes unless told otherwise; these are powers.) The
    energy is that of the frame as it was recorded. A derivative is the slope of a regression line,
    sum of r (x[t + r] - x[t - r]) over r from 1 to `delta_window`, over 2 sum r^2, where a row's
    first and last frame go on beyond its ends.

    There are only whole frames, as in HTK and `tf.signal.frame`: 1 + (samples - window) // step of
    them, and none where a row is shorter than a window. Nothing of the padding gets into them.

    Args:
        rate: samples a second.
        window: length of a frame in seconds.
        step: seconds from one frame to the next.
        bands: how many mel bands.
        lowest_frequency: where the first band begins, in Hz.
        highest_frequency: where the last band ends, in Hz; None is half the rate.
        energy: whether the last feature is the log energy.
        deltas: how many orders of derivatives follow.
        delta_window: how many frames on each side a derivative sees.
        preemphasis: how much of the sample before is taken off each.
        floor: energies are no less than this, so that silence has a logarithm.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        audio: `(batch, samples)`, floats from -1 to 1.
        lengths: `(batch,)` integers, how many samples of each row are real.

    Returns:
        Features `(batch, frames, (bands + energy) * (1 + deltas))`: bands, energy, then the first
        derivatives of all of them, and so on; 0 beyond the frames of a row. They are computed in
        float32 under mixed precision. Then how many frames of each row are real, `(batch,)` int32.

    Raises:
        ValueError: an argument is out of its range, a band is so narrow that no frequency of the
            spectrum falls into it, or the audio is of integers.

    Masking:
        None is read or made; `SequenceMask` makes one of the second output.

    Example:
        >>> layer = LogMel(rate=8000)
        >>> features, lengths = layer(keras.ops.ones((2, 480)), keras.ops.array([480, 300]))
        >>> features.shape, lengths.numpy().tolist()
        (TensorShape([2, 4, 123]), [4, 2])

    Reference:
        Graves, Mohamed and Hinton, "Speech Recognition with Deep Recurrent Neural Networks", 2013,
        arXiv:1303.5778. Young et al., "The HTK Book", 2006, chapter 5.
    """

    def __init__(
        self,
        rate: int = 16000,
        window: float = 0.025,
        step: float = 0.010,
        bands: int = 40,
        lowest_frequency: float = 0.0,
        highest_frequency: float | None = None,
        energy: bool = True,
        deltas: int = 2,
        delta_window: int = 2,
        preemphasis: float = 0.97,
        floor: float = 1e-10,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            rate,
            window,
            step,
            bands,
            lowest_frequency,
            highest_frequency,
            energy,
            deltas,
            delta_window,
            preemphasis,
            floor,
            **kwargs,
        )

    @property
    def _width(self):
        return self.bands

    def _spectral(self, log_mel):
        return log_mel


@serializable
class MFCC(_SpeechFeatures):
    """Mel-frequency cepstral coefficients, log energy, and their derivatives in time.

    The cosine transform of the log mel bands m_1 .. m_M of `LogMel`: c_i is the square root of 2 /
    M times the sum of m_j cos(pi i (j - 1/2) / M), for i from 1 on; the energy stands in the place
    of c_0. There is no lifter: it scales features, and `FeatureNormalization` undoes that.

    12 coefficients and the energy with first derivatives (`deltas=1`) are the 26 features of Graves
    (2006 and 2012), with second ones the 39 of Fernandez, Graves and Schmidhuber (2008).

    Args:
        coefficients: how many; fewer than `bands`.
        rate, window, step, bands, lowest_frequency, highest_frequency, energy, deltas,
            delta_window, preemphasis, floor: as in `LogMel`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        audio: `(batch, samples)`, floats from -1 to 1.
        lengths: `(batch,)` integers, how many samples of each row are real.

    Returns:
        Features `(batch, frames, (coefficients + energy) * (1 + deltas))` and how many frames of
        each row are real, `(batch,)` int32, as in `LogMel`.

    Raises:
        ValueError: as in `LogMel`, or `coefficients` is not less than `bands`.

    Masking:
        None is read or made; `SequenceMask` makes one of the second output.

    Example:
        >>> layer = MFCC(rate=8000)
        >>> features, lengths = layer(keras.ops.ones((2, 480)), keras.ops.array([480, 300]))
        >>> features.shape, lengths.numpy().tolist()
        (TensorShape([2, 4, 39]), [4, 2])

    Reference:
        Fernandez, Graves and Schmidhuber, "Phoneme recognition in TIMIT with BLSTM-CTC", 2008,
        arXiv:0804.3269. Young et al., "The HTK Book", 2006, section 5.6.
    """

    def __init__(
        self,
        coefficients: int = 12,
        rate: int = 16000,
        window: float = 0.025,
        step: float = 0.010,
        bands: int = 26,
        lowest_frequency: float = 0.0,
        highest_frequency: float | None = None,
        energy: bool = True,
        deltas: int = 2,
        delta_window: int = 2,
        preemphasis: float = 0.97,
        floor: float = 1e-10,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            rate,
            window,
            step,
            bands,
            lowest_frequency,
            highest_frequency,
            energy,
            deltas,
            delta_window,
            preemphasis,
            floor,
            **kwargs,
        )
        self.coefficients = whole("coefficients", coefficients, 1)
        if self.coefficients >= self.bands:
            raise ValueError(
                f"coefficients must be fewer than the {self.bands} bands; got {coefficients}"
            )
        middles, orders = np.arange(self.bands) + 0.5, np.arange(1, self.coefficients + 1)
        self._cosines = np.sqrt(2 / self.bands) * np.cos(
            np.pi / self.bands * middles[:, None] * orders
        )

    @property
    def _width(self):
        return self.coefficients

    def _spectral(self, log_mel):
        return ops.matmul(log_mel, self._constant(self._cosines))

    def get_config(self):
        return {**super().get_config(), "coefficients": self.coefficients}


def _mel(frequency):
    return 1127 * np.log1p(np.asarray(frequency) / 700)


def _mel_filters(size, rate, bands, lowest, highest):
    """`(size // 2 + 1, bands)`: what each frequency of a spectrum weighs in each band."""
    edges = np.linspace(_mel(lowest), _mel(highest), bands + 2)
    place = _mel(np.arange(size // 2 + 1) * rate / size)[:, None]
    width = edges[1] - edges[0]
    filters = np.maximum(0, 1 - np.abs(place - edges[1:-1]) / width)
    empty = np.flatnonzero(~filters.any(axis=0))
    if empty.size:
        raise ValueError(
            f"each of the {bands} mel bands must hold a frequency of the spectrum, which are "
            f"{rate / size:g} Hz apart; number {empty[0]} holds none: fewer bands, a longer window "
            "or a higher lowest_frequency will do"
        )
    return filters


@serializable
class FeatureNormalization(keras.layers.Layer):
    """Makes every feature zero on average, with standard deviation 1, by the training set.

    The statistics are weights that no gradient reaches, and are saved with the model. Until `adapt`
    has found them features pass unchanged. (`keras.layers.Normalization` counts padded frames.)

    Args:
        centred: whether to take its own mean from every feature of an utterance first, and with it
            what a voice, a room or a microphone adds to all frames (cepstral mean subtraction).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, frames, features)`.
        mask: optional `(batch, frames)` boolean, True at real frames.

    Returns:
        `(batch, frames, features)`, (features - mean) / standard deviation, computed in float32
        under mixed precision; 0 at frames that are masked. A feature that never varies is centred
        only.

    Masking:
        Passed on.

    Example:
        >>> mask = keras.ops.array([[True, True, True], [True, False, False]])
        >>> FeatureNormalization()(keras.ops.ones((2, 3, 4)), mask=mask).shape
        TensorShape([2, 3, 4])

    Reference:
        Graves, Mohamed and Hinton, 2013, arXiv:1303.5778, section 3.
    """

    def __init__(self, centred: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.centred = bool(centred)
        self.autocast = False
        self.supports_masking = True

    def build(self, features_shape):
        if features_shape[-1] is None:
            raise ValueError(f"the number of features must be known; got {tuple(features_shape)}")
        dtype = sum_dtype(self.compute_dtype)
        weight = {"shape": features_shape[-1:], "dtype": dtype, "trainable": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", autocast=False, **weight)
        self.standard_deviation = self.add_weight(
            name="standard_deviation", initializer="ones", autocast=False, **weight
        )

    def adapt(self, batches):
        """Takes mean and standard deviation from data, in place of those there were.

        Args:
            batches: iterable of (features `(batch, frames, features)`, lengths `(batch,)`), arrays
                or tensors, read once; frames from a row's length on do not count.

        Raises:
            ValueError: there is no frame, batches have different numbers of features, or a real
                frame holds something that is no finite number.
        """
        count, mean, squares = 0, 0.0, 0.0
        for features, lengths in batches:
            features = np.asarray(ops.convert_to_numpy(features), "float64")
            lengths = ops.convert_to_numpy(lengths)
            if count and features.shape[-1:] != mean.shape:
                raise ValueError(f"expected {len(mean)} features; got {features.shape}")
            real = np.arange(features.shape[1]) < lengths[:, None]
            if self.centred:
                total = np.sum(features, axis=1, where=real[..., None], keepdims=True)
                features = features - total / np.maximum(lengths, 1)[:, None, None]
            frames = features[real]
            if not np.isfinite(frames).all():
                raise ValueError("expected finite numbers in real frames; got others")
            if not len(frames):
                continue
            # Two parts' sums of squared distances from their own means make that of the whole.
            here, both = frames.mean(axis=0), count + len(frames)
            squares = squares + np.square(frames - here).sum(axis=0)
            squares = squares + np.square(here - mean) * count * len(frames) / both
            mean = mean + (here - mean) * len(frames) / both
            count = both
        if not count:
            raise ValueError("expected batches with one real frame or more; got none")
        if not self.built:
            self.build((None, None, len(mean)))
            self.built = True
        deviation = np.sqrt(squares / count)
        varies = deviation > 1e-6 * np.maximum(1, np.abs(mean))
        self.mean.assign(mean)
        self.standard_deviation.assign(np.where(varies, deviation, 1))

    def call(self, features, mask=None):
        features = ops.cast(features, sum_dtype(self.compute_dtype))
        real = None if mask is None else ops.cast(mask, "bool")[:, :, None]
        if self.centred:
            features = features - _mean(features, real)
        features = (features - self.mean) / self.standard_deviation
        if real is not None:
            features = ops.where(real, features, ops.zeros_like(features))
        return ops.cast(features, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "centred": self.centred}

    def compute_output_spec(self, features, mask=None):
        return keras.KerasTensor(features.shape, dtype=self.compute_dtype)


def _mean(features, real):
    """`(batch, 1, features)`, over real frames, `(batch, frames, 1)` boolean, or all; 0 of none."""
    if real is None:
        real = ops.ones_like(features[:, :, :1], "bool")
    total = ops.sum(ops.where(real, features, ops.zeros_like(features)), axis=1, keepdims=True)
    count = ops.sum(ops.cast(real, features.dtype), axis=1, keepdims=True)
    return total / ops.maximum(count, 1)
