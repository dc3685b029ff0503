# fws_server as a container: docs/production.md says how to run it.

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/fws && /opt/fws/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/fws /opt/fws
ENV PATH=/opt/fws/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FWS_HOST=* \
    FWS_PORT=9000
# Filters and configuration are mounted here: the working directory is importable.
WORKDIR /filters
USER 10001:10001
EXPOSE 9000
# Of the process, not of /ready: a container that drains, or waits for Redis, must not be replaced.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', int(os.environ['FWS_PORT']), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# Not through a shell: it would keep SIGTERM to itself.
ENTRYPOINT ["fws_server"]
