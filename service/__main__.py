"""Composition root: settings -> objects -> server. `python -m service --help` lists the settings."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.metadata import version

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from model.checkpoint import load_checkpoint
from model.device import pick_device, pick_dtype
from model.estimator import PoseEstimator
from model.skeleton import NUM_KEYPOINTS
from service.core import ModelInfo, PoseService
from service.engine import Engine
from service.http_api import create_app
from service.images import ImageLimits
from service.settings import ServiceSettings

log = logging.getLogger("service")


def build_service(settings: ServiceSettings) -> PoseService:
    """Load the checkpoint and put the service together. Raises ValueError if the settings do not work here."""
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.precision, device)
    net, card = load_checkpoint(settings.checkpoint)
    estimator = PoseEstimator(net, device, dtype)
    info = ModelInfo(
        variant=net.config.key,
        label=net.config.label,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        input_hw=net.config.input_hw,
        checkpoint_sha256=card.sha256,
        runtime="torch",
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
    )
    if net.config.num_keypoints != NUM_KEYPOINTS:
        raise ValueError(f"{settings.checkpoint} has {net.config.num_keypoints} keypoints; allowed: {NUM_KEYPOINTS}")
    log.info("serving %s (%s, %s, %s)", info.label, settings.checkpoint.name, info.device, info.precision)
    return PoseService(
        Engine(estimator, max_batch=settings.max_batch, max_waiting=settings.max_waiting),
        card=card,
        info=info,
        limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        max_persons=settings.max_persons,
        max_requests=settings.max_requests,
    )


def read_settings(argv: list[str] | None = None) -> ServiceSettings:
    """Settings from flags and environment. Exits with 2, one line for each wrong value."""
    try:
        return CliApp.run(ServiceSettings, cli_args=argv)
    except ValidationError as error:
        for wrong in error.errors():
            where = f"{'.'.join(map(str, wrong['loc']))} is {wrong['input']!r}: " if wrong["loc"] else ""
            print(f"python -m service: {where}{wrong['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        sys.exit(2)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2 if the settings or the checkpoint do not work."""
    settings = read_settings(argv)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.captureWarnings(True)
    try:
        service = build_service(settings)
    except ValueError as error:
        print(f"python -m service: {error}", file=sys.stderr)
        return 2
    # uvicorn stops gracefully on SIGTERM and then raises it again, for whoever was there before; an orderly stop is no
    # failure, so nobody is.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        create_app(service, version=version("btranspose"), body_timeout_s=settings.body_timeout_s),
        host=settings.host,
        port=settings.http_port,
        log_config=None,
        timeout_graceful_shutdown=round(settings.drain_timeout_s),
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
