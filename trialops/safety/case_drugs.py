"""The drugs of a case: the study product with both causality assessments, what else was taken; unblinding one case."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.safety.case import Assessment, Dosage, Drug, Indication, Relation, Substance
from trialops.safety.case_fields import Quantity
from trialops.safety.case_rows import day_of, iso_date
from trialops.safety.causality import suspected

if TYPE_CHECKING:
    from trialops.safety.blinding import Exposure, Treatment
    from trialops.safety.case import Case
    from trialops.safety.case_rows import CaseEvent, SubjectRows
    from trialops.safety.classification import Role
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables

BLINDED_PRODUCT = "Blinded study product"

ACTIONS = {
    "DRUG WITHDRAWN": "withdrawn",
    "DOSE REDUCED": "dose reduced",
    "DOSE INCREASED": "dose increased",
    "DOSE NOT CHANGED": "dose not changed",
    "NOT APPLICABLE": "not applicable",
    "UNKNOWN": "unknown",
}
UNITS = {"MG": "mg", "G": "g", "UG": "ug", "ML": "mL", "MG/KG": "mg/kg", "IU": "[iU]"}
MOST_CONCOMITANT = 60


def product_of(name: str, study: StudyFile) -> Mapping[str, Any]:
    """The product of the study file that an EXTRT or an arm means; empty where it names none."""
    wanted = name.strip().upper()
    for product in study.safety.get("products") or ():
        if wanted in {str(product["name"]).upper(), *(str(t).upper() for t in product.get("treatments") or ())}:
            found: Mapping[str, Any] = product
            return found
    return {}


def role_of(treatment: Treatment, study: StudyFile) -> Role:
    """What the subject had, at its most to be reported: investigational before comparator before the others.

    A product the study file does not know counts as investigational.
    """
    roles = {
        str(product_of(item.product, study).get("role", "investigational"))
        for item in treatment.exposures
        if item.product
    }
    return _gravest(roles)


def roles_of(trial: TrialTables, study: StudyFile) -> dict[str, Role]:
    """The role of what each subject had, of a trial that is not blinded."""
    ex = trial.get("EX")
    if ex is None:
        return {}
    given = ex.select("USUBJID", "EXTRT").unique().drop_nulls().sort("USUBJID", "EXTRT")
    found: dict[str, list[str]] = {}
    for subject, name in given.iter_rows():
        found.setdefault(subject, []).append(str(product_of(name, study).get("role", "investigational")))
    return {subject: _gravest(roles) for subject, roles in found.items()}


def _gravest(roles: Collection[str]) -> Role:
    order: tuple[Role, ...] = ("investigational", "comparator", "auxiliary", "placebo")
    return next((role for role in order if role in roles), "investigational")


def drugs(rows: SubjectRows, event: CaseEvent, study: StudyFile) -> tuple[Drug, ...]:
    """The blinded study product first, then what was taken beside it at the onset."""
    return (_study_drug(rows, event, study), *_concomitant(rows, event))


def assessments(event: CaseEvent) -> tuple[Assessment, ...]:
    """Both assessors' words, and the conclusion for FDA: suspected where either is not certain that it is not."""
    found = [Assessment("Investigator", "As collected", str(event.row.get("AEREL") or "Not stated"))]
    if event.sponsor is not None:
        found.append(Assessment("Sponsor", "Reasonable possibility", "Related" if event.sponsor else "Not related"))
    conclusion = "Not Suspected" if suspected(event.investigator, event.sponsor) is False else "Suspected"
    return (*found, Assessment("Sponsor", "FDA", conclusion))


def _study_drug(rows: SubjectRows, event: CaseEvent, study: StudyFile) -> Drug:
    """The study product as a blinded reader sees it: when, not what."""
    onset: date | None = event.row.get("ONSET_LATEST")
    action = ACTIONS.get(str(event.row.get("AEACN") or "").strip().upper())
    indication = study.protocol.get("indication")
    given = [(str(r.get("EXSTDTC") or ""), str(r.get("EXENDTC") or "")) for r in rows.dicts("EX", event.subject)]
    dosages = tuple(Dosage(start=iso_date(s), last=iso_date(e)) for s, e in sorted(given) if _before(s, onset))
    return Drug(
        name=BLINDED_PRODUCT,
        role="suspect",
        blinded=True,
        dosages=dosages,
        action=action,
        relations=(Relation(reaction=1, assessments=assessments(event), from_start=_since_start(rows, event)),),
        indications=(Indication(text=str(indication)),) if indication else (),
    )


def unblinded(case: Case, treatment: Treatment, study: StudyFile) -> Case:
    """A blinded case with the treatment of its subject: the products given by the onset, and a sentence that says so.

    Args:
        case: As the register has it.
        treatment: Of the same subject.
        study: The study file.
    """
    start = case.reactions[0].start
    onset = day_of(start) if isinstance(start, str) else None
    before = [drug for drug in case.drugs if drug.blinded]
    if not before:
        return case
    by_product: dict[str, list[Dosage]] = {}
    for item in treatment.exposures:
        if _before(item.start, onset):
            name = str(product_of(item.product, study).get("name") or item.product)
            by_product.setdefault(name, []).append(_dosage(item, product_of(item.product, study)))
    named = tuple(
        replace(before[0], name=name, blinded=False, dosages=tuple(dosages), substances=_substances(name, study))
        for name, dosages in sorted(by_product.items())
    )
    told = "; ".join(f"{drug.name}{_amounts(drug)}" for drug in named) or "no product was given before the event"
    text = f"{case.narrative.text} The treatment of this patient was unblinded for this report: {told}."
    others = tuple(drug for drug in case.drugs if not drug.blinded)
    return replace(
        case,
        drugs=(
            *(named or (replace(before[0], name="Study product, not given before the event", blinded=False),)),
            *others,
        ),
        narrative=replace(case.narrative, text=text),
    )


def _dosage(item: Exposure, product: Mapping[str, Any]) -> Dosage:
    unit = UNITS.get(item.unit.upper())
    return Dosage(
        dose=Quantity(f"{item.dose:.10g}", unit) if item.dose is not None and unit else None,
        start=iso_date(item.start),
        last=iso_date(item.end),
        text=" ".join(w for w in (item.frequency, "" if unit else item.unit) if w) or None,
        form=(item.form or str(product.get("dose_form") or "")) or None,
        route=(item.route or str(product.get("route") or "")) or None,
    )


def _amounts(drug: Drug) -> str:
    doses = [f"{d.dose.value} {d.dose.unit}" for d in drug.dosages if d.dose]
    starts = sorted(str(d.start) for d in drug.dosages if isinstance(d.start, str))
    words = [", ".join(dict.fromkeys(doses)), f"from {starts[0]}" if starts else ""]
    return f" ({'; '.join(w for w in words if w)})" if any(words) else ""


def _substances(name: str, study: StudyFile) -> tuple[Substance, ...]:
    substance = str(product_of(name, study).get("active_substance") or "")
    return (Substance(name=substance),) if substance else ()


def _since_start(rows: SubjectRows, event: CaseEvent) -> Quantity | None:
    """Days from the first exposure to the onset, where both are exact and in this order."""
    low, high = event.row.get("ONSET_EARLIEST"), event.row.get("ONSET_LATEST")
    starts = [day_of(str(r.get("EXSTDTC") or "")) for r in rows.dicts("EX", event.subject)]
    known = [s for s in starts if s is not None]
    if low is None or low != high or not known or len(known) < len(starts) or min(known) > low:
        return None
    return Quantity(str((low - min(known)).days), "d")


def _concomitant(rows: SubjectRows, event: CaseEvent) -> tuple[Drug, ...]:
    """Medication that had begun by the onset and had not ended before it; each once."""
    low, high = event.row.get("ONSET_EARLIEST"), event.row.get("ONSET_LATEST")
    found: dict[tuple[str, ...], Drug] = {}
    for row in rows.dicts("CM", event.subject):
        name = str(row.get("CMDECOD") or row.get("CMTRT") or "").strip()
        start, end = str(row.get("CMSTDTC") or ""), str(row.get("CMENDTC") or "")
        ended = day_of(end)
        if not name or not _before(start, high) or (ended is not None and low is not None and ended < low):
            continue
        dose = " ".join(str(row[c]) if c != "CMDOSE" else f"{row[c]:.10g}" for c in _DOSE if row.get(c) is not None)
        reason = str(row.get("CMINDC") or "").strip()
        key = (name, start, end, dose, reason)
        found[key] = Drug(
            name=name.capitalize(),
            role="concomitant",
            dosages=(
                Dosage(
                    start=iso_date(start),
                    last=iso_date(end),
                    text=dose or None,
                    route=str(row["CMROUTE"]) if row.get("CMROUTE") else None,
                ),
            ),
            indications=(Indication(text=reason.capitalize()),) if reason else (),
        )
    return tuple(found[key] for key in sorted(found))[:MOST_CONCOMITANT]


_DOSE = ("CMDOSE", "CMDOSU", "CMDOSFRQ")


def _before(start: str, onset: date | None) -> bool:
    """Whether a start is not after the onset; an unknown one may not be."""
    return onset is None or not start or start[:10] <= onset.isoformat()
