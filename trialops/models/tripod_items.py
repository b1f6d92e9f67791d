"""The items of the TRIPOD+AI checklist, and how each is filled from a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialops.models.discrimination import p_text
from trialops.models.tripod import Facts, Item

PERSON = "a person has to add it to the report of the study"


def _nothing(facts: Facts) -> None:
    return None


def _sizes(facts: Facts) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return facts.search["split"]["train"], facts.search["split"]["held_out"]


def _window(facts: Facts) -> str:
    horizon = "the end of planned treatment" if facts.task.horizon_day is None else f"day {facts.task.horizon_day}"
    return f"from day {facts.task.landmark_day} to {horizon}"


def _source(facts: Facts) -> str:
    train, held = _sizes(facts)
    table = facts.search["training"].get("table", "the training set")
    return (
        f"one trial, de-identified; {table}, digest {str(facts.search['training'].get('digest'))[:12]}; "
        f"{train['sites']} sites to develop on, {held['sites']} other sites to evaluate on"
    )


def _prepared(facts: Facts) -> str | None:
    used = [f"{item['table']}@{item['version']}" for item in facts.data if item["role"] != "training"]
    if not used:
        return None
    shown = ", ".join(used[:6]) + (f" and {len(used) - 6} more" if len(used) > 6 else "")
    return f"quality gate on the clean tables, features point in time at the landmark; versions used: {shown}"


def _missing(facts: Facts) -> str:
    handled = (
        "the training median is put in and kept with the model"
        if facts.bundle.kind == "logistic"
        else "the trees send a missing value down a learnt branch"
    )
    dropped = sum("missing" in note for note in facts.bundle.notes)
    return f"no subject is left out for a missing feature; {handled}; {dropped} features dropped as unknown"


def _search(facts: Facts) -> str:
    trials = facts.search["trials"]
    kinds = sorted({row["kind"] for row in trials})
    given_up = sum(bool(row.get("stopped")) for row in trials)
    return (
        f"{len(trials)} configurations of {', '.join(kinds)}, cross-validated over groups of sites on the log loss, "
        f"{given_up} given up early; winner {facts.bundle.kind} with "
        + ", ".join(f"{key} = {value:.4g}" for key, value in facts.bundle.params.items())
        + f"; log loss {facts.search['log_loss']:.4f}, prespecified model {facts.search['baseline_log_loss']:.4f}"
    )


def _between_sites(facts: Facts) -> str | None:
    area = (facts.search.get("sites") or {}).get("auroc")
    if not area:
        return None
    mean = area["mean"]
    return (
        f"each site by a model that did not learn from it: mean AUROC {mean['value']:.3f} ({mean['low']:.3f} to "
        f"{mean['high']:.3f}), next site {area['prediction_low']:.3f} to {area['prediction_high']:.3f}, between-site "
        f"standard deviation {area['tau']:.3f} on the logit, {area['sites']} sites"
    )


def _scaling(facts: Facts) -> str:
    return (
        "standardised, linear on the logit"
        if facts.bundle.kind == "logistic"
        else "as measured; trees need no transformation"
    )


def _fair(facts: Facts) -> str:
    parts = "; ".join(f"{part.attribute}: {part.verdict} ({part.reason})" for part in facts.fairness.attributes)
    return f"{facts.fairness.verdict} by {facts.fairness.method}. {parts}"


def _threshold(facts: Facts) -> str:
    rule = facts.task.threshold.rule
    return f"probability; a subject is flagged from {facts.bundle.threshold:.3f} on (rule {rule}, training sites alone)"


def _performance(facts: Facts) -> str:
    e = facts.evaluation
    return (
        f"AUROC {e.auroc}; average precision {e.auprc}; Brier {e.brier:.3f}; calibration intercept "
        f"{e.calibration.intercept}, slope {e.calibration.slope}; ICI {e.calibration.ici:.3f}; net benefit above both "
        f"defaults at {e.decision_curve.useful_share:.0%} of the declared thresholds; {e.verdict}"
    )


def _held_sites(facts: Facts) -> str | None:
    sites = facts.evaluation.over_sites
    if sites is None or sites.auroc is None:
        return None
    return (
        f"over the held-out sites: mean AUROC {sites.auroc.mean}, next site {sites.auroc.prediction_low:.3f} to "
        f"{sites.auroc.prediction_high:.3f}, I2 {sites.auroc.i2:.0%}"
    )


def _against(facts: Facts) -> str:
    text = (
        "AUROC with DeLong intervals, average precision, Brier, calibration, net benefit over "
        f"{facts.task.decision_thresholds[0]:.2f} to {facts.task.decision_thresholds[1]:.2f}"
    )
    if facts.comparison is None:
        return text
    other = facts.comparison
    return f"{text}; against the {other.role} on the same subjects {other.difference}, {p_text(other.p_value)}"


def _decided(facts: Facts) -> str | None:
    if facts.decision is None:
        return None
    unmet = [reason.text for reason in facts.decision.reasons if not reason.met]
    return f"{facts.decision.action} by policy {facts.decision.policy}" + (
        f"; not met: {'; '.join(unmet)}" if unmet else ""
    )


def _limits(facts: Facts) -> str:
    notes = dict.fromkeys([*facts.bundle.notes, *facts.evaluation.notes, *facts.evaluation.calibration.notes])
    return "learnt in one trial; intervals take subjects as independent. " + " ".join(notes)


def _counts(facts: Facts) -> str:
    train, held = _sizes(facts)
    return (
        f"developed and tuned on {train['subjects']} subjects with {train['events']} events, evaluated on "
        f"{held['subjects']} with {held['events']}"
    )


def _drawn_alike(facts: Facts) -> str:
    train, held = _sizes(facts)
    shares = [part["events"] / max(part["subjects"], 1) for part in (train, held)]
    return f"events {shares[0]:.1%} in development, {shares[1]:.1%} in evaluation"


def _blinded(facts: Facts) -> str | None:
    return "arm, dose and actual treatment are not inputs of the model" if facts.task.blinded else None


ITEMS: tuple[Item, ...] = (
    Item(
        "1",
        "Title",
        "what kind of study, whom and what it predicts",
        lambda f: f"{f.task.title}: development and evaluation of a prediction model; {f.task.population.description}",
    ),
    Item("2", "Abstract", "a structured summary", _nothing, PERSON),
    Item("3a", "Background", "context, reason, models that exist", _nothing, PERSON),
    Item(
        "3b",
        "Background",
        "for whom, for what use, by whom",
        lambda f: (
            f"{f.task.population.description}; to direct retention support at site level, not to decide on treatment "
            "or eligibility"
        ),
    ),
    Item("3c", "Background", "known inequalities between groups", _nothing, PERSON),
    Item(
        "4",
        "Objectives",
        "development, evaluation or both",
        lambda f: "both: developed on some sites, evaluated on others",
    ),
    Item("5a", "Data", "sources for development and for evaluation", _source),
    Item(
        "5b",
        "Data",
        "dates of accrual and follow-up",
        _nothing,
        "calendar dates do not survive de-identification; study days are used",
    ),
    Item(
        "6a",
        "Participants",
        "setting, number and place of centres",
        lambda f: (
            f"{_sizes(f)[0]['sites'] + _sizes(f)[1]['sites']} sites of one trial; places are not known after "
            "de-identification"
        ),
    ),
    Item("6b", "Participants", "who was eligible", lambda f: f.task.population.description),
    Item(
        "6c",
        "Participants",
        "treatments and how they were handled",
        _blinded,
        "the task is not blinded; the protocol says which treatments were given",
    ),
    Item(
        "7",
        "Data preparation",
        "preparation and quality checks",
        _prepared,
        "the records of the data steps are not at hand",
    ),
    Item("8a", "Outcome", "definition, horizon, how assessed", lambda f: f"{f.task.label.description}, {_window(f)}"),
    Item(
        "8b",
        "Outcome",
        "qualification of assessors where it is a judgement",
        _nothing,
        "the disposition is entered by the sites; " + PERSON,
    ),
    Item("8c", "Outcome", "blinding of its assessment", _nothing, PERSON),
    Item(
        "9a",
        "Predictors",
        "how they were chosen",
        lambda f: (
            f"{len(f.task.features)} declared before training, {len(f.bundle.features)} used; none chosen on the "
            "outcome"
        ),
    ),
    Item(
        "9b",
        "Predictors",
        "each one, how and when measured",
        lambda f: f"known by day {f.task.landmark_day}, by event and by entry time: {', '.join(f.bundle.features)}",
    ),
    Item("9c", "Predictors", "qualification of assessors where one is a judgement", _nothing, PERSON),
    Item(
        "10",
        "Sample size",
        "how it was arrived at, and whether it is enough",
        lambda f: (
            f"all subjects whose outcome window has passed; {_counts(f)}; no sample size was planned for the model"
        ),
    ),
    Item("11", "Missing data", "how it was handled", _missing),
    Item(
        "12a",
        "Analysis",
        "how data were divided",
        lambda f: (
            f"whole sites held out, {f.search['split']['share']:.0%} of subjects; a site keeps its part in every "
            "later run"
        ),
    ),
    Item("12b", "Analysis", "how predictors enter", _scaling),
    Item("12c", "Analysis", "kind of model, building steps, internal validation", _search),
    Item(
        "12d",
        "Analysis",
        "differences between clusters, how handled",
        _between_sites,
        "too few sites with both outcomes",
    ),
    Item("12e", "Analysis", "measures, plots, comparisons", _against),
    Item(
        "12f",
        "Analysis",
        "updating of the model after evaluation",
        lambda f: "none: what was evaluated is what is released",
    ),
    Item(
        "12g",
        "Analysis",
        "how predictions were computed",
        lambda f: f"by the registered bundle itself, digest {f.bundle.digest[:12]}",
    ),
    Item(
        "13",
        "Class imbalance",
        "methods, and recalibration after them",
        lambda f: "none used: no resampling and no class weights, so probabilities need no correction for it",
    ),
    Item(
        "14",
        "Fairness",
        "what was done, and why",
        lambda f: (
            f"audit of {len(f.fairness.attributes)} attributes by {f.fairness.method}; groups too small to judge are "
            "reported as such"
        ),
    ),
    Item("15", "Output", "what the model gives, thresholds and how chosen", _threshold),
    Item(
        "16",
        "Development and evaluation",
        "differences between the two",
        lambda f: "same protocol, definitions and period; other sites",
    ),
    Item("17", "Ethics", "approval and consent", _nothing, "the approval is in the trial master file; " + PERSON),
    Item("18a", "Open science", "funding", _nothing, PERSON),
    Item("18b", "Open science", "conflicts of interest", _nothing, PERSON),
    Item(
        "18c", "Open science", "protocol", lambda f: f"the prediction task is data fixed before training: {f.task.name}"
    ),
    Item("18d", "Open science", "registration", _nothing, PERSON),
    Item(
        "18e",
        "Open science",
        "availability of data",
        lambda f: "patient data stay with the sponsor; every table version is named by digest",
    ),
    Item(
        "18f",
        "Open science",
        "availability of code",
        lambda f: "the code version is in the lineage of the dossier; same data and seed give the same bundle",
    ),
    Item("19", "Patients and public", "involvement", _nothing, PERSON),
    Item(
        "20a",
        "Participants",
        "their flow, with and without outcome",
        lambda f: f"{_counts(f)}; the flow from screening is on the page of the training set",
    ),
    Item(
        "20b",
        "Participants",
        "characteristics",
        lambda f: f"prevalence on held-out sites {f.evaluation.prevalence}; groups in the fairness audit",
        "no evaluation",
    ),
    Item(
        "20c",
        "Participants",
        "evaluation data against development data",
        _drawn_alike,
    ),
    Item("21", "Development", "subjects and events in each analysis", _counts),
    Item(
        "22",
        "Specification",
        "all that is needed to predict for a new person",
        lambda f: f"the bundle in the dossier, text files without pickle, digest {f.bundle.digest}",
    ),
    Item("23a", "Performance", "estimates with intervals, groups included", lambda f: f"{_performance(f)}. {_fair(f)}"),
    Item(
        "23b",
        "Performance",
        "differences between clusters",
        _held_sites,
        "fewer than two held-out sites have both outcomes",
    ),
    Item("24", "Updating", "results of an update", lambda f: "no update was made"),
    Item("25", "Interpretation", "of the main results, fairness included", _decided, "no decision has been made"),
    Item("26", "Limitations", "of the study", _limits),
    Item(
        "27a",
        "Use",
        "poor or missing input when used",
        lambda f: (
            "the server refuses malformed, infinite and, by policy, stale features; a missing feature is handled as in "
            "training"
        ),
    ),
    Item(
        "27b",
        "Use",
        "what users must do or know",
        lambda f: "a subject id is enough; features come from the store and no value is entered by hand",
    ),
    Item("27c", "Use", "what should be studied next", _nothing, PERSON),
)
