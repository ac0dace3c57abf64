"""The service behind Ray's proxies: without Ray, what its methods do with what proxies give; with it, the whole."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest

from callers import serving
from deploy.ray_grpc import Aborted, stream_poses, unary
from deploy.ray_http import LeaveIdToProxy
from drawings import lively_network, tiny_config
from fakes import make_admission
from grpc_clients import estimate_request
from http_clients import JPEG
from model.checkpoint import save_checkpoint
from pictures import jpeg
from service.api_keys import ApiKeys
from service.grpc_api import PoseServicer
from service.http_api import create_app
from service.metrics import Metrics
from service.pb import pose_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]


class Outside:
    """A proxy's context: what can be sent between processes."""

    def __init__(self, **metadata: str) -> None:
        self.metadata = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        self.trailing: dict[str, str] = {}
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def invocation_metadata(self):
        return self.metadata

    def set_trailing_metadata(self, metadata: list[tuple[str, str]]) -> None:
        assert isinstance(metadata, list)  # a proxy adds to it
        self.trailing = dict(metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


def play(scene, **options) -> None:
    async def run() -> None:
        async with serving(**options) as service:
            await scene(PoseServicer(service, max_frames=3), service)

    asyncio.run(asyncio.wait_for(run(), 30))


async def frames(*images: bytes) -> AsyncIterator[pb.StreamPosesRequest]:
    for number, image in enumerate(images):
        yield pb.StreamPosesRequest(frame_id=number, image=image)


def test_an_answer_passes_as_it_is():
    async def scene(servicer, _):
        outside = Outside(x_request_id="mine")
        asked = estimate_request(jpeg())
        answer = await unary(servicer.EstimatePose, asked, outside, pb.EstimatePoseResponse)
        assert len(answer.poses) == 1
        assert outside.code is None
        assert outside.trailing == {"x-request-id": "mine"}

    play(scene)


@pytest.mark.parametrize(
    ("image", "code", "reason", "words"),
    [
        (b"no picture", grpc.StatusCode.INVALID_ARGUMENT, "not_an_image", "not a JPEG"),
        (jpeg(), grpc.StatusCode.UNAVAILABLE, "unavailable", "shutting down"),
    ],
)
def test_an_error_keeps_its_status_and_reason(image, code, reason, words):
    async def scene(servicer, service):
        if reason == "unavailable":
            service.stop()
        outside = Outside()
        answer = await unary(servicer.EstimatePose, estimate_request(image), outside, pb.EstimatePoseResponse)
        assert answer == pb.EstimatePoseResponse()
        assert (outside.code, outside.trailing["reason"]) == (code, reason)
        assert words in outside.details

    play(scene)


def test_too_much_says_when_to_come_again():
    async def scene(servicer, _):
        outside = Outside()
        await unary(servicer.EstimatePose, estimate_request(jpeg()), outside, pb.EstimatePoseResponse)
        assert outside.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert outside.trailing["reason"] == "overloaded"
        assert int(outside.trailing["retry-after-ms"]) > 0

    play(scene, admission=make_admission(max_held_bytes=10))


def test_frames_are_answered_in_order_and_a_bad_one_alone():
    async def scene(servicer, service):
        outside = Outside()
        stream = stream_poses(servicer, frames(*[jpeg()] * 4, b"bad", *[jpeg()] * 4), outside)
        answers = [answer async for answer in stream]
        assert [answer.frame_id for answer in answers] == list(range(9))
        assert [answer.error.reason for answer in answers if answer.HasField("error")] == ["not_an_image"]
        assert (outside.code, service.admission.requests) == (None, 0)

    play(scene)


def test_an_error_of_a_stream_ends_it():
    async def scene(servicer, _):
        outside = Outside(x_api_key="wrong")
        with pytest.raises(Aborted):
            _ = [answer async for answer in stream_poses(servicer, frames(jpeg()), outside)]
        assert (outside.code, outside.trailing["reason"]) == (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")

    play(scene, admission=make_admission(api_keys=ApiKeys(["right-0123456789"])))


def test_the_id_of_a_request_is_for_the_proxy_to_tell():
    async def scene(_, service):
        app = create_app(service, Metrics(), version="0", body_timeout_s=9)
        app.add_middleware(LeaveIdToProxy)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for content, status in ((jpeg(), 200), (b"no picture", 400)):
                answer = await client.post("/pose", content=content, headers=JPEG)
                assert (answer.status_code, "x-request-id" in answer.headers) == (status, False)

    play(scene)


def test_a_stream_that_the_proxy_leaves_is_over_for_the_service():
    async def scene(servicer, service):
        async def endless() -> AsyncIterator[pb.StreamPosesRequest]:
            number = 0
            while True:
                yield pb.StreamPosesRequest(frame_id=number, image=jpeg())
                number += 1

        stream = stream_poses(servicer, endless(), Outside())
        assert (await anext(stream)).frame_id == 0
        assert service.admission.requests == 1
        await stream.aclose()
        assert service.admission.requests == 0

    play(scene)


@pytest.mark.filterwarnings("default")  # Ray's own
def test_the_configuration_for_serve_deploy_is_one_that_ray_takes():
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from deploy.ray_app import SERVICERS, RayOptions

    content = yaml.safe_load((ROOT / "deploy" / "ray_serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(content).applications
    assert application.import_path == "deploy.ray_app:build"
    assert RayOptions(**application.args).min_replicas == 2
    assert content["grpc_options"]["grpc_servicer_functions"] == SERVICERS


@pytest.mark.slow
def test_two_nodes_on_one_machine_lose_one_and_go_on(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, lively_network(tiny_config()), training={})
    command = [sys.executable, "-m", "deploy.try_ray", "--checkpoint", str(checkpoint), "--steady-s", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "both replicas were well" in done.stdout
