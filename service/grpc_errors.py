"""The status codes that gRPC has for the service's errors; proto/pose.proto tells clients of them."""

from __future__ import annotations

import grpc

from service.errors import (
    EngineFailed,
    InvalidParameter,
    Late,
    NotAnImage,
    Overloaded,
    PoseServiceError,
    SlowRequest,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

CODE_OF_ERROR: dict[type[PoseServiceError], grpc.StatusCode] = {
    NotAnImage: grpc.StatusCode.INVALID_ARGUMENT,
    TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    UnsupportedMedia: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidParameter: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    SlowRequest: grpc.StatusCode.DEADLINE_EXCEEDED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Late: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    EngineFailed: grpc.StatusCode.INTERNAL,
}
DEFECT_MESSAGE = "an internal error; the log has the details"
