"""Grafana dashboards made from the thresholds: one for each area, a panel for each metric, the limit drawn in."""

from __future__ import annotations

import json
from typing import Any

from trialops.alerts.thresholds import Metric, Rule, Thresholds

Document = dict[str, Any]
SCHEMA = 39
"""Schema of Grafana 10 and 11."""
_UNITS = {"ratio": "percentunit", "percent": "percent", "seconds": "s"}
_COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}
_AREAS = {
    "alerting": "Alerting",
    "data": "Data",
    "infrastructure": "Infrastructure",
    "model": "Models",
    "pipeline": "Pipelines",
    "safety": "Safety",
}


def dashboards(thresholds: Thresholds) -> dict[str, Document]:
    """Dashboards by file name."""
    areas = sorted({metric.area for metric in thresholds.metrics})
    return {f"trialops-{area}.json": _dashboard(area, thresholds) for area in areas}


def config_map(thresholds: Thresholds) -> Document:
    """The ConfigMap that Grafana's sidecar reads dashboards from."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "trialops-dashboards",
            "labels": {
                "app.kubernetes.io/name": "trialops-dashboards",
                "app.kubernetes.io/part-of": "trialops",
                "grafana_dashboard": "1",
            },
        },
        "data": {
            name: json.dumps(content, indent=1, sort_keys=True) + "\n"
            for name, content in sorted(dashboards(thresholds).items())
        },
    }


def _dashboard(area: str, thresholds: Thresholds) -> Document:
    metrics = [metric for metric in thresholds.metrics if metric.area == area]
    panels = [_panel(number, metric, _rules(metric, thresholds)) for number, metric in enumerate(metrics)]
    if area == "alerting":
        panels.append(_alerts(len(panels)))
    return {
        "annotations": {"list": []},
        "editable": False,
        "panels": panels,
        "refresh": "1m",
        "schemaVersion": SCHEMA,
        "tags": ["trialops", area],
        "templating": {"list": [_source()]},
        "time": {"from": "now-7d", "to": "now"},
        "timezone": "utc",
        "title": f"TrialOps: {_AREAS.get(area, area)}",
        "uid": f"trialops-{area}",
        "version": thresholds.version,
    }


def _source() -> Document:
    return {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _rules(metric: Metric, thresholds: Thresholds) -> list[Rule]:
    return sorted(
        (rule for rule in thresholds.rules if rule.when.metric == metric.name), key=lambda rule: rule.when.threshold
    )


def _panel(number: int, metric: Metric, rules: list[Rule]) -> Document:
    legend = " ".join(f"{{{{{name}}}}}" for name in sorted(metric.labels)) or metric.name
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": metric.help.rstrip("."),
        "description": "; ".join(f"{rule.name}: {rule.when.comparison} {rule.when.threshold:g}" for rule in rules),
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {
            "defaults": {
                "unit": _UNITS.get(metric.unit, "none"),
                "custom": {
                    "drawStyle": "line",
                    "lineInterpolation": "stepAfter",
                    "showPoints": "never",
                    "thresholdsStyle": {"mode": "line" if rules else "off"},
                },
                "thresholds": {"mode": "absolute", "steps": _steps(rules)},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": "A", "expr": metric.name, "legendFormat": legend}],
    }


def _steps(rules: list[Rule]) -> list[Document]:
    """Colours from each limit on: what lies beyond is in the colour of the rule."""
    steps: list[Document] = [{"color": "green", "value": None}]
    for rule in rules:
        colour = _COLOURS[rule.severity]
        if rule.when.comparison.startswith("<"):
            steps[0] = {"color": colour, "value": None}
            steps.append({"color": "green", "value": rule.when.threshold})
        else:
            steps.append({"color": colour, "value": rule.when.threshold})
    return steps


def _alerts(number: int) -> Document:
    """What fires, as Prometheus itself has it."""
    return {
        "id": number + 1,
        "type": "table",
        "title": "Rules that hold",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"h": 8, "w": 24, "x": 0, "y": 8 * (number // 2 + 1)},
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"showHeader": True},
        "targets": [
            {
                "refId": "A",
                "expr": 'ALERTS{alertstate="firing", area!=""}',
                "format": "table",
                "instant": True,
            }
        ],
    }
