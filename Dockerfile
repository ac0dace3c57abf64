# BTranspose's service, for a CPU or for NVIDIA GPUs:
#
#   docker build --build-arg TORCH_INDEX=... --tag btranspose:cpu .       the index of PyTorch's CPU wheels
#   docker build --build-arg VARIANT=cuda --tag btranspose:cuda .
#
# docs/deployment.md says what else can be given. Built by BuildKit. Nothing is compiled: every dependency is a wheel
# whose hash is in deploy/requirements-VARIANT.txt.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG VARIANT=cpu

FROM ${PYTHON_IMAGE} AS build
# pip's own variables, for the build alone: an index, its certificate, or none at all (PIP_NO_INDEX=1).
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_ONLY_BINARY=:all:


FROM build AS dependencies
ARG VARIANT
# Where torch's CPU wheel is; PyPI's is that for CUDA.
ARG TORCH_INDEX
# A configuration of pip with secrets in it: --secret id=pip.conf,src=pip.conf. Wheels that lie in deploy/wheels are
# taken from there. The environment keeps no pip, and nothing that only a compiler or torch's own tests would read
# (which wheel has which of these differs).
COPY deploy/requirements-${VARIANT}.txt /tmp/requirements.txt
RUN --mount=type=bind,source=deploy/wheels,target=/wheels \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install --no-deps --require-hashes \
        --find-links /wheels ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
        --requirement /tmp/requirements.txt \
    && cd /opt/venv/lib/python3*/site-packages \
    && find torch/bin -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -r {} + \
    && rm -rf torch/include torch/test \
        openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu_plugin.so \
        openvino/libs/cache.json


FROM build AS application
WORKDIR /src
COPY deploy/requirements-build.txt /tmp/requirements.txt
RUN --mount=type=bind,source=deploy/wheels,target=/wheels \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/builder \
    && python3 -m pip --python /opt/builder/bin/python install --no-deps --require-hashes \
        --find-links /wheels --requirement /tmp/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY training training
COPY service service
RUN /opt/builder/bin/python -m hatchling build --target wheel --directory /tmp/dist \
    && python3 -m pip install --no-deps --no-index --target /app /tmp/dist/*.whl
COPY checkpoints/c3a1-4.json checkpoints/c3a1-4.safetensors \
    checkpoints/person-finder.json checkpoints/person-finder.safetensors /app/checkpoints/
COPY deploy/healthcheck.py /app/


FROM ${PYTHON_IMAGE}
ARG VARIANT
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="btranspose" \
      org.opencontainers.image.description="2D human pose estimation as a microservice that explains itself" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      btranspose.variant="${VARIANT}"

# A number, so that Kubernetes can tell that it is not root. It owns the cache and nothing else, and no program
# makes it anybody else.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin btranspose \
    && install --directory --owner=10001 --group=10001 /cache \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=application /app /app

# The driver's libraries come from the host (NVIDIA_*); without a GPU these two mean nothing.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    BTRANSPOSE_HOST=0.0.0.0 \
    BTRANSPOSE_CACHE_DIR=/cache \
    CUDA_CACHE_PATH=/cache/cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /app
USER 10001:10001
EXPOSE 8000 50051
# The first start converts the network, which takes some ten seconds, and more on a slow machine.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["python3", "-I", "/app/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "service"]
