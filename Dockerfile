# Targets: gateway, cpu, cuda. One image runs the worker and the dashboard, a light one the gateway:
#   docker build --target gateway -t rwkv-tts-gateway .
#   docker build --target cpu -t rwkv-tts-worker:cpu .
# Any image with Python 3.11 and its venv is a base: docs/operations.md, "Another base".
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=passive
WORKDIR /app

# Dependencies alone: a change of the code does not install torch again.
FROM base AS requirements
RUN python3 -m venv /opt/venv
COPY pyproject.toml constraints.txt ./
COPY gateway/pyproject.toml gateway/
RUN python -c 'import tomllib; \
project, gateway = (tomllib.load(open(name, "rb"))["project"] for name in ("pyproject.toml", "gateway/pyproject.toml")); \
extras = project["optional-dependencies"]; \
needed = project["dependencies"] + gateway["dependencies"]; \
others = [one for one in needed if not one.startswith("rwkv-tts-")]; \
print(*others, *extras["chinese"], *extras["clone"], *extras["dashboard"], *extras["hub"], *extras["media"], *extras["otel"], *extras["store"], sep="\n")' > requirements.txt

# torch without CUDA: pip reads its index from this variable.
FROM requirements AS installed-cpu
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir -c constraints.txt -r requirements.txt

# The wheels of torch on PyPI bring CUDA along; the host gives the driver.
FROM requirements AS installed-cuda
RUN pip install --no-cache-dir -c constraints.txt -r requirements.txt

# The gateway alone: neither torch nor a model.
FROM base AS installed-gateway
RUN python3 -m venv /opt/venv
COPY constraints.txt ./
COPY client/pyproject.toml client/
COPY gateway/pyproject.toml gateway/
RUN python -c 'import tomllib; \
projects = [tomllib.load(open(name + "/pyproject.toml", "rb"))["project"] for name in ("client", "gateway")]; \
needed = [one for project in projects for one in project["dependencies"]]; \
needed += [one for extra in ("otel", "store") for one in projects[0]["optional-dependencies"][extra]]; \
print(*(one for one in needed if not one.startswith("rwkv-tts-")), sep="\n")' > gateway.txt \
    && pip install --no-cache-dir -c constraints.txt -r gateway.txt

# The loops for CPUs, which take what the processor that runs them has.
FROM base AS compiled
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt ./
RUN python3 -m venv /opt/venv && pip install --no-cache-dir -c constraints.txt 'setuptools>=77'
COPY pyproject.toml README.md LICENSE ./
COPY worker/__init__.py worker/
COPY native native
RUN python -c 'import setuptools; setuptools.setup()' build_ext --inplace && ls native/_compiled.*

FROM base AS user
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tts

FROM user AS gateway
COPY LICENSE ./
COPY client/rwkv_tts rwkv_tts
COPY gateway gateway
ENV PYTHONPATH=/app
EXPOSE 8000 9100
STOPSIGNAL SIGTERM
USER 10001
ENTRYPOINT ["python", "-P", "-m", "gateway"]
COPY --from=installed-gateway /opt/venv /opt/venv

FROM user AS runtime
COPY LICENSE ./
COPY client/rwkv_tts rwkv_tts
COPY worker worker
COPY batching batching
COPY sampler sampler
COPY model model
COPY codec codec
COPY --from=compiled /app/native native
COPY assets assets
COPY gateway gateway
RUN printf '#!/bin/sh\nexec python -P -m worker.cli "$@"\n' > /usr/local/bin/rwkv-tts \
    && chmod 755 /usr/local/bin/rwkv-tts \
    && install -d -o 10001 /models
ENV PYTHONPATH=/app \
    RWKV_TTS_MODELS=/models \
    RWKV_TTS_METRICS_HOST=0.0.0.0 \
    RWKV_TTS_METRICS_PORT=9100
EXPOSE 9100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9100/readyz', timeout=4)"]
USER 10001
ENTRYPOINT ["rwkv-tts"]
CMD ["worker"]

# Triton compiles a launcher for each kernel when it is first used, and loads it from its cache: not from a noexec /tmp.
FROM runtime AS cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 /var/cache/rwkv-tts
USER 10001
COPY --from=installed-cuda /opt/venv /opt/venv
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_CACHE_DIR=/var/cache/rwkv-tts/triton \
    RWKV_TTS_DEVICE=cuda

FROM runtime AS cpu
COPY --from=installed-cpu /opt/venv /opt/venv
