"""What the gRPC server has around the service: health, reflection, TLS, and ports that cannot be used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fakes import BrightestPixel, make_engine, make_service
from grpc_clients import SERVICE, Certificates, HeldBack, Served, ask, estimate_request, fast_health, refused, until
from service.grpc_server import SERVICE_NAME, add_port, make_grpc_server

WHOLE = estimate_request()
NAMES = ("", SERVICE)


async def until_status(to: Served, expected: str) -> None:
    """Wait until the server and its service are both said to be in that state."""
    for _ in range(2000):
        if [await to.status(name) for name in NAMES] == [expected, expected]:
            return
        await asyncio.sleep(0.002)
    pytest.fail(f"the state did not become {expected}")


def test_the_service_has_the_name_of_the_contract():
    assert SERVICE_NAME == SERVICE


@pytest.mark.parametrize("name", NAMES)
def test_health_is_not_serving_before_the_warm_up_and_serving_after_it(name, monkeypatch):
    fast_health(monkeypatch)
    estimator = BrightestPixel()
    estimator.gate.clear()

    async def talk(to: Served) -> None:
        assert await to.status(name) == "NOT_SERVING"
        estimator.gate.set()
        await until_status(to, "SERVING")

    ask(make_service(estimator), talk, ready=False)


def test_health_follows_a_network_that_fails_and_recovers(monkeypatch):
    fast_health(monkeypatch)
    estimator = BrightestPixel()

    async def talk(to: Served) -> None:
        await until_status(to, "SERVING")
        estimator.fails_with = RuntimeError("broken")
        await refused(to.poses.EstimatePose(WHOLE))
        await until_status(to, "NOT_SERVING")
        estimator.fails_with = None
        await until_status(to, "SERVING")

    ask(make_service(estimator), talk)


def test_health_tells_of_a_network_that_hangs(monkeypatch):
    fast_health(monkeypatch)
    estimator = HeldBack()

    async def talk(to: Served) -> None:
        await until_status(to, "SERVING")
        hanging = await estimator.hold(to)
        await until_status(to, "NOT_SERVING")
        estimator.gate.set()
        await hanging
        await until_status(to, "SERVING")

    ask(make_service(engine=make_engine(estimator, stalled_after_s=0.05)), talk)


@pytest.mark.parametrize("name", NAMES)
def test_who_watches_is_told_every_change_and_the_end(name, monkeypatch):
    fast_health(monkeypatch)
    estimator = BrightestPixel()
    estimator.gate.clear()

    async def talk(to: Served) -> list[str]:
        watch = to.health.Watch(health_pb2.HealthCheckRequest(service=name))
        told = [await watch.read()]
        estimator.gate.set()
        told.append(await watch.read())
        estimator.fails_with = RuntimeError("broken")
        await refused(to.poses.EstimatePose(WHOLE))
        told.append(await watch.read())
        estimator.fails_with = None
        told.append(await watch.read())
        to.service.stop()
        told.append(await watch.read())
        watch.cancel()
        return [health_pb2.HealthCheckResponse.ServingStatus.Name(one.status) for one in told]

    told = ask(make_service(estimator), talk, ready=False)
    assert told == ["NOT_SERVING", "SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]


def test_health_tells_of_the_end_while_the_server_still_answers():
    async def talk(to: Served) -> None:
        await until_status(to, "SERVING")
        to.service.stop()
        await until_status(to, "NOT_SERVING")

    ask(make_service(), talk)


def test_nobody_knows_the_health_of_a_service_that_is_not_there():
    async def talk(to: Served) -> grpc.aio.AioRpcError:
        return await refused(to.status("btranspose.v2.PoseService"))

    assert ask(make_service(), talk).code() == grpc.StatusCode.NOT_FOUND


def test_health_checks_need_no_room_among_the_requests_and_no_key(monkeypatch):
    fast_health(monkeypatch)
    estimator = BrightestPixel()

    async def talk(to: Served) -> None:
        await until_status(to, "SERVING")
        estimator.gate.clear()
        calls = [asyncio.ensure_future(to.poses.EstimatePose(WHOLE)) for _ in range(8)]
        await until(lambda: to.service.admission.requests == 8)
        assert await to.status() == "SERVING"
        estimator.gate.set()
        await asyncio.gather(*calls)

    ask(make_service(estimator), talk, max_requests=8)


def test_reflection_lists_the_services_and_knows_the_contract():
    def look(address: str) -> tuple[set[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            contract = database.FindFileContainingSymbol(SERVICE)
            return set(database.get_services()), [method.name for method in contract.service[0].method]

    async def talk(to: Served) -> tuple[set[str], list[str]]:
        return await asyncio.to_thread(look, to.address)

    services, methods = ask(make_service(), talk)
    assert services == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert methods == ["EstimatePose", "GetDependency", "StreamPoses", "GetModel"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_over_tls_a_client_that_trusts_the_certificate_is_served(certificates):
    tls = {"tls_cert": certificates.cert, "tls_key": certificates.key}
    answer = ask(make_service(), lambda to: to.poses.EstimatePose(WHOLE), tls=tls, credentials=certificates.of_client())
    assert len(answer.poses) == 1


@pytest.mark.parametrize(
    "credentials", [None, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())], ids=["plain", "other roots"]
)
def test_over_tls_plain_text_and_other_authorities_do_not_get_through(certificates, credentials):
    tls = {"tls_cert": certificates.cert, "tls_key": certificates.key}
    error = ask(make_service(), lambda to: refused(to.poses.EstimatePose(WHOLE)), tls=tls, credentials=credentials)
    assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_with_mutual_tls_only_clients_with_a_certificate_of_the_authority_are_served(certificates):
    tls = {"tls_cert": certificates.cert, "tls_key": certificates.key, "client_ca": certificates.client_ca}

    def served_to(authority: trustme.CA | None, talk: Callable[[Served], object]) -> object:
        return ask(make_service(), talk, tls=tls, credentials=certificates.of_client(authority))

    right = served_to(certificates.authority, lambda to: to.poses.EstimatePose(WHOLE))
    assert len(right.poses) == 1
    for authority in (None, trustme.CA()):
        error = served_to(authority, lambda to: refused(to.poses.EstimatePose(WHOLE)))
        assert error.code() == grpc.StatusCode.UNAVAILABLE


def listen(**options: object) -> int:
    """What `add_port` says with these options."""

    async def try_it() -> int:
        service = make_service()
        server = make_grpc_server(service, max_frames=1, max_requests=1)
        try:
            return add_port(server, **{"address": "127.0.0.1:0", **options})
        finally:
            await server.stop(None)
            service.close(0.0)

    return asyncio.run(try_it())


@pytest.mark.parametrize("secure", [False, True])
def test_a_port_that_is_taken_is_an_error_that_names_it(certificates, secure):
    tls = {"tls_cert": certificates.cert, "tls_key": certificates.key} if secure else {}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"gRPC cannot listen on {address}: is it taken"):
            listen(address=address, **tls)
    assert listen(address=address, **tls) == int(address.rpartition(":")[2])  # free again


def test_two_servers_do_not_share_a_port():
    async def talk(to: Served) -> None:
        with pytest.raises(ValueError, match=to.address):
            add_port(make_grpc_server(to.service, max_frames=1, max_requests=1), to.address)

    ask(make_service(), talk)


@pytest.mark.parametrize(
    ("wrong", "content"),
    [
        ("tls_cert", None),
        ("tls_key", None),
        ("client_ca", None),
        ("tls_cert", b"hello"),
        ("tls_key", b"hello"),
        ("client_ca", b"hello"),
        ("client_ca", b""),
        ("tls_key", trustme.CA().private_key_pem.bytes()),
    ],
    ids=["no cert", "no key", "no roots", "bad cert", "bad key", "bad roots", "empty roots", "another key"],
)
def test_tls_files_that_cannot_be_used_are_an_error_that_names_them(certificates, tmp_path, wrong, content):
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_bytes(content)
    right = {"tls_cert": certificates.cert, "tls_key": certificates.key, "client_ca": certificates.client_ca}
    assert listen(**right) > 0
    with pytest.raises(ValueError, match="cannot be used for TLS") as complaint:
        listen(**(right | {wrong: path}))
    assert str(path) in str(complaint.value)
    assert "PRIVATE" not in str(complaint.value)
