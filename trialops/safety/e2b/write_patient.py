"""The patient, the study and the parent in a message (D, C.5)."""

from __future__ import annotations

from typing import Any

from trialops.safety.case import CauseOfDeath, MedicalHistory, Null, Parent, PastDrug, Patient, Study
from trialops.safety.e2b import oids
from trialops.safety.e2b.nodes import (
    OBS,
    TYPE,
    chain,
    coded,
    dictionary,
    flag,
    identifier,
    meddra,
    null,
    observed,
    quantity,
    sub,
    text,
    time,
    words,
)
from trialops.safety.e2b.times import hl7_time
from trialops.safety.terms import code_of

_RECORDS = {"1": "GP", "2": "Specialist", "3": "Hospital Record", "4": "Investigation"}


def write_player(role: Any, patient: Patient) -> None:
    """Name, sex, birth, death, records and parent of the patient (D.1, D.2.1, D.5, D.9.1, D.10)."""
    player = sub(role, "player1", {"classCode": "PSN", "determinerCode": "INSTANCE"})
    text(player, "name", patient.name)
    coded(player, "administrativeGenderCode", _coded("sex", patient.sex), oids.SEX)
    time(player, "birthTime", patient.birth_date)
    time(player, "deceasedTime", patient.death_date)
    records = (patient.gp_record, patient.specialist_record, patient.hospital_record, patient.investigation_number)
    for code, record in zip("1234", records, strict=True):
        if record is not None:
            entity = sub(player, "asIdentifiedEntity", {"classCode": "IDENT"})
            identifier(entity, oids.RECORDS[code], record)
            shown = {"code": code, "codeSystem": oids.RECORD_SOURCE, "displayName": _RECORDS[code]}
            sub(entity, "code", shown)
    if patient.parent is not None:
        _write_parent(player, patient.parent)


def write_study(role: Any, study: Study, *, fda: bool) -> None:
    """The study and its numbers (C.5)."""
    inner = chain(
        role, ("subjectOf1", {"typeCode": "SBJ"}), ("researchStudy", {"classCode": "CLNTRL", "moodCode": "EVN"})
    )
    identifier(inner, oids.STUDY_NUMBER, study.sponsor_number)
    if study.study_type is not None:
        coded(inner, "code", code_of("study type", study.study_type), oids.STUDY_TYPE)
    text(inner, "title", study.name)
    for registration in study.registrations:
        act = _authorization(inner, oids.REGISTRATION, registration.number)
        if registration.country is not None:
            place = chain(
                act,
                ("author", {"typeCode": "AUT"}),
                ("territorialAuthority", {"classCode": "TERR"}),
                ("governingPlace", {"classCode": "COUNTRY", "determinerCode": "INSTANCE"}),
            )
            coded(place, "code", registration.country, oids.COUNTRY)
    if fda:
        for root, own in ((oids.FDA_IND, study.ind_number), (oids.FDA_PRE_ANDA, study.pre_anda_number)):
            if own is not None:
                _authorization(inner, root, own)
        for number in study.cross_reported:
            _authorization(inner, oids.FDA_CROSS_REPORTED, number)


def _authorization(study: Any, root: str, number: str | Null | None) -> Any:
    act = chain(
        study, ("authorization", {"typeCode": "AUTH"}), ("studyRegistration", {"classCode": "ACT", "moodCode": "EVN"})
    )
    # A registration of which only the country is told has an id without a number.
    if number is None:
        sub(act, "id", {"root": root})
    else:
        identifier(act, root, number)
    return act


def write_characteristics(role: Any, patient: Patient, *, fda: bool) -> None:
    """Age, size, race, history, past drugs and death of the patient (D.2.2 to D.9, FDA.D.11, FDA.D.12)."""
    if patient.age is not None:
        quantity(_about(role, "3"), patient.age)
    if patient.gestation is not None:
        quantity(_about(role, "16"), patient.gestation)
    if patient.age_group is not None:
        coded(_about(role, "4"), "value", _coded("age group", patient.age_group), oids.AGE_GROUP, "CE")
    _write_size(role, patient.weight_kg, patient.height_cm)
    _write_period(role, patient.last_menstrual_period)
    if fda:
        for race in patient.races:
            _nci(role, "C17049", "Race", _coded("race", race))
        if patient.ethnicity is not None:
            _nci(role, "C16564", "Ethnic Group", _coded("ethnicity", patient.ethnicity))
    _write_history(role, patient.history, patient.history_text, patient.concomitant_therapies)
    _write_past_drugs(role, patient.past_drugs)
    for cause in patient.causes_of_death:
        _write_cause(_about(role, "32"), cause)
    if patient.autopsy is not None or patient.autopsy_causes:
        autopsy = _about(role, "5")
        flag(autopsy, patient.autopsy)
        for cause in patient.autopsy_causes:
            _write_cause(observed(autopsy, "outboundRelationship2", "DRIV", "8"), cause)


def organizer(role: Any, code: str) -> Any:
    """A group of components: history (1), drug history (2), tests (3), drugs (4)."""
    group = chain(
        role, ("subjectOf2", {"typeCode": "SBJ"}), ("organizer", {"classCode": "CATEGORY", "moodCode": "EVN"})
    )
    sub(group, "code", {"code": code, "codeSystem": oids.ORGANIZER, "displayName": oids.ORGANIZERS[code]})
    return group


def _write_parent(player: Any, parent: Parent) -> None:
    role = sub(player, "role", {"classCode": "PRS"})
    sub(role, "code", {"code": "PRN", "codeSystem": oids.ROLE_CODE})
    associated = sub(role, "associatedPerson", {"classCode": "PSN", "determinerCode": "INSTANCE"})
    text(associated, "name", parent.identification)
    coded(associated, "administrativeGenderCode", _coded("sex", parent.sex), oids.SEX)
    time(associated, "birthTime", parent.birth_date)
    if parent.age is not None:
        quantity(_about(role, "3"), parent.age)
    _write_size(role, parent.weight_kg, parent.height_cm)
    _write_period(role, parent.last_menstrual_period)
    _write_history(role, parent.history, parent.history_text, False)
    _write_past_drugs(role, parent.past_drugs)


def _about(role: Any, code: str) -> Any:
    return observed(role, "subjectOf2", "SBJ", code)


def _nci(role: Any, code: str, name: str, value: str | Null | None) -> None:
    inner = chain(role, ("subjectOf2", {"typeCode": "SBJ"}), ("observation", OBS))
    sub(inner, "code", {"code": code, "codeSystem": oids.NCI, "displayName": name})
    coded(inner, "value", value, oids.NCI, "CE")


def _coded(name: str, word: str | Null | None) -> str | Null | None:
    return word if word is None or isinstance(word, Null) else code_of(name, word)


def _write_size(role: Any, weight: str | None, height: str | None) -> None:
    for code, value, unit in (("7", weight, "kg"), ("17", height, "cm")):
        if value is not None:
            sub(_about(role, code), "value", {TYPE: "PQ", "value": value, "unit": unit})


def _write_period(role: Any, day: str | Null | None) -> None:
    if day is not None:
        shown = null(day) if isinstance(day, Null) else {"value": hl7_time(day)}
        sub(_about(role, "22"), "value", {TYPE: "TS", **shown})


def _write_history(role: Any, history: tuple[MedicalHistory, ...], told: str | Null | None, concomitant: bool) -> None:
    if not history and told is None and not concomitant:
        return
    group = organizer(role, "1")
    for each in history:
        inner = chain(group, ("component", {"typeCode": "COMP"}), ("observation", OBS))
        meddra(inner, "code", each.term, typed=False)
        if each.start is not None or each.end is not None:
            span = sub(inner, "effectiveTime", {TYPE: "IVL_TS"})
            time(span, "low", each.start)
            time(span, "high", each.end)
        if each.comments is not None:
            words(observed(inner, "outboundRelationship2", "COMP", "10"), each.comments)
        if each.family_history:
            flag(observed(inner, "outboundRelationship2", "EXPL", "38"), True)
        if each.continuing is not None:
            flag(observed(inner, "inboundRelationship", "REFR", "13"), each.continuing)
    if told is not None:
        words(observed(group, "component", "COMP", "18"), told)
    if concomitant:
        flag(observed(group, "component", "COMP", "11"), True)


def _write_past_drugs(role: Any, drugs: tuple[PastDrug, ...]) -> None:
    if not drugs:
        return
    group = organizer(role, "2")
    for drug in drugs:
        act = chain(
            group,
            ("component", {"typeCode": "COMP"}),
            ("substanceAdministration", {"classCode": "SBADM", "moodCode": "EVN"}),
        )
        if drug.start is not None or drug.end is not None:
            span = sub(act, "effectiveTime", {TYPE: "IVL_TS"})
            time(span, "low", drug.start)
            time(span, "high", drug.end)
        kind = chain(
            act,
            ("consumable", {"typeCode": "CSM"}),
            ("instanceOfKind", {"classCode": "INST"}),
            ("kindOfProduct", {"classCode": "MMAT", "determinerCode": "KIND"}),
        )
        if drug.product is not None:
            dictionary(kind, "code", drug.product, oids.NDC)
        if drug.pharmaceutical_product is not None:
            dictionary(kind, "code", drug.pharmaceutical_product, oids.PHPID)
        text(kind, "name", drug.name)
        if drug.indication is not None:
            meddra(observed(act, "outboundRelationship2", "RSON", "19"), "value", drug.indication)
        if drug.reaction is not None:
            meddra(observed(act, "outboundRelationship2", "CAUS", "29"), "value", drug.reaction)


def _write_cause(parent: Any, cause: CauseOfDeath) -> None:
    value = meddra(parent, "value", cause.term)
    text(value, "originalText", cause.text)
