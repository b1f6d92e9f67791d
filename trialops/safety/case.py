"""A safety case in words: all that an individual case safety report can say, whatever message carries it.

The content is that of ICH E2B(R3) with FDA's regional elements (sections C to H). Codes are words
(`trialops.safety.terms`), dates are ISO 8601 as precise as they are known, a value that is not there may say why
(`Null`). Everything is frozen and checked when it is made; `Case.to_dict` and `from_dict` are each other's inverse.
Treatment stands only in `drugs`: a case built for a blinded reader names the investigational product with
`blinded=True` and no arm.

Numbers of repeating parts count from 1: `Relation.reaction` is the place of a reaction in `Case.reactions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case_fields import Null, Quantity, Term, check, from_plain, item, to_plain

__all__ = [
    "Assessment",
    "Case",
    "CaseIdentifier",
    "CauseOfDeath",
    "Device",
    "Document",
    "Dosage",
    "Drug",
    "Indication",
    "Literature",
    "MedicalHistory",
    "Narrative",
    "NativeText",
    "Null",
    "Parent",
    "PastDrug",
    "Patient",
    "Quantity",
    "Reaction",
    "Registration",
    "Relation",
    "Report",
    "Reporter",
    "Sender",
    "SenderDiagnosis",
    "Study",
    "Substance",
    "Term",
    "Test",
]

Text = str | Null | None
Flag = bool | Null | None


class _Checked:
    """Checks the fields of a part when it is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check(self)


def _one_identifier(product: Term | None, pharmaceutical: Term | None) -> None:
    if product is not None and pharmaceutical is not None:
        raise TrialOpsError(
            "a drug has an MPID and a PhPID", where="Drug or PastDrug", fix="give one of them (ICH E2B(R3))"
        )


@dataclass(frozen=True, slots=True)
class Document(_Checked):
    """A document held by the sender (C.1.6.1.r); `content`, base64 of its bytes, goes into the message when given."""

    title: str = item("text", ".1", required=True)
    content: str | None = item("file", ".2")
    media_type: str | None = item("text", ".2#media")
    file_name: str | None = item("text", ".2#file")


@dataclass(frozen=True, slots=True)
class CaseIdentifier(_Checked):
    """How another organisation names the case (C.1.9.1.r)."""

    source: str = item("text", ".1", required=True)
    identifier: str = item("text", ".2", required=True)


@dataclass(frozen=True, slots=True)
class Report(_Checked):
    """What identifies the report and says of which kind it is (C.1)."""

    safety_report_id: str = item("text", "C.1.1", required=True)
    created: str = item("date", "C.1.2", required=True)
    report_type: str = item("code", "C.1.3", required=True, terms="report type")
    first_received: str = item("date", "C.1.4", required=True)
    most_recent: str = item("date", "C.1.5", required=True)
    worldwide_id: str = item("text", "C.1.8.1", required=True)
    first_sender: str = item("code", "C.1.8.2", required=True, terms="first sender")
    expedited: Flag = item("bool", "C.1.7")
    local_criteria: str | None = item("code", "FDA.C.1.7.1", terms="local criteria")
    documents: tuple[Document, ...] = item("parts", "C.1.6.1.r", of=Document)
    other_identifiers: tuple[CaseIdentifier, ...] = item("parts", "C.1.9.1.r", of=CaseIdentifier)
    linked_reports: tuple[str, ...] = item("texts", "C.1.10.r")
    amendment: str | None = item("code", "C.1.11.1", terms="amendment")
    amendment_reason: str | None = item("text", "C.1.11.2")
    combination_product: Flag = item("bool", "FDA.C.1.12")


@dataclass(frozen=True, slots=True)
class Reporter(_Checked):
    """A primary source (C.2.r)."""

    title: Text = item("text", ".1.1")
    given_name: Text = item("text", ".1.2")
    middle_name: Text = item("text", ".1.3")
    family_name: Text = item("text", ".1.4")
    organisation: Text = item("text", ".2.1")
    department: Text = item("text", ".2.2")
    street: Text = item("text", ".2.3")
    city: Text = item("text", ".2.4")
    state: Text = item("text", ".2.5")
    postcode: Text = item("text", ".2.6")
    telephone: Text = item("text", ".2.7")
    email: Text = item("text", "FDA.C.2.r.2.8")
    country: Text = item("country", ".3")
    qualification: Text = item("code", ".4", terms="qualification")
    primary: bool = item("flag", ".5", default=False)


@dataclass(frozen=True, slots=True)
class Sender(_Checked):
    """Who sends the report and answers for it (C.3)."""

    sender_type: str = item("code", "C.3.1", required=True, terms="sender type")
    organisation: str | None = item("text", "C.3.2")
    department: str | None = item("text", "C.3.3.1")
    title: str | None = item("text", "C.3.3.2")
    given_name: str | None = item("text", "C.3.3.3")
    middle_name: str | None = item("text", "C.3.3.4")
    family_name: str | None = item("text", "C.3.3.5")
    street: str | None = item("text", "C.3.4.1")
    city: str | None = item("text", "C.3.4.2")
    state: str | None = item("text", "C.3.4.3")
    postcode: str | None = item("text", "C.3.4.4")
    country: str | None = item("country", "C.3.4.5")
    telephone: str | None = item("text", "C.3.4.6")
    fax: str | None = item("text", "C.3.4.7")
    email: str | None = item("text", "C.3.4.8")


@dataclass(frozen=True, slots=True)
class Literature(_Checked):
    """A publication (C.4.r)."""

    reference: Text = item("text", ".1")
    content: str | None = item("file", ".2")
    media_type: str | None = item("text", ".2#media")
    file_name: str | None = item("text", ".2#file")


@dataclass(frozen=True, slots=True)
class Registration(_Checked):
    """A study's number in a register (C.5.1.r): EudraCT, EU CT, ClinicalTrials.gov."""

    number: Text = item("text", ".1")
    country: Text = item("country", ".2")


@dataclass(frozen=True, slots=True)
class Study(_Checked):
    """The study in which the reactions were seen (C.5), with the numbers of its IND."""

    study_type: str | None = item("code", "C.5.4", terms="study type")
    name: Text = item("text", "C.5.2")
    sponsor_number: Text = item("text", "C.5.3")
    registrations: tuple[Registration, ...] = item("parts", "C.5.1.r", of=Registration)
    ind_number: str | None = item("text", "FDA.C.5.5a")
    pre_anda_number: str | None = item("text", "FDA.C.5.5b")
    cross_reported: tuple[str | Null, ...] = item("texts", "FDA.C.5.6.r")


@dataclass(frozen=True, slots=True)
class MedicalHistory(_Checked):
    """A disease or procedure before or beside the reaction (D.7.1.r; of the parent D.10.7.1.r)."""

    term: Term = item("meddra", ".1", required=True)
    start: Text = item("date", ".2")
    continuing: Flag = item("bool", ".3")
    end: Text = item("date", ".4")
    comments: str | None = item("text", ".5")
    family_history: bool = item("flag", ".6", default=False)


@dataclass(frozen=True, slots=True)
class PastDrug(_Checked):
    """A drug taken before (D.8.r; of the parent D.10.8.r)."""

    name: Text = item("text", ".1")
    product: Term | None = item("term", ".2")
    pharmaceutical_product: Term | None = item("term", ".3")
    start: Text = item("date", ".4")
    end: Text = item("date", ".5")
    indication: Term | None = item("meddra", ".6")
    reaction: Term | None = item("meddra", ".7")

    def __post_init__(self) -> None:
        check(self)
        _one_identifier(self.product, self.pharmaceutical_product)


@dataclass(frozen=True, slots=True)
class CauseOfDeath(_Checked):
    """A reported (D.9.2.r) or autopsy-determined (D.9.4.r) cause of death."""

    term: Term | None = item("meddra", ".1")
    text: str | None = item("text", ".2")


@dataclass(frozen=True, slots=True)
class Parent(_Checked):
    """The parent, for a report about a child or foetus (D.10)."""

    identification: Text = item("text", "D.10.1")
    birth_date: Text = item("date", "D.10.2.1")
    age: Quantity | None = item("quantity", "D.10.2.2")
    last_menstrual_period: Text = item("date", "D.10.3")
    weight_kg: str | None = item("number", "D.10.4")
    height_cm: str | None = item("number", "D.10.5")
    sex: Text = item("code", "D.10.6", terms="sex")
    history: tuple[MedicalHistory, ...] = item("parts", "D.10.7.1.r", of=MedicalHistory)
    history_text: str | None = item("text", "D.10.7.2")
    past_drugs: tuple[PastDrug, ...] = item("parts", "D.10.8.r", of=PastDrug)

    def __post_init__(self) -> None:
        check(self)
        if any(each.family_history for each in self.history):
            raise TrialOpsError(
                "family history is told of the patient, not of the parent",
                where="Parent.history (element D.10.7.1.r)",
                fix="move it to Patient.history",
            )


@dataclass(frozen=True, slots=True)
class Patient(_Checked):
    """The patient (D)."""

    name: Text = item("text", "D.1")
    gp_record: Text = item("text", "D.1.1.1")
    specialist_record: Text = item("text", "D.1.1.2")
    hospital_record: Text = item("text", "D.1.1.3")
    investigation_number: Text = item("text", "D.1.1.4")
    birth_date: Text = item("date", "D.2.1")
    age: Quantity | None = item("quantity", "D.2.2")
    gestation: Quantity | None = item("quantity", "D.2.2.1")
    age_group: Text = item("code", "D.2.3", terms="age group")
    weight_kg: str | None = item("number", "D.3")
    height_cm: str | None = item("number", "D.4")
    sex: Text = item("code", "D.5", terms="sex")
    last_menstrual_period: Text = item("date", "D.6")
    history: tuple[MedicalHistory, ...] = item("parts", "D.7.1.r", of=MedicalHistory)
    history_text: Text = item("text", "D.7.2")
    concomitant_therapies: bool = item("flag", "D.7.3", default=False)
    past_drugs: tuple[PastDrug, ...] = item("parts", "D.8.r", of=PastDrug)
    death_date: Text = item("date", "D.9.1")
    causes_of_death: tuple[CauseOfDeath, ...] = item("parts", "D.9.2.r", of=CauseOfDeath)
    autopsy: Flag = item("bool", "D.9.3")
    autopsy_causes: tuple[CauseOfDeath, ...] = item("parts", "D.9.4.r", of=CauseOfDeath)
    parent: Parent | None = item("part", "D.10", of=Parent)
    races: tuple[str | Null, ...] = item("codes", "FDA.D.11.r.1", terms="race")
    ethnicity: Text = item("code", "FDA.D.12", terms="ethnicity")


@dataclass(frozen=True, slots=True)
class Reaction(_Checked):
    """A reaction or event (E.i). Seriousness criteria not met are False: the message says "no information" for them.

    An event that is not coded yet has no `term`; a message cannot be written of it.
    """

    outcome: str = item("code", ".7", required=True, terms="outcome")
    term: Term | None = item("meddra", ".2.1")
    native_text: str | None = item("text", ".1.1a")
    native_language: str | None = item("text", ".1.1b")
    text: str | None = item("text", ".1.2")
    highlighted: str | None = item("code", ".3.1", terms="highlighted")
    death: bool = item("flag", ".3.2a", default=False)
    life_threatening: bool = item("flag", ".3.2b", default=False)
    hospitalisation: bool = item("flag", ".3.2c", default=False)
    disability: bool = item("flag", ".3.2d", default=False)
    congenital_anomaly: bool = item("flag", ".3.2e", default=False)
    other_important: bool = item("flag", ".3.2f", default=False)
    required_intervention: bool = item("flag", "FDA.E.i.3.2h", default=False)
    start: Text = item("date", ".4")
    end: Text = item("date", ".5")
    duration: Quantity | None = item("quantity", ".6")
    medically_confirmed: bool | None = item("bool", ".8")
    country: str | None = item("country", ".9")


@dataclass(frozen=True, slots=True)
class Test(_Checked):
    """A test or procedure and its result (F.r). `comparator` tells that the value is a bound: <, <=, > or >=."""

    # Not a test class of pytest, although its name says so.
    __test__ = False

    date: Text = item("date", ".1")
    name: str | None = item("text", ".2.1")
    term: Term | None = item("meddra", ".2.2")
    result: str | None = item("code", ".3.1", terms="test result")
    value: str | None = item("number", ".3.2")
    comparator: str | None = item("text")
    unit: str | None = item("text", ".3.3")
    result_text: str | None = item("text", ".3.4")
    normal_low: str | None = item("text", ".4")
    normal_high: str | None = item("text", ".5")
    comments: str | None = item("text", ".6")
    more_information: bool | None = item("bool", ".7")

    def __post_init__(self) -> None:
        check(self)
        if self.comparator not in {None, "<", "<=", ">", ">="} or (self.comparator and self.value is None):
            raise TrialOpsError(
                "the comparator of a test result is not one",
                where="Test.comparator",
                fix="use <, <=, > or >= with a value",
            )
        if self.value is not None and self.result_text is not None:
            raise TrialOpsError(
                "a test has a number and a text for its result",
                where="Test (elements F.r.3.2 and F.r.3.4)",
                fix="keep the number and put the text into the comments, or the other way round",
            )


@dataclass(frozen=True, slots=True)
class Substance(_Checked):
    """An active substance and its strength (G.k.2.3.r)."""

    name: str | None = item("text", ".1")
    term: Term | None = item("term", ".2")
    strength: Quantity | None = item("quantity", ".3")


@dataclass(frozen=True, slots=True)
class Dosage(_Checked):
    """How a drug was given (G.k.4.r)."""

    dose: Quantity | None = item("quantity", ".1")
    interval_count: str | None = item("number", ".2")
    interval_unit: str | None = item("text", ".3")
    start: Text = item("date", ".4")
    last: Text = item("date", ".5")
    duration: Quantity | None = item("quantity", ".6")
    lot: str | None = item("text", ".7")
    text: str | None = item("text", ".8")
    form: Text = item("text", ".9.1")
    form_term: Term | None = item("term", ".9.2")
    route: Text = item("text", ".10.1")
    route_term: Term | None = item("term", ".10.2")
    parent_route: Text = item("text", ".11.1")
    parent_route_term: Term | None = item("term", ".11.2")


@dataclass(frozen=True, slots=True)
class Indication(_Checked):
    """Why a drug was given (G.k.7.r)."""

    text: Text = item("text", ".1")
    term: Term | None = item("meddra", ".2")


@dataclass(frozen=True, slots=True)
class Assessment(_Checked):
    """One opinion on relatedness (G.k.9.i.2.r). FDA: method "FDA", result "Suspected" or "Not Suspected"."""

    source: str | None = item("text", ".1")
    method: str | None = item("text", ".2")
    result: str | None = item("text", ".3")


@dataclass(frozen=True, slots=True)
class Relation(_Checked):
    """A drug and one reaction (G.k.9.i): opinions, intervals, rechallenge. `reaction` counts from 1."""

    reaction: int = item("index", required=True)
    assessments: tuple[Assessment, ...] = item("parts", ".2.r", of=Assessment)
    from_start: Quantity | None = item("quantity", ".3.1")
    from_last_dose: Quantity | None = item("quantity", ".3.2")
    recurrence: str | None = item("code", ".4", terms="recurrence")


@dataclass(frozen=True, slots=True)
class Device(_Checked):
    """A device constituent part of a combination product (FDA.G.k.12.r)."""

    malfunction: bool | None = item("bool", ".1")
    follow_up_types: tuple[str, ...] = item("codes", ".2.r", terms="device follow-up")
    problem_codes: tuple[str, ...] = item("texts", ".3.r")
    brand_name: Text = item("text", ".4")
    common_name: Text = item("text", ".5")
    product_code: str | None = item("text", ".6")
    manufacturer: str | None = item("text", ".7.1a")
    manufacturer_street: str | None = item("text", ".7.1b")
    manufacturer_city: str | None = item("text", ".7.1c")
    manufacturer_state: str | None = item("text", ".7.1d")
    manufacturer_country: str | None = item("country", ".7.1e")
    usage: str | None = item("code", ".8", terms="device usage")
    lot: str | None = item("text", ".9")
    operator: str | None = item("code", ".10", terms="device operator")
    remedial_actions: tuple[str, ...] = item("codes", ".11.r", terms="remedial action")


@dataclass(frozen=True, slots=True)
class Drug(_Checked):
    """A drug (G.k). `blinded` says that the investigational product's identity has not been broken."""

    name: str = item("text", ".2.2", required=True)
    role: str = item("code", ".1", required=True, terms="drug role")
    other_role: str | None = item("code", "FDA.G.k.1.a", terms="other role")
    product: Term | None = item("term", ".2.1.1")
    pharmaceutical_product: Term | None = item("term", ".2.1.2")
    substances: tuple[Substance, ...] = item("parts", ".2.3.r", of=Substance)
    country_obtained: str | None = item("country", ".2.4")
    blinded: bool = item("flag", ".2.5", default=False)
    authorisation_number: str | None = item("text", ".3.1")
    authorisation_country: str | None = item("country", ".3.2")
    holder: str | None = item("text", ".3.3")
    dosages: tuple[Dosage, ...] = item("parts", ".4.r", of=Dosage)
    cumulative_dose: Quantity | None = item("quantity", ".5")
    gestation_at_exposure: Quantity | None = item("quantity", ".6")
    indications: tuple[Indication, ...] = item("parts", ".7.r", of=Indication)
    action: str | None = item("code", ".8", terms="action")
    relations: tuple[Relation, ...] = item("parts", ".9.i", of=Relation)
    information: tuple[str, ...] = item("codes", ".10.r", terms="drug information")
    fda_information: Text = item("code", "FDA.G.k.10a", terms="fda drug information")
    product_category: str | None = item("code", "FDA.G.k.10.1", terms="product category")
    information_text: str | None = item("text", ".11")
    devices: tuple[Device, ...] = item("parts", "FDA.G.k.12.r", of=Device)

    def __post_init__(self) -> None:
        check(self)
        _one_identifier(self.product, self.pharmaceutical_product)


@dataclass(frozen=True, slots=True)
class SenderDiagnosis(_Checked):
    """The sender's diagnosis or reclassification (H.3.r)."""

    term: Term = item("meddra", ".1", required=True)


@dataclass(frozen=True, slots=True)
class NativeText(_Checked):
    """The narrative or the reporter's comments in their own language (H.5.r; ISO 639-2 code of three letters)."""

    text: str = item("text", ".1a", required=True)
    language: str = item("text", ".1b", required=True)


@dataclass(frozen=True, slots=True)
class Narrative(_Checked):
    """The course of the case in sentences (H)."""

    text: str = item("text", "H.1", required=True)
    reporter_comments: str | None = item("text", "H.2")
    diagnoses: tuple[SenderDiagnosis, ...] = item("parts", "H.3.r", of=SenderDiagnosis)
    sender_comments: str | None = item("text", "H.4")
    native: tuple[NativeText, ...] = item("parts", "H.5.r", of=NativeText)


@dataclass(frozen=True, slots=True)
class Case(_Checked):
    """An individual case, in words."""

    report: Report = item("part", "C.1", of=Report, required=True)
    sender: Sender = item("part", "C.3", of=Sender, required=True)
    patient: Patient = item("part", "D", of=Patient, required=True)
    narrative: Narrative = item("part", "H", of=Narrative, required=True)
    reporters: tuple[Reporter, ...] = item("parts", "C.2.r", of=Reporter)
    literature: tuple[Literature, ...] = item("parts", "C.4.r", of=Literature)
    study: Study | None = item("part", "C.5", of=Study)
    reactions: tuple[Reaction, ...] = item("parts", "E.i", of=Reaction)
    tests: tuple[Test, ...] = item("parts", "F.r", of=Test)
    drugs: tuple[Drug, ...] = item("parts", "G.k", of=Drug)

    def __post_init__(self) -> None:
        check(self)
        for drug in self.drugs:
            places = [relation.reaction for relation in drug.relations]
            if len(set(places)) != len(places) or any(not 1 <= place <= len(self.reactions) for place in places):
                raise TrialOpsError(
                    "a drug is related to a reaction that the case does not have, or twice to the same",
                    where="Drug.relations (element G.k.9.i)",
                    fix="Relation.reaction is the place of the reaction in Case.reactions, counted from 1",
                )

    def to_dict(self) -> dict[str, Any]:
        """The case as dictionaries, lists and texts (for JSON); what is not there is left out."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Case:
        """The case that `to_dict` wrote.

        Raises:
            TrialOpsError: If a name is unknown, a required value missing, or a value not of its kind.
        """
        case: Case = from_plain(cls, plain)
        return case
