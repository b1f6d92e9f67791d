"""A neutral case from the rows of one subject: what SDTM says, in the words of `trialops.safety.case`.

A case is made of blinded tables: its suspect drug is the blinded study product. `case_drugs.unblinded` makes of it the
case with the treatment of that one subject. Nothing of any other subject is in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.case import (
    Case,
    CauseOfDeath,
    Narrative,
    Patient,
    Reaction,
    Registration,
    Report,
    Reporter,
    Sender,
    Study,
    Test,
)
from trialops.safety.case_drugs import drugs
from trialops.safety.case_fields import Null, Quantity, Term
from trialops.safety.case_rows import day_of, iso_date, number, text_of
from trialops.safety.narrative import told
from trialops.safety.seriousness import DEATH, IMPORTANT, LIFE_THREATENING, NOT_SERIOUS
from trialops.safety.terms import word_of

if TYPE_CHECKING:
    from trialops.safety.case_rows import CaseEvent, SubjectRows
    from trialops.trial.study_file import StudyFile

TEST_DAYS = 30
"""Abnormal laboratory results this many days around the onset are in the case."""
MOST_TESTS = 40

OUTCOMES = {
    "RECOVERED/RESOLVED": "recovered",
    "RECOVERING/RESOLVING": "recovering",
    "NOT RECOVERED/NOT RESOLVED": "not recovered",
    "RECOVERED/RESOLVED WITH SEQUELAE": "recovered with sequelae",
    "FATAL": "fatal",
}
SEXES = {"M": "male", "F": "female"}
RACES = {
    "WHITE": "white",
    "ASIAN": "asian",
    "BLACK OR AFRICAN AMERICAN": "african american",
    "AMERICAN INDIAN OR ALASKA NATIVE": "american indian or alaska native",
    "NATIVE HAWAIIAN OR OTHER PACIFIC ISLANDER": "native hawaiian or other pacific islander",
}
ETHNICITIES = {"HISPANIC OR LATINO": "hispanic or latino", "NOT HISPANIC OR LATINO": "not hispanic or latino"}
AGES = {"YEARS": "a", "MONTHS": "mo", "WEEKS": "wk", "DAYS": "d"}


@dataclass(frozen=True)
class Identity:
    """What the register says of a case: its id, when it was first and last known of, what kind of report is due."""

    case: str
    first: str
    latest: str
    criteria: str
    expedited: bool
    nullified: str = ""


def build_case(
    rows: SubjectRows,
    event: CaseEvent,
    study: StudyFile,
    identity: Identity,
) -> Case:
    """Make the case of one event.

    Args:
        rows: The subject's rows, of blinded tables.
        event: The event.
        study: The study file.
        identity: From the register.

    Raises:
        TrialOpsError: The delivery has no such subject, or the country is not in ISO 3166-1.
    """
    dm = rows.dicts("DM", event.subject)
    if not dm:
        raise TrialOpsError("The delivery has no demographics of a case's subject", where=identity.case)
    person = dm[-1]
    country = country_of(text_of(person, "COUNTRY"), str(study.sender.get("address", {}).get("country", "")))
    medication = drugs(rows, event, study)
    return Case(
        report=_report(identity),
        sender=_sender(study),
        patient=_patient(rows, event, person),
        narrative=Narrative(text=told(rows, event, study, person, medication)),
        reporters=(_reporter(person, country),),
        study=_study(study),
        reactions=(_reaction(event, study, country),),
        tests=_tests(rows, event),
        drugs=medication,
    )


def country_of(code: str, otherwise: str = "") -> str:
    """ISO 3166-1 alpha-2 of an alpha-2 or alpha-3 code; the other where there is none.

    Raises:
        TrialOpsError: Neither is a country.
    """
    for one in (code.strip().upper(), otherwise.strip().upper()):
        if one in _countries():
            return _countries()[one]
    raise TrialOpsError(
        "The country of a case is not known", where="DM.COUNTRY", fix="Deliver ISO 3166-1 alpha-3, as SDTM asks."
    )


@cache
def _countries() -> Mapping[str, str]:
    text = Path(__file__).with_name("countries.txt").read_text("ascii")
    codes = [code for line in text.splitlines() if not line.startswith("#") for code in line.split()]
    pairs = dict(zip(codes[::2], codes[1::2], strict=True))
    return pairs | {two: two for two in pairs.values()}


def _report(identity: Identity) -> Report:
    return Report(
        safety_report_id=identity.case,
        worldwide_id=identity.case,
        created=identity.latest,
        report_type="study",
        first_received=identity.first,
        most_recent=identity.latest,
        first_sender="other",
        expedited=identity.expedited,
        local_criteria=identity.criteria,
        amendment="nullification" if identity.nullified else None,
        amendment_reason=identity.nullified or None,
        combination_product=False,
    )


def _sender(study: StudyFile) -> Sender:
    stated: Mapping[str, Any] = study.sender
    person, place = stated.get("person") or {}, stated.get("address") or {}
    fields = {
        "sender_type": word_of("sender type", str(stated.get("organisation_type") or "1")),
        "organisation": stated.get("organisation"),
        "department": stated.get("department"),
        **{name: person.get(name) for name in ("title", "given_name", "middle_name", "family_name")},
        **{name: place.get(name) for name in ("street", "city", "state", "postcode", "country")},
        **{name: stated.get(name) for name in ("telephone", "fax", "email")},
    }
    return Sender(**{name: value for name, value in fields.items() if value})


def _reporter(person: Mapping[str, Any], country: str) -> Reporter:
    site = text_of(person, "SITEID")
    return Reporter(
        given_name=Null("masked"),
        family_name=Null("masked"),
        organisation=f"Investigational site {site}" if site else None,
        country=country,
        qualification="physician",
        primary=True,
    )


def _study(study: StudyFile) -> Study:
    numbers = []
    for name, where in (("eudract_number", "EU"), ("ctis_number", "EU")):
        if study.safety.get(name):
            numbers.append(Registration(number=str(study.safety[name]), country=where))
    ind = study.safety.get("ind_number")
    return Study(
        study_type="clinical trial",
        name=str(study.protocol.get("title") or study.number),
        sponsor_number=study.number,
        registrations=tuple(numbers),
        ind_number=str(ind) if ind else None,
    )


def _patient(rows: SubjectRows, event: CaseEvent, person: Mapping[str, Any]) -> Patient:
    unit = AGES.get(text_of(person, "AGEU").upper())
    age = person.get("AGE")
    race, ethnic = RACES.get(text_of(person, "RACE").upper()), ETHNICITIES.get(text_of(person, "ETHNIC").upper())
    died = event.fatal or text_of(person, "DTHFL").upper() == "Y"
    cause = text_of(event.row, "AETERM", "AEDECOD")
    return Patient(
        name=Null("masked"),
        investigation_number=event.subject,
        age=Quantity(number(age), unit) if age is not None and unit else None,
        sex=SEXES.get(text_of(person, "SEX").upper(), Null("unknown")),
        weight_kg=_latest_vital(rows, event, "WEIGHT", "kg", 1),
        height_cm=_latest_vital(rows, event, "HEIGHT", "cm", 0),
        history_text=_history(rows, event) or None,
        concomitant_therapies=bool(rows.dicts("CM", event.subject)),
        # E2B allows no plain "unknown" here; the case report form asks for both dates, SDTM has no autopsy.
        death_date=iso_date(text_of(person, "DTHDTC")) or (Null("asked but unknown") if died else None),
        autopsy=Null("unknown") if died else None,
        causes_of_death=(CauseOfDeath(text=cause),) if event.fatal and cause else (),
        races=(race,) if race else (),
        ethnicity=ethnic,
    )


def _history(rows: SubjectRows, event: CaseEvent) -> str:
    lines = set()
    for row in rows.dicts("MH", event.subject):
        if text_of(row, "MHOCCUR").upper() == "N" or text_of(row, "MHSTAT"):
            continue
        term = text_of(row, "MHDECOD", "MHTERM")
        if term:
            start = text_of(row, "MHSTDTC")
            lines.add(term.capitalize() + (f" (from {start})" if start else ""))
    return "; ".join(sorted(lines))


def _latest_vital(rows: SubjectRows, event: CaseEvent, test: str, unit: str, decimals: int) -> str | None:
    """The last value before or on the latest day of onset, in the unit asked for, with as many digits as E2B has."""
    until = event.row.get("ONSET_LATEST") or date.max
    found = [
        (text_of(row, "VSDTC"), row["VSSTRESN"])
        for row in rows.dicts("VS", event.subject)
        if row.get("VSTESTCD") == test
        and row.get("VSSTRESN") is not None
        and text_of(row, "VSSTRESU").lower() == unit
        and text_of(row, "VSDTC")[:10] <= until.isoformat()
    ]
    return number(round(float(max(found)[1]), decimals)) if found else None


def _reaction(event: CaseEvent, study: StudyFile, country: str) -> Reaction:
    row = event.row
    met = event.criteria
    return Reaction(
        term=meddra(row, study),
        outcome="fatal" if event.fatal else OUTCOMES.get(text_of(row, "AEOUT").upper(), "unknown"),
        text=text_of(row, "AETERM", "AEDECOD") or None,
        highlighted="highlighted, not serious" if event.serious == NOT_SERIOUS else "highlighted, serious",
        death=DEATH in met,
        life_threatening=LIFE_THREATENING in met,
        hospitalisation="hospitalisation" in met,
        disability="disability" in met,
        congenital_anomaly="congenital anomaly" in met,
        # Flagged serious without a criterion: E2B wants one, and "other medically important" is what is left.
        other_important=IMPORTANT in met or (event.serious != NOT_SERIOUS and not met),
        start=iso_date(text_of(row, "AESTDTC")) or Null("asked but unknown"),
        end=iso_date(text_of(row, "AEENDTC")),
        medically_confirmed=True,
        country=country,
    )


def meddra(row: Mapping[str, Any], study: StudyFile) -> Term | None:
    """The MedDRA code of an event: its lowest-level term's, else its preferred term's, which is one as well.

    None where the delivery has no code, or the study file does not say of which version it is.
    """
    version = str(study.safety.get("meddra_version") or "")
    for column in ("AELLTCD", "AEPTCD"):
        code = row.get(column)
        if code is not None and version:
            return Term(f"{int(float(code)):08d}", version)
    return None


def _tests(rows: SubjectRows, event: CaseEvent) -> tuple[Test, ...]:
    """Abnormal laboratory results around the onset, nearest first chosen, by day in the case."""
    low, high = event.row.get("ONSET_EARLIEST"), event.row.get("ONSET_LATEST")
    if low is None or high is None:
        return ()
    found = []
    for row in rows.dicts("LB", event.subject):
        value, day = row.get("LBSTRESN"), day_of(text_of(row, "LBDTC"))
        if day is None or value is None or text_of(row, "LBNRIND").upper() in ("", "NORMAL"):
            continue
        apart = max((low - day).days, (day - high).days, 0)
        if apart <= TEST_DAYS:
            found.append((apart, text_of(row, "LBDTC"), text_of(row, "LBTEST", "LBTESTCD"), row))
    chosen = sorted(found, key=lambda item: item[:3])[:MOST_TESTS]
    return tuple(
        Test(
            date=iso_date(when),
            name=name,
            value=number(row["LBSTRESN"]),
            unit=text_of(row, "LBSTRESU") or None,
            normal_low=number(row["LBSTNRLO"]) if row.get("LBSTNRLO") is not None else None,
            normal_high=number(row["LBSTNRHI"]) if row.get("LBSTNRHI") is not None else None,
        )
        for _, when, name, row in sorted(chosen, key=lambda item: item[1:3])
    )
