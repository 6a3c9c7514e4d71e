# The event bus and the example pipeline; an application installs itself on top:
#   FROM eventbus
#   COPY pipeline.py .
#   ENV EVENTBUS_APP=pipeline:bus
# What it needs besides is installed as root: `USER root`, `RUN pip install ...`, `USER 10001`.

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/eventbus
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY events events
COPY store store
COPY workers workers
COPY console console
COPY examples examples
RUN /opt/eventbus/bin/pip install --no-cache-dir ".[opentelemetry,webhooks]"

FROM python:3.12-slim
COPY --from=build /opt/eventbus /opt/eventbus
# /app for the application, /data for what its agents make.
RUN useradd --create-home --uid 10001 eventbus \
    && mkdir /app /data \
    && chown eventbus:eventbus /app /data
WORKDIR /app
USER 10001
ENV PATH=/opt/eventbus/bin:$PATH PYTHONUNBUFFERED=1
# Of any process: are the servers as they should be, and the fleet with them? A web process is asked `/readyz` instead.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 \
    CMD ["eventbus", "doctor", "--json"]
CMD ["eventbus", "--help"]
