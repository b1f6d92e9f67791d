"""A case for a person to read: one page with the boxes of FDA form 3500A and of the CIOMS I form beside each value.

The form is the second, human-readable form of a report; what is sent is the E2B(R3) message. It is made of the
neutral case alone. It holds one subject's data: it is kept encrypted and shown by commands that ask who may see it.

Blinded by default: of a drug that may be the study product and whose identity the case knows, name and dosing are
withheld, and so are the free texts that may tell it.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

from trialops.pages import Facts, Page, Section, Table, Text, Verdict, render
from trialops.safety.case import Case
from trialops.safety.case_form_drugs import drug_blocks, tells_treatment
from trialops.safety.case_form_lines import COLUMNS, Block, Part
from trialops.safety.case_form_parts import (
    CRITERIA,
    narrative_lines,
    patient_blocks,
    reaction_block,
    report_lines,
    source_blocks,
    test_block,
)

if TYPE_CHECKING:
    from trialops.regulatory.documents.content import Document


def case_form(case: Case, *, unblinded: bool = False) -> tuple[Part, ...]:
    """The form of a case, part by part. Lines without a value are left out.

    Args:
        case: The case.
        unblinded: Whether the reader may know the treatment (the caller has asked `trialops.governance.access`).
    """
    hidden = not unblinded and any(tells_treatment(drug) for drug in case.drugs)
    parts = (
        Part("Report", (Block("Report", report_lines(case)), *source_blocks(case))),
        Part("Patient", patient_blocks(case)),
        Part("Reactions", tuple(reaction_block(case, number, each) for number, each in enumerate(case.reactions, 1))),
        Part("Course of the case", (Block("In words", narrative_lines(case, hidden)),)),
        Part("Tests", tuple(test_block(number, each, hidden) for number, each in enumerate(case.tests, 1))),
        Part("Drugs", tuple(drug_blocks(case, unblinded))),
    )
    kept = (Part(part.title, tuple(block for block in part.blocks if block.lines)) for part in parts)
    return tuple(part for part in kept if part.blocks)


def case_page(case: Case, *, unblinded: bool = False) -> Page:
    """The form as a page; see `case_form`."""
    parts = case_form(case, unblinded=unblinded)
    serious = [words for name, words in CRITERIA.items() if any(getattr(each, name) for each in case.reactions)]
    report = case.report
    facts = {
        "Report": report.safety_report_id,
        "First received": report.first_received,
        "Most recent information": report.most_recent,
        "Kind": " · ".join(each for each in (report.report_type, report.local_criteria) if each),
        "Reactions": len(case.reactions),
        "Drugs": len(case.drugs),
    }
    sections = [Section("At a glance", (Facts(facts),))]
    sections += [
        Section(
            part.title,
            tuple(Table(COLUMNS, [each.row() for each in block.lines], block.caption) for block in part.blocks),
        )
        for part in parts
    ]
    sections.append(
        Section(
            "Reading this form",
            (
                Text(
                    "3500A gives the section letter of FDA form 3500A, CIOMS I the number of the box. Both are for "
                    "reading beside the E2B(R3) message, which is what is sent.",
                    quiet=True,
                ),
            ),
        )
    )
    verdict = Verdict("Serious", "bad", ", ".join(serious)) if serious else Verdict("Not serious", "plain")
    return Page(
        title=f"Case {report.safety_report_id}",
        sections=sections,
        verdict=verdict,
        intro=_blinding(case, unblinded),
    )


def case_html(case: Case, *, unblinded: bool = False) -> bytes:
    """The form as one self-contained HTML file; the same bytes for the same case."""
    return render(case_page(case, unblinded=unblinded)).encode()


def case_document(
    case: Case, *, study: str, cut: date, stamp: datetime, source: str, program: str, unblinded: bool = False
) -> Document:
    """The form as a document, for `trialops.regulatory.documents` to set as HTML or PDF.

    Args:
        case: The case.
        study: STUDYID.
        cut: Last day of the data the case was made of.
        stamp: When the document is made, with a time zone; printed.
        source: SHA-256 of the sealed delivery.
        program: Version of the code.
        unblinded: Whether the reader may know the treatment.
    """
    from trialops.regulatory.documents.content import Chapter, DataTable, Document, Paragraph, Population

    subject = Population("The subject of this case", 1)
    chapters = []
    for number, part in enumerate(case_form(case, unblinded=unblinded), 1):
        tables = tuple(
            DataTable(f"{number}.{place}", block.caption, subject, COLUMNS, tuple(each.row() for each in block.lines))
            for place, block in enumerate(part.blocks, 1)
        )
        chapters.append(Chapter(str(number), part.title, tables))
    introduction = Chapter("0", "About this form", (Paragraph(_blinding(case, unblinded)),))
    return Document(
        kind="case",
        title=f"Individual case {case.report.safety_report_id}",
        study=study,
        audience="unblinded" if unblinded else "blinded",
        cut=cut,
        stamp=stamp,
        source=source,
        program=program,
        chapters=(introduction, *chapters),
    )


def _blinding(case: Case, unblinded: bool) -> str:
    known = any(tells_treatment(drug) for drug in case.drugs)
    if not known:
        return "The case does not hold the subject's treatment."
    if unblinded:
        return "Unblinded: this form tells the subject's treatment. Do not pass it to blinded staff."
    return "The case holds the subject's treatment; this form withholds it, and free texts with it."
