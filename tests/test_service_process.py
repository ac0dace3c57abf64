"""`python -m service` as an operator runs it: start, answer, agree with the evaluation, keep strangers out, stop."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl

import grpc
import httpx
import pytest
from PIL import Image

from drawings import draw_coco, lively_network, noise_photograph, tiny_config
from grpc_clients import Certificates, estimate_request, frame, refused, until
from model.checkpoint import save_checkpoint
from pictures import jpeg
from processes import Process, served
from service.pb import pose_pb2_grpc
from service.settings import BUNDLED_CHECKPOINT
from training.evaluate import main as evaluate

KEY = "k-0123456789abcdef"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A checkpoint of a network that takes milliseconds."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return str(path)


def test_it_answers_what_the_evaluation_measures_and_stops_on_sigterm(tmp_path, tiny):
    annotations, images = draw_coco(tmp_path, persons=4)
    results = tmp_path / "results.json"
    command = ["--checkpoint", tiny, "--annotations", annotations, "--images", images, "--save-results", results]
    assert (
        evaluate([str(option) for option in [*command, "--flip-test", "--device", "cpu", "--precision", "fp32"]]) == 0
    )

    measured = json.loads(results.read_text())
    content = json.loads(annotations.read_text())
    with served("--checkpoint", tiny, "--precision", "fp32") as service:
        service.wait_until_ready()
        assert httpx.get(f"{service.http}/model").json()["variant"] == "tiny"
        for image in content["images"]:
            boxes = [one["bbox"] for one in content["annotations"] if one["image_id"] == image["id"]]
            answer = httpx.post(
                f"{service.http}/pose",
                content=(images / image["file_name"]).read_bytes(),
                headers=JPEG,
                params={"boxes": json.dumps(boxes), "flip_test": "true"},
            )
            assert answer.status_code == 200, answer.text
            expected = [result["keypoints"] for result in measured if result["image_id"] == image["id"]]
            for pose, keypoints in zip(answer.json()["poses"], expected, strict=True):
                assert pose["keypoints"] == pytest.approx(keypoints, abs=2e-3)
        assert service.stop() == 0


@pytest.mark.skipif(not BUNDLED_CHECKPOINT.exists(), reason="no bundled checkpoint")
def test_the_bundled_checkpoint_is_served_without_flags():
    with served() as service:
        service.wait_until_ready()
        model = httpx.get(f"{service.http}/model").json()
    card = json.loads(BUNDLED_CHECKPOINT.with_suffix(".json").read_text())
    assert model["checkpoint_sha256"] == card["sha256"]
    assert model["variant"] == card["config"]["key"]


class Crowd:
    """Clients of both protocols who ask without a pause until they are refused."""

    CLIENTS = 6  # of each protocol

    def __init__(self, service: Process) -> None:
        self._service = service
        self._image = jpeg(Image.fromarray(noise_photograph(120, 160)))
        self.answered: set[str] = set()  # request ids
        self.refusals: list[str] = []
        self.frames_sent = 0
        self.frames_answered: list[int] = []

    async def ask(self, *, stop_after: int) -> None:
        """Returns when everybody has been refused; SIGTERM is sent when so many requests have been answered."""
        async with grpc.aio.insecure_channel(self._service.grpc) as channel:
            poses = pose_pb2_grpc.PoseServiceStub(channel)
            async with asyncio.TaskGroup() as clients:
                for number in range(self.CLIENTS):
                    clients.create_task(self._post(f"http-{number}"))
                    clients.create_task(self._call(poses, f"grpc-{number}"))
                clients.create_task(self._stream(poses))
                await until(lambda: len(self.answered) >= stop_after, tries=20_000)
                self._service.process.send_signal(signal.SIGTERM)

    async def _post(self, name: str) -> None:
        async with httpx.AsyncClient(base_url=self._service.http, timeout=30) as client:
            for number in range(100_000):
                headers = {**JPEG, "x-request-id": f"{name}-{number}"}
                try:
                    answer = await client.post("/pose", content=self._image, headers=headers)
                except httpx.TransportError:  # reset, because the rest of the body was not read
                    self.refusals.append("closed")
                    return
                if answer.status_code != 200:
                    self.refusals.append(str(answer.status_code))
                    return
                assert len(answer.json()["poses"]) == 1
                self.answered.add(f"{name}-{number}")

    async def _call(self, poses: pose_pb2_grpc.PoseServiceStub, name: str) -> None:
        for number in range(100_000):
            try:
                metadata = (("x-request-id", f"{name}-{number}"),)
                answer = await poses.EstimatePose(estimate_request(self._image), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                self.refusals.append(error.code().name)
                return
            assert len(answer.poses) == 1
            self.answered.add(f"{name}-{number}")

    async def _stream(self, poses: pose_pb2_grpc.PoseServiceStub) -> None:
        call = poses.StreamPoses()

        async def send() -> None:
            for number in range(100_000):
                await call.write(frame(number, self._image))
                self.frames_sent += 1

        sending = asyncio.create_task(send())
        try:
            async for answer in call:
                assert not answer.HasField("error"), answer.error
                self.frames_answered.append(answer.frame_id)
        except grpc.aio.AioRpcError as error:
            # grpc.aio shows INTERNAL for whatever status arrives while it is sending a frame (grpc/grpc#36066).
            hidden = error.code() is grpc.StatusCode.INTERNAL
            self.refusals.append("UNAVAILABLE" if hidden else error.code().name)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def test_sigterm_under_load_loses_nothing_that_was_admitted(tiny):
    # The delay keeps the ports open for a while, so that refusals are answers and not closed connections.
    with served("--checkpoint", tiny, "--precision", "fp32", "--drain-delay-s", "5") as service:
        service.wait_until_ready()
        crowd = Crowd(service)
        asyncio.run(crowd.ask(stop_after=50))
        assert service.wait() == 0

    assert len(crowd.refusals) == 2 * crowd.CLIENTS + 1
    assert {"503", "UNAVAILABLE"} <= set(crowd.refusals) <= {"503", "UNAVAILABLE", "closed"}
    assert crowd.frames_answered == list(range(len(crowd.frames_answered)))
    assert 0 < len(crowd.frames_answered) <= crowd.frames_sent
    told = [re.findall(r"(\w+)=(\S+)", line) for line in service.log if "service.access" in line]
    requests = [dict(fields) for fields in told]
    ended_well = {one["request_id"] for one in requests if (one["method"], one["outcome"]) == ("pose", "ok")}
    assert ended_well == crowd.answered
    assert {one["outcome"] for one in requests} == {"ok", "unavailable"}
    assert not [line for line in service.log if "ERROR" in line or "WARNING" in line or "Traceback" in line]


def test_keys_tls_traces_and_the_log_as_json(tmp_path, tiny):
    certificates = Certificates(tmp_path)
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# for the tests\n{KEY}\n")
    tls = ["--tls-cert", certificates.cert, "--tls-key", certificates.key, "--grpc-client-ca", certificates.client_ca]
    flags = ["--checkpoint", tiny, "--api-key-file", keys, "--log-format", "json", *tls]
    trusting = ssl.create_default_context()
    certificates.authority.configure_trust(trusting)

    def post(**headers: str) -> int:
        return httpx.post(
            f"{service.http}/pose", content=jpeg(), headers={**JPEG, **headers}, verify=trusting
        ).status_code

    async def call(authority: object, *metadata: tuple[str, str]) -> str:
        async with grpc.aio.secure_channel(service.grpc, certificates.of_client(authority)) as channel:
            asked = pose_pb2_grpc.PoseServiceStub(channel).EstimatePose(estimate_request(), metadata=metadata)
            return "OK" if len((await asked).poses) == 1 else "?"

    with served(*map(str, flags), OTEL_TRACES_EXPORTER="console") as service:
        assert service.http.startswith("https://")
        service.wait_until_ready(verify=trusting)
        assert post() == 401
        assert post(**{"x-api-key": "not-the-key-of-anybody"}) == 401
        assert post(**{"x-api-key": KEY, "x-request-id": "right-1"}) == 200
        assert post(authorization=f"Bearer {KEY}") == 200
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(service.http.replace("https", "http"))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{service.http}/healthz")  # trusts other authorities
        ours, key = certificates.authority, ("x-api-key", KEY)
        assert asyncio.run(call(ours, key, ("x-request-id", "right-2"))) == "OK"
        assert asyncio.run(refused(call(ours))).code() == grpc.StatusCode.UNAUTHENTICATED
        assert asyncio.run(refused(call(None, key))).code() == grpc.StatusCode.UNAVAILABLE
        assert service.stop() == 0

    lines = [json.loads(line) for line in service.log]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert {"uvicorn.error", "service", "service.access", "service.running"} <= {line["logger"] for line in lines}
    requests = [line for line in lines if line["logger"] == "service.access"]
    assert [one["outcome"] for one in requests].count("ok") == 3
    assert [one["outcome"] for one in requests].count("unauthenticated") == 3
    assert len({one["request_id"] for one in requests}) == 6
    assert {"right-1", "right-2"} < {one["request_id"] for one in requests}
    assert sum('"btranspose.outcome": "ok"' in line for line in service.said) == 3
    assert sum('"name": "engine"' in line for line in service.said) == 3
    assert not [
        line for line in service.log + service.said if KEY in line or "not-the-key" in line or "PRIVATE" in line
    ]
