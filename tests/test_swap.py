"""What a running server does when the world around it changes."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ponderzoo.export.client import Client, PredictError
from ponderzoo.export.server import _models
from ponderzoo.export.server._server import Server
from serving import ONES, SAMPLE, make_model, request, write_config, write_packages
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

INPUTS = {"state": SAMPLE, "scale": ONES}
State = get_model_status_pb2.ModelVersionStatus


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Three versions whose answers differ."""
    models = [make_model(bias) for bias in (0.0, 1.0, 2.0)]
    return write_packages(models, tmp_path_factory.mktemp("packages"))


@pytest.fixture
def repository(packages, tmp_path):
    """One model with version 1; `add` brings another, in one step."""

    class Repository(type(tmp_path)):
        def add(self, version):
            draft = self / "dense" / f"{version}.draft"
            shutil.copytree(packages / "dense" / str(version), draft)
            draft.rename(self / "dense" / str(version))

        def remove(self, version):
            shutil.rmtree(self / "dense" / str(version))

    repository = Repository(tmp_path)
    repository.add(1)
    return repository


def until(claim, seconds=60.0):
    """Waits until a function of no arguments is true."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def states(server, name="dense"):
    """Version -> name of its state."""
    with grpc.insecure_channel(server.address) as channel:
        question = get_model_status_pb2.GetModelStatusRequest()
        question.model_spec.name = name
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(question)
    return {one.version: State.State.Name(one.state) for one in answer.model_version_status}


def reload(server, *blocks):
    """Asks for another configuration."""
    request = model_management_pb2.ReloadConfigRequest()
    for name, path, labels in blocks:
        block = request.config.model_config_list.config.add(
            name=name, base_path=str(path), model_platform="tensorflow"
        )
        block.version_labels.update(labels)
        if labels:
            block.model_version_policy.all.SetInParent()
    with grpc.insecure_channel(server.address) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request)


def test_new_version_takes_over_and_no_request_fails(repository):
    answered, failed = set(), []
    stop = threading.Event()

    def ask(address):
        with Client(address) as client:
            while not stop.is_set():
                try:
                    norm = client.predict("dense", INPUTS)["norm"]
                    answered.add(round(float(norm[0]), 3))
                except PredictError as error:
                    failed.append(error)

    with Server(repository, poll_seconds=0.05) as server:
        askers = [threading.Thread(target=ask, args=(server.address,)) for _ in range(3)]
        for thread in askers:
            thread.start()
        for version in (2, 3):
            repository.add(version)
            until(lambda: states(server).get(version) == "AVAILABLE")  # noqa: B023
            until(lambda: states(server)[version - 1] == "END")  # noqa: B023
        stop.set()
        for thread in askers:
            thread.join()
        with Client(server.address) as client, pytest.raises(PredictError, match="Specific"):
            client.predict("dense", INPUTS, version=1)
    assert not failed and len(answered) == 3


def test_version_that_is_in_use_is_freed_after_its_last_request(repository):
    answers, go_on = [], threading.Event()

    def ask(address):
        with Client(address) as client:
            answers.append(client.predict("dense", INPUTS)["state"])

    with Server(repository, poll_seconds=0.05) as server:
        (model,) = server.models
        run = model.session.run

        def run_when_told(*arguments):
            assert go_on.wait(60)
            return run(*arguments)

        model.session.run = run_when_told
        asking = threading.Thread(target=ask, args=(server.address,))
        asking.start()
        until(lambda: model.leases)
        repository.add(2)
        until(lambda: states(server).get(2) == "AVAILABLE")
        assert states(server)[1] == "UNLOADING" and not answers
        go_on.set()
        asking.join()
        until(lambda: states(server)[1] == "END")
        with Client(server.address) as client:
            client.predict("dense", INPUTS, version=2)
    assert len(answers) == 1


def test_broken_version_does_not_replace_a_sound_one(repository):
    with Server(repository, poll_seconds=0.05, retries=1, retry_seconds=0.1) as server:
        shutil.copytree(repository / "dense" / "1", repository / "2.draft")
        shutil.rmtree(repository / "2.draft" / "variables")
        (repository / "2.draft").rename(repository / "dense" / "2")
        until(lambda: states(server).get(2) == "END")
        assert states(server)[1] == "AVAILABLE"
        with grpc.insecure_channel(server.address) as channel:
            question = get_model_status_pb2.GetModelStatusRequest()
            question.model_spec.name = "dense"
            question.model_spec.version.value = 2
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            (told,) = stub.GetModelStatus(question).model_version_status
        assert told.status.error_code and told.status.error_message
        with Client(server.address) as client:
            client.predict("dense", INPUTS)
        repository.remove(2)
        repository.add(2)
        until(lambda: states(server)[2] == "AVAILABLE")


def test_version_copied_file_by_file_comes_up_when_it_is_whole(packages, repository):
    with Server(repository, poll_seconds=0.05, retries=100, retry_seconds=0.1) as server:
        target = repository / "dense" / "2"
        target.mkdir()
        until(lambda: states(server) == {1: "AVAILABLE", 2: "LOADING"})
        shutil.copytree(packages / "dense" / "2", target, dirs_exist_ok=True)
        until(lambda: states(server) == {1: "END", 2: "AVAILABLE"})


def test_version_that_a_policy_names_may_come_later(repository):
    block = f'name: "dense" base_path: "{repository}/dense" model_platform: "tensorflow" '
    block += "model_version_policy { specific { versions: 1 versions: 2 } }"
    config, told = write_config(repository / "models.config", block), []
    with Server(config, poll_seconds=0.1, log=told.append) as server:
        assert states(server) == {1: "AVAILABLE"}
        assert told == ["dense/2 is not there yet, and loaded when it comes"]
        repository.add(2)
        until(lambda: states(server) == {1: "AVAILABLE", 2: "AVAILABLE"})


def test_taking_the_version_away_unloads_it(repository):
    with Server(repository, poll_seconds=0.05) as server:
        repository.remove(1)
        until(lambda: states(server) == {1: "END"})
        with Client(server.address) as client, pytest.raises(PredictError, match="not found"):
            client.predict("dense", INPUTS)


def test_base_path_may_be_away_for_a_moment(repository):
    with Server(repository, poll_seconds=0.02) as server, Client(server.address) as client:
        (repository / "dense").rename(repository / "away")
        time.sleep(0.2)
        client.predict("dense", INPUTS)
        (repository / "away").rename(repository / "dense")
        repository.add(2)
        until(lambda: states(server) == {1: "END", 2: "AVAILABLE"})


def test_ends_of_old_versions_are_forgotten(repository, monkeypatch):
    monkeypatch.setattr(_models, "MOST_ENDED", 1)
    with Server(repository, poll_seconds=0.02) as server:
        for version in (2, 3):
            repository.add(version)
            until(lambda: states(server).get(version) == "AVAILABLE")  # noqa: B023
        until(lambda: states(server) == {2: "END", 3: "AVAILABLE"})


def test_what_becomes_of_versions_is_told_in_a_line_each(repository):
    lines = []
    options = {"poll_seconds": 0.02, "retries": 1, "retry_seconds": 0.1, "log": lines.append}
    with Server(repository, **options) as server:
        repository.add(2)
        until(lambda: states(server).get(2) == "AVAILABLE")
        (repository / "dense" / "3").mkdir()
        until(lambda: states(server).get(3) == "END")
    loaded, again, given_up = lines
    assert loaded == f"dense/2 is loaded from {repository / 'dense' / '2'}"
    assert again.startswith("dense/3 did not load: ") and again.endswith("again in 0.1 s")
    assert given_up.endswith("it is left alone until another directory has its name")


ENDLESS = request(signature="repeat", state=SAMPLE, times=np.full(3, 2**31 - 1, "int32"))


def test_runs_that_nobody_waits_for_are_ended(repository, monkeypatch):
    monkeypatch.setattr(_models, "FORSAKEN_SECONDS", 0.1)
    options = {"poll_seconds": 0.05, "threads": 2, "rest_port": 0}
    with Server(repository, **options) as server, grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        (model,) = server.models
        leavers = [predict.future(ENDLESS) for _ in range(2)]
        until(lambda: len(model.leases) == 2)
        # All threads that run models are held, and still it is told how things are.
        assert states(server) == {1: "AVAILABLE"}
        with urllib.request.urlopen(f"{server.rest_address}/v1/models/dense") as answer:
            assert b"AVAILABLE" in answer.read()
        leavers[0].cancel()
        waits = predict.future(ENDLESS)
        until(lambda: model.ended)
        # One who still waits is asked for again, in the session that took over.
        until(lambda: not model.leases)
        (other,) = server.models
        assert other is not model and not leavers[1].done()
        leavers[1].cancel()
        waits.cancel()
        predict(request(), timeout=60)


def test_label_of_a_version_to_come_is_allowed_where_asked_for(repository):
    with Server(repository, poll_seconds=0.02, labels_early=True) as server:
        reload(server, ("dense", repository / "dense", {"next": 2}))
        with Client(server.address) as client:
            with pytest.raises(PredictError, match=r"Specific\(dense, 2\)"):
                client.predict("dense", INPUTS, label="next")
            repository.add(2)
            until(lambda: states(server).get(2) == "AVAILABLE")
            client.predict("dense", INPUTS, label="next")
        with pytest.raises(grpc.RpcError, match="not currently available"):
            reload(server, ("dense", repository / "dense", {"next": 3}))


def test_copied_folder_serves_what_lies_in_it(packages, tmp_path):
    copy = shutil.copytree(packages, tmp_path / "copy")
    with Server(copy) as server:
        assert [model.directory for model in server.models] == [str(copy / "dense" / "3")]
    shutil.rmtree(copy / "dense" / "3")
    shutil.rmtree(copy / "dense" / "2")
    shutil.rmtree(copy / "dense" / "1")
    with pytest.raises(ValueError, match=f"no version to serve in {copy}"):
        Server(copy).start()


@pytest.mark.parametrize("ports", [{"port": 65536}, {"port": -1}, {"rest_port": 99999}])
def test_ports_are_looked_at_before_anything_is_loaded(ports):
    with pytest.raises(ValueError, match="a port is a number from 0 to 65535, got"):
        Server("nothing", **ports).start()


def test_port_of_another_is_told_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            Server("nothing", rest_port=port).start()


def test_reload_adds_removes_and_labels(repository):
    repository.add(2)
    with Server(repository, poll_seconds=3600) as server, Client(server.address) as client:
        home = repository / "dense"
        answer = reload(server, ("dense", home, {}), ("twin", home, {}))
        assert answer.status.error_code == 0
        assert states(server, "twin") == {2: "AVAILABLE"}
        client.predict("twin", INPUTS)
        with pytest.raises(grpc.RpcError, match="not currently available") as caught:
            reload(server, ("dense", home, {"old": 1}))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        # Refused as a whole: the twin, which that configuration left out, is still there.
        client.predict("twin", INPUTS)
        reload(server, ("dense", home, {"new": 2}))
        assert states(server) == {1: "AVAILABLE", 2: "AVAILABLE"}
        reload(server, ("dense", home, {"old": 1, "new": 2}))
        old = client.predict("dense", INPUTS, label="old")
        np.testing.assert_array_equal(
            old["norm"], client.predict("dense", INPUTS, version=1)["norm"]
        )
        with pytest.raises(PredictError, match="Servable not found"):
            client.predict("twin", INPUTS)


def test_reload_of_a_model_without_versions_says_so(repository):
    (repository / "empty").mkdir()
    with Server(repository) as server, pytest.raises(grpc.RpcError, match="no version to serve in"):
        reload(server, ("dense", repository / "dense", {}), ("empty", repository / "empty", {}))


@pytest.mark.parametrize("path", ["{outside}/dense", "{inside}/../outside/dense", "/etc", "{link}"])
def test_reload_reads_nothing_outside_the_repository(packages, tmp_path, path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    link = inside / "other" / "link"
    shutil.copytree(packages, inside)
    shutil.copytree(packages, outside)
    link.parent.mkdir()
    link.symlink_to(outside / "dense")
    (inside / "models.config").unlink()
    with Server(inside) as server, pytest.raises(grpc.RpcError, match="is outside of") as caught:
        reload(server, ("stolen", path.format(inside=inside, outside=outside, link=link), {}))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_changed_config_file_is_followed(repository):
    repository.add(2)
    block = f'name: "dense" base_path: "{repository}/dense" model_platform: "tensorflow" '
    path = write_config(repository / "models.config", block)
    with Server(repository, poll_seconds=0.05, follow_config=True) as server:
        assert states(server) == {2: "AVAILABLE"}
        draft = write_config(
            repository / "draft", block + "model_version_policy { specific { versions: 1 } }"
        )
        os.utime(draft, (1, 1))
        draft.replace(path)
        until(lambda: states(server) == {1: "AVAILABLE", 2: "END"})
        path.write_text("nonsense")
        time.sleep(0.2)
        assert states(server)[1] == "AVAILABLE"


def test_health_tells_when_requests_may_come(repository):
    with Server(repository) as server, grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ModelService", "PredictionService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_stop_ends_runs_that_outlive_the_grace(repository):
    server = Server(repository, rest_port=0).start()
    errors = []

    def ask():
        endless = {"state": SAMPLE, "times": np.full(3, 2**31 - 1, "int32")}
        with Client(server.address, timeout=None) as client:
            try:
                client.predict("dense", endless, "repeat")
            except PredictError as error:
                errors.append(error.code)

    asking = threading.Thread(target=ask)
    asking.start()
    (model,) = server.models
    until(lambda: model.leases)
    start = time.monotonic()
    server.stop(grace=0.3)
    asking.join()
    assert time.monotonic() - start < 20
    assert errors[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_tls_keeps_strangers_out(repository, make_certificate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = make_certificate(folder, "server")
    texts = [json.dumps(file.read_text()) for file in (key, certificate)]
    config = folder / "ssl.config"
    config.write_text("server_key: {} server_cert: {}".format(*texts))
    with Server(repository, ssl=config) as server:
        with Client(server.address, certificate=certificate) as client:
            assert client.predict("dense", INPUTS)["norm"].shape == (3,)
        with Client(server.address, timeout=5, retries=0) as client, pytest.raises(PredictError):
            client.predict("dense", INPUTS)
    other, _ = make_certificate(folder, "other")
    key, certificate = texts
    pair = "server_key: {} server_cert: {}"
    for text, words in (
        ("server_key: 1", "is no SSLConfig"),
        ("", "must hold a server_key"),
        (pair.format('"x"', certificate), f"server_key in {config} is no PEM of a key"),
        (pair.format(key, '"x"'), f"server_cert in {config} is no PEM of a certificate"),
        (pair.format(key, certificate) + ' custom_ca: "x"', f"custom_ca in {config} is no PEM"),
        (pair.format(json.dumps(other.read_text()), certificate), "does not belong to its server"),
    ):
        config.write_text(text)
        with pytest.raises(ValueError, match=words):
            Server(repository, ssl=config).start()


def test_monitoring_file_moves_the_metrics_or_switches_them_off(repository):
    config = repository / "monitoring.config"
    for text, code in (('enable: true path: "/numbers"', 200), ("enable: false", 404)):
        config.write_text(f"prometheus_config {{ {text} }}")
        with Server(repository, rest_port=0, monitoring=config) as server:
            request = urllib.request.Request(f"{server.rest_address}/numbers")
            try:
                with urllib.request.urlopen(request) as answer:
                    assert answer.status == code
            except urllib.error.HTTPError as error:
                assert error.code == code


def test_taken_rest_port_is_told_and_everything_is_closed(repository):
    with Server(repository, rest_port=0) as server:
        with pytest.raises(OSError, match=r"cannot listen on .* Address already in use"):
            Server(repository, rest_port=server.rest_port).start()
        with urllib.request.urlopen(f"{server.rest_address}/ponderzoo/models") as answer:
            (listed,) = json.load(answer)["models"]
    assert listed["name"] == "dense" and listed["versions"][0]["state"] == "AVAILABLE"
    assert listed["card"]["signatures"]["serve"]["inputs"]["scale"]["dtype"] == "float32"


def test_engine_tfserving_starts_the_stock_binary(packages, tmp_path):
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\nfor argument; do echo "$argument"; done\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, "-m", "ponderzoo.export._cli", "serve", str(packages)]
    command += ["--engine=tfserving", "--enable_batching", "--rest_port=8601"]
    for path, code in ((f"{tmp_path}:{os.environ['PATH']}", 0), (os.environ["PATH"], 1)):
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if code and shutil.which("tensorflow_model_server"):
            continue
        assert done.returncode == code, done.stderr
        if code:
            assert done.stderr.startswith("error: tensorflow_model_server is not on the PATH")
        else:
            lines = done.stdout.split()
            assert f"--model_config_file={packages}/models.config" in lines
            assert "--enable_per_model_batching_parameters" in lines
            assert f"--monitoring_config_file={packages}/monitoring.config" in lines
            assert "--rest_api_port=8601" in lines
