# aesop and what it needs, for the CPU. Guide: docs/how-to/docker.md
#   docker build -t aesop .
#   docker build -t aesop:cuda --build-arg TORCH_BACKEND=cu132 .    # not built or run yet: no CUDA machine was available
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
# Empty: PyTorch as the package index has it, which on PyPI is a build for CUDA.
ARG TORCH_BACKEND=cpu
# What this installs becomes part of the image: the wheels of `video` and `heif` hold GPL code (see pyproject.toml).
ARG EXTRAS=app
RUN pip install --no-cache-dir "uv==0.13.*"
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE MANIFEST.in ./
COPY src src
RUN uv venv /venv \
    && uv pip install --python /venv/bin/python --no-cache --compile-bytecode ${TORCH_BACKEND:+--torch-backend "${TORCH_BACKEND}"} \
        --constraint constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /venv /venv
# Folders that any user may write to, so that `docker run --user` works. A new volume takes the mode of the folder it covers.
RUN mkdir --mode=1777 /home/aesop /home/aesop/.cache /data
ENV PATH=/venv/bin:$PATH HOME=/home/aesop USER=aesop PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["aesop"]
CMD ["--help"]
