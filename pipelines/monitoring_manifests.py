"""Manifests of monitoring, made from the thresholds and routes: rules, dashboards, what is scraped, who is called.

``python -m pipelines.monitoring_manifests`` writes them below manifests/base/monitoring; a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trialops.alerts.alertmanager import CALLBACK, configuration
from trialops.alerts.dashboards import config_map
from trialops.alerts.prometheus import rule_document
from trialops.alerts.routes import SHIPPED, Routes, load_routes
from trialops.alerts.thresholds import load_thresholds

Document = dict[str, Any]
FOLDER = Path(__file__).resolve().parent.parent / "manifests" / "base" / "monitoring"
SERVER = "trialops-alerts"
"""Name of the Deployment and Service of `trialops alerts serve`: one replica, port 8080 called http."""
PORT = 8080
SECRET, TOKEN = "trialops-alerts", "webhook-token"
_LABELS = {"app.kubernetes.io/part-of": "trialops"}
_HEAD = "# Made by python -m pipelines.monitoring_manifests from trialops/alerts; not edited by hand.\n"


def documents() -> dict[str, list[Document]]:
    """Manifests by file name below manifests/base/monitoring."""
    thresholds, routes = load_thresholds(), load_routes(SHIPPED)
    return {
        "alerts.yaml": [rule_document(thresholds), alertmanager_document(routes)],
        "dashboards.yaml": [config_map(thresholds)],
        "servicemonitors.yaml": [_service_monitor(), _pod_monitor()],
    }


def alertmanager_document(routes: Routes) -> Document:
    """The AlertmanagerConfig (v1alpha1) that goes with the routes.

    Alerts that the platform posts carry no namespace: the Alertmanager resource needs
    ``alertmanagerConfigMatcherStrategy: {type: None}``.
    """
    plain = configuration(routes, f"http://{SERVER}:{PORT}", "")
    hook = {
        "url": f"http://{SERVER}:{PORT}{CALLBACK}",
        "sendResolved": True,
        "maxAlerts": 0,
        "httpConfig": {"authorization": {"type": "Bearer", "credentials": {"name": SECRET, "key": TOKEN}}},
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "AlertmanagerConfig",
        "metadata": {"name": "trialops-alerts", "labels": _LABELS},
        "spec": {
            "route": _route(plain["route"]),
            "receivers": [{"name": "trialops", "webhookConfigs": [hook]}],
            "inhibitRules": [
                {
                    "sourceMatch": [_matcher(text) for text in rule["source_matchers"]],
                    "targetMatch": [_matcher(text) for text in rule["target_matchers"]],
                    "equal": rule["equal"],
                }
                for rule in plain["inhibit_rules"]
            ],
        },
    }


def _route(route: Document) -> Document:
    names = {"group_by": "groupBy", "group_wait": "groupWait", "group_interval": "groupInterval"}
    names |= {"repeat_interval": "repeatInterval", "receiver": "receiver"}
    made = {names[key]: value for key, value in route.items() if key in names}
    if "matchers" in route:
        made["matchers"] = [_matcher(text) for text in route["matchers"]]
    if "routes" in route:
        made["routes"] = [_route(child) for child in route["routes"]]
    return made


def _matcher(text: str) -> Document:
    name, _, value = text.partition("=~")
    return {"name": name, "matchType": "=~", "value": value.strip('"')}


def _service_monitor() -> Document:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": SERVER, "labels": _LABELS},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": SERVER}},
            "endpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "interval": "60s",
                    "scrapeTimeout": "30s",
                    "honorLabels": True,
                    "metricRelabelings": [
                        # One exporter speaks for the platform: which pod it is says nothing about what is measured.
                        {"action": "labeldrop", "regex": "(pod|instance|container|endpoint|service|namespace|job)"}
                    ],
                }
            ],
        },
    }


def _pod_monitor() -> Document:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "trialops-model-server", "labels": _LABELS},
        "spec": {
            "selector": {
                "matchExpressions": [{"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}],
            },
            "podMetricsEndpoints": [{"portNumber": PORT, "path": "/metrics", "interval": "30s"}],
        },
    }


def render() -> dict[str, str]:
    """The files' text by name; equal sources give equal bytes."""
    import yaml

    return {
        name: _HEAD + yaml.safe_dump_all(made, sort_keys=True, width=120, default_flow_style=False)
        for name, made in documents().items()
    }


def write(folder: Path = FOLDER) -> list[Path]:
    """Write the files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in render().items():
        path = folder / name
        path.write_text(text)
        written.append(path)
    return written


if __name__ == "__main__":
    for made in write():
        print(made)
