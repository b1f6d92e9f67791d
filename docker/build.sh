#!/usr/bin/env bash
# Build the project's images with docker or podman: docker/build.sh [components] [server] [report_function]
#
#   REGISTRY   first part of the names        (ghcr.io/trialops)
#   ENGINE     docker or podman               (whichever is there)
#   BASE       base image, best by digest     (docker.io/library/python:3.11-slim-bookworm)
#   FUNCTIONS_BASE  base of the report function's last stage
#   PUSH=1     push what was built
#
# A tag is <version>-<digest of the inputs>: it never moves, and what has been built is not built again. Beside each image
# its bill of materials and a line with its reference are put into build/images/.
set -euo pipefail
cd "$(dirname "$0")/.."

REGISTRY=${REGISTRY:-ghcr.io/trialops}
BASE=${BASE:-docker.io/library/python:3.11-slim-bookworm}
FUNCTIONS_BASE=${FUNCTIONS_BASE:-mcr.microsoft.com/azure-functions/python:4-python3.11-slim}
# An address may hold a name and a token: they do not go into a label.
SOURCE=${SOURCE:-$(git config --get remote.origin.url 2>/dev/null | sed -E 's#//[^/@]*@#//#' || echo "")}
PYTHON=${PYTHON:-$(command -v python3.11 || command -v python3)}
if [ -z "${ENGINE:-}" ]; then
  # A docker command without its daemon builds nothing.
  if docker info >/dev/null 2>&1; then ENGINE=docker; else ENGINE=$(command -v podman || true); fi
fi
OUT=${OUT:-build/images}
[ -n "$ENGINE" ] || { echo "Neither a docker daemon nor podman is here: start or install one, or name it with ENGINE." >&2; exit 1; }

declare -A NAMES=([components]=python-trialops [server]=trialops-server [report_function]=trialops-report-function)
declare -A FILES=([components]=docker/components.Dockerfile [server]=docker/server.Dockerfile
                  [report_function]=docker/report_function/Dockerfile)
[ $# -gt 0 ] || set -- components server report_function

is_podman() { "$ENGINE" --version 2>/dev/null | grep -qi podman; }
digest_of() { "$ENGINE" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$1" | sed 's/.*@//'; }

revision=$(git rev-parse HEAD 2>/dev/null || echo "")
created=$(git show -s --format=%cI HEAD 2>/dev/null || echo "1970-01-01T00:00:00Z")
changed=""
if [ -n "$revision" ] && [ -n "$(git status --porcelain -- trialops components pipelines feature_repo docker uv.lock)" ]; then
  changed=1
fi
version=$("$PYTHON" docker/sources.py version components)
mkdir -p "$OUT"

for image in "$@"; do
  [ -n "${NAMES[$image]:-}" ] || { echo "There is no image $image: ${!NAMES[*]}" >&2; exit 1; }
  bases=("$BASE")
  [ "$image" != report_function ] || bases+=("$FUNCTIONS_BASE")
  for base in "${bases[@]}"; do "$ENGINE" image inspect "$base" >/dev/null 2>&1 || "$ENGINE" pull "$base"; done
  digests=(); for base in "${bases[@]}"; do digests+=("$(digest_of "$base")"); done
  tag=$("$PYTHON" docker/sources.py tag "$image" --base "${bases[*]} ${digests[*]}")
  name="$REGISTRY/${NAMES[$image]}:$tag"
  # The commit says which code runs; with changes that no commit has, so does the digest of what went in.
  code=${revision:-$tag}
  [ -z "$changed" ] || code="$revision+${tag##*-}"
  if "$ENGINE" image inspect "$name" >/dev/null 2>&1 && [ -z "${REBUILD:-}" ]; then
    echo "already built:"
  else
    flags=()
    ! is_podman || flags+=(--format docker)  # the OCI format has no HEALTHCHECK
    "$ENGINE" build "${flags[@]}" --file "${FILES[$image]}" --tag "$name" \
      --build-arg BASE="$BASE" --build-arg FUNCTIONS_BASE="$FUNCTIONS_BASE" --build-arg BASE_DIGEST="${digests[-1]}" \
      --build-arg TAG="$tag" --build-arg VERSION="$version" --build-arg REVISION="$code" \
      --build-arg SOURCE="$SOURCE" --build-arg CREATED="$created" .
  fi
  holder=$("$ENGINE" create "$name" none)
  "$ENGINE" cp "$holder:/opt/trialops/sbom.cdx.json" "$OUT/${NAMES[$image]}-$tag.cdx.json"
  "$ENGINE" rm "$holder" >/dev/null
  printf '%s\n' "$name" > "$OUT/$image.ref"
  if [ -n "${PUSH:-}" ]; then "$ENGINE" push "$name"; fi
  bytes=$("$ENGINE" image inspect --format '{{.Size}}' "$name")
  echo "$name ($((bytes / 1000000)) MB)"
done
