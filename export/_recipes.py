"""Recipes to serve a directory of models with TensorFlow Serving itself.

They stand in `run/` beside the models: for Docker, Docker Compose, Kubernetes and KServe. A
container sees the directory as `/models`, so `run/models.config` is a copy of `models.config` with
its paths there. The directory can then be moved, copied to another machine or put on a volume, and
no recipe names a path of the machine that exported it.
"""

import contextlib
import os
import urllib.parse

from ._config import CONFIG, MONITORING, TLS, ModelServerConfig, version_directories
from ._schema import write_text
from ._version import newest, read_card

FOLDER = "run"
ROOT = "/models"
SECRETS = "/etc/ponderzoo"
TAG = "2.20.0"
FLAGS_SINCE = "2.15"
"""The first TensorFlow Serving that knows all flags that the recipes start it with."""

DRAIN = 15
GRACE = 45


def start_flags(config, models, monitoring=None, tls=None, xla=False, batching=True):
    """What TensorFlow Serving must be started with, a list of flags.

    Args:
        config: `ModelServerConfig`; labels in it need a flag.
        models: path of that file, where the server sees it.
        monitoring: path of the monitoring file, None for no metrics.
        tls: path of the TLS file, None to leave gRPC in the clear.
        xla: whether a package requires XLA.
        batching: whether requests run together, by the parameters in each package; or the path of
            a file with parameters for all.
    """
    flags = [f"--model_config_file={models}"]
    if monitoring:
        flags.append(f"--monitoring_config_file={monitoring}")
    if batching:
        flags.append("--enable_batching")
        each = "--enable_per_model_batching_parameters"
        flags.append(each if batching is True else f"--batching_parameters_file={batching}")
    flags.append("--enable_grpc_healthcheck_service")
    if any(block.version_labels for block in config.model_config_list.config):
        # Without it a label is refused while its version still loads, and the server never starts.
        flags.append("--allow_version_labels_for_unavailable_models=true")
    if tls:
        flags.append(f"--ssl_config_file={tls}")
    if xla:
        flags.append("--xla_cpu_compilation_enabled=true")
    return flags


def needs_xla(config):
    """Whether a version of a model in a `ModelServerConfig` asks for XLA."""
    return any(card.get("requires_xla") is True for card in _cards(config))


def oldest_server(config):
    """The oldest TensorFlow Serving for all models of a `ModelServerConfig` and these recipes."""
    wanted = (card.get("oldest_tensorflow") for card in _cards(config))
    return newest([FLAGS_SINCE, *(version for version in wanted if isinstance(version, str))])


def check_image(directory):
    """Raises `ValueError` where the recipes' image is too old for a version directory."""
    oldest = read_card(directory)["oldest_tensorflow"]
    if newest([oldest, TAG]) != TAG:
        raise ValueError(
            f"the package needs TensorFlow {oldest} or newer, the recipes start tensorflow/"
            f"serving:{TAG}; export with an older TensorFlow"
        )


def _cards(config):
    for block in config.model_config_list.config:
        for directory in version_directories(block.base_path).values():
            # A card that cannot be read is what `verify` is for.
            with contextlib.suppress(ValueError):
                yield read_card(directory)


def render(output, config):
    """The recipes of a directory of models: file name -> text.

    Args:
        output: absolute path of the directory.
        config: its `ModelServerConfig`.
    """
    moved, left = _inside(output, config)
    names = [block.name for block in moved.model_config_list.config]
    xla, tls = needs_xla(config), os.path.exists(os.path.join(output, TLS))
    models, monitoring = f"{ROOT}/{FOLDER}/{CONFIG}", f"{ROOT}/{MONITORING}"

    def arguments(folder):
        file = f"{folder}/{TLS}" if tls else None
        flags = start_flags(moved, models, monitoring, file, xla)
        return ["--port=8500", "--rest_api_port=8501", *flags]

    oldest = oldest_server(config)
    check = _check(names)
    probe = (_CHECK_PROBE if tls else _GRPC_PROBE).format(check=_yaml(check))
    # A key does not belong on a volume that many can read: Kubernetes mounts it as a secret.
    container = _CONTAINER.format(
        tag=TAG,
        oldest=oldest,
        arguments=_yaml_list(arguments(SECRETS), 2),
        probe=probe.strip(),
        mount=_SECRET_MOUNT if tls else "",
        drain=DRAIN,
    )
    pod = {"grace": GRACE, "root": ROOT}
    return {
        CONFIG: write_text(moved),
        "compose.yaml": _COMPOSE.format(
            **pod,
            tag=TAG,
            oldest=oldest,
            rest="127.0.0.1" if tls else "${TF_SERVING_HOST:-127.0.0.1}",
            arguments=_yaml_list(arguments(ROOT), 6),
            check=_yaml(check.replace("$", "$$")),
        ),
        "kubernetes.yaml": _KUBERNETES.format(
            **pod,
            container=_indent(container, 10),
            volume=_indent(_SECRET_VOLUME if tls else "", 8),
        ),
        "kserve.yaml": _KSERVE.format(
            **pod,
            container=_indent(container, 8),
            volume=_indent(_SECRET_VOLUME if tls else "", 6),
        ),
        "serve.sh": _SCRIPT.format(
            tag=TAG,
            oldest=oldest,
            root=ROOT,
            rest="127.0.0.1" if tls else "$host",
            arguments=" \\\n    ".join(arguments(ROOT)),
        ),
        "README.md": _README.format(
            tag=TAG,
            oldest=oldest,
            grace=GRACE,
            root=ROOT,
            models="\n".join(f"- `{name}`" for name in names),
            left=_LEFT.format(names=", ".join(left)) if left else "",
            notes=(_TLS_NOTE if tls else _PLAIN_NOTE) + (_XLA_NOTE if xla else ""),
            secret=_SECRET_COMMAND if tls else "",
            name=names[0] if names else "NAME",
            credentials=_CREDENTIALS if tls else "",
        ),
    }


def _inside(output, config):
    """A `ModelServerConfig` with the paths of a container, and the models it cannot see."""
    inside, left = ModelServerConfig(), []
    inside.model_config_list.SetInParent()
    for block in config.model_config_list.config:
        base = block.base_path
        if "://" not in base:
            relative = os.path.relpath(base, output)
            if relative.startswith(os.pardir):
                left.append(f"`{block.name}` ({base})")
                continue
            base = "/".join([ROOT, *relative.split(os.sep)])
        moved = inside.model_config_list.config.add()
        moved.CopyFrom(block)
        moved.base_path = base
    return inside, left


def _check(names):
    """A line of bash that asks the REST port whether every model is available.

    The image has neither curl nor grpc_health_probe. The status of a model that has ended is 200,
    too, so the state is read.
    """
    paths = " ".join(f"/v1/models/{urllib.parse.quote(name, safe='')}" for name in names)
    return (
        f"for path in {paths}; do exec 3<>/dev/tcp/127.0.0.1/8501 && "
        'printf "GET $path HTTP/1.0\\r\\n\\r\\n" >&3 && grep -q \'"AVAILABLE"\' <&3 || exit 1; done'
    )


def _yaml(text):
    """A string in YAML, in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def _yaml_list(items, spaces):
    return "\n".join(f"{' ' * spaces}- {item}" for item in items)


def _indent(text, spaces):
    return "".join(f"{' ' * spaces}{line}\n" for line in text.splitlines())


_COMPOSE = """\
# docker compose -f compose.yaml up --detach --wait
# Written by `ponderzoo export`, anew each time.
services:
  serving:
    # {oldest} or newer
    image: tensorflow/serving:${{TF_SERVING_TAG:-{tag}}}
    entrypoint: [tensorflow_model_server]
    command:
{arguments}
    ports:
      - "${{TF_SERVING_HOST:-127.0.0.1}}:8500:8500"
      - "{rest}:8501:8501"
    volumes:
      - ..:{root}:ro
    healthcheck:
      test: [CMD, bash, -c, {check}]
      interval: 10s
      timeout: 5s
      start_period: 120s
    # The server does not listen to SIGTERM: it goes on answering for this long, then it is killed.
    stop_grace_period: {grace}s
    restart: unless-stopped
"""

_CONTAINER = """\
# {oldest} or newer
image: tensorflow/serving:{tag}
command: [tensorflow_model_server]
args:
{arguments}
{probe}
lifecycle:
  preStop:
    exec:
      # The server does not listen to SIGTERM. Traffic goes elsewhere while this sleeps, and what is
      # under way then has the rest of the grace period.
      command: [sleep, "{drain}"]
resources:
  requests:
    cpu: "1"
    memory: 1Gi
volumeMounts:
  - name: models
    mountPath: /models
    readOnly: true
{mount}"""

_GRPC_PROBE = """
startupProbe:
  grpc:
    port: 8500
  periodSeconds: 5
  failureThreshold: 120
readinessProbe:
  grpc:
    port: 8500
  periodSeconds: 5
livenessProbe:
  tcpSocket:
    port: 8500
  periodSeconds: 20
"""

# Kubernetes asks the gRPC health service in the clear only.
_CHECK_PROBE = """
startupProbe:
  exec:
    command: [bash, -c, {check}]
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 120
readinessProbe:
  exec:
    command: [bash, -c, {check}]
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  tcpSocket:
    port: 8500
  periodSeconds: 20
"""

_SECRET_MOUNT = """\
  - name: tls
    mountPath: /etc/ponderzoo
    readOnly: true
"""

_SECRET_VOLUME = """\
- name: tls
  secret:
    secretName: ponderzoo-tls
"""

_KUBERNETES = """\
# kubectl apply -f kubernetes.yaml
# Written by `ponderzoo export`, anew each time.
# The claim `ponderzoo-models` holds a copy of the directory that `ponderzoo export` wrote.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ponderzoo
spec:
  replicas: 2
  selector:
    matchLabels:
      app: ponderzoo
  strategy:
    rollingUpdate:
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app: ponderzoo
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      terminationGracePeriodSeconds: {grace}
      containers:
        - name: serving
{container}\
          ports:
            - name: grpc
              containerPort: 8500
            - name: rest
              containerPort: 8501
      volumes:
        - name: models
          persistentVolumeClaim:
            claimName: ponderzoo-models
            readOnly: true
{volume}\
---
apiVersion: v1
kind: Service
metadata:
  name: ponderzoo
spec:
  selector:
    app: ponderzoo
  ports:
    - name: grpc
      port: 8500
      targetPort: grpc
    - name: rest
      port: 8501
      targetPort: rest
"""

_KSERVE = """\
# kubectl apply -f kserve.yaml
# Written by `ponderzoo export`, anew each time.
# KServe's own TensorFlow runtime serves one model, under the name of its InferenceService, which
# may have no `_` in it. This one serves all of them, as kubernetes.yaml does.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: ponderzoo
  annotations:
    serving.kserve.io/deploymentMode: RawDeployment
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 4
    terminationGracePeriodSeconds: {grace}
    containers:
      - name: kserve-container
{container}\
        ports:
          # The first one becomes port 80 of the service, the second keeps its number.
          - name: http1
            containerPort: 8501
            protocol: TCP
          - name: h2c
            containerPort: 8500
            protocol: TCP
    volumes:
      - name: models
        persistentVolumeClaim:
          claimName: ponderzoo-models
          readOnly: true
{volume}"""

_SCRIPT = """\
#!/bin/sh
# Serves the models in Docker until Ctrl-C. Written by `ponderzoo export`, anew each time.
# TF_SERVING_TAG is the image's tag; TF_SERVING_HOST=0.0.0.0 lets other machines in.
models=$(cd "$(dirname "$0")/.." && pwd) || exit 1
host="${{TF_SERVING_HOST:-127.0.0.1}}"
tag="${{TF_SERVING_TAG:-{tag}}}"
case $tag in
[0-9]*)
    if [ "$(printf '%s\\n' {oldest} "$tag" | sort -V | head -n 1)" != {oldest} ]; then
        echo "these models need tensorflow/serving:{oldest} or newer, TF_SERVING_TAG is $tag" >&2
        exit 1
    fi
    ;;
esac
exec docker run --rm --init --entrypoint tensorflow_model_server \\
    --publish "$host:8500:8500" --publish "{rest}:8501:8501" --volume "$models:{root}:ro" \\
    "tensorflow/serving:$tag" \\
    {arguments} "$@"
"""

_README = """\
# These models in TensorFlow Serving
`ponderzoo export` writes this folder anew each time; copy a file elsewhere before you change it.

{models}
{left}
Containers see the directory above as `{root}`; `run/models.config` is `../models.config` with the
paths there, so the directory can be copied or moved as a whole. gRPC is at port 8500, REST at 8501,
metrics at `/monitoring/prometheus/metrics` of the REST port.

| file | how |
|---|---|
| `serve.sh` | Docker: `sh serve.sh`, until Ctrl-C |
| `compose.yaml` | `docker compose -f compose.yaml up --detach --wait`, which waits for the models |
| `kubernetes.yaml` | `kubectl apply -f kubernetes.yaml`, after what stands below |
| `kserve.yaml` | `kubectl apply -f kserve.yaml`, likewise |

In Kubernetes the claim `ponderzoo-models` must hold a copy of the directory.{secret}

- **Image.** `TF_SERVING_TAG={tag} sh serve.sh`, and likewise for Compose; in the manifests it is
  the line `image:`. These models and flags need {oldest} or newer, and `serve.sh` refuses an older
  tag. In a package's `assets.extra/signatures.json`, `oldest_tensorflow` is the oldest one that can
  load it, and `tensorflow_version` the one that wrote it.
- **Who may ask.** `serve.sh` and Compose open the ports to this machine alone;
  `TF_SERVING_HOST=0.0.0.0` opens them to all.
{notes}\
- **New versions** are found within a second, loaded, warmed up and swapped in. New models, labels
  and policies want a restart.
- **Batching.** A model with a `batching_params.pbtxt` in its version answers requests that arrive
  together in one run. Answers may then be padded beyond what was asked; `lengths` says what counts.
  A request that the model refuses takes its batch along, so check inputs in the client. One with
  more rows than `max_batch_size` is refused.
- **Stopping.** TensorFlow Serving does not listen to SIGTERM. Compose lets it answer for {grace}
  more seconds; Kubernetes first sends the traffic elsewhere.
- **All or none.** The server opens its ports once all models are loaded, and one that does not load
  keeps it from starting: run `ponderzoo verify` on the directory first.

One client line works with all of them, and with `ponderzoo serve`:

```python
from ponderzoo.export.client import Client

with Client("localhost:8500"{credentials}) as client:
    answer = client.predict("{name}", inputs)
```

In a cluster the address is `ponderzoo:8500`, with KServe `ponderzoo-predictor:8500`, and from
outside `kubectl port-forward service/ponderzoo 8500`. `assets.extra/signatures.json` of a version
has sample inputs for every signature.
"""

_LEFT = "\nNot in these recipes, since they lie outside of the directory: {names}.\n"

_PLAIN_NOTE = """\
- **TLS.** gRPC is not encrypted; `ponderzoo export` with `--tls_key` and `--tls_cert` changes that.
"""

_TLS_NOTE = """\
- **TLS.** gRPC is encrypted with the key in `../ssl.config`, which its owner alone can read. REST
  stays in the clear and is open to this machine alone; in a cluster take 8501 out of the service.
"""

_XLA_NOTE = """\
- **XLA.** A package requires it, so the server is started with XLA on. It compiles a signature at
  the first request of each shape; the warm-up requests do that for the allowed batch sizes.
"""

_SECRET_COMMAND = """ Leave `ssl.config` out of
it; the manifests take it from a secret:
`kubectl create secret generic ponderzoo-tls --from-file=../ssl.config`."""

_CREDENTIALS = ', certificate="ca.pem"'
