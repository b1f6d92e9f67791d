"""Prometheus' rules and their tests, made from the thresholds: on a cluster it says what the embedded rules say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from trialops.alerts.rules import figure
from trialops.alerts.thresholds import ClusterRule, Rule, Thresholds, span_text

Document = dict[str, Any]
EVERY = timedelta(minutes=1)
_BESIDE = {"<": -1.0, "<=": -1.0, ">": 1.0, ">=": 1.0}


def rule_groups(thresholds: Thresholds) -> list[Document]:
    """Groups of rules by area, as Prometheus reads them."""
    areas = sorted({rule.area for rule in thresholds.rules} | {rule.area for rule in thresholds.cluster_rules})
    return [
        {
            "name": f"trialops-{area}",
            "interval": span_text(EVERY),
            "rules": [
                *(_rule(rule) for rule in thresholds.rules if rule.area == area),
                *(_cluster(rule) for rule in thresholds.cluster_rules if rule.area == area),
            ],
        }
        for area in areas
    ]


def rule_document(thresholds: Thresholds) -> Document:
    """The PrometheusRule of the prometheus-operator (monitoring.coreos.com/v1)."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "trialops-alerts",
            "labels": {"app.kubernetes.io/name": "trialops-alerts", "app.kubernetes.io/part-of": "trialops"},
            "annotations": {"trialops/thresholds": f"version {thresholds.version}, {thresholds.digest[:16]}"},
        },
        "spec": {"groups": rule_groups(thresholds)},
    }


def expression(rule: Rule) -> str:
    """PromQL of a rule."""
    text = f"{rule.when.metric} {rule.when.comparison} {rule.when.threshold:g}"
    if rule.also is None:
        return text
    also = f"{rule.also.metric} {rule.also.comparison} {rule.also.threshold:g}"
    return f"({text}) and on ({', '.join(rule.also.same)}) ({also})"


def _rule(rule: Rule) -> Document:
    return _told(rule, expression(rule))


def _cluster(rule: ClusterRule) -> Document:
    return _told(rule, rule.expr)


def _told(rule: Rule | ClusterRule, expr: str) -> Document:
    document: Document = {"alert": rule.name, "expr": expr}
    if rule.wait:
        document["for"] = span_text(rule.wait)
    return document | {
        "labels": {"severity": rule.severity, "area": rule.area},
        "annotations": {"summary": template(rule.summary), "runbook": rule.runbook},
    }


def template(summary: str) -> str:
    """A summary as Prometheus' template: the value with four digits, labels by name."""

    def variable(found: re.Match[str]) -> str:
        return '{{ printf "%.4g" $value }}' if found[1] == "value" else f"{{{{ $labels.{found[1]} }}}}"

    return re.sub(r"\{(\w+)\}", variable, summary)


# -- tests -------------------------------------------------------------------------------------------------------


def rule_tests(thresholds: Thresholds, rules_file: str) -> Document:
    """A test file for `promtool test rules`.

    Each rule fires just beyond its threshold, after its time and not before it; at the threshold, and where its second
    condition does not hold, it does not.

    Args:
        thresholds: The rules.
        rules_file: File with `groups`, beside the test.
    """
    tests: list[Document] = []
    for rule in thresholds.rules:
        labels = {name: f"{name}1" for name in thresholds.metric(rule.when.metric).labels}
        tests += _tests(rule, labels, thresholds)
    for cluster in thresholds.cluster_rules:
        tests.append(_cluster_test(cluster))
    return {"rule_files": [rules_file], "evaluation_interval": span_text(EVERY), "tests": tests}


def beyond(comparison: str, threshold: float) -> tuple[float, float]:
    """A value for which a comparison holds, and one next to it for which it does not."""
    step = max(abs(threshold), 1.0) * 0.01
    if comparison in ("<", ">"):
        return threshold + _BESIDE[comparison] * step, threshold
    return threshold, threshold - _BESIDE[comparison] * step


def _tests(rule: Rule, labels: dict[str, str], thresholds: Thresholds) -> list[Document]:
    bad, good = beyond(rule.when.comparison, rule.when.threshold)
    also: list[tuple[str, float]] = []
    if rule.also is not None:
        names = thresholds.metric(rule.also.metric).labels
        series = _series(rule.also.metric, {name: labels.get(name, f"{name}1") for name in names})
        holds, fails = beyond(rule.also.comparison, rule.also.threshold)
        also = [(series, holds), (series, fails)]
    main = _series(rule.when.metric, labels)
    made = [
        _test(f"{rule.name} fires", rule, [(main, bad), *also[:1]], rule.wait, _expected(rule, labels, bad)),
        _test(f"{rule.name} at the threshold", rule, [(main, good), *also[:1]], rule.wait, None),
    ]
    if rule.wait:
        early = rule.wait - EVERY
        made.append(_test(f"{rule.name} not at once", rule, [(main, bad), *also[:1]], early, None))
    if also:
        made.append(_test(f"{rule.name} on one condition", rule, [(main, bad), also[1]], rule.wait, None))
    return made


def _series(metric: str, labels: dict[str, str]) -> str:
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{metric}{{{inside}}}" if inside else metric


def _expected(rule: Rule | ClusterRule, labels: dict[str, str], value: float) -> Document:
    return {
        "exp_labels": {**labels, "severity": rule.severity, "area": rule.area},
        "exp_annotations": {
            "summary": rule.summary.format(value=figure(value), **labels),
            "runbook": rule.runbook,
        },
    }


def _test(
    name: str,
    rule: Rule | ClusterRule,
    series: Sequence[tuple[str, float]],
    at: timedelta,
    expected: Document | None,
) -> Document:
    minutes = int(at.total_seconds() // 60) + 1
    return {
        "name": name,
        "interval": span_text(EVERY),
        "input_series": [{"series": text, "values": f"{value!r}x{minutes + 1}"} for text, value in series],
        "alert_rule_test": [
            {"alertname": rule.name, "eval_time": span_text(at), "exp_alerts": [expected] if expected else []}
        ],
    }


def _cluster_test(rule: ClusterRule) -> Document:
    values = list(rule.series.values())
    value = values[0] / values[1] if len(values) == 2 else 1.0
    series = [(text, float(number)) for text, number in rule.series.items()]
    return _test(f"{rule.name} fires", rule, series, rule.wait, _expected(rule, dict(rule.labels), value))
