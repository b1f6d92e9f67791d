# The model server: one bundle by the Open Inference Protocol, REST on 8080 and gRPC on 8081. Built by docker/build.sh.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS runtime
COPY docker/strip_base.py /tmp/strip_base.py
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 10001 trialops \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trialops --shell /usr/sbin/nologin trialops \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/trialops

FROM runtime AS build
ENV UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_CACHE=1 UV_LINK_MODE=copy PYTHONDONTWRITEBYTECODE=1
COPY docker/requirements/build.txt /build/docker/requirements/
RUN python3 -m venv /tools \
 && /tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      --requirement /build/docker/requirements/build.txt
COPY docker/requirements/server.txt docker/requirements/server-files.txt /build/docker/requirements/
RUN python3 -m venv --without-pip /opt/trialops/venv \
 && /tools/bin/uv pip install --python /opt/trialops/venv/bin/python --require-hashes --no-deps --only-binary :all: \
      --requirement /build/docker/requirements/server.txt \
 && /tools/bin/uv pip install --target /unpacked --require-hashes --no-deps --only-binary :all: \
      --requirement /build/docker/requirements/server-files.txt
COPY . /build
ARG TAG
ARG BASE
RUN python3 /build/docker/sources.py copy server /opt/trialops/app \
 && python3 /build/docker/sources.py files server /unpacked /opt/trialops/venv/lib/python3.11/site-packages \
 && python3 /build/docker/sources.py prune server /opt/trialops/venv/lib/python3.11/site-packages \
 && echo /opt/trialops/app > /opt/trialops/venv/lib/python3.11/site-packages/trialops.pth \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/trialops \
 && python3 /build/docker/sbom.py --name trialops-server --version "${TAG}" --base "${BASE}" \
      --packages /opt/trialops/venv/lib/python3.11/site-packages > /opt/trialops/sbom.cdx.json

FROM runtime
RUN python3 /tmp/strip_base.py && rm /tmp/strip_base.py
COPY --from=build /opt/trialops /opt/trialops
COPY LICENSE /opt/trialops/LICENSE
ARG TAG
ARG VERSION
ARG REVISION
ARG SOURCE
ARG CREATED
ARG BASE
ARG BASE_DIGEST
LABEL org.opencontainers.image.title="TrialOps model server" \
      org.opencontainers.image.description="Open Inference Protocol v2 over REST and gRPC for one model bundle" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      io.trialops.tag="${TAG}" \
      io.trialops.sbom="/opt/trialops/sbom.cdx.json"
# Nothing is written but to TRIALOPS_HOME and /tmp, and to those only where a prediction log is asked for.
ENV PATH=/opt/trialops/venv/bin:/usr/local/bin:/usr/bin:/bin \
    TRIALOPS_HOME=/var/lib/trialops \
    TRIALOPS_CODE_VERSION="${REVISION}" \
    TRIALOPS_SERVE_HOST=0.0.0.0 \
    TRIALOPS_SERVE_PORT=8080 \
    TRIALOPS_SERVE_GRPC_PORT=8081 \
    HOME=/tmp \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/trialops
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["python3", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TRIALOPS_SERVE_PORT']), timeout=2); c.request('GET', '/v2/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python3", "-m", "trialops.serving.server"]
