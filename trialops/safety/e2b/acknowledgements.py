"""Acknowledgements of E2B(R3) messages (ICH ICSR acknowledgement, MCCI_IN200101UV01): what a receiver says it did.

A transmission has a code (ACK.A.4: AA all taken, AE some messages need action, AR nothing taken), each message one of
its own (ACK.B.r.6: CA taken, CR rejected). Texts of a receiver may quote a case; what leaves here are codes, error ids
and element numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from lxml.etree import _Element

ROOT = "MCCI_IN200101UV01"
LARGEST = 16 * 1024 * 1024
"""Bytes of an acknowledgement; one of a batch of a thousand messages has about two million."""

BATCH_CODES = {"AA": "all messages taken", "AE": "some messages need action", "AR": "nothing taken"}
MESSAGE_CODES = {"CA": "taken", "CR": "rejected"}

_HL7 = "urn:hl7-org:v3"
_OID = "2.16.840.1.113883.3.989.2.1.3."
_ATTENTION = {"1": "ACK.B.r.5", "2": "ACK.A.2", "3": "ACK.A.3"}
_TIME = re.compile(r"\d{8}(\d{2}(\d{2}(\d{2}(\.\d+)?)?)?)?([+-]\d{4})?")
_ELEMENT = re.compile(r"(?<![\w.])(?:FDA\.)?[A-HN]\d?(?:\.(?:\d{1,2}[a-z]?|[kir]|a))+(?![\w.]*\w)")
_ERROR = re.compile(r"\b[RW]\d{4}\b")


class AcknowledgementFault(TrialOpsError):
    """An acknowledgement that cannot be used; `where` names the element."""


@dataclass(frozen=True)
class MessageAcknowledgement:
    """What the receiver says of one message.

    Attributes:
        message: ACK.B.r.1, the number of the message; some receivers write the case's number behind it.
        local_report: ACK.B.r.2, the receiver's own number of the report.
        receiver: ACK.B.r.3.
        sender: ACK.B.r.4.
        created: ACK.B.r.5, when the message was made, as written (CCYYMMDDhhmmss+ZZzz).
        code: ACK.B.r.6, "CA" or "CR".
        text: ACK.B.r.7, in the receiver's words; may quote the case.
    """

    message: str
    local_report: str
    receiver: str
    sender: str
    created: str
    code: str
    text: str

    @property
    def errors(self) -> tuple[str, ...]:
        """Error ids the text names."""
        return tuple(dict.fromkeys(_ERROR.findall(self.text)))

    @property
    def elements(self) -> tuple[str, ...]:
        """Element numbers the text names, in its order."""
        return tuple(dict.fromkeys(_ELEMENT.findall(self.text)))

    def names(self, message_id: str, case_id: str) -> bool:
        """Whether it is about a message: by the message's number, or the case's."""
        return bool({message_id, case_id} & {self.message, *self.message.split()})


@dataclass(frozen=True)
class Acknowledgement:
    """An acknowledgement.

    Attributes:
        number: ACK.M.1.
        sender: ACK.M.2.
        receiver: ACK.M.3.
        sent: ACK.M.4, as written.
        batch: ACK.A.1, the number of the batch (N.1.2) it answers.
        local_number: ACK.A.2, the receiver's own number of the batch.
        batch_sent: ACK.A.3, as written.
        code: ACK.A.4, "AA", "AE" or "AR".
        text: ACK.A.5, in the receiver's words.
        messages: The messages of the batch.
    """

    number: str
    sender: str
    receiver: str
    sent: str
    batch: str
    local_number: str
    batch_sent: str
    code: str
    text: str
    messages: tuple[MessageAcknowledgement, ...]


def parse_acknowledgement(data: bytes) -> Acknowledgement:
    """Read an acknowledgement.

    Args:
        data: The XML.

    Raises:
        AcknowledgementFault: It is no XML, no acknowledgement, or says nothing that can be acted on.
    """
    root = _root(data)
    messages = tuple(_message(each, place) for place, each in enumerate(_all(root, "MCCI_IN000002UV01"), 1))
    attention = _attention(root)
    batch_part = _one(root, "acknowledgement", "ACK.A.4")
    found = Acknowledgement(
        number=_id(root, "id", "20", "ACK.M.1"),
        sender=_device(root, "sender", "17", "ACK.M.2"),
        receiver=_device(root, "receiver", "18", "ACK.M.3"),
        sent=_time(_one(root, "creationTime", "ACK.M.4").get("value", ""), "ACK.M.4"),
        batch=_id(_one(batch_part, "targetBatch", "ACK.A.1"), "id", "22", "ACK.A.1"),
        local_number=attention.get("ACK.A.2", ""),
        batch_sent=_time(attention.get("ACK.A.3", ""), "ACK.A.3", needed=False),
        code=_code(batch_part, BATCH_CODES, "ACK.A.4"),
        text=_text(batch_part),
        messages=messages,
    )
    _consistent(found)
    return found


def _root(data: bytes) -> _Element:
    from lxml import etree

    if len(data) > LARGEST:
        raise AcknowledgementFault(f"The acknowledgement has more than {LARGEST:,} bytes", where="file")
    # Nothing outside the file is read and nothing is expanded: acknowledgements come from elsewhere.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise AcknowledgementFault(
            "The acknowledgement is no well-formed XML",
            where=f"line {line}, column {column}",
            fix="Ask the receiver to send it again.",
        ) from None
    if root.getroottree().docinfo.doctype:
        raise AcknowledgementFault("The acknowledgement declares a document type", where="DOCTYPE")
    if root.tag != f"{{{_HL7}}}{ROOT}":
        raise AcknowledgementFault(
            f"The file is no acknowledgement: its root element is not {ROOT}", where="root element"
        )
    return root


def _all(parent: _Element, name: str) -> list[_Element]:
    return parent.findall(f"{{{_HL7}}}{name}")


def _one(parent: _Element, name: str, number: str) -> _Element:
    found = _all(parent, name)
    if len(found) != 1:
        raise AcknowledgementFault(f"{name} stands {len(found)} times, expected once", where=number)
    return found[0]


def _id(parent: _Element, name: str, oid: str, number: str) -> str:
    found = [each for each in _all(parent, name) if each.get("root") == _OID + oid]
    value = found[0].get("extension", "").strip() if len(found) == 1 else ""
    if not value:
        raise AcknowledgementFault(f"{number} is missing or not of root {_OID}{oid}", where=number)
    return value


def _device(parent: _Element, name: str, oid: str, number: str) -> str:
    return _id(_one(_one(parent, name, number), "device", number), "id", oid, number)


def _time(value: str, number: str, *, needed: bool = True) -> str:
    if (value or needed) and not _TIME.fullmatch(value):
        raise AcknowledgementFault("A time is not of the form CCYYMMDDhhmmss+ZZzz", where=number)
    return value


def _attention(parent: _Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _all(parent, "attentionLine"):
        key = _one(line, "keyWordText", "attentionLine").get("code", "")
        value = _one(line, "value", "attentionLine")
        if key in _ATTENTION:
            found[_ATTENTION[key]] = value.get("value") or value.get("extension") or ""
    return found


def _code(part: _Element, known: dict[str, str], number: str) -> str:
    code = part.get("typeCode", "")
    if code not in known:
        raise AcknowledgementFault(f"{number} is none of {', '.join(known)}", where=number)
    return code


def _text(part: _Element) -> str:
    details = [_one(detail, "text", "acknowledgementDetail") for detail in _all(part, "acknowledgementDetail")]
    return "; ".join(text for detail in details if (text := "".join(detail.itertext()).strip()))


def _message(part: _Element, place: int) -> MessageAcknowledgement:
    try:
        answer = _one(part, "acknowledgement", "ACK.B.r.6")
        return MessageAcknowledgement(
            message=_id(_one(answer, "targetMessage", "ACK.B.r.1"), "id", "1", "ACK.B.r.1"),
            local_report=_id(part, "id", "19", "ACK.B.r.2"),
            receiver=_device(part, "receiver", "16", "ACK.B.r.3"),
            sender=_device(part, "sender", "15", "ACK.B.r.4"),
            created=_time(_attention(part).get("ACK.B.r.5", ""), "ACK.B.r.5", needed=False),
            code=_code(answer, MESSAGE_CODES, "ACK.B.r.6"),
            text=_text(answer),
        )
    except AcknowledgementFault as fault:
        raise AcknowledgementFault(fault.what, where=f"{fault.where}, message {place}", fix=fault.fix) from None


def _consistent(found: Acknowledgement) -> None:
    codes = [message.code for message in found.messages]
    named = [message.message for message in found.messages]
    problem = ""
    if len(set(named)) < len(named):
        problem = "Two answers are about the same message"
    elif found.code == "AA" and "CR" in codes:
        problem = "All is said to be taken (AA) and a message is rejected (CR)"
    elif found.code == "AR" and "CA" in codes:
        problem = "Nothing is said to be taken (AR) and a message is taken (CA)"
    elif found.code == "AE" and not codes:
        problem = "Some messages are said to need action (AE) and none is named"
    if problem:
        raise AcknowledgementFault(problem, where="ACK.A.4, ACK.B.r.6", fix="Ask the receiver what holds.")


def facts(found: Acknowledgement, about: MessageAcknowledgement | None) -> dict[str, Any]:
    """What may be shown of an acknowledgement: codes, numbers, error ids, element numbers; no text."""
    return {
        "acknowledgement": found.number,
        "batch_code": found.code,
        "code": about.code if about else "",
        "local_report": about.local_report if about else "",
        "errors": list(about.errors) if about else [],
        "elements": list(about.elements) if about else [],
    }
