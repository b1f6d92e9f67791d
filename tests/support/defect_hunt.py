"""Hunt for injected defects: from a generated folder to alarms, and the ground truth beside them."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from tests.support.raw_trial import Keys
from trialops.errors import TrialOpsError
from trialops.intake.sdtm import read_folder
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.quality.contracts import contract
from trialops.quality.engine import ClinicalDataValidatorOperator
from trialops.quality.evaluation import evaluate
from trialops.quality.rules import anomaly_rules

RECEIVED = dt.date(2026, 1, 1)

QUARANTINED = {
    "duplicate_subject": "DUPLICATE_SUBJECT",
    "impossible_date": "DATE_IMPOSSIBLE",
    "orphan_subject": "ORPHAN_SUBJECT",
    "duplicate_key": "DUPLICATE_KEY",
    "end_before_start": "END_BEFORE_START",
    "wrong_study_id": "WRONG_STUDY",
    "future_date": "DATE_AFTER_RECEIPT",
}
"""Kinds that intake sets aside, and the reason it must give."""
ROWS = {
    "unit_swap": {"LB-UNIT-SWAP"},
    "missing_unit": {"LB-UNIT"},
    "out_of_range": {"LB-RANGE", "VS-RANGE"},
    "day_zero": {"sdtm.AE.day-zero"},
    "pregnant_male": {"AE-SEX-TERM"},
    "fatal_not_serious": {"AE-FATAL-SERIOUS"},
    "wrong_term": {"AE-SEV-TERM"},
    "missing_causality": {"AE-CAUSE-GIVEN"},
    "decimal_shift": {"LB-DECIMAL", "LB-RANGE"},
    "transposed_digits": {"LB-DELTA", "LB-OUTLIER"},
    "negative_value": {"LB-RANGE"},
    "missing_result": {"LB-RESULT-GIVEN"},
    "result_mismatch": {"LB-STANDARD", "LB-CONVERTED"},
    "wrong_indicator": {"LB-INDICATOR"},
    "visit_out_of_window": {"SV-WINDOW"},
}
"""Kinds in single rows, and the rules one of which must name the row."""
SUBJECTS = {
    "swapped_sex": {"DM-SEX-RANGES"},
    "late_consent": {"EX-BEFORE-CONSENT"},
    "wrong_first_dose": {"DM-FIRST-DOSE"},
    "dose_after_death": {"EX-AFTER-DEATH"},
    "lab_after_death": {"LB-AFTER-DEATH"},
    "overlapping_doses": {"EX-OVERLAP"},
    "two_baselines": {"LB-ONE-BASELINE"},
    "copied_subject": {"DM-TWICE"},
    "copied_values": {"LB-COPIED"},
}
"""Kinds that concern a subject as a whole, and the rules one of which must name the subject."""
SITES = {"digit_preference": {"VS-DIGITS"}, "tiny_site": {"DM-SITE-SIZE"}}
FINDINGS = {"one_class_label": {"DS-OUTCOMES"}}
"""Kinds that a failed rule shows without a query."""
REFUSED = ("missing_column", "truncated_file")
"""Kinds for which nothing is loaded; the error must name the file and what is wrong with it."""
NOTED = ("encoding_cp1252",)
"""Kinds that intake repairs and notes in its dispositions."""
UNSEEN = ("empty_site",)
"""A site that has sent nothing is in no table that was sent."""
ALL_RULES = {**ROWS, **SUBJECTS, **SITES, **FINDINGS}


@dataclass
class Hunt:
    """What was found in a folder, named as the folder names it.

    Attributes:
        truth: Records of the generator.
        alarms: (rule, subject or site, record): one per query.
        quarantine: (file, row) -> reason.
        failed: Rules that failed.
        judged: Rule -> rows, subjects or sites it was applied to.
        keys: (file, row) -> "LBSEQ 12".
        corrected: (subject, record) that a later delivery replaced.
        encodings: File -> encoding.
        rows: Rows read.
        error: What the intake refused, in words.
    """

    truth: list[dict[str, Any]]
    alarms: set[tuple[str, str, str]] = field(default_factory=set)
    quarantine: dict[tuple[str, int], str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    judged: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    corrected: set[tuple[str, str]] = field(default_factory=set)
    sites: dict[str, str] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    error: str = ""


def hunt(folder: Path) -> Hunt:
    """Read, de-identify and validate a generated trial as the pipelines do."""
    path = folder / "truth" / "defects.json"
    found = Hunt(json.loads(path.read_text()) if path.exists() else [])
    try:
        intake = read_folder(folder / "sdtm", received=RECEIVED)
    except TrialOpsError as error:
        found.error = f"{error.what} {error.where}"
        return found
    tables = intake.tables
    found.rows = int(intake.dispositions["read"].sum())
    found.encodings = dict(intake.dispositions.select("file", "encoding").iter_rows())
    found.quarantine = {(f"sdtm/{f}", r): why for f, r, why in intake.quarantine.select("file", "row", "reason").rows()}
    found.sites = dict(tables["DM"].select("USUBJID", "SITEID").iter_rows())
    for domain, table in tables.items():
        key = next((c for c in (f"{domain}SEQ", "VISITNUM") if c in table.columns), None)
        if key is None:
            continue
        name = pl.format(f"{key} {{}}", pl.col(key).cast(pl.String).str.strip_suffix(".0"))
        rows = table.select("_SOURCE", "_ROW", "USUBJID", name=name, late=pl.col("_RECEIVED").is_not_null())
        for source, row, subject, record, late in rows.iter_rows():
            if late:
                found.corrected.add((subject, record))
            else:
                found.keys[(f"sdtm/{source}", row)] = record
    clean = HIPAAComplianceOperator().run(tables, "strict", Keys()).tables
    report = ClinicalDataValidatorOperator().run(clean, more={"Anomalies": (clean, anomaly_rules())}, as_of=RECEIVED)
    raw = evaluate(tables, contract("sdtm", tables), as_of=RECEIVED)
    back: dict[str, str] = {}
    for kind, values in (("subject", list(found.sites)), ("site", sorted(set(found.sites.values())))):
        back |= dict(zip(Keys().pseudonyms(kind, values), values, strict=True))
    for frame in (report.queries, raw.queries):
        for rule, subject, record in frame.select("rule", "USUBJID", "record").iter_rows():
            record = record or ""
            if subject is None:
                site, _, test = record.removeprefix("SITEID ").partition(", ")
                found.alarms.add((rule, back.get(site, site), test))
            elif record.startswith("same as "):
                pair = [back[subject], back[record.removeprefix("same as ")]]
                found.alarms |= {(rule, pair[0], f"same as {pair[1]}"), (rule, pair[1], f"same as {pair[0]}")}
            else:
                found.alarms.add((rule, back.get(subject, subject), record))
    for results in (report.results, raw.results):
        found.failed |= set(results.filter(pl.col("status") == "fail")["rule"])
        found.judged |= dict(results.select("rule", pl.col("denominator").fill_null(0)).iter_rows())
    return found


def units(found: Hunt, kind: str) -> set[tuple[Any, ...]]:
    """What there is to find of a kind: rows, subjects, sites or the file."""
    records = [r for r in found.truth if r["kind"] == kind]
    if kind in QUARANTINED:
        return {(r["file"], r["row"]) for r in records}
    if kind in ROWS:
        there = {(r["file"], r["row"], r["usubjid"]) for r in records}
        return {u for u in there if (u[2], found.keys.get((u[0], u[1]), "")) not in found.corrected}
    if kind in SUBJECTS:
        return {(r["usubjid"],) for r in records}
    if kind == "tiny_site":
        return {(r["after"],) for r in records}
    if kind in SITES:
        return {(found.sites[r["usubjid"]],) for r in records}
    return {(r["file"],) for r in records}


def is_found(found: Hunt, kind: str, unit: tuple[Any, ...]) -> bool:
    """Whether one unit of a kind was found, for the right reason."""
    if kind in QUARANTINED:
        return found.quarantine.get(unit) == QUARANTINED[kind]
    if kind in ROWS:
        record = found.keys.get((unit[0], unit[1]))
        return any((rule, unit[2], record) in found.alarms for rule in ROWS[kind])
    if kind in SUBJECTS or kind in SITES:
        rules = ALL_RULES[kind]
        return any(rule in rules and who == unit[0] for rule, who, _ in found.alarms)
    if kind in FINDINGS:
        return bool(FINDINGS[kind] & found.failed)
    if kind in NOTED:
        return found.encodings[unit[0].removeprefix("sdtm/")] not in ("ascii", "utf-8")
    return unit[0].split("/")[-1] in found.error


def false_alarms(found: Hunt, kind: str) -> tuple[int, int]:
    """Alarms of a kind's rules where nothing was injected, and what those rules were applied to."""
    if kind in QUARANTINED:
        reason = QUARANTINED[kind]
        injected = {u for k in QUARANTINED for u in units(found, k)}
        injected |= {(r["file"], r["row"]) for r in found.truth}
        return sum(why == reason and u not in injected for u, why in found.quarantine.items()), found.rows
    if kind not in ALL_RULES or kind in FINDINGS:
        return 0, 0
    rules = ALL_RULES[kind]
    rows = {(r["usubjid"], found.keys.get((r["file"], r["row"] or 0), "")) for r in found.truth}
    whole = {r["usubjid"] for r in found.truth if r["kind"] in SUBJECTS} | {
        u[0] for k in SITES for u in units(found, k)
    }
    explained = [(a[1], a[2]) in rows or a[1] in whole or a[2].removeprefix("same as ") in whole for a in found.alarms]
    wrong = [a for a, known in zip(found.alarms, explained, strict=True) if a[0] in rules and not known]
    return len(wrong), sum(found.judged.get(rule, 0) for rule in rules)
