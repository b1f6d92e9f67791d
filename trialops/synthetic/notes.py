"""Free-text clinical notes that mention the subject's identifiers, with the true position of each mention."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.synthetic.people import Person
from trialops.synthetic.population import COMPLETED, FAILED, REASONS, Population
from trialops.synthetic.text_rows import fill

if TYPE_CHECKING:
    import polars as pl

EPOCH = datetime.date(1970, 1, 1)

# {NAME} and so on are replaced and their positions kept; the name of a slot up to "_" is the type of the
# span.
SCREENING = (
    "Screening visit note. {NAME} (MRN {MRN}) attended with a caregiver on {DATE_VISIT}. Informed consent "
    "was signed "
    "on {DATE_CONSENT}. Date of birth {DATE_BIRTH}. Lives at {ADDRESS}. Contact telephone {PHONE}. Memory "
    "complaints "
    "for several years, no seizures. Electrocardiogram unremarkable. Seen by Dr. {CLINICIAN}.",
    "Pt {NAME_FORMAL}, DOB {DATE_BIRTH}, MRN: {MRN}. Seen {DATE_VISIT} for eligibility. History reviewed "
    "with spouse. "
    "Mr./Ms. {NAME_LAST} denies chest pain and has stable blood pressure. Call {PHONE} to confirm the "
    "baseline "
    "appointment. Signed, {CLINICIAN} MD.",
    "{NAME_FIRST} came in today ({DATE_VISIT}) in good spirits and asked whether the patches itch. We "
    "went through "
    "the consent form dated {DATE_CONSENT} once more. The address on file, {ADDRESS}, is current; phone "
    "{PHONE}. "
    "Chart number {MRN}. Plan: draw screening labs, return in one to two weeks. - Dr. {CLINICIAN}",
)
LEAVING = (
    "Telephone contact {DATE_END}: spoke with {NAME} at {PHONE}. Study treatment stopped, reason recorded "
    "as {REASON}. "
    "Patches to be returned to the site. Dr. {CLINICIAN} informed.",
    "End of treatment note {DATE_END}. {NAME_FORMAL}, MRN {MRN}, leaves the trial early ({REASON}). "
    "Caregiver will "
    "bring the remaining patches. Follow-up call agreed to {PHONE}. {CLINICIAN} MD",
)


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes:
        subject: Row of the subject in the block.
        kind: "screening" or "leaving".
        date: Days since 1970.
        text: The note.
        spans: (start, end, type) of each identifier; `text[start:end]` is the identifier.
    """

    subject: int
    kind: str
    date: int
    text: str
    spans: tuple[tuple[int, int, str], ...]


def _fill(template: str, values: dict[str, str]) -> tuple[str, tuple[tuple[int, int, str], ...]]:
    """Replace the slots and record where each identifier landed."""
    text, spans = "", []
    for piece in template.split("{"):
        slot, closed, rest = piece.partition("}")
        if not closed:
            text += piece
            continue
        value = values[slot]
        if slot != "REASON":
            spans.append((len(text), len(text) + len(value), slot.split("_")[0]))
        text += value + rest
    return text, tuple(spans)


def _spoken(days: int, style: int) -> str:
    """A date the way people write it in notes."""
    day = EPOCH + datetime.timedelta(days=days)
    if style == 0:
        return day.isoformat()
    if style == 1:
        return f"{day.month:02d}/{day.day:02d}/{day.year}"
    return f"{day:%B} {day.day}, {day.year}"


def write_notes(p: Population, persons: list[Person]) -> list[Note]:
    """A screening note for everybody and a second note for those who leave early."""
    first = p.draws.integers("note/screening", 0, len(SCREENING) - 1)
    second = p.draws.integers("note/leaving", 0, len(LEAVING) - 1)
    style = p.draws.integers("note/date", 0, 2)
    notes = []
    for i, who in enumerate(persons):
        s = int(style[i])
        values = {
            "NAME": f"{who.first} {who.last}",
            "NAME_FORMAL": f"{who.last}, {who.first}",
            "NAME_FIRST": who.first,
            "NAME_LAST": who.last,
            "MRN": who.mrn,
            "PHONE": who.phone,
            "CLINICIAN": who.clinician,
            "ADDRESS": f"{who.street}, {who.city}, {who.state} {who.postal}",
            "DATE_VISIT": _spoken(int(p.screening[i]), s),
            "DATE_CONSENT": _spoken(int(p.consent[i]), s),
            "DATE_BIRTH": _spoken(int(p.birth[i]), s),
            "DATE_END": _spoken(int(p.end[i]), s),
            "REASON": REASONS[int(p.reason[i])].lower(),
        }
        text, spans = _fill(SCREENING[first[i]], values)
        notes.append(Note(i, "screening", int(p.screening[i]), text, spans))
        if p.reason[i] not in (COMPLETED, FAILED):
            text, spans = _fill(LEAVING[second[i]], values)
            notes.append(Note(i, "leaving", int(p.end[i]), text, spans))
    return notes


def document_id(subject_number: int, note: Note) -> str:
    """Id of the DocumentReference that carries a note."""
    return f"{subject_number}-note-{note.kind}"


def span_lines(p: Population, notes: list[Note]) -> pl.Series:
    """One JSON object per identifier: doc, start, end, type (positions in characters of the decoded text)."""
    import polars as pl

    numbers = p.subject_numbers
    rows = [(document_id(int(numbers[n.subject]), n), *span) for n in notes for span in n.spans]
    frame = pl.DataFrame(rows, schema=["doc", "start", "end", "type"], orient="row")
    return fill(frame, '{"doc":"<doc>","start":<start>,"end":<end>,"type":"<type>"}')
