"""The thresholds file, read once and checked: what is measured, and from which value on somebody is told."""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from trialops.models.task import Reader, read_yaml
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).with_name("thresholds.yaml")
RUNBOOKS = "docs/validation/alerting.md"
"""Where the runbooks are, one heading each."""

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_METRIC = re.compile(r"trialops(_[a-z0-9]+){3,}")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
_SOURCES = ("record", "runs", "host", "clocks", "alerts")


@dataclass(frozen=True)
class Metric:
    """One measured quantity; `source` says where it is read, `labels` where each label is."""

    name: str
    unit: str
    help: str
    area: str
    labels: Mapping[str, str]
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """A metric beyond a value; `same` names the labels that must agree with those of the rule."""

    metric: str
    comparison: str
    threshold: float
    same: tuple[str, ...] = ()

    def holds(self, value: float) -> bool:
        """Whether a value is beyond; NaN never is."""
        return COMPARISONS[self.comparison](value, self.threshold)


@dataclass(frozen=True)
class Rule:
    """When an alert fires.

    Attributes:
        name: Name of the alert.
        when: What must hold.
        also: What must hold too, for the same labels; None where nothing.
        wait: How long it must hold before anybody is told.
        severity: info, warning or critical.
        area: Who it concerns; routes go by it.
        summary: One sentence with `{value}` and labels in braces.
        runbook: Heading of the page of runbooks.
    """

    name: str
    when: Condition
    also: Condition | None
    wait: timedelta
    severity: Severity
    area: str
    summary: str
    runbook: str


@dataclass(frozen=True)
class ClusterRule:
    """A rule over what other exporters measure: PromQL, and the series that fire it in its test."""

    name: str
    expr: str
    wait: timedelta
    severity: Severity
    area: str
    summary: str
    runbook: str
    series: Mapping[str, float]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Thresholds:
    """The file, and the SHA-256 of its content that a decision names."""

    version: int
    metrics: tuple[Metric, ...]
    rules: tuple[Rule, ...]
    cluster_rules: tuple[ClusterRule, ...]
    resolve_after: timedelta
    digest: str
    _by_name: Mapping[str, Metric] = field(repr=False, compare=False, default_factory=dict)

    def metric(self, name: str) -> Metric:
        """A metric by name; `KeyError` where there is none."""
        return self._by_name[name]


def duration(text: str) -> timedelta:
    """A time span as Prometheus writes it: 30s, 10m, 4h, 7d.

    Raises:
        ValueError: It is not one.
    """
    if not (found := re.fullmatch(r"(\d+)([smhd])", text)):
        raise ValueError(f"{text!r} is not a time span")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def span(reader: Reader, key: str) -> timedelta:
    """A time span of a YAML file, as `duration` reads it."""
    try:
        return duration(reader.get(key, str))
    except ValueError:
        raise reader.refuse(key, "The value is not a time span.", "Write 30s, 10m, 4h or 7d.") from None


def span_text(span: timedelta) -> str:
    """The inverse of `duration`, in the largest unit that is whole."""
    seconds = int(span.total_seconds())
    unit = next(u for u in ("d", "h", "m", "s") if seconds % _UNITS[u] == 0 and (seconds or u == "s"))
    return f"{seconds // _UNITS[unit]}{unit}"


def load_thresholds(source: Path = SHIPPED) -> Thresholds:
    """Read and check a thresholds file.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or not possible; it names file and key.
    """
    return _load(source, source.stat().st_mtime_ns if source.is_file() else 0)


@lru_cache(maxsize=4)
def _load(source: Path, _written: int) -> Thresholds:
    content = read_yaml(source)
    top = Reader(content, source)
    top.choice("name", ("thresholds",))
    defaults = top.section("defaults")
    metrics = tuple(_metric(reader) for reader in _items(top, "metrics"))
    known = {metric.name: metric for metric in metrics}
    if len(known) != len(metrics):
        raise top.refuse("metrics", "A metric is listed twice.", "Remove the repetition.")
    rules = tuple(_rule(reader, known) for reader in _items(top, "rules"))
    cluster = tuple(_cluster_rule(reader) for reader in _items(top, "cluster_rules"))
    names = [*(rule.name for rule in rules), *(rule.name for rule in cluster)]
    if len(set(names)) != len(names):
        raise top.refuse("rules", "A rule is listed twice.", "Give each a name of its own.")
    loaded = Thresholds(
        version=top.whole("version", 1),
        metrics=metrics,
        rules=rules,
        cluster_rules=cluster,
        resolve_after=span(defaults, "resolve_after"),
        digest=document_digest(content),
        _by_name=known,
    )
    defaults.done()
    top.done()
    return loaded


def _items(top: Reader, key: str) -> list[Reader]:
    listed = top.get(key, list)
    if not all(isinstance(item, dict) for item in listed):
        raise top.refuse(key, "The value must be a list of mappings.", "The shipped file shows the form.")
    return [Reader(item, top.path, f"{key}[{item.get('name', number)}].") for number, item in enumerate(listed)]


def _metric(reader: Reader) -> Metric:
    name, unit = reader.get("name", str), reader.get("unit", str)
    if not _METRIC.fullmatch(name) or not name.endswith(f"_{unit}"):
        raise reader.refuse("name", "The name is not trialops_<area>_<what>_<unit>.", "Rename it.")
    labels = reader.get("labels", dict)
    if not all(_LABEL.fullmatch(str(label)) and isinstance(labels[label], str) for label in labels):
        raise reader.refuse("labels", "The value must map labels to where they are read.", "Write {task: task}.")
    source = reader.section("source")
    kind = source.choice("kind", _SOURCES)
    if kind == "record":
        source.names("steps")
        ways = sorted({"key", "decision", "document"} & set(source.content))
        if len(ways) != 1:
            raise source.refuse("key", "A record is read by its key, its decision or a document.", "Give one of them.")
        source.get(ways[0], dict if ways[0] == "decision" else str)
        if ways[0] == "document":
            source.get("path", str)
    elif kind != "clocks":
        source.choice("what", _WHAT[kind])
        if kind == "runs":
            span(source, "window")
    source.done()
    area, text = reader.get("area", str), reader.get("help", str)
    reader.done()
    return Metric(name, unit, text, area, dict(labels), dict(source.content))


_WHAT: Mapping[str, tuple[str, ...]] = {
    "runs": ("failure_ratio", "finished"),
    "host": ("disk", "memory", "cpu"),
    "alerts": ("active", "waiting", "oldest"),
}


def _condition(reader: Reader, known: Mapping[str, Metric], *, further: bool = False) -> Condition:
    metric = reader.choice("metric", tuple(known))
    same = reader.names("same", empty=True) if further else ()
    if not set(same) <= set(known[metric].labels):
        raise reader.refuse("same", "The metric has no such label.", "Use labels of both metrics.")
    comparison = reader.choice("is", tuple(COMPARISONS))
    return Condition(metric, comparison, reader.number("than", -1e12, 1e12), same)


def _rule(reader: Reader, known: Mapping[str, Metric]) -> Rule:
    when, also = _condition(reader, known), None
    if "also" in reader.content:
        further = reader.section("also")
        also = _condition(further, known, further=True)
        further.done()
    told = _told(reader, {"value", *known[when.metric].labels})
    reader.done()
    return Rule(when=when, also=also, **told)


def _cluster_rule(reader: Reader) -> ClusterRule:
    expr, labels = reader.get("expr", str), reader.get("labels", dict)
    series = reader.get("series", dict)
    told = _told(reader, {"value", *labels})
    reader.done()
    return ClusterRule(expr=expr, series=dict(series), labels=dict(labels), **told)


def _told(reader: Reader, allowed: set[str]) -> dict[str, Any]:
    """What the two kinds of rules share."""
    summary = reader.get("summary", str)
    if not {name for _, name, _, _ in string.Formatter().parse(summary) if name is not None} <= allowed:
        raise reader.refuse("summary", "A name in braces is not a label.", "Use value and labels of the metric.")
    return {
        "name": reader.get("name", str),
        "wait": span(reader, "for"),
        "severity": cast(Severity, reader.choice("severity", SEVERITIES)),
        "area": reader.get("area", str),
        "summary": summary,
        "runbook": reader.get("runbook", str),
    }
