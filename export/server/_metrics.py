"""Prometheus metrics under the names that TensorFlow Serving gives them."""

import bisect
import collections
import threading

BOUNDS = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds of the latency buckets, in microseconds."""

_HELP = {
    "request_count": "The total number of requests.",
    "request_latency": "Distribution of wall time (in microseconds) for requests.",
    "runtime_latency": "Distribution of wall time (in microseconds) for Tensorflow runtime.",
    "model_warmup_latency": "Distribution of wall time (in microseconds) for warming up the model.",
}
CONTENT_TYPE = "text/plain"


class Metrics:
    """Counters and latency histograms; `text` is what Prometheus reads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counts = collections.Counter()
        self._histograms = {}

    def count(self, name, **labels):
        """Adds one to a counter."""
        with self._lock:
            self._counts[name, tuple(labels.items())] += 1

    def observe(self, name, seconds, **labels):
        """Enters a duration into a histogram of microseconds."""
        micros = seconds * 1e6
        place = bisect.bisect_left(BOUNDS, micros)
        key = name, tuple(labels.items())
        with self._lock:
            if key not in self._histograms:
                self._histograms[key] = [[0] * (len(BOUNDS) + 1), 0.0]
            histogram = self._histograms[key]
            histogram[0][place] += 1
            histogram[1] += micros

    def text(self):
        """All metrics in Prometheus's text format."""
        with self._lock:
            counts = sorted(self._counts.items())
            histograms = sorted((key, (list(h[0]), h[1])) for key, h in self._histograms.items())
        families = collections.defaultdict(list)
        for (name, labels), value in counts:
            families[name, "counter"].append(f"{_full(name)}{_labels(labels)} {value}")
        for (name, labels), (buckets, total) in histograms:
            lines, seen = families[name, "histogram"], 0
            for bound, number in zip((*BOUNDS, None), buckets):
                seen += number
                upper = "+Inf" if bound is None else f"{bound:g}"
                lines.append(f"{_full(name)}_bucket{_labels((*labels, ('le', upper)))} {seen}")
            lines.append(f"{_full(name)}_sum{_labels(labels)} {total:g}")
            lines.append(f"{_full(name)}_count{_labels(labels)} {seen}")
        parts = []
        for (name, kind), lines in families.items():
            parts += [f"# HELP {_full(name)} {_HELP[name]}", f"# TYPE {_full(name)} {kind}", *lines]
        return "\n".join([*parts, ""])


def _full(name):
    return f":tensorflow:serving:{name}"


def _labels(labels):
    escape = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{key}="{str(value).translate(escape)}"' for key, value in labels) + "}"
