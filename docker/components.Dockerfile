# All components of the pipelines and the trialops command. Built by docker/build.sh, which passes the arguments.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# What both stages stand on: the base without its installers, LightGBM's OpenMP runtime, the user.
FROM ${BASE} AS runtime
COPY docker/strip_base.py /tmp/strip_base.py
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 10001 trialops \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trialops --shell /usr/sbin/nologin trialops \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/trialops

FROM runtime AS build
ENV UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH PYTHONDONTWRITEBYTECODE=1
COPY docker/requirements/build.txt /build/docker/requirements/
RUN python3 -m venv /tools \
 && /tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      --requirement /build/docker/requirements/build.txt
COPY docker/requirements/components.txt docker/requirements/components-source.txt /build/docker/requirements/
RUN python3 -m venv --without-pip /opt/trialops/venv \
 && /tools/bin/uv pip install --python /opt/trialops/venv/bin/python --require-hashes --no-deps --only-binary :all: \
      --requirement /build/docker/requirements/components.txt \
 && /tools/bin/uv pip install --python /opt/trialops/venv/bin/python --require-hashes --no-deps --no-build-isolation \
      --requirement /build/docker/requirements/components-source.txt
COPY . /build
ARG TAG
ARG BASE
RUN python3 /build/docker/sources.py copy components /opt/trialops/app \
 && python3 /build/docker/sources.py prune components /opt/trialops/venv/lib/python3.11/site-packages \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/trialops/app \
 && echo /opt/trialops/app > /opt/trialops/venv/lib/python3.11/site-packages/trialops.pth \
 && printf '#!/opt/trialops/venv/bin/python\nfrom pipelines.cli import main\n\nmain()\n' > /opt/trialops/venv/bin/trialops \
 && chmod 0755 /opt/trialops/venv/bin/trialops \
 && python3 /build/docker/sbom.py --name trialops-components --version "${TAG}" --base "${BASE}" \
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
LABEL org.opencontainers.image.title="TrialOps components" \
      org.opencontainers.image.description="Every component of the pipelines, and the trialops command" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      io.trialops.tag="${TAG}" \
      io.trialops.sbom="/opt/trialops/sbom.cdx.json"
# Written to are TRIALOPS_HOME and /tmp alone: everything else may be mounted read-only.
ENV PATH=/opt/trialops/venv/bin:/usr/local/bin:/usr/bin:/bin \
    TRIALOPS_HOME=/var/lib/trialops \
    TRIALOPS_CODE_VERSION="${REVISION}" \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true \
    RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
WORKDIR /var/lib/trialops
STOPSIGNAL SIGTERM
CMD ["trialops", "--help"]
