"""The release dossier: one folder that answers, for one model, what it is, why it was released, and from what.

Every file is listed with its SHA-256 in ``contents.json``; the digest of that list is the dossier's own, and the
audit trail holds it. Opened in a browser, ``index.html`` leads to the rest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.governance.lineage import edges, run_records, tables_used, upstream
from trialops.models import tripod
from trialops.models.bundle import Bundle
from trialops.models.comparison import Comparison, Decision
from trialops.models.evaluation import Evaluation
from trialops.models.evidence import check_evidence
from trialops.models.fairness import FairnessReport
from trialops.models.judgement import checklist, tripod_section
from trialops.models.model_card import as_markdown, model_card
from trialops.models.record import restore
from trialops.models.task import load_task
from trialops.pages import Facts, Page, Section, Table, Text, Tone, Verdict, render, suppressed
from trialops.stores.folders import folder_digest

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot

TONES: dict[str, Tone] = {
    "promoted": "good",
    "held": "warn",
    "unchanged": "plain",
    "rejected": "bad",
    "rolled back": "bad",
}
FILES = {
    "model_card.md": "What the model is for, how well and for whom it works",
    "tripod_ai.md": "TRIPOD+AI checklist, filled from the run; what a person has to add is named",
    "tripod_ai.json": "The same as data",
    "decision.json": "Comparison, every rule of the policy with its numbers, signatures",
    "approval.md": "Who released it, or what it waits for",
    "evaluation.json": "Evaluation on held-out sites, with the baseline",
    "fairness.json": "Fairness audit",
    "search.json": "Every configuration tried, and which sites were held out",
    "canary.json": "Steps and checks of the canary, where there was one",
    "release.json": "What is in service after this run",
    "trial.json": "The trial in figures",
    "data_digests.json": "Every table version used, with its digest",
    "lineage.json": "Which step made what from what, with parameters and code version",
    "audit_extract.json": "The run's events in the audit trail, with the head of the chain",
    "environment.json": "Python and package versions",
}


@dataclass(frozen=True)
class Evidence:
    """What a dossier is written from: documents of the steps, tables of the trial, the model's folder."""

    task: str
    tables: Mapping[str, pl.DataFrame]
    training: Snapshot
    model: Path
    search: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    fairness: Mapping[str, Any]
    comparison: Mapping[str, Any]
    release: Mapping[str, Any]


@dataclass(frozen=True)
class Dossier:
    """A written dossier: its folder, table of contents (file to SHA-256), digest and page."""

    folder: Path
    contents: Mapping[str, str]
    digest: str
    page: Page


def write_dossier(run: Step, evidence: Evidence) -> Dossier:
    """Write the dossier of the step's run into its work folder.

    Args:
        run: The step; its inputs lead to the records of all steps before it, whichever run they ran in.
        evidence: What the steps found.

    Raises:
        TrialOpsError: The documents are not of one model and one training set.
    """
    from trialops.intake.facts import trial_facts

    bundle = Bundle.load(evidence.model)
    check_evidence(
        bundle,
        evidence.training,
        evaluation=evidence.evaluation,
        fairness=evidence.fairness,
        comparison=evidence.comparison,
        search=evidence.search,
    )

    folder = run.workdir / "dossier"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(evidence.model, folder / "model")

    own = run_records(run.objects, run.run_id)
    asked = {"run_id": run.run_id, "step": run.name, "started": "", "inputs": run.inputs, "outputs": []}
    records = [r for r in upstream(run.objects, [*own, asked]) if r is not asked]
    card = _card(evidence, bundle, _made_by(records, evidence.model))
    facts = trial_facts(dict(evidence.tables))
    documents: dict[str, Any] = {
        "decision.json": evidence.comparison,
        "evaluation.json": evidence.evaluation,
        "fairness.json": evidence.fairness,
        "search.json": evidence.search,
        "release.json": evidence.release,
        "trial.json": facts,
        "data_digests.json": tables_used(records),
        "lineage.json": {"edges": edges(records), "steps": [_step(record) for record in records]},
        "audit_extract.json": _audit(run, {record["run_id"] for record in records} | {run.run_id}),
        "environment.json": _environment(),
    }
    filled = checklist(
        bundle,
        evidence.task,
        search=evidence.search,
        evaluation=evidence.evaluation,
        fairness=evidence.fairness,
        comparison=evidence.comparison,
        data=tuple({**table, "role": table["table"].partition("/")[0]} for table in _model_tables(records)),
    )
    documents["tripod_ai.json"] = filled
    canary = f"runs/{run.run_id}/steps/canary-release/canary.json"
    if run.objects.exists(canary):
        documents["canary.json"] = json.loads(run.objects.get(canary))
    for name, content in documents.items():
        (folder / name).write_text(json.dumps(content, indent=1, sort_keys=True, default=str) + "\n", "utf-8")
    (folder / "model_card.md").write_text(as_markdown(card), "utf-8")
    (folder / "tripod_ai.md").write_text(tripod.as_markdown(filled), "utf-8")
    (folder / "approval.md").write_text(_approval(evidence), "utf-8")
    page = _page(run, evidence, card, facts, filled, folder)
    (folder / "index.html").write_text(render(page), "utf-8")

    contents = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    listed = json.dumps(contents, indent=1, sort_keys=True) + "\n"
    (folder / "contents.json").write_text(listed, "utf-8")
    digest = hashlib.sha256(listed.encode()).hexdigest()
    run.audit("dossier.write", evidence.task, digest, reason=f"release {evidence.release['state']}")
    return Dossier(folder, contents, digest, page)


def _made_by(records: Iterable[Mapping[str, Any]], model: Path) -> str:
    """The run and step whose record names the model's folder as an output; empty where none does."""
    digest = folder_digest(model)
    for record in records:
        if any(item.get("digest") == digest for item in record["outputs"]):
            return f"run {record['run_id']}, step {record['step']}, code {record['code_version']}"
    return ""


def _card(evidence: Evidence, bundle: Bundle, created_by: str) -> dict[str, Any]:
    decision = {key: value for key, value in evidence.comparison["decision"].items() if key != "by_policy"}
    return model_card(
        load_task(evidence.task),
        bundle,
        restore(Evaluation, evidence.evaluation["model"]),
        restore(FairnessReport, evidence.fairness),
        comparison=restore(Comparison, evidence.comparison["comparison"]),
        decision=restore(Decision, decision),
        search=evidence.search,
        created_by=created_by,
    )


def _approval(evidence: Evidence) -> str:
    decision = evidence.comparison["decision"]
    lines = [
        f"# Approval record: {evidence.task} version {evidence.release['version']}",
        "",
        f"State: **{evidence.release['state']}**. {evidence.release['reason']}",
        "",
        f"Decision of policy {decision['policy']} (digest {decision['policy_digest']}): {decision['by_policy']}.",
        f"Evidence signed or to sign, SHA-256: `{evidence.comparison['to_sign']}`.",
        "",
    ]
    for signature in (*evidence.comparison["approvals"], *evidence.comparison["objections"]):
        lines += [
            f"- {signature['printed_name']} ({signature['user_id']}), {signature['at']}, meaning: "
            f"{signature['meaning']}; signature {signature['id']}, audit record {signature['audit_seq']}"
        ]
    if not evidence.comparison["approvals"] and not evidence.comparison["objections"]:
        lines.append("No person has signed this evidence.")
    return "\n".join(lines) + "\n"


def _step(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = (
        "step",
        "run_id",
        "state",
        "started",
        "finished",
        "code_version",
        "parameters",
        "decision",
        "metrics",
    )
    return {key: record.get(key) for key in kept}


def _audit(run: Step, run_ids: set[str]) -> dict[str, Any]:
    if not run.settings.audit_log_enabled:
        return {"enabled": False, "events": []}
    from dataclasses import asdict

    from trialops.governance.anchors import stored_anchors

    events = [asdict(e) for run_id in sorted(run_ids) for e in run.trail.events(run_id=run_id)]
    checked = run.trail.verify(stored_anchors(run.objects))
    return {
        "enabled": True,
        "verified": checked.ok,
        "checked": checked.checked,
        "head": checked.head,
        "anchors": checked.anchors,
        "events": sorted(events, key=lambda event: event["seq"]),
    }


def _environment() -> dict[str, Any]:
    import platform
    from importlib.metadata import distributions

    packages = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {"python": platform.python_version(), "packages": dict(sorted(packages.items()))}


def _model_tables(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tables a model is made from, without raw and sealed ones."""
    return [t for t in tables_used(records) if t["table"].partition("/")[0] in ("clean", "features", "training")]


def _page(
    run: Step,
    evidence: Evidence,
    card: Mapping[str, Any],
    facts: Mapping[str, Any],
    filled: Mapping[str, Any],
    folder: Path,
) -> Page:
    state, judged = evidence.release["state"], evidence.evaluation["model"]
    decision = evidence.comparison["decision"]
    rules = [(r["rule"], "met" if r["met"] else "not met", r["text"]) for r in decision["reasons"]]
    trial = {
        "subjects": facts["subjects"],
        "randomised": facts["randomised"],
        "screen failures": facts["screen_failures"],
        "sites": facts["sites"],
        "completed": facts.get("completed"),
        "discontinued": facts.get("discontinued"),
    }
    arms = [(arm, suppressed(n)) for arm, n in facts["arms"].items()]
    return Page(
        f"Release dossier: {card['title']}",
        [
            Section("The trial", [Facts(trial), Table(("arm", "randomised"), arms)]),
            Section(
                "The model",
                [
                    Facts(
                        {
                            "version": evidence.release["version"],
                            "in service": evidence.release["champion"],
                            "AUROC": judged["auroc"]["value"],
                            "95 % low": judged["auroc"]["low"],
                            "95 % high": judged["auroc"]["high"],
                        }
                    ),
                    Text(
                        f"The model is {judged['verdict']} on {judged['n']} held-out subjects, {judged['sites']} sites."
                    ),
                    Text(f"Fairness: {evidence.fairness['verdict']}."),
                ],
            ),
            Section("Decision", [Table(("rule", "", "numbers"), rules), Text(evidence.release["reason"])]),
            *(
                Section(
                    part["title"], [Table(("item", "value"), [(item["name"], item["text"]) for item in part["items"]])]
                )
                for part in card["sections"]
                if part["key"] != "decision"
            ),
            tripod_section(filled),
            Section(
                "Files",
                [Table(("file", "what"), [(name, what) for name, what in FILES.items() if (folder / name).exists()])],
            ),
        ],
        Verdict(state.capitalize(), TONES.get(state, "plain"), f"run {run.run_id}"),
    )
