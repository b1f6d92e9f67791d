"""Thresholds, measures and embedded rules; what is generated from them for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine

from pipelines import monitoring_manifests
from tests.support.alert_clock import START, database
from tests.support.alertmanager import binary
from tests.support.kubernetes_api import Schemas
from trialops.alerts import thresholds as module
from trialops.alerts.exposition import exposition, write_textfile
from trialops.alerts.guard import Guard
from trialops.alerts.lifecycle import evaluate
from trialops.alerts.measures import Measured, Sample, Stores, ended_runs, measure, of_record, read_runs
from trialops.alerts.prometheus import expression, rule_groups, rule_tests
from trialops.alerts.raise_alert import Alert, occurred
from trialops.alerts.register import EVENT, AlertRegister, Known, fingerprint
from trialops.alerts.rules import broken
from trialops.alerts.thresholds import SHIPPED, Thresholds, duration, load_thresholds, span_text
from trialops.errors import TrialOpsError
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.monitoring.verdict import load_policy
from trialops.safety.safety_policy import alert_levels
from trialops.stores.database import writing
from trialops.stores.objects import open_store
from trialops.stores.run_log import finish_run, record_run
from trialops.stores.tables import runs


@pytest.fixture
def rules() -> Thresholds:
    return load_thresholds()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return database(tmp_path)


# -- the file ----------------------------------------------------------------------------------------------------


def test_the_catalogues_thresholds_and_those_of_the_other_policies(rules: Thresholds) -> None:
    limits = {rule.name: (rule.when.comparison, rule.when.threshold) for rule in rules.rules}
    assert limits["DataQualityLow"] == ("<", 95)
    assert limits["ModelAccuracyDrop"] == (">", load_policy().max_relative_drop) == (">", 0.05)
    assert limits["FeatureDrift"] == (">", load_drift_policy().alert_psi) == (">", 0.2)
    assert limits["PipelineFailureRate"] == (">", 0.01)
    assert {limits[name] for name in ("DiskUse", "MemoryUse", "CpuUse")} == {(">", 0.8)}
    assert limits["ModelRetrainingDue"] == (">=", load_policy().bad)
    clocks = [limits[f"SafetyClock{n}"] for n in (50, 75, 90)]
    assert clocks == [(">=", level) for level in alert_levels()] and limits["SafetyReportOverdue"] == (">", 1)


ROOT = Path(__file__).resolve().parents[3]


def runbooks_in_code() -> set[str]:
    """What steps say when they raise an alert by themselves: the constant of a module, or an argument."""
    sources = [path.read_text() for package in ("trialops", "components") for path in (ROOT / package).rglob("*.py")]
    return {found for text in sources for found in re.findall(r"\b(?:RUNBOOK = |runbook=)\"([^\"]+)\"", text)}


def test_every_runbook_is_on_its_page(rules: Thresholds) -> None:
    named = {rule.runbook for rule in rules.rules} | {rule.runbook for rule in rules.cluster_rules}
    from_code = runbooks_in_code()
    assert {"lake-maintenance", "transfer", "service-unhealthy"} <= from_code
    for runbook in named | from_code:
        page, _, heading = runbook.rpartition("#")
        lines = (ROOT / (page or module.RUNBOOKS)).read_text().splitlines()
        assert heading in {line.lstrip("# ") for line in lines if line.startswith("##")}, runbook


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("than: 95", "then: 95", "than"),
        ('is: "<"', 'is: "=="', "is"),
        ("severity: critical", "severity: grave", "severity"),
        ("for: 10m", "for: soon", "for"),
        ("name: trialops_quality_score_percent", "name: quality_percent", "name"),
        ("{dataset} is", "{subject} is", "summary"),
        ("key: score", "key: score, decision: {a: 1}", "key"),
        ("window: 7d", "window: week", "window"),
        ("same: [task]", "same: [site]", "same"),
        ("version: 1", "version: one", "version"),
        ("resolve_after: 24h", "resolve_after: 24h\n  more: 1", "more"),
        ("- {name: ModelDegraded,", "- {name: FeatureDrift,", "rules"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = SHIPPED.read_text()
    assert old in text
    (tmp_path / "t.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(TrialOpsError) as error:
        load_thresholds(tmp_path / "t.yaml")
    assert key in str(error.value.where)


@pytest.mark.parametrize("text", ["0s", "45s", "10m", "4h", "7d"])
def test_spans_are_read_and_written(text: str) -> None:
    assert span_text(duration(text)) == text


# -- measures ----------------------------------------------------------------------------------------------------


def leave_run(engine: Engine, folder: Path, run_id: str, pipeline: str, records: Sequence[dict[str, Any]]) -> None:
    objects = open_store(str(folder))
    for record in records:
        made = {"state": "finished", "run_id": run_id, "finished": "2026-03-02T07:00:00.000000+00:00", "started": "a"}
        key = f"runs/{run_id}/steps/{record['step']}/record.json"
        objects.put(key, json.dumps(made | {"inputs": [], "outputs": []} | record).encode())
        for name, content in record.get("documents", {}).items():
            objects.put(f"runs/{run_id}/steps/{record['step']}/{name}", json.dumps(content).encode())
    record_run(engine, run_id, pipeline)
    finish_run(engine, run_id, "succeeded")


def stores(engine: Engine, folder: Path) -> Stores:
    return Stores(engine, open_store(str(folder)), "study", folder)


def test_finished_runs_are_read_once_and_the_newest_value_counts(
    engine: Engine, tmp_path: Path, rules: Thresholds
) -> None:
    gate = {"step": "quality-gate", "parameters": {"dataset": "clean"}, "metrics": {"score": 97.5}}
    drop = {"performance": {"drop": {"value": 0.08, "low": 0.01}}}
    judged = {"step": "judge-performance", "parameters": {"task": "t"}, "documents": {"performance.json": drop}}
    judged["decision"] = {"decision": "degraded"}
    leave_run(engine, tmp_path, "r1", "data_quality", [gate])
    leave_run(engine, tmp_path, "r2", "model_monitoring", [judged])
    newer = gate | {"metrics": {"score": 91.0}, "finished": "2026-03-02T07:30:00.000000+00:00"}
    leave_run(engine, tmp_path, "r3", "data_quality", [newer])
    now = datetime.now(UTC) + timedelta(seconds=1)
    found = measure(stores(engine, tmp_path), rules, now)
    values = {(s.metric, *s.labels.values()): s.value for s in found.samples}
    assert values["trialops_quality_score_percent", "clean"] == 91.0
    assert values["trialops_model_auroc_drop_ratio", "t"] == 0.08
    assert values["trialops_model_auroc_drop_low_ratio", "t"] == 0.01
    assert values["trialops_model_degraded_state", "t"] == 1
    assert found.unread == {}
    assert read_runs(stores(engine, tmp_path), rules.metrics, now) == 0
    names = {item.alert.name for item in broken(rules, found.samples)}
    assert {"DataQualityLow", "ModelAccuracyDrop", "ModelDegraded"} <= names


@pytest.mark.parametrize(
    "record",
    [
        {"state": "failed", "step": "quality-gate", "metrics": {"score": 1.0}},
        {"state": "finished", "step": "quality-gate", "metrics": {"score": "n/a"}},
        {"state": "finished", "step": "quality-gate", "metrics": {"score": True}},
        {"state": "finished", "step": "quality-gate", "metrics": {"score": float("nan")}},
        {
            "state": "finished",
            "step": "judge-performance",
            "run_id": "x",
            "decision": {"decision": "insufficient evidence"},
        },
    ],
    ids=["failed", "text", "bool", "nan", "no verdict"],
)
def test_what_was_not_measured_is_no_value(tmp_path: Path, rules: Thresholds, record: dict[str, Any]) -> None:
    assert of_record(record, rules.metrics, open_store(str(tmp_path))) == []


def test_the_failure_rate_slides(engine: Engine, rules: Thresholds) -> None:
    with writing(engine) as connection:
        rows = [
            {"run_id": f"r{n}", "pipeline": "p", "parameters": "{}", "code_version": "", "page": "", "started": "a"}
            | {"state": "failed" if n == 0 else "cancelled" if n == 1 else "succeeded"}
            | {"finished": (START + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
            for n in range(30)
        ]
        connection.execute(runs.insert(), rows)
    week = timedelta(days=7)
    assert ended_runs(engine, week, START + timedelta(hours=29)) == {"p": (29, 1)}
    assert ended_runs(engine, week, START + timedelta(hours=10)) == {"p": (10, 1)}  # fewer than twenty
    assert ended_runs(engine, week, START + week) == {"p": (28, 0)}  # the failure has left the window


def test_a_rate_over_few_runs_alerts_nobody(rules: Thresholds) -> None:
    def samples(ended: int) -> list[Sample]:
        at = {"pipeline": "p"}
        return [
            Sample("trialops_pipeline_failure_ratio", at, 1 / ended),
            Sample("trialops_pipeline_finished_runs", at, ended),
            Sample("trialops_pipeline_finished_runs", {"pipeline": "q"}, 500),
        ]

    assert broken(rules, samples(19)) == []
    assert [item.alert.labels for item in broken(rules, samples(20))] == [{"pipeline": "p", "area": "pipeline"}]
    assert broken(rules, samples(100)) == []  # exactly one in a hundred is not above it


def test_a_source_that_cannot_be_read_is_named_and_ends_no_alert(
    engine: Engine, tmp_path: Path, rules: Thresholds, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = AlertRegister(engine, "study")
    bad = [Sample("trialops_quality_score_percent", {"dataset": "clean"}, 80.0)]
    evaluate(register, Measured(bad), rules, START)
    monkeypatch.setattr("trialops.operations.machine.measure", lambda folder: 1 / 0)
    found = measure(replace(stores(engine, tmp_path), objects=None), rules, START)  # type: ignore[arg-type]
    assert found.unread == {f"trialops_host_{w}_used_ratio": "ZeroDivisionError" for w in ("disk", "memory", "cpu")}
    evaluate(register, Measured([], {"trialops_quality_score_percent": "OSError"}), rules, START + timedelta(minutes=1))
    assert [a.state for a in register.known().values()] == ["firing"]
    evaluate(register, Measured([]), rules, START + timedelta(minutes=2))
    assert [a.state for a in register.known().values()] == ["resolved"]


# -- for how long ------------------------------------------------------------------------------------------------


def test_a_rule_must_hold_for_its_time_without_a_break(engine: Engine, rules: Thresholds) -> None:
    register = AlertRegister(engine, "study")
    full = Measured([Sample("trialops_host_disk_used_ratio", {}, 0.9)])
    states = []
    for minute in range(25):
        evaluate(register, Measured([]) if minute == 5 else full, rules, START + timedelta(minutes=minute))
        states.append(next(iter(register.known().values())).state)
    assert states[:5] == ["pending"] * 5 and states[5] == "cleared"
    assert states[6:16] == ["pending"] * 10 and states[16:] == ["firing"] * 9
    events = [e.event for e in register.history()]
    assert events == ["pending", "cleared", "pending", "firing"]  # not a row a minute


def test_an_event_nobody_repeats_ends_after_a_day(engine: Engine, rules: Thresholds) -> None:
    register = AlertRegister(engine, "study")
    alert = Alert("Event", "warning", {"area": "data"})
    with writing(engine) as connection:
        before = Known(fingerprint(alert.name, alert.severity, alert.labels))
        event, known = occurred(before, alert, START, EVENT)
        register.write(connection, event, known, START)
    for hours, state in ((23.9, "firing"), (24, "resolved")):
        evaluate(register, None, rules, START + timedelta(hours=hours))
        assert [a.state for a in register.known().values()] == [state]


def test_rules_never_tell_a_subject(engine: Engine, rules: Thresholds) -> None:
    register = AlertRegister(engine, "study")
    evaluate(
        register, Measured([Sample("trialops_quality_score_percent", {"dataset": "01-701-1015"}, 1.0)]), rules, START
    )
    (alert,) = register.known().values()
    assert "1015" not in str(alert) and "[removed]" in alert.summary
    assert Guard().clean("plain words, 3 of 12 sites") == "plain words, 3 of 12 sites"


# -- what is generated -------------------------------------------------------------------------------------------


def write_rules(folder: Path, rules: Thresholds, groups: Any = None) -> None:
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups or rule_groups(rules)}))
    (folder / "test.yml").write_text(yaml.safe_dump(rule_tests(rules, "rules.yml")))


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary("promtool"), *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def test_promtool_takes_the_rules_and_their_tests_pass(tmp_path: Path, rules: Thresholds) -> None:
    write_rules(tmp_path, rules)
    checked = promtool(tmp_path, "check", "rules", "rules.yml")
    assert checked.returncode == 0 and f"{len(rules.rules) + len(rules.cluster_rules)} rules found" in checked.stdout
    tested = promtool(tmp_path, "test", "rules", "test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_tests_notice_a_changed_threshold_time_severity_and_condition(tmp_path: Path, rules: Thresholds) -> None:
    changes = {
        "DataQualityLow": ("< 95", "< 90"),
        "MemoryUse": (" > 0.8", " >= 0.8"),
        "DiskUse": ("for: 10m", "for: 12m"),
        "ModelDegraded": ("severity: warning", "severity: info"),
        "PipelineFailureRate": (" and on (pipeline)", " or on (pipeline)"),
        "SafetyClock75": (">= 0.75", "> 0.75"),
    }
    groups = rule_groups(rules)
    for group in groups:
        for number, rule in enumerate(group["rules"]):
            if rule["alert"] in changes:
                old, new = changes[rule["alert"]]
                text = yaml.safe_dump(rule)
                assert old in text
                group["rules"][number] = yaml.safe_load(text.replace(old, new))
    write_rules(tmp_path, rules, groups)
    done = promtool(tmp_path, "test", "rules", "test.yml")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    failed = {rule.name for rule in rules.rules if f"alertname: {rule.name}," in said}
    assert failed == set(changes), said[-2000:]


def test_embedded_rules_and_expressions_agree_on_the_edges(rules: Thresholds) -> None:
    for rule in rules.rules:
        assert expression(rule).count(rule.when.metric) == 1 and f"{rule.when.threshold:g}" in expression(rule)
        for value in (rule.when.threshold - 1e-6, rule.when.threshold, rule.when.threshold + 1e-6):
            held = eval(f"{value!r} {rule.when.comparison} {rule.when.threshold!r}")
            assert rule.when.holds(value) is held
        assert not rule.when.holds(float("nan"))


def test_manifests_are_those_of_the_thresholds() -> None:
    for name, text in monitoring_manifests.render().items():
        stored = (monitoring_manifests.FOLDER / name).read_text()
        assert stored == text, f"python -m pipelines.monitoring_manifests: {name}"


def test_manifests_are_valid_against_the_operators_schemas(anchors: Path) -> None:
    known = Schemas(*sorted((anchors / "crds" / "prometheus-operator").glob("*.yaml")))
    seen = set()
    for documents in monitoring_manifests.documents().values():
        for document in documents:
            if document["kind"] == "ConfigMap":
                continue
            seen.add(document["kind"])
            assert known.check(document) == []
            broken_one = document | {"spec": {**document["spec"], "nosuch": 1}}
            assert known.check(broken_one) != []
    assert seen == {"PrometheusRule", "AlertmanagerConfig", "ServiceMonitor", "PodMonitor"}


def test_dashboards_draw_every_metric_with_its_limits(rules: Thresholds) -> None:
    (config,) = monitoring_manifests.documents()["dashboards.yaml"]
    boards = {name: json.loads(text) for name, text in config["data"].items()}
    drawn = {target["expr"]: panel for b in boards.values() for panel in b["panels"] for target in panel["targets"]}
    assert {metric.name for metric in rules.metrics} <= set(drawn)
    for rule in rules.rules:
        steps = drawn[rule.when.metric]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert rule.when.threshold in [step["value"] for step in steps]
    assert len({board["uid"] for board in boards.values()}) == len(boards) >= 5


def test_the_exposition_is_prometheus_text_and_escapes(tmp_path: Path, rules: Thresholds) -> None:
    samples = [
        Sample("trialops_quality_score_percent", {"dataset": 'a"b\\c\nd'}, 97.5),
        Sample("trialops_host_disk_used_ratio", {}, 0.5),
    ]
    text = exposition(samples, rules)
    assert text == exposition(list(reversed(samples)), rules)
    write_textfile(tmp_path / "out" / "trialops.prom", text)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trialops.prom"]
    done = subprocess.run(
        [binary("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 3) and "error while linting" not in done.stderr, done.stderr
