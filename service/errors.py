"""What can go wrong with a request, whatever the protocol.

    PoseServiceError
    |-- the request's fault; sending it again gives the same answer
    |   |-- NotAnImage            the bytes are not a picture that can be read
    |   |-- TooLarge              more bytes or pixels than are taken
    |   |-- UnsupportedMedia      the body is of a type that is not taken
    |   |-- InvalidParameter      a parameter is not what it should be
    |   `-- Unauthenticated       no API key, or one that is not known
    `-- not the request's fault; it may be sent again
        |-- SlowRequest           the body did not arrive in time
        |-- Overloaded            more work is waiting than is taken
        |-- Late                  the answer would come after the deadline
        |-- Unavailable           starting, or about to stop
        `-- EngineFailed          the network could not be run

Each message is written for the client: it names the value and what is allowed, and nothing of the inside. Adapters
translate by class and pass the message on; anything that is not a PoseServiceError is a defect, is logged, and reaches
the client as a bare internal error.
"""

from __future__ import annotations

import re


class PoseServiceError(Exception):
    """Base of all errors that a client may see. `str(error)` is the text for the client.

    `reason` names the class for programs, in metrics, logs and gRPC: `NotAnImage` is "not_an_image".
    """

    reason = "error"

    def __init_subclass__(cls) -> None:
        cls.reason = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


class NotAnImage(PoseServiceError):
    """The bytes are not a picture that can be read: another kind of file, empty, or cut off."""


class TooLarge(PoseServiceError):
    """The body has more bytes, or the picture more pixels, than the service takes."""


class UnsupportedMedia(PoseServiceError):
    """The declared type of the body is not one that the service takes."""


class InvalidParameter(PoseServiceError):
    """A parameter of the request is malformed or out of range."""


class Unauthenticated(PoseServiceError):
    """The service asks for an API key, and the request has none, or one that is not known."""


class SlowRequest(PoseServiceError):
    """The body did not arrive in the time that the service waits."""


class Overloaded(PoseServiceError):
    """So much is waiting that this request would wait too long. `retry_after_s` is when to try again."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Late(PoseServiceError):
    """The answer would come after the deadline of the request, or of the service."""


class Unavailable(PoseServiceError):
    """The service is not ready yet, or is shutting down."""


class EngineFailed(PoseServiceError):
    """The network could not be run on this request's persons. The details are in the log, not here."""


ALL_ERRORS: tuple[type[PoseServiceError], ...] = (
    NotAnImage,
    TooLarge,
    UnsupportedMedia,
    InvalidParameter,
    Unauthenticated,
    SlowRequest,
    Overloaded,
    Late,
    Unavailable,
    EngineFailed,
)
