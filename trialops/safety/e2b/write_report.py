"""Report, sources, sender and literature in a message (C)."""

from __future__ import annotations

from typing import Any

from trialops.safety.case import Case, Document, Literature, Null, Report, Reporter, Sender
from trialops.safety.e2b import oids
from trialops.safety.e2b.nodes import (
    TYPE,
    address,
    author,
    chain,
    coded,
    flag,
    identifier,
    located,
    observation_code,
    observed_event,
    organisation,
    person,
    sub,
    telecom,
    text,
    words,
)
from trialops.safety.terms import code_of

_EVENT = {"classCode": "CACT", "moodCode": "EVN"}
_INVESTIGATION = {"classCode": "INVSTG", "moodCode": "EVN"}


def controlled(parent: Any, tag: str) -> Any:
    """An act under the control of somebody: where senders, sources and identifiers stand."""
    return chain(parent, (tag, {"typeCode": "SUBJ"}), ("controlActEvent", _EVENT))


def write_document(event: Any, document: Document) -> None:
    """A document held by the sender (C.1.6.1.r)."""
    inner = _reference(event, "1", "documentsHeldBySender")
    text(inner, "title", document.title)
    _write_content(inner, document)


def write_literature(event: Any, publication: Literature) -> None:
    """A publication (C.4.r)."""
    inner = _reference(event, "2", "literatureReference")
    _write_content(inner, publication)
    text(inner, "bibliographicDesignationText", publication.reference)


def _reference(event: Any, code: str, name: str) -> Any:
    inner = chain(event, ("reference", {"typeCode": "REFR"}), ("document", {"classCode": "DOC", "moodCode": "EVN"}))
    sub(inner, "code", {"code": code, "codeSystem": oids.DOCUMENT, "displayName": name})
    return inner


def _write_content(parent: Any, document: Document | Literature) -> None:
    """A document in the message: base64, its media type, its file name before it."""
    if document.content is None:
        return
    attributes = {"mediaType": document.media_type} if document.media_type else {}
    held = sub(parent, "text", {**attributes, "representation": "B64"})
    if document.file_name is None:
        held.text = document.content
    else:
        sub(held, "reference", {"value": document.file_name}).tail = document.content


def write_statements(event: Any, case: Case, *, fda: bool) -> None:
    """What is said of the report as a whole (C.1.6.1, C.1.7, FDA.C.1.7.1, FDA.C.1.12) and native texts (H.5)."""
    report = case.report
    flag(_stated(event, "1"), bool(report.documents))
    if report.expedited is not None:
        flag(_stated(event, "23"), report.expedited)
    if fda and report.local_criteria is not None:
        inner = _nci(event, "C54588", "localCriteriaReportType")
        coded(inner, "value", code_of("local criteria", report.local_criteria), oids.FDA_CRITERIA, "CE")
    if fda and report.combination_product is not None:
        flag(_nci(event, "C156384", "Combination Product Report Indicator"), report.combination_product)
    for told in case.narrative.native:
        inner = _stated(event, "36")
        words(inner, told.text).set("language", told.language)
        author(inner, "2")


def _stated(event: Any, code: str) -> Any:
    inner = observed_event(event, "component")
    observation_code(inner, code)
    return inner


def _nci(event: Any, code: str, name: str) -> Any:
    inner = observed_event(event, "component")
    sub(inner, "code", {"code": code, "codeSystem": oids.NCI, "displayName": name})
    return inner


def write_sources(event: Any, case: Case, *, fda: bool) -> None:
    """First sender (C.1.8.2), primary sources (C.2.r), linked reports (C.1.10.r)."""
    first = _related(sub(event, "outboundRelationship", {"typeCode": "SPRT"}), "1", "initialReport")
    code = code_of("first sender", case.report.first_sender)
    coded(_assigned(first), "code", code, oids.FIRST_SENDER)
    for reporter in case.reporters:
        outer = sub(event, "outboundRelationship", {"typeCode": "SPRT"})
        if reporter.primary:
            sub(outer, "priorityNumber", {"value": "1"})
        _write_reporter(_related(outer, "2", "sourceReport"), reporter, fda=fda)
    for linked in case.report.linked_reports:
        outer = sub(event, "outboundRelationship", {"typeCode": "SPRT"})
        inner = sub(outer, "relatedInvestigation", _INVESTIGATION)
        sub(inner, "code", {"nullFlavor": "NA"})
        identifier(controlled(inner, "subjectOf2"), oids.WORLDWIDE_ID, linked)


def _related(outer: Any, code: str, name: str) -> Any:
    inner = sub(outer, "relatedInvestigation", _INVESTIGATION)
    sub(inner, "code", {"code": code, "codeSystem": oids.INVESTIGATION, "displayName": name})
    return controlled(inner, "subjectOf2")


def _assigned(parent: Any) -> Any:
    return chain(parent, ("author", {"typeCode": "AUT"}), ("assignedEntity", {"classCode": "ASSIGNED"}))


def _write_reporter(parent: Any, reporter: Reporter, *, fda: bool) -> None:
    entity = _assigned(parent)
    address(entity, reporter.street, reporter.city, reporter.state, reporter.postcode)
    telecom(entity, "tel", reporter.telephone)
    if fda:
        telecom(entity, "mailto", reporter.email)
    named = (reporter.title, reporter.given_name, reporter.middle_name, reporter.family_name)
    if any(each is not None for each in (*named, reporter.qualification, reporter.country)):
        someone = sub(entity, "assignedPerson", {"classCode": "PSN", "determinerCode": "INSTANCE"})
        person(someone, *named)
        if reporter.qualification is not None:
            told = reporter.qualification
            code = told if isinstance(told, Null) else code_of("qualification", told)
            coded(sub(someone, "asQualifiedEntity", {"classCode": "QUAL"}), "code", code, oids.QUALIFICATION)
        located(someone, reporter.country)
    organisation(entity, reporter.department, reporter.organisation)


def write_sender(parent: Any, sender: Sender) -> None:
    """Who sends the report (C.3)."""
    entity = _assigned(parent)
    coded(entity, "code", code_of("sender type", sender.sender_type), oids.SENDER_TYPE)
    address(entity, sender.street, sender.city, sender.state, sender.postcode)
    for scheme, value in (("tel", sender.telephone), ("fax", sender.fax), ("mailto", sender.email)):
        telecom(entity, scheme, value)
    named = (sender.title, sender.given_name, sender.middle_name, sender.family_name)
    if any(each is not None for each in (*named, sender.country)):
        someone = sub(entity, "assignedPerson", {"classCode": "PSN", "determinerCode": "INSTANCE"})
        person(someone, *named)
        located(someone, sender.country)
    organisation(entity, sender.department, sender.organisation)


def write_kinds(event: Any, report: Report) -> None:
    """Type of report (C.1.3), other identifiers (C.1.9.1), nullification or amendment (C.1.11)."""
    coded(
        _kind(event, "1", "ICH ReportType"), "value", code_of("report type", report.report_type), oids.REPORT_TYPE, "CE"
    )
    flag(_kind(event, "2", "otherCaseIds"), True if report.other_identifiers else Null("no information"))
    if report.amendment is not None:
        inner = _kind(event, "3", "nullificationAmendmentCode")
        coded(inner, "value", code_of("amendment", report.amendment), oids.AMENDMENT, "CE")
    if report.amendment_reason is not None:
        inner = _kind(event, "4", "nullificationAmendmentReason")
        text(sub(inner, "value", {TYPE: "CE"}), "originalText", report.amendment_reason)


def _kind(event: Any, code: str, name: str) -> Any:
    inner = chain(
        event,
        ("subjectOf2", {"typeCode": "SUBJ"}),
        ("investigationCharacteristic", {"classCode": "OBS", "moodCode": "EVN"}),
    )
    sub(inner, "code", {"code": code, "codeSystem": oids.CHARACTERISTIC, "displayName": name})
    return inner
