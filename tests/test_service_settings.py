"""Flags and environment, and what is said when they are wrong."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from drawings import lively_network, tiny_config
from model.checkpoint import load_checkpoint, save_checkpoint
from model.openvino_runtime import convert, keep
from model.quantised import sign
from service.__main__ import build_service, main, read_settings
from service.metrics import Metrics
from service.settings import BUNDLED_CHECKPOINT


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("BTRANSPOSE_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("127.0.0.1")
    files = {"cert": folder / "cert.pem", "key": folder / "key.pem", "hello": folder / "hello.pem"}
    files["cert"].write_bytes(issued.cert_chain_pems[0].bytes())
    files["key"].write_bytes(issued.private_key_pem.bytes())
    files["hello"].write_text("hello")
    return files


def test_defaults_serve_the_bundled_checkpoint_on_loopback():
    settings = read_settings([])
    assert settings.checkpoint == BUNDLED_CHECKPOINT
    assert (settings.host, settings.http_port, settings.grpc_port) == ("127.0.0.1", 8000, 50051)
    assert (settings.device, settings.runtime) == ("auto", "auto")
    assert (settings.api_key_file, settings.tls_cert, settings.grpc_client_ca) == (None, None, None)


def test_flags_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("BTRANSPOSE_HTTP_PORT", "9000")
    monkeypatch.setenv("BTRANSPOSE_MAX_BATCH", "3")
    settings = read_settings(["--http-port", "9001"])
    assert (settings.http_port, settings.max_batch) == (9001, 3)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--http-port", "hello"], "http_port"),
        (["--http-port", "70000"], "65535"),
        (["--grpc-port", "-1"], "grpc_port"),
        (["--max-batch", "-1"], "max_batch"),
        (["--max-requests", "0"], "max_requests"),
        (["--max-frames", "0"], "max_frames"),
        (["--max-waiting", "5"], "max_waiting is 5; allowed: at least max_persons = 100"),
        (["--max-held-bytes", "5"], "max_held_bytes is 5; allowed: at least max_image_bytes = 20971520"),
        (["--max-image-pixels", "900000000"], "178956970"),
        (["--timeout-s", "0"], "timeout_s"),
        (["--body-timeout-s", "-1"], "body_timeout_s"),
        (["--stalled-after-s", "0"], "stalled_after_s"),
        (["--drain-timeout-s", "0"], "drain_timeout_s"),
        (["--drain-delay-s", "-1"], "drain_delay_s"),
        (["--timeout-s", "nan"], "timeout_s"),
        (["--timeout-s", "inf"], "timeout_s"),
        (["--drain-delay-s", "inf"], "drain_delay_s"),
        (["--log-format", "xml"], "log_format"),
        (["--log-level", "trace"], "log_level"),
        (["--runtime", "magic"], "magic"),
        (["--tls-cert", "cert.pem"], "tls_cert and tls_key: give both or none"),
        (["--tls-key", "key.pem"], "tls_cert and tls_key: give both or none"),
        (["--checkpoint-dir", "models"], "checkpoint_dir needs admin_socket"),
        (["--grpc-client-ca", "ca.pem"], "grpc_client_ca needs tls_cert and tls_key"),
        (["--unknown", "1"], "--unknown"),
    ],
)
def test_wrong_flags_exit_with_2_and_name_themselves(flags, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        read_settings(flags)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_limits_that_depend_on_each_other_may_be_equal():
    settings = read_settings(
        ["--max-waiting", "7", "--max-persons", "7", "--max-held-bytes", "9", "--max-image-bytes", "9"]
    )
    assert (settings.max_waiting, settings.max_held_bytes) == (7, 9)


def complaint_of(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """What a start that must fail says, beside the log: one line, without its beginning."""
    assert main(["--device", "cpu", "--http-port", "0", "--grpc-port", "0", *map(str, flags)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if not re.match(r"[\d-]+ [\d:,]+ INFO ", line)]
    assert line.startswith("python -m service: ")
    return line.removeprefix("python -m service: ")


def test_a_missing_checkpoint_is_one_clear_line(capsys, tmp_path):
    assert "none.safetensors" in complaint_of(capsys, "--checkpoint", tmp_path / "none.safetensors")


def test_an_impossible_device_is_one_clear_line(capsys):
    assert complaint_of(capsys, "--device", "tpu") == "device is 'tpu'; allowed: auto, cpu, cuda, cuda:N"


def test_int8_without_its_file_or_its_runtime_is_one_clear_line(capsys, tiny):
    given = ("--checkpoint", tiny, "--precision", "int8")
    said = complaint_of(capsys, *given)
    assert said.startswith(f"{tiny.with_suffix('.int8.xml')} does not exist, and precision is 'int8'; make it by: ")
    said = complaint_of(capsys, *given, "--runtime", "torch")
    assert said == "precision is 'int8' and runtime is 'torch'; allowed with int8: auto, openvino"


def test_int8_is_served(tiny, tmp_path):
    net, card = load_checkpoint(tiny)
    model = convert(net)  # not quantised, but signed
    sign(model, net.config, checkpoint_sha256=card.sha256, calibration={})
    shutil.copy(tiny, tmp_path)
    shutil.copy(tiny.with_suffix(".json"), tmp_path)
    keep(model, tmp_path / "tiny.int8.xml")
    given = {"--checkpoint": tmp_path / tiny.name, "--cache-dir": tmp_path / "cache", "--device": "cpu"}
    flags = [str(part) for pair in given.items() for part in pair]
    service = build_service(read_settings([*flags, "--precision", "int8"]), Metrics(), None)
    assert (service.info.runtime, service.info.precision) == ("openvino", "int8")


def test_the_least_score_of_a_pose_reaches_the_service(tiny):
    for flags, least in (([], 0.3), (["--min-pose-score", "0.45"], 0.45)):
        given = ["--checkpoint", str(tiny), "--device", "cpu", "--runtime", "torch", "--detector", "none", *flags]
        service = build_service(read_settings(given), Metrics(), None)
        assert service.min_pose_score == least
        assert service.close(30)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_that_is_taken_is_one_clear_line(protocol, capsys, tiny):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = complaint_of(capsys, "--checkpoint", tiny, f"--{protocol}-port", port)
    assert re.fullmatch(f"(HTTP|gRPC) cannot listen on 127.0.0.1:{port}: .*(taken|already in use).*", said)


def test_an_address_of_another_machine_is_one_clear_line(capsys, tiny):
    said = complaint_of(capsys, "--checkpoint", tiny, "--host", "192.0.2.1")
    assert "cannot listen on 192.0.2.1:0" in said


def test_an_admin_socket_that_cannot_be_had_is_one_clear_line(capsys, tiny, tmp_path):
    path = tmp_path / "none" / "admin.sock"
    said = complaint_of(capsys, "--checkpoint", tiny, "--admin-socket", path)
    assert said.rstrip() == f"admin_socket is {path}, which cannot be used: no such file or directory"


@pytest.mark.parametrize(
    ("cert", "key", "roots", "named"),
    [
        ("hello", "key", None, "hello.pem"),
        ("cert", "hello", None, "hello.pem"),
        ("cert", "key", "hello", "hello.pem"),
        ("cert", "key", "none", "none.pem"),
    ],
)
def test_tls_files_that_cannot_be_used_are_one_clear_line(cert, key, roots, named, capsys, tiny, tls):
    files = {**tls, "none": tls["cert"].with_name("none.pem")}
    flags = ["--checkpoint", tiny, "--tls-cert", files[cert], "--tls-key", files[key]]
    said = complaint_of(capsys, *flags, *(["--grpc-client-ca", files[roots]] if roots else []))
    assert "cannot be used for TLS" in said
    assert named in said


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), ("# nobody\n", "has no API keys"), ("hush\n", "line 1: the key is shorter than")],
)
def test_a_file_of_keys_that_cannot_be_used_is_one_clear_line_without_its_content(
    content, words, capsys, tiny, tmp_path
):
    keys = tmp_path / "keys.txt"
    if content is not None:
        keys.write_text(content)
    said = complaint_of(capsys, "--checkpoint", tiny, "--api-key-file", keys)
    assert str(keys) in said
    assert words in said
    assert content is None or content.strip() not in said


def test_an_exporter_of_traces_that_is_not_known_is_one_clear_line(capsys, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert complaint_of(capsys) == "OTEL_TRACES_EXPORTER is 'zipkin'; allowed: otlp, console, none"
