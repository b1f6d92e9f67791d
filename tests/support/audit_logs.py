"""Logs as a Kubernetes API server and a FHIR server write them, for tests; times are given."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any


def kubernetes(
    at: dt.datetime, user: str, verb: str, resource: str, *, number: int = 0, code: int = 200,
    stage: str = "ResponseComplete", subresource: str = "", name: str = "", address: str = "10.0.0.1", role: str = "",
) -> str:  # fmt: skip
    """One audit.k8s.io/v1 Event as a line."""
    reference = {"resource": resource, "namespace": "trialops", "name": name, "apiVersion": "v1"}
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": f"{user}-{verb}-{resource}-{at.isoformat()}-{number}",
        "stage": stage,
        "requestURI": f"/api/v1/namespaces/trialops/{resource}",
        "verb": verb,
        "user": {"username": user, "groups": ["system:authenticated"]},
        "sourceIPs": [address],
        "objectRef": reference | ({"subresource": subresource} if subresource else {}),
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "stageTimestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    if role:
        event["requestObject"] = {"roleRef": {"kind": "ClusterRole", "name": role}}
    return json.dumps(event)


def audit_event(
    at: dt.datetime, who: str, action: str, thing: str, *, number: int = 0, outcome: str = "0", purpose: str = "TREAT",
    kind: str = "rest", subtype: str = "read", address: str = "198.18.1.1",
) -> dict[str, Any]:  # fmt: skip
    """One FHIR R4 AuditEvent."""
    return {
        "resourceType": "AuditEvent",
        "id": f"{who}-{number}-{at:%Y%m%d%H%M%S}",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": kind},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": subtype}],
        "action": action,
        "recorded": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "outcome": outcome,
        "purposeOfEvent": [{"coding": [{"code": purpose}]}],
        "agent": [
            {"requestor": False, "who": {"reference": "Device/gateway"}},
            {"requestor": True, "who": {"identifier": {"value": who}}, "name": "Never Read",
             "network": {"address": address, "type": "2"}},
        ],
        "source": {"observer": {"reference": "Device/fhir-1"}},
        "entity": [{"what": {"reference": thing}}],
    }  # fmt: skip
