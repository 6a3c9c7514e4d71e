# The event bus and the example pipeline; an application installs itself on top:
#   FROM eventbus
#   COPY pipeline.py .
#   ENV EVENTBUS_APP=pipeline:bus
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 eventbus
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY events events
COPY store store
COPY workers workers
COPY console console
COPY examples examples
RUN pip install --no-cache-dir . && rm -rf /src/*

# /app for the application, /data for what its agents make.
RUN mkdir /app /data && chown eventbus /app /data
WORKDIR /app
USER eventbus
ENV PYTHONUNBUFFERED=1
CMD ["eventbus", "--help"]
