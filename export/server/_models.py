"""The models that are served: which versions, in which state, and the runs of each.

`Model` is one loaded version. `Models` keeps the versions that a `ModelServerConfig` asks for: it
loads what appears, warms it up, lets it take over, and frees what is no longer wanted once the
last request to it is answered.
"""

import contextlib
import dataclasses
import os
import sys
import threading
import time

import grpc

from .. import _tensors
from .._config import check_config, versions_to_serve
from .._schema import BatchingParameters, read_text
from .._session import Session, StatusError, in_words
from .._version import BATCHING, DEFAULT_SIGNATURE, damaged_files, read_warmup
from ._batching import Batcher
from ._reading import LARGEST_FILL, read_tensors
from ._refusals import invalid, refuse

with _tensors.light_protos():
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import get_model_status_pb2

MOST_ENDED = 32
"""Versions of a model, and models, whose end is still told."""

FORSAKEN_SECONDS = 5.0
"""A run that nobody waits for may go on for so long."""

WARMUP_SECONDS = 600.0
"""For all warm-up requests of a version; one without an end would hold up all that come after."""

State = get_model_status_pb2.ModelVersionStatus.State


def _not_found(message):
    return refuse(grpc.StatusCode.NOT_FOUND, message)


@contextlib.contextmanager
def _told_in_words():
    """Callers know the signatures, not the nodes of the graph."""
    try:
        yield
    except StatusError as error:
        raise StatusError(error.code, in_words(error.message)) from None


def _join(names):
    return ",".join(sorted(names))


class Model:
    """One version of a model: its session and its signatures, warmed up.

    Args:
        name: the name it is served under.
        version: its number.
        directory: its version directory.
        batching: `BatchingParameters`, or None where requests run one by one.
        metrics: `Metrics` that the runs are entered into, or None.
        apart: whether its runs have threads of their own.

    Attributes:
        ended: whether its runs were ended so that they run again in the session that took over.

    Raises:
        StatusError: it cannot be loaded, or a warm-up request failed.
    """

    def __init__(self, name, version, directory, batching=None, metrics=None, apart=False):
        self.name, self.version, self.directory = name, version, directory
        self.leases, self.left, self.retired, self.ended = set(), {}, False, False
        self.batching, self._metrics, self._batcher = batching, metrics, None
        with _told_in_words():
            self.session = Session(directory, apart=apart)
        try:
            graph = meta_graph_pb2.MetaGraphDef.FromString(self.session.meta_graph)
            self.signatures = dict(graph.signature_def)
            self._aliases = {key: sorted(one.outputs) for key, one in self.signatures.items()}
            self._defaults = {
                key: _tensors.from_protos(one.defaults, LARGEST_FILL)
                for key, one in self.signatures.items()
            }
            if batching is not None:
                self._batcher = Batcher(self.session.run, batching)
            start = time.perf_counter()
            for request in _warmup(directory):
                left = start + WARMUP_SECONDS - time.perf_counter()
                self.predict(request, max(0.001, left))
            if metrics:
                took = time.perf_counter() - start
                metrics.observe("model_warmup_latency", took, model_path=directory, status="OK")
        except BaseException:
            self.close()
            raise

    def predict(self, request, timeout=None):
        """Answers a `PredictRequest` as `run` does."""
        name, inputs = request.model_spec.signature_name, read_tensors(request.inputs)
        return self.run(name, inputs, request.output_filter, timeout)

    def run(self, name, inputs, wanted=(), timeout=None):
        """Runs a signature.

        Args:
            name: the signature's; none for the default one.
            inputs: {input: array}; an error in place of an array tells that there is none.
            wanted: the outputs to answer with, in this order; none for all of them, by name.
            timeout: seconds, or None.

        Returns:
            {output: array}.

        Raises:
            StatusError: the inputs do not fit, or the run failed.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            text = f'Serving signature key "{name}" not found.'
            raise refuse(grpc.StatusCode.FAILED_PRECONDITION, text)
        signature = self.signatures[name]
        feeds = self._feeds(signature, self._defaults[name], inputs)
        aliases = self._outputs(signature, wanted) or self._aliases[name]
        fetches = [signature.outputs[alias].name for alias in aliases]
        # As in the stock server, only whole signatures are batched.
        run = self._batcher.run if self._batcher and not wanted else self.session.run
        start = time.perf_counter()
        with _told_in_words():
            arrays = run(feeds, fetches, timeout)
        if self._metrics:
            took = time.perf_counter() - start
            labels = {"model_name": self.name, "API": "Predict", "runtime": "TF1"}
            self._metrics.observe("runtime_latency", took, **labels)
        return dict(zip(aliases, arrays))

    @staticmethod
    def _feeds(signature, otherwise, inputs):
        wanted, sent, defaults = set(signature.inputs), set(inputs), set(otherwise)
        if len(sent) > len(wanted) or (len(sent) < len(wanted) and not defaults):
            raise invalid(
                f"input size does not match signature: {len(sent)}!={len(wanted)} "
                f"len({{{_join(sent)}}}) != len({{{_join(wanted)}}}). "
                f"Sent extra: {{{_join(sent - wanted)}}}. "
                f"Missing but required: {{{_join(wanted - sent)}}}."
            )
        feeds = {}
        for alias, info in sorted(signature.inputs.items()):
            if alias not in sent | defaults:
                raise invalid(
                    f"Signature input alias: {alias}(feed name: {info.name}) not found in request "
                    "and no default value provided. Inputs expected to be in the request "
                    f"{{{_join(sent)}}}, or default input alias set: {_join(defaults)}"
                )
            feeds[info.name] = inputs[alias] if alias in sent else otherwise[alias]
            if isinstance(feeds[info.name], Exception):
                raise invalid(f"tensor parsing error: {alias}")
        if sent - wanted:
            raise invalid(
                f"Inputs contains invalid name. Used request inputs: {_join(sent & wanted)}, "
                f"request input: {_join(sent)}"
            )
        return feeds

    @staticmethod
    def _outputs(signature, wanted):
        seen = []
        for alias in wanted:
            if alias not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} "
                    f"Outputs expected to be in the set {{{_join(signature.outputs)}}}."
                )
            if alias in seen:
                raise invalid(f"duplicate output tensor alias: {alias}")
            seen.append(alias)
        return seen

    def close(self):
        """Frees the session; no request may be under way."""
        if self._batcher:
            self._batcher.close()
        self.session.close()


@dataclasses.dataclass
class _Version:
    """What is known of a version, whether it is loaded or not."""

    directory: str
    stamp: tuple = ()
    state: int = State.START
    error: StatusError | None = None
    model: Model | None = None
    retries: int = 0
    retry_at: float = 0.0
    renew_at: float = 0.0


class Models:
    """The versions that a `ModelServerConfig` asks for.

    Args:
        config: `ModelServerConfig`.
        batching: None to run requests one by one, or the `BatchingParameters` of models that bring
            none of their own in `batching_params.pbtxt`.
        metrics: `Metrics`, or None.
        retries: how often the load of a version that appears later is tried again.
        retry_seconds: the time between.
        labels_early: whether a new label may mean a version that is not available yet.
        log: a function that is told, in a line, what happens to versions after the start.
        roots: directories, one of which must hold the base path of any model that `reload` asks
            for; the base paths of `config` are among them.

    Raises:
        StatusError: one of the versions did not load; none is kept then.
        ValueError: the configuration asks for what cannot be, or a model has no version to serve.
    """

    def __init__(
        self,
        config,
        batching=None,
        metrics=None,
        retries=5,
        retry_seconds=60.0,
        roots=(),
        labels_early=False,
        log=None,
    ):
        self._batching, self._metrics = batching, metrics
        self._labels_early, self._log = labels_early, log or (lambda text: None)
        self._replaced = []
        self._retries, self._retry_seconds = retries, retry_seconds
        self._versions, self._labels, self._blocks = {}, {}, {}
        self._lock, self._work = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._poll = None
        check_config(config)
        blocks = config.model_config_list.config
        bases = (block.base_path for block in blocks)
        self._roots = [os.path.realpath(root) for root in (*roots, *bases)]
        for block in blocks:
            found = versions_to_serve(block)
            if not found:
                raise ValueError(
                    f"model {block.name} has no version to serve in {block.base_path}; as in "
                    "TensorFlow Serving, no port opens before every model has one"
                )
            for number in sorted({*block.model_version_policy.specific.versions} - {*found}):
                self._log(f"{block.name}/{number} is not there yet, and loaded when it comes")
        try:
            with self._work:
                failures = self._serve(blocks, first=True)
            if failures:
                raise refuse(
                    grpc.StatusCode.UNKNOWN,
                    f"{len(failures)} servable(s) did not become available: {', '.join(failures)}",
                )
            for block in blocks:
                self._check_labels(block)
        except BaseException:
            self.close()
            raise
        self._labels = {block.name: dict(block.version_labels) for block in blocks}

    def watch(self, seconds, reread=None):
        """Looks for versions that come and go every so many seconds, until `close`.

        Args:
            seconds: between two looks.
            reread: a function that returns a new `ModelServerConfig`, or None for no change.
        """
        self._poll = threading.Thread(target=self._watch, args=(seconds, reread), daemon=True)
        self._poll.start()

    def _watch(self, seconds, reread):
        while not self._closed.wait(seconds):
            # Directories and files may vanish under one's hands; the next look sees what is left.
            try:
                config = reread and reread()
                if config:
                    self.reload(config, trusted=True)
                with self._work:
                    if not self._closed.is_set():
                        self._serve(list(self._blocks.values()))
                        self._end_forsaken()
            except Exception as error:
                print(f"what is served did not change: {error}", file=sys.stderr, flush=True)

    def _serve(self, blocks, first=False):
        """Brings what is loaded to what `blocks` ask for. Returns what failed, in words."""
        self._blocks = {block.name: block for block in blocks}
        failures = []
        for block in self._blocks.values():
            self._versions.setdefault(block.name, {})
            if not os.path.isdir(block.base_path):
                continue  # away for a moment: what is loaded goes on
            wanted = versions_to_serve(block)
            for number, directory in sorted(wanted.items()):
                roots = [*self._roots, block.base_path]
                failures += self._load(block.name, number, directory, roots, first)
            self._retire(block.name, wanted)
            self._forget(block.name, wanted)
        for name in list(self._versions):
            if name not in self._blocks:
                self._retire(name, {})
                self._forget(name, {})
        return failures

    def _forget(self, name, wanted):
        """Keeps the end of the highest versions that ever were, and of the models of late."""
        with self._lock:
            known = self._versions[name]
            ended = [n for n, one in known.items() if one.state == State.END and n not in wanted]
            for number in sorted(ended)[: -MOST_ENDED or None]:
                del known[number]
            gone = [
                name
                for name, known in self._versions.items()
                if name not in self._blocks
                and all(one.state == State.END for one in known.values())
            ]
            for name in gone[: -MOST_ENDED or None]:
                del self._versions[name]

    def _load(self, name, number, directory, roots, first):
        known = self._versions[name]
        version, stamp = known.get(number), _stamp(directory)
        # What failed is not loaded again before it is another directory.
        ended = (
            version and version.state == State.END and (not version.error or version.stamp != stamp)
        )
        if version is None or ended:
            version = _Version(directory, stamp, retries=0 if first else self._retries)
            with self._lock:
                known[number] = version
        elif version.state != State.LOADING or time.monotonic() < version.retry_at:
            return []
        version.state = State.LOADING
        try:
            _check_files(directory, roots)
            batching = self._batching and _batching_of(directory, self._batching)
            model = Model(name, number, directory, batching, self._metrics)
        except Exception as error:
            # Whatever a directory holds, the versions that are served go on.
            internal = refuse(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
            version.error = error if isinstance(error, StatusError) else internal
            version.retries -= 1
            version.retry_at = time.monotonic() + self._retry_seconds
            again = f"it is tried again in {self._retry_seconds:g} s"
            if version.retries < 0:
                version.state = State.END
                again = "it is left alone until another directory has its name"
            self._log(f"{name}/{number} did not load: {version.error}; {again}")
            return [f"{{{{name: {name} version: {number}}} due to error: {version.error}}}"]
        with self._lock:
            version.model, version.state, version.error = model, State.AVAILABLE, None
        if not first:
            self._log(f"{name}/{number} is loaded from {directory}")
        return []

    def _end_forsaken(self):
        """Ends runs that nobody waits for.

        A session can only end all of its runs. So another one takes over first, where those that
        somebody waits for run again.
        """
        now = time.monotonic()
        with self._lock:
            versions = [v for known in self._versions.values() for v in known.values() if v.model]
            for model in (version.model for version in versions):
                if model.retired and model.leases and set(model.left) == model.leases:
                    model.session.cancel()
            held = [
                version
                for version in versions
                if not version.model.retired
                and version.renew_at < now
                and any(since < now - FORSAKEN_SECONDS for since in version.model.left.values())
            ]
        for version in held:
            old, version.renew_at = version.model, now + self._retry_seconds
            try:
                # The runs that are to be ended may hold all threads that sessions share.
                new = Model(
                    old.name, old.version, old.directory, old.batching, self._metrics, apart=True
                )
            except Exception as error:
                self._log(f"{old.name}/{old.version} could not be loaded anew: {error}")
                continue
            with self._lock:
                version.model, version.renew_at = new, 0.0
                old.retired = old.ended = True
                idle = not old.leases
                if not idle:
                    self._replaced.append(old)
                    old.session.cancel()
            if idle:
                self._free(old)
            self._log(f"{old.name}/{old.version} was loaded anew to end runs that nobody waits for")

    def _retire(self, name, wanted):
        """Unloads what is not wanted, but not before something wanted is there."""
        known = self._versions[name]
        ready = any(known[number].state == State.AVAILABLE for number in wanted if number in known)
        if wanted and not ready:
            return
        idle = []
        with self._lock:
            for number, version in known.items():
                if number in wanted or version.state in (State.UNLOADING, State.END):
                    continue
                if version.model is None:
                    version.state = State.END
                else:
                    version.state, version.model.retired = State.UNLOADING, True
                    if not version.model.leases:
                        idle.append(version.model)
        for model in idle:
            self._free(model)

    def _free(self, model):
        # Out of reach first: `cancel` must not find a session that is being freed.
        with self._lock:
            versions = [v for v in self._versions.get(model.name, {}).values() if v.model is model]
            for version in versions:
                version.model = None
            if model in self._replaced:
                self._replaced.remove(model)
        model.close()
        with self._lock:
            for version in versions:
                version.state = State.END

    @contextlib.contextmanager
    def use(self, spec, caller=None):
        """The `Model` that a `ModelSpec` means, kept alive for a `with` block.

        Args:
            spec: the message.
            caller: `Caller` that the block works for, or None.

        Raises `StatusError` where there is none.
        """
        lease = object()
        with self._lock:
            model = self._find(spec)
            model.leases.add(lease)

        def leave():
            with self._lock:
                if lease in model.leases:
                    model.left[lease] = time.monotonic()

        if caller:
            caller.on_leave(leave)
        try:
            yield model
        finally:
            with self._lock:
                model.leases.remove(lease)
                model.left.pop(lease, None)
                last = model.retired and not model.leases
            if last:
                self._free(model)

    def _find(self, spec):
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        available = self._available(spec.name)
        number = max(available, default=None)
        wanted = f"Latest({spec.name})"
        if spec.version_label:
            number = self._labels.get(spec.name, {}).get(spec.version_label)
            if number is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        elif spec.HasField("version"):
            number = spec.version.value
        if number is not None:
            wanted = f"Specific({spec.name}, {number})"
        if number not in available:
            raise _not_found(f"Servable not found for request: {wanted}")
        return available[number]

    def states(self, spec):
        """`(number, state, error or None)` of the versions that a `ModelSpec` means, highest first.

        Raises `StatusError` where there is none.
        """
        with self._lock:
            known = {
                number: (number, version.state, version.error)
                for number, version in self._versions.get(spec.name, {}).items()
            }
        # Labels are not looked at.
        if spec.HasField("version"):
            number = spec.version.value
            if number not in known:
                raise _not_found(f"Could not find version {number} of model {spec.name}")
            return [known[number]]
        if not known:
            raise _not_found(f"Could not find any versions of model {spec.name}")
        return [known[number] for number in sorted(known, reverse=True)]

    def overview(self):
        """Name -> `(labels, states, model)`, for people.

        The labels are a dict, the states as of `states`, lowest first; the model is the newest
        `Model` that is available, or None.
        """
        with self._lock:
            return {
                name: (
                    dict(self._labels.get(name, {})),
                    [
                        (number, known[number].state, known[number].error)
                        for number in sorted(known)
                    ],
                    max(self._available(name).items(), default=(0, None))[1],
                )
                for name, known in sorted(self._versions.items())
            }

    def knows(self, name):
        """Whether there is, or was, a model of that name."""
        with self._lock:
            return name in self._versions

    def _available(self, name):
        return {
            number: version.model
            for number, version in self._versions.get(name, {}).items()
            if version.state == State.AVAILABLE
        }

    def __iter__(self):
        with self._lock:
            versions = [v for known in self._versions.values() for v in known.values()]
            return iter([v.model for v in versions if v.state == State.AVAILABLE])

    def reload(self, config, trusted=False):
        """Serves what another configuration asks for; models it leaves out go.

        Returns when all models that are new have loaded.

        Args:
            config: `ModelServerConfig`.
            trusted: whether it may name any directory.

        Raises:
            StatusError: the configuration is refused and nothing changed, or a model that is new
                did not load.
        """
        blocks = config.model_config_list.config
        if config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        try:
            check_config(config, self._blocks)
        except ValueError as error:
            raise invalid(str(error)) from error
        for block in blocks:
            if not trusted:
                self._check_path(block)
        with self._work:
            for block in blocks:
                self._check_labels(block)
            with self._lock:
                self._labels = {block.name: dict(block.version_labels) for block in blocks}
            new = [block for block in blocks if block.name not in self._blocks]
            failures = self._serve(blocks)
            empty = [block for block in new if not versions_to_serve(block)]
            failures += [
                f"{{{{name: {block.name}}} due to error: no version to serve in {block.base_path}}}"
                for block in empty
            ]
        names = {f"{{{{name: {block.name}" for block in new}
        failed = [text for text in failures if text.startswith(tuple(names) or ("\0",))]
        if failed:
            text = f"{len(failed)} model(s) did not become available: {{{', '.join(failed)}, }}"
            raise refuse(grpc.StatusCode.UNKNOWN, text)

    def _check_path(self, block):
        """Whoever can reach the port must not be able to have any directory of the disk read."""
        if _is_within(block.base_path, self._roots):
            return
        raise refuse(
            grpc.StatusCode.PERMISSION_DENIED,
            f"model {block.name}: base_path {block.base_path} is outside of what this server was "
            "started with",
        )

    def _check_labels(self, block):
        for label, version in block.version_labels.items():
            if self._labels_early and label not in self._labels.get(block.name, {}):
                continue
            known = self._versions.get(block.name, {}).get(version)
            if known is None or known.state != State.AVAILABLE:
                raise refuse(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {block.name}, which is "
                    "not currently available for inference",
                )

    def cancel(self):
        """Ends the runs that are under way; they answer CANCELLED. Only `close` may follow."""
        with self._lock:
            versions = [v for known in self._versions.values() for v in known.values()]
            models = [version.model for version in versions if version.model]
            for model in models + self._replaced:
                model.session.cancel()

    def close(self):
        """Frees all sessions; no request may be under way."""
        self._closed.set()
        if self._poll:
            self._poll.join()
        for model in self:
            model.close()
        self._versions.clear()


def _is_within(path, roots):
    """Whether links and all lead to a place in one of `roots`, which are real paths."""
    path = os.path.realpath(path)
    return any(os.path.commonpath([path, root]) == root for root in roots)


def _check_files(directory, roots):
    """Raises `StatusError` where a version directory is not what was written.

    TensorFlow would wait for ever on a pipe, read what links lead to, and may end the process over
    bytes that were damaged.
    """
    seen, roots = set(), [*map(os.path.realpath, roots)]
    for folder, folders, files in os.walk(directory, followlinks=True):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            if not _is_within(path, roots):
                text = f"{path} leads outside of what this server was started with"
                raise refuse(grpc.StatusCode.PERMISSION_DENIED, text)
            if name in files and not os.path.isfile(path):
                raise refuse(grpc.StatusCode.DATA_LOSS, f"{path} is no file")
        seen.add(os.path.realpath(folder))
        folders[:] = [n for n in folders if os.path.realpath(os.path.join(folder, n)) not in seen]
    damaged = [f"{failure.file}: {failure.rule}" for failure in damaged_files(directory)]
    if damaged:
        text = f"{directory} is not what was written: {'; '.join(damaged)}"
        raise refuse(grpc.StatusCode.DATA_LOSS, text)


def _warmup(directory):
    try:
        return read_warmup(directory)
    except ValueError as error:
        raise refuse(grpc.StatusCode.DATA_LOSS, str(error)) from error


def _stamp(directory):
    """Tells a directory from another one that takes its name later."""
    try:
        found = os.stat(directory)
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns


def _batching_of(directory, otherwise):
    path = os.path.join(directory, BATCHING)
    if not os.path.exists(path):
        # An empty message means that only models with parameters of their own are batched.
        return otherwise if otherwise.ListFields() else None
    return read_text(path, BatchingParameters())
