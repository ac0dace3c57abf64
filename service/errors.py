"""What can go wrong with a request, whatever the protocol.

    PoseServiceError
    |-- the request's fault; sending it again gives the same answer
    |   |-- NotAnImage            the bytes are not a picture that can be read
    |   |-- TooLarge              more bytes or pixels than are taken
    |   |-- UnsupportedMedia      the body is of a type that is not taken
    |   `-- InvalidParameter      a parameter is not what it should be
    `-- not the request's fault; it may be sent again
        |-- SlowRequest           the body did not arrive in time
        |-- Overloaded            more work is waiting than is taken
        |-- Unavailable           starting, or about to stop
        `-- EngineFailed          the network could not be run

Each message is written for the client: it names the value and what is allowed, and nothing of the inside. Adapters
translate by class and pass the message on; anything that is not a PoseServiceError is a defect, is logged, and reaches
the client as a bare internal error.
"""

from __future__ import annotations


class PoseServiceError(Exception):
    """Base of all errors that a client may see. `str(error)` is the text for the client."""


class NotAnImage(PoseServiceError):
    """The bytes are not a picture that can be read: another kind of file, empty, or cut off."""


class TooLarge(PoseServiceError):
    """The body has more bytes, or the picture more pixels, than the service takes."""


class UnsupportedMedia(PoseServiceError):
    """The declared type of the body is not one that the service takes."""


class InvalidParameter(PoseServiceError):
    """A parameter of the request is malformed or out of range."""


class SlowRequest(PoseServiceError):
    """The body did not arrive in the time that the service waits."""


class Overloaded(PoseServiceError):
    """So many persons are waiting that this request would wait too long. `retry_after_s` is when to try again."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(PoseServiceError):
    """The service is not ready yet, or is shutting down."""


class EngineFailed(PoseServiceError):
    """The network could not be run on this request's persons. The details are in the log, not here."""
