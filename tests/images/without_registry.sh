#!/usr/bin/env bash
# Build and try the images on a Debian machine that has no Docker daemon and no registry: as root, with podman.
#
#   tests/images/without_registry.sh [image ...]     install podman, make a stand-in base, build, run tests/images
#
# The stand-in is a minimal Debian bookworm with its own Python 3.11, under the names that the Dockerfiles ask for. It is not
# python:3.11-slim (Python in /usr instead of /usr/local, perl and a patch release of its own), nor the base of the Functions
# host, which has the host in it. So sizes are told apart: base, and what the project adds.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "This needs root." >&2; exit 1; }
WORK=${WORK:-/var/tmp/trialops-images}
PYTHON=${PYTHON:-.venv/bin/python}
BASE=docker.io/library/python:3.11-slim-bookworm
FUNCTIONS_BASE=mcr.microsoft.com/azure-functions/python:4-python3.11-slim
mkdir -p "$WORK"

if ! command -v podman >/dev/null || ! command -v runc >/dev/null || ! command -v mmdebstrap >/dev/null; then
  apt-get update -qq
  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends podman buildah runc containernetworking-plugins mmdebstrap \
    uidmap netavark aardvark-dns >/dev/null
fi

# runc also knows hybrid control groups; limits and certificates are the machine's own.
cat > "$WORK/containers.conf" <<'CONF'
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
volumes = ["/etc/ssl/certs:/etc/ssl/certs:ro"]
CONF
export CONTAINERS_CONF="$WORK/containers.conf" ENGINE=podman

if ! podman image inspect "$BASE" >/dev/null 2>&1; then
  [ -s "$WORK/rootfs.tar" ] || mmdebstrap --quiet --variant=minbase \
    --include=python3.11,python3.11-venv,python3-pip,python3,ca-certificates bookworm "$WORK/rootfs.tar"
  podman import --change 'CMD ["python3"]' "$WORK/rootfs.tar" "$BASE" >/dev/null
fi
podman image inspect "$FUNCTIONS_BASE" >/dev/null 2>&1 || podman tag "$BASE" "$FUNCTIONS_BASE"

docker/build.sh "$@"
TRIALOPS_REQUIRE_IMAGES=1 "$PYTHON" -m pytest tests/images -q
