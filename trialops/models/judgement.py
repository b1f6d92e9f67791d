"""The end of an evaluation: evidence stored, alias set, and a dossier a person can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models import tripod
from trialops.models.bundle import Bundle
from trialops.models.comparison import Comparison, Decision
from trialops.models.evaluation import Evaluation
from trialops.models.evidence import check_evidence
from trialops.models.evidence_store import get_evidence, put_evidence
from trialops.models.fairness import FairnessReport
from trialops.models.model_card import as_markdown, model_card
from trialops.models.record import restore
from trialops.models.registration import NOT_PASSED, PASSED, judged_metrics, judged_tags, keep_judgement
from trialops.models.task import load_task
from trialops.pages import Page, Section, Table, Text, Tone, Verdict

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot


@dataclass(frozen=True)
class Concluded:
    """What became of a judged version: verdict, folder of the dossier, page, and what the verdict rests on."""

    verdict: str
    folder: Path
    page: Page
    numbers: dict[str, Any]
    policy: dict[str, str]


def checklist(
    bundle: Bundle,
    task: str,
    *,
    search: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    comparison: Mapping[str, Any],
    data: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """The TRIPOD+AI checklist from the documents of a run."""
    return tripod.tripod(
        tripod.Facts(
            task=load_task(task),
            bundle=bundle,
            evaluation=restore(Evaluation, evaluation["model"]),
            fairness=restore(FairnessReport, fairness),
            search=search,
            comparison=restore(Comparison, comparison["comparison"]),
            decision=restore_decision(comparison),
            data=data,
        )
    )


def restore_decision(comparison: Mapping[str, Any]) -> Decision:
    """The decision in a comparison document."""
    return restore(Decision, {key: value for key, value in comparison["decision"].items() if key != "by_policy"})


def conclude_judgement(
    run: Step,
    task: str,
    version: str,
    model: Path,
    *,
    training: Snapshot,
    search: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> Concluded:
    """Store the evidence of a judged version, set or take the alias "challenger", and write the dossier.

    Args:
        run: The step.
        task: Prediction task, and name of the registered model.
        version: The version that was judged.
        model: Its bundle.
        training: Its training set.
        search: Document of the search.
        evaluation: Document of the evaluation.
        fairness: Document of the fairness audit.
        comparison: Document of the comparison and decision.

    Raises:
        TrialOpsError: The documents are not of this version.
    """
    bundle = Bundle.load(model)
    registered = run.registry.version(task, version)
    if registered.digest != bundle.digest:
        raise TrialOpsError(
            "The model that was judged is not the registered version",
            where=f"model {task}, version {version}",
            fix="Evaluate the version again.",
        )
    check_evidence(bundle, training, evaluation=evaluation, fairness=fairness, comparison=comparison, search=search)
    stored = get_evidence(run, task, version).get("training", {})
    filled = checklist(
        bundle,
        task,
        search=search,
        evaluation=evaluation,
        fairness=fairness,
        comparison=comparison,
        data=tuple(stored.get("data", ())),
    )
    verdict = keep_judgement(run, task, registered, evaluation=evaluation, fairness=fairness, comparison=comparison)
    put_evidence(run, task, version, {"tripod": filled})
    card = model_card(
        load_task(task),
        bundle,
        restore(Evaluation, evaluation["model"]),
        restore(FairnessReport, fairness),
        search=search,
        comparison=restore(Comparison, comparison["comparison"]),
        decision=restore_decision(comparison),
        created_by=f"run {registered.run_id}",
    )
    documents = {"evaluation": evaluation, "fairness": fairness, "comparison": comparison, "search": search}
    folder = _dossier(run.workdir / "dossier", card, filled, documents)
    run.registry.annotate(
        task,
        version,
        metrics=judged_metrics(evaluation),
        tags={**judged_tags(evaluation, fairness, comparison), "evaluation": verdict, "evaluated_by": run.run_id},
        files=[folder / "model_card.md", folder / "tripod_ai.md"],
    )
    decision = comparison["decision"]
    not_met = [reason["rule"] for reason in decision["reasons"] if not reason["met"]]
    return Concluded(
        verdict,
        folder,
        _page(verdict, comparison, filled),
        {"version": version, "not_met": "; ".join(not_met), "action": decision["action"]},
        {"name": decision["policy"], "digest": decision["policy_digest"]},
    )


def _dossier(
    folder: Path, card: dict[str, Any], filled: dict[str, Any], documents: Mapping[str, Mapping[str, Any]]
) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model_card.md").write_text(as_markdown(card), "utf-8")
    (folder / "tripod_ai.md").write_text(tripod.as_markdown(filled), "utf-8")
    for name, document in {**documents, "tripod_ai": filled}.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    return folder


def _page(verdict: str, comparison: Mapping[str, Any], filled: Mapping[str, Any]) -> Page:
    tones: dict[str, Tone] = {PASSED: "good", NOT_PASSED: "bad"}
    decision = comparison["decision"]
    rules = [(r["rule"], "met" if r["met"] else "not met", r["text"]) for r in decision["reasons"]]
    alias = "stays without the alias" if verdict == NOT_PASSED else "is the challenger now"
    return Page(
        "Verdict of the evaluation",
        [
            Section("Rules", [Table(("rule", "", "numbers"), rules), Text(f"The version {alias}.")]),
            tripod_section(filled),
        ],
        Verdict(verdict.capitalize(), tones.get(verdict, "warn"), f"by policy: {decision['action']}"),
    )


def tripod_section(filled: Mapping[str, Any]) -> Section:
    """The checklist as a section of a page."""
    rows = [(item["number"], item["topic"], item["text"]) for item in filled["items"]]
    return Section(
        "TRIPOD+AI checklist",
        [
            Text(f"{filled['reported']} of {filled['total']} items are filled from the run."),
            Table(("item", "topic", "reported"), rows),
        ],
    )
