"""Cases as a batch of ICH E2B(R3) messages (HL7 v3, MCCI_IN200100UV01 around PORR_IN049016UV).

The same cases and headers give the same bytes: ids of drugs and reactions are derived from the report's identifier,
no clock is read. Elements stand in the order of FDA's scenarios; what those do not have stands where the ICH
reference instance has it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case import Case
from trialops.safety.case_fields import date_text
from trialops.safety.e2b import oids
from trialops.safety.e2b.nodes import (
    author,
    chain,
    identifier,
    meddra,
    observation_code,
    observed_event,
    sub,
    text,
    time,
    words,
)
from trialops.safety.e2b.times import hl7_time
from trialops.safety.e2b.values import HL7, XSI
from trialops.safety.e2b.write_drugs import write_assessments, write_drugs
from trialops.safety.e2b.write_patient import write_characteristics, write_player, write_study
from trialops.safety.e2b.write_reactions import write_reaction, write_tests
from trialops.safety.e2b.write_report import (
    controlled,
    write_document,
    write_kinds,
    write_literature,
    write_sender,
    write_sources,
    write_statements,
)

_NAMESPACE = uuid.UUID("9a4fb8a2-1e0d-5d3b-8a51-5f0a3ad8f7c4")
_EVENT = {"classCode": "CACT", "moodCode": "EVN"}
_INVESTIGATION = {"classCode": "INVSTG", "moodCode": "EVN"}


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """The wrapper of a batch (N.1).

    Attributes:
        number: N.1.2, unique for the sender.
        sender: N.1.3.
        receiver: N.1.4 (FDA pre-market: ZZFDA_PREMKT).
        sent: N.1.5, ISO 8601 with seconds and zone.
    """

    number: str
    sender: str
    receiver: str
    sent: str

    def __post_init__(self) -> None:
        _check_times(self.sent, "N.1.5")


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """The wrapper of a message (N.2.r).

    Attributes:
        number: N.2.r.1.
        sender: N.2.r.2, the same as N.1.3.
        receiver: N.2.r.3 (FDA: CDER_IND, CBER_IND).
        created: N.2.r.4, ISO 8601 with seconds and zone.
        processing_mode: HL7 processing mode; FDA's scenarios have I.
    """

    number: str
    sender: str
    receiver: str
    created: str
    processing_mode: str = "I"

    def __post_init__(self) -> None:
        _check_times(self.created, "N.2.r.4")


def _check_times(value: str, number: str) -> None:
    date_text(value, f"element {number}")
    if len(value) < len("2022-06-14T10:10:10"):
        raise TrialOpsError(
            "a time of transmission is not precise to the second", where=f"element {number}", fix="give date and time"
        )


def write_batch(header: BatchHeader, messages: Sequence[tuple[MessageHeader, Case]], *, fda: bool = True) -> bytes:
    """The batch as bytes of UTF-8 XML.

    Args:
        header: The wrapper of the batch.
        messages: The wrapper and the case of every message.
        fda: Whether FDA's regional elements are written; other regions do not know them.

    Raises:
        TrialOpsError: If there is no message, or a case cannot be told in one (a reaction without a code).
    """
    from lxml import etree

    if not messages:
        raise TrialOpsError("a batch without messages", where="MCCI_IN200100UV01", fix="give at least one case")
    root = etree.Element(
        f"{HL7}MCCI_IN200100UV01",
        {"ITSVersion": "XML_1.0", f"{XSI}schemaLocation": "urn:hl7-org:v3 MCCI_IN200100UV01.xsd"},
        nsmap={None: HL7[1:-1], "xsi": XSI[1:-1]},
    )
    identifier(root, oids.BATCH, header.number)
    time(root, "creationTime", header.sent)
    sub(root, "responseModeCode", {"code": "D"})
    sub(root, "interactionId", {"extension": "MCCI_IN200100UV01", "root": oids.INTERACTION})
    sub(root, "name", {"code": "1", "codeSystem": oids.MESSAGE_TYPE, "displayName": "ichicsr"})
    for message, case in messages:
        _write_message(root, message, case, fda=fda)
    _device(root, "receiver", "RCV", oids.BATCH_RECEIVER, header.receiver)
    _device(root, "sender", "SND", oids.BATCH_SENDER, header.sender)
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return written


def _device(parent: Any, tag: str, kind: str, root: str, name: str) -> None:
    device = chain(parent, (tag, {"typeCode": kind}), ("device", {"classCode": "DEV", "determinerCode": "INSTANCE"}))
    identifier(device, root, name)


def _write_message(root: Any, header: MessageHeader, case: Case, *, fda: bool) -> None:
    message = sub(root, "PORR_IN049016UV")
    identifier(message, oids.REPORT_ID, header.number)
    time(message, "creationTime", header.created)
    sub(message, "interactionId", {"extension": "PORR_IN049016UV", "root": oids.INTERACTION})
    sub(message, "processingCode", {"code": "P"})
    sub(message, "processingModeCode", {"code": header.processing_mode})
    sub(message, "acceptAckCode", {"code": "AL"})
    _device(message, "receiver", "RCV", oids.MESSAGE_RECEIVER, header.receiver)
    _device(message, "sender", "SND", oids.MESSAGE_SENDER, header.sender)
    process = sub(message, "controlActProcess", _EVENT)
    sub(process, "code", {"code": "PORR_TE049016UV", "codeSystem": oids.TRIGGER})
    sub(process, "effectiveTime", {"value": hl7_time(case.report.created)})
    event = chain(process, ("subject", {"typeCode": "SUBJ"}), ("investigationEvent", _INVESTIGATION))
    _write_event(event, case, fda=fda)


def _write_event(event: Any, case: Case, *, fda: bool) -> None:
    report = case.report
    identifier(event, oids.REPORT_ID, report.safety_report_id)
    identifier(event, oids.WORLDWIDE_ID, report.worldwide_id)
    sub(event, "code", {"code": "PAT_ADV_EVNT", "codeSystem": oids.ACT_CODE})
    text(event, "text", case.narrative.text)
    sub(event, "statusCode", {"code": "active"})
    time(sub(event, "effectiveTime"), "low", report.first_received)
    time(event, "availabilityTime", report.most_recent)
    for document in report.documents:
        write_document(event, document)
    for publication in case.literature:
        write_literature(event, publication)
    _write_assessment(sub(event, "component", {"typeCode": "COMP"}), case, fda=fda)
    write_statements(event, case, fda=fda)
    write_sources(event, case, fda=fda)
    write_sender(controlled(event, "subjectOf1"), case.sender)
    for other in report.other_identifiers:
        shown = {"assigningAuthorityName": other.source, "extension": other.identifier, "root": oids.OTHER_ID}
        sub(controlled(event, "subjectOf1"), "id", shown)
    write_kinds(event, report)


def _write_assessment(component: Any, case: Case, *, fda: bool) -> None:
    assessment = sub(component, "adverseEventAssessment", _INVESTIGATION)
    role = chain(assessment, ("subject1", {"typeCode": "SBJ"}), ("primaryRole", {"classCode": "INVSBJ"}))
    reactions = [_identity(case, "reaction", number) for number in range(1, len(case.reactions) + 1)]
    drugs = [_identity(case, "drug", number) for number in range(1, len(case.drugs) + 1)]
    write_player(role, case.patient)
    if case.study is not None:
        write_study(role, case.study, fda=fda)
    write_characteristics(role, case.patient, fda=fda)
    for reaction, identity in zip(case.reactions, reactions, strict=True):
        write_reaction(role, reaction, identity, fda=fda)
    write_tests(role, case.tests)
    write_drugs(role, case.drugs, drugs, reactions, fda=fda)
    write_assessments(assessment, case.drugs, drugs, reactions, fda=fda)
    told = case.narrative
    if told.reporter_comments is not None:
        _write_comment(assessment, told.reporter_comments, "3")
    for diagnosis in told.diagnoses:
        inner = observed_event(assessment, "component1")
        observation_code(inner, "15")
        meddra(inner, "value", diagnosis.term)
        author(inner, "1")
    if told.sender_comments is not None:
        _write_comment(assessment, told.sender_comments, "1")


def _identity(case: Case, kind: str, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{case.report.safety_report_id}|{kind}|{number}"))


def _write_comment(assessment: Any, told: str, actor: str) -> None:
    inner = observed_event(assessment, "component1")
    observation_code(inner, "10")
    words(inner, told)
    author(inner, actor)
