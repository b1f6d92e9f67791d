"""A case as the report that a receiver asks for: FDA (IND) or EudraVigilance (clinical trial module).

A case says what is known. A receiver also wants things said that a case may leave open; they are added with the
reason that claims least, and every addition is named. What only a person can add is refused, all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case import Case, Null
from trialops.safety.case_fields import date_text
from trialops.safety.e2b.mapping import values_of
from trialops.safety.e2b.reader import parse
from trialops.safety.e2b.values import read_values
from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch

FDA_IND_CDER, FDA_IND_CBER, EV_CTM = "fda_ind_cder", "fda_ind_cber", "ev_ctm"
SUSPECTED, FDA_METHOD = "Suspected", "FDA"
"""FDA's words for the result of an assessment (G.k.9.i.2.r.3) and for the method behind them (G.k.9.i.2.r.2)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver.

    Attributes:
        name: Its name in `destinations.yaml`.
        batch_receiver: N.1.4.
        message_receiver: N.2.r.3.
        processing_mode: HL7 processing mode code.
        fda: Whether it knows FDA's regional elements.
        verified: What the entry was held against; "" where it could not be.
    """

    name: str
    batch_receiver: str
    message_receiver: str
    processing_mode: str
    fda: bool
    verified: str


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Who sends, and where to.

    Attributes:
        sender: The sender's identifier with the receiver (N.1.3 and N.2.r.2), for FDA a DUNS number.
        destination: Name of the destination.
    """

    sender: str
    destination: str = FDA_IND_CDER


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report as it leaves.

    Attributes:
        document: The XML.
        batch: The wrapper of the batch.
        message: The wrapper of the message; its number is what an acknowledgement answers to.
        case: The case as it was written.
        completed: Element numbers that were completed with a reason for a missing value.
    """

    document: bytes
    batch: BatchHeader
    message: MessageHeader
    case: Case
    completed: tuple[str, ...]


def destination(name: str) -> Destination:
    """A destination by its name.

    Raises:
        TrialOpsError: If there is none of that name.
    """
    known = _policy()["destinations"]
    if name not in known:
        raise TrialOpsError(
            f"no destination '{name}'", where="destinations.yaml", fix=f"use one of: {', '.join(known)}"
        )
    entry = known[name]
    return Destination(
        name=name,
        batch_receiver=entry["batch_receiver"],
        message_receiver=entry["message_receiver"],
        processing_mode=entry["processing_mode"],
        fda=entry["regional"] == "FDA",
        verified=entry["verified"],
    )


def ind_report(case: Case, settings: ReportSettings, stamp: str) -> WrittenReport:
    """An IND safety report (21 CFR 312.32) for FDA, in E2B(R3) with the regional elements.

    The message is read back and compared with the case element by element.

    Args:
        case: The case; unblinded where its assessment says so.
        settings: Sender and destination (one of FDA's).
        stamp: When the message is made, ISO 8601 with seconds and zone; also the time of creation of the report.

    Raises:
        TrialOpsError: The destination is not FDA's, or the case lacks what an IND report must say (all of it is named).
    """
    receiver = destination(settings.destination)
    if not receiver.fda:
        raise TrialOpsError(
            "an IND report goes to FDA", where=receiver.name, fix=f"use {FDA_IND_CDER} or {FDA_IND_CBER}"
        )
    completed, numbers = complete_for_fda(case)
    missing = ind_shortfalls(completed)
    if missing:
        raise TrialOpsError(
            "the case cannot be an IND safety report yet",
            where="; ".join(missing),
            fix="complete the case, then write it",
        )
    return _written(completed, settings, receiver, stamp, numbers)


def eu_report(case: Case, settings: ReportSettings, stamp: str) -> WrittenReport:
    """The case as plain ICH E2B(R3) for EudraVigilance's clinical trial module.

    The wrapper and the EU's own elements could not be verified (see `destinations.yaml`): send a test message first.

    Raises:
        TrialOpsError: If the destination is FDA's, or a reaction is not coded.
    """
    receiver = destination(settings.destination)
    if receiver.fda:
        raise TrialOpsError("a report for EudraVigilance goes to the EU", where=receiver.name, fix=f"use {EV_CTM}")
    return _written(case, settings, receiver, stamp, ())


def complete_for_fda(case: Case) -> tuple[Case, tuple[str, ...]]:
    """The case with a reason for everything FDA requires that it leaves open, and the numbers of those elements."""
    reasons: Mapping[str, str] = _policy()["completions"]["fda"]
    numbers: list[str] = []

    def filled(value: Any, number: str, name: str) -> Any:
        if value is not None and value != ():
            return value
        if number not in numbers:
            numbers.append(number)
        return Null(reasons[name])

    patient = case.patient
    races = patient.races or (filled(None, "FDA.D.11.r.1", "race"),)
    patient = replace(
        patient,
        name=filled(patient.name, "D.1", "patient_name"),
        races=races,
        ethnicity=filled(patient.ethnicity, "FDA.D.12", "ethnicity"),
    )
    reporters = tuple(
        replace(each, email=filled(each.email, "FDA.C.2.r.2.8", "reporter_email")) for each in case.reporters
    )
    report = case.report
    report = replace(
        report, combination_product=filled(report.combination_product, "FDA.C.1.12", "combination_product")
    )
    study = case.study
    if study is not None and study.ind_number is not None and not study.cross_reported:
        study = replace(study, cross_reported=(filled(None, "FDA.C.5.6.r", "cross_reported"),))
    return replace(case, patient=patient, reporters=reporters, report=report, study=study), tuple(numbers)


def ind_shortfalls(case: Case) -> tuple[str, ...]:
    """What keeps a case from being an IND safety report: element and reason, in the order of the elements.

    Only what FDA's guidance asks of an IND report as such; the rejection rules look at everything else in the message.
    """
    report, study = case.report, case.study
    checks = (
        (report.report_type == "study", "C.1.3 is not a report from a study"),
        (isinstance(report.expedited, bool), "C.1.7 does not say whether the report is expedited"),
        (
            report.local_criteria in {"15-day", "7-day"} or report.expedited is False,
            "FDA.C.1.7.1 is neither 15-day nor 7-day",
        ),
        (any(each.primary for each in case.reporters), "C.2.r.5 no reporter is the primary source"),
        (study is not None and study.study_type == "clinical trial", "C.5.4 is not a clinical trial"),
        (
            study is not None and isinstance(study.ind_number, str) and bool(re.fullmatch(r"\d+", study.ind_number)),
            "FDA.C.5.5a is no IND number (digits only, no prefix)",
        ),
        (bool(case.reactions), "E.i there is no reaction"),
        (all(each.term is not None for each in case.reactions), "E.i.2.1b a reaction has no MedDRA code"),
        (
            not any(each.required_intervention for each in case.reactions),
            "FDA.E.i.3.2h is not for IND reports (no information)",
        ),
        (
            all(each.role in {"suspect", "concomitant", "interacting"} for each in case.drugs),
            "G.k.1 a drug is neither suspect, concomitant nor interacting",
        ),
        (_suspected(case), f"G.k.9.i.2.r.3 no suspect drug has an assessment '{SUSPECTED}' by method {FDA_METHOD}"),
    )
    return tuple(reason for holds, reason in checks if not holds)


def _suspected(case: Case) -> bool:
    return any(
        opinion.result == SUSPECTED and opinion.method == FDA_METHOD and opinion.source is not None
        for drug in case.drugs
        if drug.role in {"suspect", "interacting"}
        for relation in drug.relations
        for opinion in relation.assessments
    )


def _written(
    case: Case, settings: ReportSettings, receiver: Destination, stamp: str, numbers: Sequence[str]
) -> WrittenReport:
    stamp = date_text(stamp, "the stamp of the message")
    case = replace(case, report=replace(case.report, created=stamp))
    identifier = case.report.safety_report_id
    batch = BatchHeader(
        number=f"{identifier}-{re.sub(r'[^0-9]', '', stamp[:19])}",
        sender=settings.sender,
        receiver=receiver.batch_receiver,
        sent=stamp,
    )
    message = MessageHeader(
        number=identifier,
        sender=settings.sender,
        receiver=receiver.message_receiver,
        created=stamp,
        processing_mode=receiver.processing_mode,
    )
    document = write_batch(batch, [(message, case)], fda=receiver.fda)
    _read_back(document, case, fda=receiver.fda)
    return WrittenReport(document, batch, message, case, tuple(numbers))


def _read_back(document: bytes, case: Case, *, fda: bool) -> None:
    """Refuse a message that does not say what its case says, before anybody sends it."""
    said = read_values(parse(document)).found
    wanted = values_of(case, fda=fda).found
    different = sorted(number for number, places in wanted.items() if said.get(number) != places)
    if different:
        raise TrialOpsError(
            "the message does not say what the case says",
            where=", ".join(different),
            fix="do not send it; report this as a defect of the writer with the element numbers",
        )


@cache
def _policy() -> dict[str, Any]:
    import yaml

    text = resources.files(__package__).joinpath("destinations.yaml").read_text(encoding="utf-8")
    policy: dict[str, Any] = yaml.safe_load(text)
    return policy
