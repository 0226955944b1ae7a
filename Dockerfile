# Build:  docker build -t ingest .
# Run:    docker run --rm -e BRAZE_REST_URL -e BRAZE_API_KEY_FILE=/run/secrets/braze \
#             -v "$PWD/data:/data:ro" -v ingest-state:/state ingest import /data --to braze
# Worker: docker run --rm ... -v "$PWD/worker.toml:/etc/ingest/worker.toml:ro" \
#             --stop-timeout 60 ingest run /etc/ingest/worker.toml       (more in deploy/)
# The root file system may be read-only (--read-only): all that is written goes to /state.
# No key is ever part of the image: hand it over as an environment variable or as a file.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY ingest ./ingest
# A virtual environment at the path it keeps: the second stage copies it, and has no build tools.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/ingest \
    && wheel="$(echo /wheels/ingestline-*.whl)" \
    && pip --python /opt/ingest/bin/python install --no-cache-dir "${wheel}[cli,kafka,sqs,speed]"

FROM python:3.11-slim
LABEL org.opencontainers.image.title="ingest" \
      org.opencontainers.image.description="Moves user attributes, events and purchases into customer-engagement platforms" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/ingest /opt/ingest
# A numeric user lets an orchestrator see that it is not root. State is private to it.
RUN install -d -m 0700 -o 10001 -g 10001 /state
ENV PATH="/opt/ingest/bin:$PATH" \
    INGEST_STATE=/state \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /state
VOLUME /state
# An intake or the sandbox; probes and metrics.
EXPOSE 8080 9100
# For a command this says that the installation is whole; a worker is probed over HTTP instead
# (/healthz, see deploy/compose.yaml).
HEALTHCHECK --interval=60s --timeout=10s --start-period=5s --retries=3 CMD ["ingest", "--version"]
ENTRYPOINT ["ingest"]
CMD ["--help"]
