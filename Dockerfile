# syntax=docker/dockerfile:1
# Two images of one repository:
#   control   API, dispatcher, courier, intake, Flower, migrate: everything but torch
#   worker    the GPU plane. TORCH=cpu, or TORCH=cuda for PyTorch's own CUDA build (with it, the host
#             needs only the NVIDIA driver and container toolkit)
#
#   docker build --target control -t renderfarm-control .
#   docker build --target worker --build-arg TORCH=cuda -t renderfarm-worker .

ARG PYTHON=3.11-slim-bookworm

# ---- what the control plane needs, in /venv; redone only when the pins change ----
FROM python:${PYTHON} AS control-venv
WORKDIR /srv/renderfarm
ENV PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt pip && \
    pip install -c constraints.txt --group control httpx

# ---- and the workers: torch first, so that the build chosen here is the one that stays ----
FROM control-venv AS worker-venv
ARG TORCH=cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$TORCH" in \
      cpu) pip install -c constraints.txt torch --extra-index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) pip install -c constraints.txt torch ;; \
      *) echo "TORCH must be cpu or cuda, not '$TORCH'" >&2; exit 1 ;; \
    esac && \
    pip install -c constraints.txt --group worker

# ---- the images: a virtual environment, the repository, an ordinary user ----
FROM python:${PYTHON} AS base
RUN useradd --system --uid 10001 --no-create-home renderfarm
WORKDIR /srv/renderfarm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
ENTRYPOINT ["renderfarm"]
CMD ["--help"]

FROM base AS control
COPY --from=control-venv /venv /venv
COPY . .
RUN pip install --no-cache-dir --no-deps --build-constraint constraints.txt -e .
USER 10001

FROM base AS worker
COPY --from=worker-venv /venv /venv
COPY . .
RUN pip install --no-cache-dir --no-deps --build-constraint constraints.txt -e .
USER 10001
CMD ["worker"]
