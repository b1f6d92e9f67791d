"""KServe: the conditions of the InferenceServices that are to be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trialops.operations.cluster import configured, fetch, open_client, refused
from trialops.operations.health import Finding

if TYPE_CHECKING:
    from trialops.operations.probing import Ask

GROUP = "/apis/serving.kserve.io/v1beta1"


def probe(ask: Ask) -> Iterator[Finding]:
    """Each service of TRIALOPS_INFERENCE_SERVICES, as namespace/name, separated by commas."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    if not configured(ask.settings):
        yield ask.say("reach", "unknown", "no Kubernetes API is configured", asked="the settings",
                      fix="Set TRIALOPS_KUBERNETES_URL, or run it in the cluster.")  # fmt: skip
        return
    with open_client(ask.settings) as api:
        for number, full in enumerate(name.strip() for name in ask.address.split(",") if name.strip()):
            namespace, _, name = full.rpartition("/")
            path = f"{GROUP}/namespaces/{namespace or ask.settings.namespace}/inferenceservices/{name}"
            try:
                document = fetch(api, path, seconds=ask.seconds)
            except (ApiException, HTTPError, OSError, ValueError) as error:
                if getattr(error, "status", None) == 404:
                    yield ask.say(f"service {name}", "broken", "there is no such InferenceService", asked=f"GET {path}",
                                  fix=f"Deploy it, or correct {ask.variable}.")  # fmt: skip
                    continue
                yield refused(ask.name, f"service {name}" if number else "reach", error, f"GET {path}")
                if not getattr(error, "status", None):
                    return
                continue
            yield condition(ask, name, document, f"GET {path}")


def condition(ask: Ask, name: str, document: dict[str, Any], asked: str) -> Finding:
    """The Ready condition, and which part says why not; a status of an older generation says nothing yet."""
    status, metadata = document.get("status") or {}, document.get("metadata") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    check, ready = f"service {name}", conditions.get("Ready")
    fix = f"kubectl describe inferenceservice {name}; read the log of its predictor."
    if ready is None or ready.get("status") not in ("True", "False"):
        return ask.say(check, "unknown", "its controller has not said yet whether it is ready", asked=asked, fix=fix)
    seen, wanted = status.get("observedGeneration"), metadata.get("generation")
    if seen is not None and wanted is not None and seen < wanted:
        return ask.say(check, "unknown", "its controller has not seen the newest change yet", asked=asked, fix=fix)
    if ready["status"] == "True":
        return ask.say(check, "healthy", "it is ready", asked=asked)
    parts = sorted(k for k, c in conditions.items() if k != "Ready" and c.get("status") == "False")
    reason = str(ready.get("reason") or (conditions[parts[0]].get("reason") if parts else "") or "no reason given")
    return ask.say(check, "broken", f"it is not ready: {', '.join(parts) or 'Ready'} ({reason})", asked=asked, fix=fix)
