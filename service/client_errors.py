"""What a client raises: the errors of the service by their names, and one for answers that no pose service gives."""

from __future__ import annotations

from service.errors import ALL_ERRORS, Overloaded, PoseServiceError

ERROR_OF_REASON = {kind.reason: kind for kind in ALL_ERRORS}


class UnexpectedAnswer(PoseServiceError):
    """What answers at the address is no pose service, or one of a version that this client does not know."""


def make_error(kind: type[PoseServiceError], message: str, *, retry_after_s: float | None = None) -> PoseServiceError:
    """An error of the service, made again. `retry_after_s` is for Overloaded; None where the service did not say."""
    if kind is Overloaded and retry_after_s is not None:
        return Overloaded(message, retry_after_s=retry_after_s)
    return kind(message)


def seconds_of(text: object, *, unit_s: float) -> float | None:
    """A number of `unit_s` seconds as a header has it; None for anything else, such as a date."""
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()):
        return None
    return int(text) * unit_s
