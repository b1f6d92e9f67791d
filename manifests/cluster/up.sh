#!/usr/bin/env bash
# A kind cluster with the platform on it, for a user who has Docker, kind, kubectl and helm.
#
#   manifests/cluster/up.sh          everything; may be run again, and goes on where it stopped
#   manifests/cluster/up.sh down     remove the cluster and what is in it
#
# Needs about 8 CPUs and 24 GiB for Docker. Images of the project are built by docker/build.sh and loaded into the cluster
# by the tag they have then, which never moves: a changed source is another image and another version of every pipeline.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=manifests/cluster/versions.env
. manifests/cluster/versions.env

NAME=${CLUSTER:-trialops}
CONTEXT=kind-$NAME
RELEASE=build/manifests

say() { echo "== $*"; }
k() { kubectl --context "$CONTEXT" "$@"; }
# Server-side, because definitions of operators are larger than the annotation of a client-side apply.
take() { k apply --server-side --force-conflicts "$@" >/dev/null; }
ready() { k -n "$1" wait --for=condition=Available --timeout=10m deployment --all >/dev/null; }

for tool in docker kind kubectl helm; do
  command -v "$tool" >/dev/null || { echo "$tool is needed; manifests/README.md says which version" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "Docker does not run" >&2; exit 1; }

if [ "${1:-}" = down ]; then
  kind delete cluster --name "$NAME"
  exit 0
fi
[ -x .venv/bin/python ] || { echo "make setup first, or use make cluster" >&2; exit 1; }

say "cluster $NAME, Kubernetes $KUBERNETES"
kind get clusters | grep -qx "$NAME" ||
  kind create cluster --name "$NAME" --config manifests/cluster/kind.yaml --image "kindest/node:$KUBERNETES" --wait 5m

say "images, and manifests that name them"
ENGINE=docker OUT=build/images docker/build.sh components server
steps=$(cat build/images/components.ref)
server=$(cat build/images/server.ref)
for image in "$steps" "$server"; do kind load docker-image --name "$NAME" "$image"; done
.venv/bin/python -m pipelines.release "$RELEASE" --image "$steps" --server-image "$server" >/dev/null

say "cert-manager $CERT_MANAGER"
take -f "https://github.com/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml"
ready cert-manager

say "metrics-server $METRICS_SERVER"
take -f "https://github.com/kubernetes-sigs/metrics-server/releases/download/$METRICS_SERVER/components.yaml"
# The kubelets of kind have certificates that no authority signed.
k -n kube-system get deployment metrics-server -o yaml | grep -q kubelet-insecure-tls ||
  k -n kube-system patch deployment metrics-server --type=json \
    -p '[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--kubelet-insecure-tls"}]' >/dev/null

say "Kubeflow Pipelines $KFP, Kubernetes-native"
kfp=github.com/kubeflow/pipelines/manifests/kustomize
take -k "$kfp/cluster-scoped-resources?ref=$KFP"
k wait --for=condition=Established --timeout=2m crd/applications.app.k8s.io >/dev/null
take -k "$kfp/env/cert-manager/platform-agnostic-k8s-native?ref=$KFP"
ready kubeflow

say "operators"
take -f "https://github.com/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/standard-install.yaml"
take -f "https://github.com/prometheus-operator/prometheus-operator/releases/download/$PROMETHEUS_OPERATOR/bundle.yaml"
take -f "https://raw.githubusercontent.com/feast-dev/feast/$FEAST_OPERATOR/infra/feast-operator/dist/install.yaml"
take -f "https://github.com/kserve/kserve/releases/download/$KSERVE/kserve.yaml"
helm --kube-context "$CONTEXT" upgrade --install kuberay-operator kuberay-operator \
  --repo https://ray-project.github.io/kuberay-helm --version "$KUBERAY" \
  --namespace kuberay-system --create-namespace --wait >/dev/null

say "secrets"
CONTEXT="$CONTEXT" manifests/cluster/secrets.sh kubeflow

say "the platform"
k apply -k "$RELEASE/overlays/dev" >/dev/null
for name in trialops-database trialops-objects; do
  k -n trialops rollout status --timeout=10m "statefulset/$name"
done
for name in trialops-redis trialops-mlflow trialops-alerts; do
  k -n trialops rollout status --timeout=10m "deployment/$name"
done

cat <<EOF

The platform is up. The model server waits for a first model. Next (docs/how-to/cluster.md):
  kubectl --context $CONTEXT -n kubeflow port-forward svc/ml-pipeline 8888:8888 &
  export KF_PIPELINES_ENDPOINT=http://localhost:8888
  trialops submit scheduled_retraining --wait
  trialops schedules apply
EOF
