from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamPace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_PACE_UNSPECIFIED: _ClassVar[StreamPace]
    STREAM_PACE_EVERY_FRAME: _ClassVar[StreamPace]
    STREAM_PACE_LIVE: _ClassVar[StreamPace]

class DependencyLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPENDENCY_LEVEL_UNSPECIFIED: _ClassVar[DependencyLevel]
    DEPENDENCY_LEVEL_MHSA: _ClassVar[DependencyLevel]
    DEPENDENCY_LEVEL_ENCODER: _ClassVar[DependencyLevel]

class DependencyMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPENDENCY_MODE_UNSPECIFIED: _ClassVar[DependencyMode]
    DEPENDENCY_MODE_DEPENDENCY: _ClassVar[DependencyMode]
    DEPENDENCY_MODE_AFFECT: _ClassVar[DependencyMode]

class DependencyFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPENDENCY_FORMAT_UNSPECIFIED: _ClassVar[DependencyFormat]
    DEPENDENCY_FORMAT_MAP: _ClassVar[DependencyFormat]
    DEPENDENCY_FORMAT_PNG: _ClassVar[DependencyFormat]
STREAM_PACE_UNSPECIFIED: StreamPace
STREAM_PACE_EVERY_FRAME: StreamPace
STREAM_PACE_LIVE: StreamPace
DEPENDENCY_LEVEL_UNSPECIFIED: DependencyLevel
DEPENDENCY_LEVEL_MHSA: DependencyLevel
DEPENDENCY_LEVEL_ENCODER: DependencyLevel
DEPENDENCY_MODE_UNSPECIFIED: DependencyMode
DEPENDENCY_MODE_DEPENDENCY: DependencyMode
DEPENDENCY_MODE_AFFECT: DependencyMode
DEPENDENCY_FORMAT_UNSPECIFIED: DependencyFormat
DEPENDENCY_FORMAT_MAP: DependencyFormat
DEPENDENCY_FORMAT_PNG: DependencyFormat

class Box(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    width: float
    height: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., width: _Optional[float] = ..., height: _Optional[float] = ...) -> None: ...

class Keypoint(_message.Message):
    __slots__ = ("x", "y", "score")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    score: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...

class Pose(_message.Message):
    __slots__ = ("bbox", "score", "keypoints", "track_id")
    BBOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    KEYPOINTS_FIELD_NUMBER: _ClassVar[int]
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    bbox: Box
    score: float
    keypoints: _containers.RepeatedCompositeFieldContainer[Keypoint]
    track_id: int
    def __init__(self, bbox: _Optional[_Union[Box, _Mapping]] = ..., score: _Optional[float] = ..., keypoints: _Optional[_Iterable[_Union[Keypoint, _Mapping]]] = ..., track_id: _Optional[int] = ...) -> None: ...

class ImageSize(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class EstimatePoseRequest(_message.Message):
    __slots__ = ("image", "boxes", "flip_test")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    FLIP_TEST_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    boxes: _containers.RepeatedCompositeFieldContainer[Box]
    flip_test: bool
    def __init__(self, image: _Optional[bytes] = ..., boxes: _Optional[_Iterable[_Union[Box, _Mapping]]] = ..., flip_test: _Optional[bool] = ...) -> None: ...

class EstimatePoseResponse(_message.Message):
    __slots__ = ("image", "poses")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POSES_FIELD_NUMBER: _ClassVar[int]
    image: ImageSize
    poses: _containers.RepeatedCompositeFieldContainer[Pose]
    def __init__(self, image: _Optional[_Union[ImageSize, _Mapping]] = ..., poses: _Optional[_Iterable[_Union[Pose, _Mapping]]] = ...) -> None: ...

class StreamPosesRequest(_message.Message):
    __slots__ = ("frame_id", "image", "boxes", "flip_test", "raw", "captured_us", "options")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    FLIP_TEST_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    image: bytes
    boxes: _containers.RepeatedCompositeFieldContainer[Box]
    flip_test: bool
    raw: RawImage
    captured_us: int
    options: StreamOptions
    def __init__(self, frame_id: _Optional[int] = ..., image: _Optional[bytes] = ..., boxes: _Optional[_Iterable[_Union[Box, _Mapping]]] = ..., flip_test: _Optional[bool] = ..., raw: _Optional[_Union[RawImage, _Mapping]] = ..., captured_us: _Optional[int] = ..., options: _Optional[_Union[StreamOptions, _Mapping]] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("width", "height", "rgb")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    rgb: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., rgb: _Optional[bytes] = ...) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("plain", "pace", "smoothing", "detect_every")
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    DETECT_EVERY_FIELD_NUMBER: _ClassVar[int]
    plain: bool
    pace: StreamPace
    smoothing: Smoothing
    detect_every: int
    def __init__(self, plain: _Optional[bool] = ..., pace: _Optional[_Union[StreamPace, str]] = ..., smoothing: _Optional[_Union[Smoothing, _Mapping]] = ..., detect_every: _Optional[int] = ...) -> None: ...

class Smoothing(_message.Message):
    __slots__ = ("min_cutoff_hz", "beta", "derivative_cutoff_hz")
    MIN_CUTOFF_HZ_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    DERIVATIVE_CUTOFF_HZ_FIELD_NUMBER: _ClassVar[int]
    min_cutoff_hz: float
    beta: float
    derivative_cutoff_hz: float
    def __init__(self, min_cutoff_hz: _Optional[float] = ..., beta: _Optional[float] = ..., derivative_cutoff_hz: _Optional[float] = ...) -> None: ...

class StreamPosesResponse(_message.Message):
    __slots__ = ("frame_id", "image", "poses", "error", "dropped_frames", "dropped_frame_ids", "detected", "age_seconds")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POSES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FRAME_IDS_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    image: ImageSize
    poses: _containers.RepeatedCompositeFieldContainer[Pose]
    error: FrameError
    dropped_frames: int
    dropped_frame_ids: _containers.RepeatedScalarFieldContainer[int]
    detected: bool
    age_seconds: float
    def __init__(self, frame_id: _Optional[int] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ..., poses: _Optional[_Iterable[_Union[Pose, _Mapping]]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ..., dropped_frames: _Optional[int] = ..., dropped_frame_ids: _Optional[_Iterable[int]] = ..., detected: _Optional[bool] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("code", "message", "reason")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class GetDependencyRequest(_message.Message):
    __slots__ = ("image", "box", "keypoint", "level", "layer", "head", "mode", "threshold", "format", "colormap", "mean_of_heads")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    KEYPOINT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    COLORMAP_FIELD_NUMBER: _ClassVar[int]
    MEAN_OF_HEADS_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    box: Box
    keypoint: str
    level: DependencyLevel
    layer: int
    head: int
    mode: DependencyMode
    threshold: float
    format: DependencyFormat
    colormap: str
    mean_of_heads: bool
    def __init__(self, image: _Optional[bytes] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., keypoint: _Optional[str] = ..., level: _Optional[_Union[DependencyLevel, str]] = ..., layer: _Optional[int] = ..., head: _Optional[int] = ..., mode: _Optional[_Union[DependencyMode, str]] = ..., threshold: _Optional[float] = ..., format: _Optional[_Union[DependencyFormat, str]] = ..., colormap: _Optional[str] = ..., mean_of_heads: _Optional[bool] = ...) -> None: ...

class GetDependencyResponse(_message.Message):
    __slots__ = ("height", "width", "attention", "query_row", "query_column", "layer", "png", "level", "head", "mode", "keypoint", "point", "region", "image")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    QUERY_ROW_FIELD_NUMBER: _ClassVar[int]
    QUERY_COLUMN_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    KEYPOINT_FIELD_NUMBER: _ClassVar[int]
    POINT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    attention: _containers.RepeatedScalarFieldContainer[float]
    query_row: int
    query_column: int
    layer: int
    png: bytes
    level: DependencyLevel
    head: int
    mode: DependencyMode
    keypoint: str
    point: Keypoint
    region: Box
    image: ImageSize
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., attention: _Optional[_Iterable[float]] = ..., query_row: _Optional[int] = ..., query_column: _Optional[int] = ..., layer: _Optional[int] = ..., png: _Optional[bytes] = ..., level: _Optional[_Union[DependencyLevel, str]] = ..., head: _Optional[int] = ..., mode: _Optional[_Union[DependencyMode, str]] = ..., keypoint: _Optional[str] = ..., point: _Optional[_Union[Keypoint, _Mapping]] = ..., region: _Optional[_Union[Box, _Mapping]] = ..., image: _Optional[_Union[ImageSize, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("variant", "label", "parameters", "input", "checkpoint_sha256", "runtime", "device", "precision", "keypoints", "skeleton", "attention", "detector")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SHA256_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    KEYPOINTS_FIELD_NUMBER: _ClassVar[int]
    SKELETON_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    variant: str
    label: str
    parameters: int
    input: ImageSize
    checkpoint_sha256: str
    runtime: str
    device: str
    precision: str
    keypoints: _containers.RepeatedScalarFieldContainer[str]
    skeleton: _containers.RepeatedCompositeFieldContainer[Limb]
    attention: _containers.RepeatedCompositeFieldContainer[LevelAttention]
    detector: str
    def __init__(self, variant: _Optional[str] = ..., label: _Optional[str] = ..., parameters: _Optional[int] = ..., input: _Optional[_Union[ImageSize, _Mapping]] = ..., checkpoint_sha256: _Optional[str] = ..., runtime: _Optional[str] = ..., device: _Optional[str] = ..., precision: _Optional[str] = ..., keypoints: _Optional[_Iterable[str]] = ..., skeleton: _Optional[_Iterable[_Union[Limb, _Mapping]]] = ..., attention: _Optional[_Iterable[_Union[LevelAttention, _Mapping]]] = ..., detector: _Optional[str] = ...) -> None: ...

class Limb(_message.Message):
    __slots__ = ("first", "second")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    first: int
    second: int
    def __init__(self, first: _Optional[int] = ..., second: _Optional[int] = ...) -> None: ...

class LevelAttention(_message.Message):
    __slots__ = ("level", "layers", "heads")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    level: DependencyLevel
    layers: int
    heads: int
    def __init__(self, level: _Optional[_Union[DependencyLevel, str]] = ..., layers: _Optional[int] = ..., heads: _Optional[int] = ...) -> None: ...
