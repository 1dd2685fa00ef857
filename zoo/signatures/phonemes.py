"""Audio in, phonemes with their times out."""

from ...layers import ctc_beam_search, ctc_best_path
from ._signature import handed_on
from ._speech import of_samples, of_wav, speech_notation, spelled, timed

BEAM, N_BEST = 20, 5


def signatures(model, task, told):
    """`serve` and `decode`: samples or wav files in, the phonemes heard out; `beam`: more of them.

    `beam` reads wav files by a beam search of 20 hypotheses, and gives the best five.
    """
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))
    step = model.get_layer("features").step

    def run(audio, lengths):
        """The answer, and its logits with a frame more, in case there is none; it is padding."""
        answer = model({"audio": audio, "lengths": lengths})
        frames = tf.fill(tf.shape(lengths), tf.shape(answer["phonemes"])[1])
        return answer, tf.pad(answer["phonemes"], [[0, 0], [0, 1], [0, 0]]), frames

    def hear(audio, lengths):
        answer, padded, frames = run(audio, lengths)
        phonemes, starts = timed(*ctc_best_path(padded, frames), names, step)
        posteriors = tf.nn.softmax(answer["phonemes"])
        heard = {"phonemes": phonemes, "starts": starts, "posteriors": posteriors}
        return heard | handed_on(answer, told)

    def beam(audio, lengths):
        answer, padded, frames = run(audio, lengths)
        labels, _, scores = ctc_beam_search(padded, frames, BEAM, n_best=N_BEST)
        heard = {"phonemes": spelled(labels, names)[0], "log_probability": scores}
        return heard | handed_on(answer, told)

    outputs = {
        "phonemes": "what was heard, (batch, phonemes); empty behind the last",
        "starts": "when each begins, in seconds, (batch, phonemes); -1 behind the last",
        "posteriors": "probabilities of blank and of each phoneme, (batch, frames, classes)",
        **told,
    }
    best = {
        "phonemes": f"the {N_BEST} most probable answers, the best first, "
        f"(batch, {N_BEST}, phonemes); empty behind the last",
        "log_probability": f"of each answer, in nats, (batch, {N_BEST})",
        **told,
    }
    classes = {"posteriors": ("blank", *task.phonemes)}
    return {
        "serve": of_samples(hear, task, outputs, classes),
        "decode": of_wav(hear, task, outputs, classes),
        "beam": of_wav(beam, task, best),
    }


def notation(task):
    """Wav files, by their names or as data URIs."""
    return speech_notation(task, "decode", "beam")
