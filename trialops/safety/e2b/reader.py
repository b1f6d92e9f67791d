"""Messages of E2B(R3) as cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case import Case
from trialops.safety.e2b.mapping import case_of
from trialops.safety.e2b.times import iso_time
from trialops.safety.e2b.values import Values, read_batch
from trialops.safety.e2b.writer import BatchHeader, MessageHeader


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was read: its wrapper, its values by element, its case."""

    header: MessageHeader
    values: Values
    case: Case


def parse(document: bytes) -> Any:
    """The tree of an XML document. Entities and the network are off: a message comes from outside.

    Raises:
        TrialOpsError: If it is not well-formed.
    """
    from lxml import etree

    # huge_tree: an enclosed document may be longer than the ten million characters libxml2 takes by default.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 0
        raise TrialOpsError(
            "the document is not well-formed XML", where=f"line {line}", fix="ask the sender for the file again"
        ) from None


def read_messages(document: bytes) -> tuple[BatchHeader, tuple[Message, ...]]:
    """The batch wrapper and every message of a batch with its case.

    Raises:
        TrialOpsError: If it is no batch of E2B(R3) messages, or a message cannot be told as a case.
    """
    root = parse(document)
    batch = read_batch(root)
    if not batch:
        raise TrialOpsError(
            "a batch without messages", where="MCCI_IN200100UV01", fix="ask the sender for the file again"
        )
    modes = [each.find("{*}processingModeCode") for each in root.iterfind("{*}PORR_IN049016UV")]
    messages = tuple(
        Message(_message_header(values, "I" if mode is None else mode.get("code", "I")), values, case_of(values))
        for values, mode in zip(batch, modes, strict=True)
    )
    top = batch[0]
    header = BatchHeader(
        number=_needed(top, "N.1.2"),
        sender=_needed(top, "N.1.3"),
        receiver=_needed(top, "N.1.4"),
        sent=iso_time(_needed(top, "N.1.5"), "element N.1.5"),
    )
    return header, messages


def _message_header(values: Values, mode: str) -> MessageHeader:
    return MessageHeader(
        number=_needed(values, "N.2.r.1"),
        sender=_needed(values, "N.2.r.2"),
        receiver=_needed(values, "N.2.r.3"),
        created=iso_time(_needed(values, "N.2.r.4"), "element N.2.r.4"),
        processing_mode=mode,
    )


def _needed(values: Values, number: str) -> str:
    text = values.first(number)
    if text is None:
        raise TrialOpsError(
            "a message lacks part of its wrapper", where=f"element {number}", fix="send it again with it"
        )
    return text
