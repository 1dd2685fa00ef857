"""What stands beside the models, versions and TLS, and how to start a server, or training."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import threading

import pytest
from google.protobuf import text_format
from ponderzoo import zoo
from ponderzoo.export import _cli, _recipes, _repository, _schema
from ponderzoo.export._config import ModelServerConfig, parse_config
from ponderzoo.export.commands import serving

yaml = pytest.importorskip("yaml")


@pytest.fixture
def output(tmp_path):
    """A directory with versions 1 and 2 of a model, without anything in them."""
    for version in ("1", "2"):
        (tmp_path / "ponder" / version / "assets.extra").mkdir(parents=True)
    return tmp_path


def publish(output, version=2, **options):
    config = _repository.plan(str(output), "ponder", version, **options)
    _repository.publish(str(output), config)
    return config


def only_block(output):
    (block,) = parse_config(output / "models.config").model_config_list.config
    return block


def recipe(output, name):
    with open(output / "run" / name, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def containers(output):
    """The container of each recipe that has one, with its arguments as `args`."""
    (compose,) = recipe(output, "compose.yaml")
    (deployment, _), (service,) = recipe(output, "kubernetes.yaml"), recipe(output, "kserve.yaml")
    docker = compose["services"]["serving"]
    return {
        "compose.yaml": {**docker, "args": docker["command"]},
        "kubernetes.yaml": deployment["spec"]["template"]["spec"]["containers"][0],
        "kserve.yaml": service["spec"]["predictor"]["containers"][0],
    }


def arguments(output):
    """Recipe -> the flags it starts the server with; of `serve.sh` as its shell reads them."""
    found = {name: container["args"] for name, container in containers(output).items()}
    programs = output.parent / "programs"
    programs.mkdir(exist_ok=True)
    docker = programs / "docker"
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    script = [output / "run" / "serve.sh", "--extra"]
    words = subprocess.run(
        script, env=environment, cwd="/", capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[-1] == "--extra" and f"{output}:/models:ro" in words
    return {**found, "serve.sh": words[words.index("tensorflow/serving:2.20.0") + 1 : -1]}


# models.config


@pytest.mark.parametrize(
    ("versions", "written"),
    [
        (None, ""),
        ("all", "all { }"),
        ("latest:2", "latest { num_versions: 2 }"),
        ("specific:2,1", "specific { versions: 1 versions: 2 }"),
    ],
)
def test_policy_is_written_as_the_server_reads_it(output, versions, written):
    publish(output, versions=versions)
    policy = text_format.MessageToString(only_block(output).model_version_policy, as_one_line=True)
    assert policy == written


def test_labels_are_kept_and_added_and_moved(output):
    publish(output, versions="all", labels={"stable": 1, "canary": 2})
    publish(output, labels={"stable": 2, "old": 1})
    assert dict(only_block(output).version_labels) == {"stable": 2, "canary": 2, "old": 1}
    assert only_block(output).model_version_policy.HasField("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"versions": "latest:0"},
            "versions must be all, latest:2 or specific:1,2, got 'latest:0'",
        ),
        ({"versions": "newest"}, "versions must be all"),
        ({"versions": "specific:"}, "versions must be all"),
        ({"versions": "specific:1,7"}, r"ponder has no version 7 to serve; there are \[1, 2\]"),
        ({"labels": {"a/b": 1}}, "a label is letters, digits and _, got 'a/b'"),
        ({"labels": {"stable": 7}}, r"for version 7 of ponder, and there are \[1, 2\]"),
        ({"labels": {"stable": 1}}, "version 1 of ponder, which latest:1 does not serve"),
        ({"labels": {"stable": 2}, "versions": "specific:1"}, "which specific:1 does not serve"),
    ],
)
def test_policy_and_labels_ask_for_what_is_there(output, options, message):
    with pytest.raises(ValueError, match=message):
        publish(output, **options)
    assert not (output / "models.config").exists()


def test_a_version_that_pushes_out_a_labelled_one_is_refused_before_it_is_written(output):
    publish(output, versions="latest:2", labels={"stable": 1})
    with pytest.raises(ValueError, match=r"latest:2 does not serve: that is \[2, 3\]"):
        _repository.plan(str(output), "ponder", 3)
    config = _repository.plan(str(output), "ponder", 3, versions="latest:3")
    assert dict(config.model_config_list.config[0].version_labels) == {"stable": 1}


def test_labels_come_as_words_of_the_command_line():
    assert serving.parse_labels(["stable=1", "canary=12"]) == {"stable": 1, "canary": 12}
    for word in ("stable", "stable=", "stable=new", "stable=-1"):
        with pytest.raises(ValueError, match=f"LABEL=VERSION, such as stable=1, got '{word}'"):
            serving.parse_labels([word])


# The recipes


def test_recipes_see_the_models_where_a_container_has_them(output):
    publish(output)
    assert only_block(output).base_path == str(output / "ponder")
    (block,) = parse_config(output / "run" / "models.config").model_config_list.config
    assert block.base_path == "/models/ponder"
    for name in os.listdir(output / "run"):
        assert str(output) not in (output / "run" / name).read_text(), name


def test_recipes_agree_on_how_the_server_is_started(output):
    publish(output)
    expected = [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_config_file=/models/run/models.config",
        "--monitoring_config_file=/models/monitoring.config",
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        "--enable_grpc_healthcheck_service",
    ]
    found = arguments(output)
    assert len(found) == 4 and all(flags == expected for flags in found.values())


def test_labels_and_xla_bring_the_flags_they_need(output):
    card = output / "ponder" / "1" / "assets.extra" / "signatures.json"
    card.write_text('{"requires_xla": true}')
    publish(output, versions="all", labels={"stable": 1})
    for flags in arguments(output).values():
        assert flags[-2:] == [
            "--allow_version_labels_for_unavailable_models=true",
            "--xla_cpu_compilation_enabled=true",
        ]


@pytest.mark.parametrize(
    ("needed", "tag", "starts"),
    [
        ("2.13", None, True),
        ("2.13", "2.15.0", True),
        ("2.13", "latest", True),
        ("2.13", "2.14.1", False),  # too old for the flags
        ("2.16", "2.15.1", False),  # too old for the model
        ("2.16", "2.16.1-gpu", True),
        ("2.9", "2.15.0", True),
    ],
)
def test_an_image_that_is_too_old_is_not_started(output, needed, tag, starts):
    card = output / "ponder" / "2" / "assets.extra" / "signatures.json"
    card.write_text(f'{{"oldest_tensorflow": "{needed}"}}')
    publish(output)
    docker = output.parent / "docker"
    docker.write_text("#!/bin/sh\necho started\n")
    docker.chmod(0o755)
    chosen = {"TF_SERVING_TAG": tag} if tag else {}
    found = subprocess.run(
        ["sh", output / "run" / "serve.sh"],
        env={**os.environ, "PATH": f"{output.parent}:{os.environ['PATH']}", **chosen},
        capture_output=True,
        text=True,
    )
    assert (found.returncode == 0, found.stdout) == (starts, "started\n" if starts else "")
    oldest = "2.16" if needed == "2.16" else "2.15"
    assert starts or f"need tensorflow/serving:{oldest} or newer" in found.stderr
    for name in ("README.md", "compose.yaml", "kubernetes.yaml", "kserve.yaml"):
        assert f"{oldest} or newer" in (output / "run" / name).read_text()


def test_pods_get_requests_only_while_they_answer(output):
    publish(output)
    for name in ("kubernetes.yaml", "kserve.yaml"):
        container = containers(output)[name]
        assert container["readinessProbe"]["grpc"] == container["startupProbe"]["grpc"]
        assert container["readinessProbe"]["grpc"]["port"] == 8500
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "15"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["models"]["mountPath"] == "/models" and mounts["models"]["readOnly"]
        assert container["image"] == "tensorflow/serving:2.20.0"
    deployment, service = recipe(output, "kubernetes.yaml")
    pod = deployment["spec"]["template"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > 15
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    (kserve,) = recipe(output, "kserve.yaml")
    assert kserve["spec"]["predictor"]["terminationGracePeriodSeconds"] > 15
    docker = containers(output)["compose.yaml"]
    assert docker["image"] == "tensorflow/serving:${TF_SERVING_TAG:-2.20.0}"
    assert docker["volumes"] == ["..:/models:ro"] and docker["stop_grace_period"] == "45s"


@contextlib.contextmanager
def status_server(states):
    """Answers GETs as the REST port does, in turn; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            for state in states:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    body = f'{{"model_version_status": [{{"state": "{state}"}}]}}'
                    connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(timeout=5)


@pytest.mark.parametrize(
    ("states", "healthy"),
    [(["AVAILABLE", "AVAILABLE"], True), (["AVAILABLE", "END"], False), (["LOADING"], False)],
)
def test_health_check_wants_every_model_available(output, states, healthy):
    (output / "other" / "1").mkdir(parents=True)
    publish(output)
    *start, line = containers(output)["compose.yaml"]["healthcheck"]["test"]
    assert start == ["CMD", "bash", "-c"] and line.count("/v1/models/") == 2
    with status_server(states) as port:
        line = line.replace("$$", "$").replace("8501", str(port))
        done = subprocess.run(["bash", "-c", line], timeout=10)
    assert (done.returncode == 0) is healthy
    assert subprocess.run(["bash", "-c", line], stderr=subprocess.DEVNULL).returncode != 0


def test_models_that_lie_elsewhere_are_left_out_and_named(output):
    block = 'config { name: "far" base_path: "/far/away" model_platform: "tensorflow" }'
    cloud = 'config { name: "cloud" base_path: "gs://bucket/m" model_platform: "tensorflow" }'
    (output / "models.config").write_text(f"model_config_list {{ {block} {cloud} }}")
    publish(output)
    blocks = parse_config(output / "run" / "models.config").model_config_list.config
    paths = {block.name: block.base_path for block in blocks}
    assert paths == {"cloud": "gs://bucket/m", "ponder": "/models/ponder"}
    assert "outside of the directory: `far` (/far/away)" in (output / "run/README.md").read_text()


def test_monitoring_counts_where_prometheus_looks_and_stays_as_it_was_changed(output):
    publish(output)
    found = _schema.read_text(output / "monitoring.config", _schema.MonitoringConfig())
    assert found.prometheus_config.enable
    assert found.prometheus_config.path == "/monitoring/prometheus/metrics"
    (output / "monitoring.config").write_text("prometheus_config { enable: false }")
    publish(output)
    assert "false" in (output / "monitoring.config").read_text()


# TLS


@pytest.fixture(scope="module")
def pem(make_certificate, tmp_path_factory):
    """Files of two keys with their certificates, and of the first key under a password."""
    home = tmp_path_factory.mktemp("pem")
    key, _ = make_certificate(home, "one")
    make_certificate(home, "two")
    lock = ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", key]
    subprocess.run([*lock, "-out", home / "locked.key"], check=True, capture_output=True)
    return home


def test_tls_is_one_file_for_its_owner_alone(output, pem):
    publish(output)
    path = _repository.secure(output, pem / "one.key", pem / "one.crt", pem / "two.crt", True)
    assert path == str(output / "ssl.config")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    found = _schema.read_text(path, _schema.SSLConfig())
    assert found.server_key == (pem / "one.key").read_text()
    assert found.server_cert == (pem / "one.crt").read_text()
    assert found.custom_ca == (pem / "two.crt").read_text() and found.client_verify


def test_with_tls_the_recipes_encrypt_and_keep_the_key_off_the_volume(output, pem):
    publish(output)
    assert not any("ssl" in flag for flags in arguments(output).values() for flag in flags)
    _repository.secure(output, pem / "one.key", pem / "one.crt")
    files = {
        name: flag.partition("=")[2]
        for name, flags in arguments(output).items()
        for flag in flags
        if flag.startswith("--ssl_config_file=")
    }
    shared, secret = "/models/ssl.config", "/etc/ponderzoo/ssl.config"
    assert files == {
        "compose.yaml": shared,
        "serve.sh": shared,
        "kubernetes.yaml": secret,
        "kserve.yaml": secret,
    }
    for name in ("kubernetes.yaml", "kserve.yaml"):
        container = containers(output)[name]
        # Kubernetes asks the health service in the clear, where nobody would answer.
        assert container["readinessProbe"]["exec"]["command"][:2] == ["bash", "-c"]
        assert "/etc/ponderzoo" in [mount["mountPath"] for mount in container["volumeMounts"]]
        secrets = [
            volume["secret"]["secretName"]
            for document in recipe(output, name)
            for volume in pod_of(document).get("volumes", [])
            if "secret" in volume
        ]
        assert secrets == ["ponderzoo-tls"]
    # REST is not encrypted by the server.
    assert "127.0.0.1:8501:8501" in (output / "run" / "serve.sh").read_text()
    assert "127.0.0.1:8501:8501" in containers(output)["compose.yaml"]["ports"]
    assert 'certificate="ca.pem"' in (output / "run" / "README.md").read_text()


def pod_of(document):
    spec = document["spec"]
    return spec.get("predictor") or spec.get("template", {}).get("spec", {})


@pytest.mark.parametrize(
    ("key", "certificate", "options", "message"),
    [
        (
            "two.key",
            "one.crt",
            {},
            "no PEM files of a key and its certificate .KEY_VALUES_MISMATCH",
        ),
        ("one.crt", "one.crt", {}, "no PEM files"),
        ("locked.key", "one.crt", {}, "has a password, and a server cannot ask for it"),
        ("one.key", "one.crt", {"authority": "one.key"}, "one.key holds no PEM certificates"),
        ("one.key", "one.crt", {"verify": True}, "needs --tls_ca"),
    ],
)
def test_keys_that_no_server_could_use_are_refused(
    pem, tmp_path, key, certificate, options, message
):
    options = {k: pem / v if k == "authority" else v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        _repository.secure(tmp_path, pem / key, pem / certificate, **options)
    assert not os.listdir(tmp_path)


# What `verify` says of the files beside the models


def test_verify_finds_nothing_in_what_export_writes(output, pem):
    publish(output, versions="all", labels={"stable": 1})
    _repository.secure(output, pem / "one.key", pem / "one.crt")
    assert _repository.failures(output) == []


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        ("models.config", "model_config_list { nonsense }", "is no ModelServerConfig"),
        ("models.config", "{home}, {home}", "it lists ponder twice"),
        ("models.config", "{moved}", "ponder has no version in /far/away"),
        ("models.config", "{relative}", "is 'ponder', which is not absolute"),
        ("models.config", "{label}", "label 'stable' is for version 1 of ponder, which latest:1"),
        ("monitoring.config", "prometheus { }", "is no MonitoringConfig"),
        ("ssl.config", "server_key: 3", "is no SSLConfig"),
    ],
)
def test_verify_names_the_file_the_rule_and_the_mend(output, file, text, rule):
    publish(output)

    def block(base, more=""):
        return f'{{ name: "ponder" base_path: "{base}" model_platform: "tensorflow" {more} }}'

    blocks = {
        "{home}": block(output / "ponder"),
        "{moved}": block("/far/away"),
        "{relative}": block("ponder"),
        "{label}": block(output / "ponder", 'version_labels { key: "stable" value: 1 }'),
    }
    for key, value in blocks.items():
        text = text.replace(key, value)
    if text.startswith("{"):
        text = f"model_config_list {{ config: [{text}] }}"
    (output / file).write_text(text)
    (failure,) = _repository.failures(output)
    assert failure.file == file and failure.mend
    assert rule in failure.rule


def test_verify_looks_into_a_directory_that_has_moved(output):
    publish(output)
    moved = shutil.move(output, output.parent / "moved")
    expected = [os.path.join(moved, "ponder", version) for version in ("1", "2")]
    assert _repository.packages(moved) == expected
    assert _repository.packages(os.path.join(moved, "ponder")) == expected
    with pytest.raises(FileNotFoundError, match="holds no model"):
        _repository.packages(os.path.join(moved, "run"))


def test_an_empty_config_is_no_error():
    assert _recipes.render("/nowhere", ModelServerConfig())["models.config"]


# Kubernetes


def assert_is_valid(document):
    """Against the schemas of Kubernetes, where nothing may be there that they do not know."""
    kubernetes = pytest.importorskip("kubernetes_validate")
    kubernetes.validate(document, kubernetes.latest_version(), strict=True)


def test_kubernetes_takes_its_recipes(output, pem):
    for secured in (False, True):
        publish(output)
        if secured:
            _repository.secure(output, pem / "one.key", pem / "one.crt")
        for document in recipe(output, "kubernetes.yaml"):
            assert_is_valid(document)
        (service,) = recipe(output, "kserve.yaml")
        replicas = {"minReplicas", "maxReplicas"}
        pod = {key: x for key, x in service["spec"]["predictor"].items() if key not in replicas}
        metadata = service["metadata"]
        assert_is_valid({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    pod["containers"][0]["portz"] = []
    with pytest.raises(Exception, match="'portz' was unexpected"):
        assert_is_valid({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})


# Training on several machines


def block_of_guide(language):
    guide = pathlib.Path(__file__).parent.parent / "docs" / "guides" / "machines.md"
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(), re.M | re.S)
    return block


def test_pods_of_a_job_find_the_first_and_train_what_there_is():
    service, job = yaml.safe_load_all(block_of_guide("yaml"))
    assert_is_valid(service)
    assert_is_valid(job)
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"] and spec["completionMode"] == "Indexed"
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert {one["name"]: one["value"] for one in container["env"]}["KERAS_BACKEND"] == "jax"
    for index in range(spec["completions"]):
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container["args"]]
        asked = _cli._parse(words)
        assert asked.coordinator == f"{name}-0.{pod['subdomain']}:9000"
        assert (asked.num_processes, asked.process_id) == (spec["parallelism"], index)
        assert asked.function.__name__ == "train" and asked.name in zoo.list()
    assert spec["parallelism"] == spec["completions"] == 2


@pytest.mark.parametrize("fails", [False, True])
def test_slurm_starts_a_process_a_task_and_again_those_that_fail(tmp_path, fails):
    programs = {
        "scontrol": 'case $1 in show) printf "%s\\n" first second;; *) echo "$@";; esac',
        "srun": """shift
for task in 0 1; do SLURM_NTASKS=2 SLURM_PROCID=$task "$@" || exit 1; done""",
        "ponderzoo": f'echo "$KERAS_BACKEND" "$@"; exit {int(fails)}',
    }
    for name, text in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(block_of_guide("bash"))
    environment = {"SLURM_JOB_NODELIST": "first,second", "SLURM_JOB_ID": "7"}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.check_output(["bash", script], env=environment, text=True).splitlines()
    if fails:
        assert said[1:] == ["requeue 7"]
    for rank, line in enumerate(said[:1] if fails else said):
        backend, *words = line.split()
        asked = _cli._parse(words)
        assert backend == "jax" and asked.name in zoo.list()
        found = (asked.coordinator, asked.num_processes, asked.process_id)
        assert found == ("first:9000", 2, rank)
    assert len(said) == 2
