# docker build -t evalsuite . && docker run --rm -v "$PWD/runs:/work/runs" evalsuite
# On NVIDIA GPUs: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t evalsuite:gpu . and
# docker run --gpus all ...; the index must have the version of torch that constraints.txt pins.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=""
# What OpenCV's wheel loads.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt ".${EXTRAS}" \
    && useradd --create-home evalsuite \
    && install --directory --owner=evalsuite /work
USER evalsuite
WORKDIR /work
ENTRYPOINT ["evalsuite"]
CMD ["run", "quick", "--out", "runs/quick", "--workers", "0"]
