"""The narrative of a case: plain sentences made of its facts, and marked as made by a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialops.safety.case import Drug
    from trialops.safety.case_rows import CaseEvent, SubjectRows
    from trialops.trial.study_file import StudyFile

GENERATED = "[Generated from the trial's data; not yet reviewed by a physician.]"

_WHY = {
    "death": "it was fatal",
    "life-threatening": "it was life-threatening",
    "hospitalisation": "the patient was hospitalised or a stay was prolonged",
    "disability": "it led to disability",
    "congenital anomaly": "it was a congenital anomaly",
    "medically important": "it is medically important",
}
_SEX = {"M": "male", "F": "female"}


def told(
    rows: SubjectRows, event: CaseEvent, study: StudyFile, person: Mapping[str, Any], drugs: Sequence[Drug]
) -> str:
    """The course of the case.

    Args:
        rows: The subject's rows.
        event: The event.
        study: The study file.
        person: DM row.
        drugs: Of the case; blinded ones are told as blinded.
    """
    sentences = [
        _who(study, person, event),
        _exposure(drugs),
        _what(event),
        _serious(event),
        _history(rows, event),
        _outcome(event, person),
        _causality(event),
        _beside(drugs),
        GENERATED,
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _who(study: StudyFile, person: Mapping[str, Any], event: CaseEvent) -> str:
    age, unit = person.get("AGE"), str(person.get("AGEU") or "").lower()
    old = f" aged {float(age):.0f} {unit}" if age is not None and unit else ""
    sex = _SEX.get(str(person.get("SEX") or "").upper(), "")
    words = f"{sex} patient".strip()
    return f"This report from study {study.number} concerns a {words}{old} (subject {event.subject})."


def _exposure(drugs: Sequence[Drug]) -> str:
    suspect = [drug for drug in drugs if drug.role == "suspect"]
    starts = sorted(str(d.start) for drug in suspect for d in drug.dosages if isinstance(d.start, str))
    names = " and ".join(drug.name if not drug.blinded else "the blinded study product" for drug in suspect)
    if not starts:
        return f"No exposure to {names} before the event is recorded." if names else ""
    doses = [f"{d.dose.value} {d.dose.unit}" for drug in suspect for d in drug.dosages if not drug.blinded and d.dose]
    dose = f" (doses: {', '.join(dict.fromkeys(doses))})" if doses else ""
    return f"The first dose of {names}{dose} was given on {starts[0]}."


def _what(event: CaseEvent) -> str:
    term = str(event.row.get("AETERM") or event.row.get("AEDECOD") or "an event").lower()
    coded = str(event.row.get("AEDECOD") or "").lower()
    named = f"{term} (preferred term: {coded})" if coded and coded != term else term
    onset = str(event.row.get("AESTDTC") or "")
    severity = str(event.row.get("AESEV") or "").lower()
    said = f" of {severity} severity" if severity else ""
    return f"{'On ' + onset if onset else 'On an unknown day'} the patient experienced {named}{said}."


def _serious(event: CaseEvent) -> str:
    why = [_WHY[c] for c in event.criteria if c in _WHY]
    reasons = "; ".join(why) if why else "the investigator marked it so"
    if event.serious == "serious":
        return f"The event is serious: {reasons}."
    if event.serious == "to confirm":
        return f"The site marked the event as not serious, yet {reasons}; it is treated as serious until confirmed."
    return "The event is not serious."


def _history(rows: SubjectRows, event: CaseEvent) -> str:
    terms = {
        str(row.get("MHDECOD") or row.get("MHTERM") or "").lower()
        for row in rows.dicts("MH", event.subject)
        if str(row.get("MHOCCUR") or "").upper() != "N"
    } - {""}
    return f"Medical history includes {', '.join(sorted(terms))}." if terms else "No medical history is recorded."


def _outcome(event: CaseEvent, person: Mapping[str, Any]) -> str:
    if event.fatal:
        day = str(person.get("DTHDTC") or event.row.get("AEENDTC") or "")
        return f"The patient died{' on ' + day if day else ''}."
    outcome = str(event.row.get("AEOUT") or "").lower()
    end = str(event.row.get("AEENDTC") or "")
    text = f"The outcome was reported as {outcome}" if outcome else "The outcome is not known"
    return f"{text}{' on ' + end if end else ''}."


def _causality(event: CaseEvent) -> str:
    word = str(event.row.get("AEREL") or "").lower()
    said = (
        f"The investigator assessed the relationship to the study product as {word}."
        if word
        else ("The investigator has not stated the relationship to the study product.")
    )
    if event.sponsor is None:
        return f"{said} The sponsor has not assessed it."
    return f"{said} The sponsor assessed it as {'related' if event.sponsor else 'not related'}."


def _beside(drugs: Sequence[Drug]) -> str:
    names = list(dict.fromkeys(drug.name for drug in drugs if drug.role == "concomitant"))
    return f"Concomitant medication: {', '.join(names)}." if names else "No concomitant medication is recorded."
