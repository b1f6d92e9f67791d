#!/usr/bin/env bash
# The secrets of the dev overlay, made once with random values and kept in the cluster alone. What is there is left as it
# is. Other overlays take them from External Secrets.
#
#   manifests/cluster/secrets.sh [namespace of KFP's runs, kubeflow by default]
set -euo pipefail

RUNS=${1:-kubeflow}
# Which cluster: CONTEXT, or the present one. SERVER is for an API without login.
k() { kubectl ${CONTEXT:+--context="$CONTEXT"} ${SERVER:+--server="$SERVER"} "$@"; }

random() { head -c "$1" /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c "$2"; }
there() { k -n "$1" get secret "$2" >/dev/null 2>&1; }
held() { k -n "$1" get secret "$2" -o "jsonpath={.data.$3}" | base64 -d; }
# From standard input: a value on a command line would be readable by everybody on this machine.
make() {
  k -n "$1" create secret generic "$2" --from-env-file=/dev/stdin --dry-run=client -o json | put -n "$1"
}
space() { k get namespace "$1" >/dev/null 2>&1 || k create namespace "$1" --dry-run=client -o json | put; }
put() { k "$@" create --validate="${VALIDATE:-strict}" -f -; }

for name in trialops trialops-features "$RUNS"; do space "$name"; done

if ! there trialops trialops-dev-stores; then
  make trialops trialops-dev-stores <<EOF
POSTGRES_PASSWORD=$(random 96 40)
REDIS_PASSWORD=$(random 96 40)
EOF
fi
postgres=$(held trialops trialops-dev-stores POSTGRES_PASSWORD)
redis=$(held trialops trialops-dev-stores REDIS_PASSWORD)

if ! there trialops trialops-secrets; then
  make trialops trialops-secrets <<EOF
CLINICAL_DB_PASSWORD=$postgres
TRIALOPS_ONLINE_URL=redis://:$redis@trialops-redis.trialops.svc.cluster.local:6379/0
TRIALOPS_VAULT_KEY=$(head -c 32 /dev/urandom | base64)
AWS_ACCESS_KEY_ID=$(random 64 20)
AWS_SECRET_ACCESS_KEY=$(random 96 40)
EOF
fi

if ! there trialops trialops-alerts; then
  make trialops trialops-alerts <<EOF
TRIALOPS_ALERTS_KEY=$(random 128 48)
EOF
fi

# Steps of a standalone KFP run in its namespace and read the same values there.
if [ "$RUNS" != trialops ] && ! there "$RUNS" trialops-secrets; then
  for key in CLINICAL_DB_PASSWORD TRIALOPS_ONLINE_URL TRIALOPS_VAULT_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    echo "$key=$(held trialops trialops-secrets "$key")"
  done | make "$RUNS" trialops-secrets
fi
if [ "$RUNS" != trialops ] && ! there "$RUNS" trialops-alerts; then
  echo "TRIALOPS_ALERTS_KEY=$(held trialops trialops-alerts TRIALOPS_ALERTS_KEY)" | make "$RUNS" trialops-alerts
fi

if ! there trialops-features trialops-feast; then
  make trialops-features trialops-feast <<EOF
redis=connection_string: trialops-redis.trialops.svc.cluster.local:6379,password=$redis
sql=path: postgresql+psycopg://trialops:$postgres@trialops-database.trialops.svc.cluster.local:5432/feast
EOF
fi
echo "Secrets are in trialops, trialops-features and $RUNS."
