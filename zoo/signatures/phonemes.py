"""Audio in, phonemes with their times out."""

from ...layers import ctc_beam_search, ctc_best_path
from ._speech import of_samples, of_wav, spelled, timed

BEAM, N_BEST = 20, 5


def ctc_signatures(model, task):
    """`serve` and `decode`: samples or wav files in, the phonemes heard out; `beam`: more of them.

    `beam` reads wav files by a beam search of 20 hypotheses, and gives the best five.
    """
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))
    step = model.get_layer("features").step

    def logits_of(audio, lengths):
        """With a frame more, in case there is none; it is padding."""
        logits = model({"audio": audio, "lengths": lengths})["phonemes"]
        frames = tf.fill(tf.shape(lengths), tf.shape(logits)[1])
        return logits, tf.pad(logits, [[0, 0], [0, 1], [0, 0]]), frames

    def hear(audio, lengths):
        logits, padded, frames = logits_of(audio, lengths)
        phonemes, starts = timed(*ctc_best_path(padded, frames), names, step)
        return {"phonemes": phonemes, "starts": starts, "posteriors": tf.nn.softmax(logits)}

    def beam(audio, lengths):
        _, padded, frames = logits_of(audio, lengths)
        labels, _, scores = ctc_beam_search(padded, frames, BEAM, n_best=N_BEST)
        return {"phonemes": spelled(labels, names)[0], "log_probability": scores}

    outputs = {
        "phonemes": "what was heard, (batch, phonemes); empty behind the last",
        "starts": "when each begins, in seconds, (batch, phonemes); -1 behind the last",
        "posteriors": "probabilities of blank and of each phoneme, (batch, frames, classes)",
    }
    best = {
        "phonemes": f"the {N_BEST} most probable answers, the best first, "
        f"(batch, {N_BEST}, phonemes); empty behind the last",
        "log_probability": f"of each answer, in nats, (batch, {N_BEST})",
    }
    return {
        "serve": of_samples(hear, task, outputs),
        "decode": of_wav(hear, task, outputs),
        "beam": of_wav(beam, task, best),
    }
