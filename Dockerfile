# The server in a container: the first stage makes a virtual environment, the second is that and
# its base.
#
#   docker build -t trialogue .
#   docker run -p 127.0.0.1:8000:8000 -p 127.0.0.1:9000:9000 -p 127.0.0.1:9001:9001 \
#       -v trialogue:/data -e OPENAI_API_KEY --stop-timeout 30 trialogue
#
# Runs as uid 1000, with a read-only root, without capabilities; writes to /data alone.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS builder
# requirements-postgres.lock for history on PostgreSQL
ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements-build.lock ${LOCK} ./
RUN python -m venv --without-pip /opt/trialogue \
    && python -m pip install --require-hashes --no-deps -r requirements-build.lock \
    && python -m pip --python /opt/trialogue/bin/python install \
        --require-hashes --no-deps --only-binary :all: -r ${LOCK}
# What the page shows Markdown with, by an npm that stays in this stage.
COPY requirements-page.lock ./
COPY clients/web/package.json clients/web/package-lock.json clients/web/
RUN python -m pip install --require-hashes --no-deps -r requirements-page.lock \
    && npm ci --prefix clients/web --ignore-scripts --omit=dev --omit=optional --no-fund --no-audit
COPY . ./
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/trialogue/bin/python install --no-deps --no-index dist/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="Trialogue" \
      org.opencontainers.image.description="A server that owns the conversation: one history, live on REST, gRPC, websocket and OpenAI's API" \
      org.opencontainers.image.licenses="MIT"

# The base has no bytecode of its standard library, and nobody may write it later: without, every
# start takes half as long again.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && rm -rf /usr/local/lib/python3.*/ensurepip \
    && python -m compileall -q -j 0 /usr/local/lib/python3.* \
    && useradd --uid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin trialogue \
    && install -d -o trialogue -g trialogue -m 0700 /data
COPY --from=builder /opt/trialogue /opt/trialogue

ENV PATH=/opt/trialogue/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TRIALOGUE_HOST=0.0.0.0 \
    TRIALOGUE_DATABASE=sqlite:////data/trialogue.db \
    TRIALOGUE_MODELS=/data/models
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 8000 9000 9001
STOPSIGNAL SIGTERM

# http.client and not urllib.request, which would ask a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-Ic", "\
import http.client, os, ssl, sys\n\
door = dict(host='127.0.0.1', port=int(os.environ.get('TRIALOGUE_HTTP_PORT') or 8000), timeout=4)\n\
tls = os.environ.get('TRIALOGUE_TLS_CERT')\n\
line = (http.client.HTTPSConnection(**door, context=ssl._create_unverified_context()) if tls\n\
else http.client.HTTPConnection(**door))\n\
line.request('GET', '/healthz')\n\
sys.exit(line.getresponse().status != 200)"]

ENTRYPOINT ["trialogue"]
CMD ["serve"]
