"""Readable forms as files, for a reviewer who may see cases: of a registered case, or of the messages in a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError
from trialops.governance.access import authorise
from trialops.safety.case import Case
from trialops.safety.case_form import case_document, case_html
from trialops.safety.release import look
from trialops.stores.folders import outside_home

if TYPE_CHECKING:
    from datetime import datetime

    from trialops.safety.register import CaseRegister
    from trialops.stores.context import Step

Form = Literal["html", "pdf"]
FORMS: tuple[Form, ...] = ("html", "pdf")


@dataclass(frozen=True)
class WrittenForm:
    """A form in a file: where, how many bytes, of which version of the case."""

    file: Path
    size: int
    version: int


def write_form(
    run: Step, register: CaseRegister, case: str, *, target: str, kind: Form, stamp: datetime, purpose: str
) -> WrittenForm:
    """Write the blinded form of the newest version of a case. It identifies a person.

    Args:
        run: The step, with the role of who asks.
        register: The register.
        case: Case id.
        target: Folder outside the platform's home.
        kind: html or pdf.
        stamp: When a PDF is made, with a time zone; printed on it.
        purpose: Why; goes into the audit trail.

    Raises:
        TrialOpsError: The role may not see cases, there is no such case, or the folder lies below the home.
    """
    folder = outside_home(target, run.settings.home.resolve(), what="The form of a case")
    versions, content = look(run, register, case, purpose=purpose)
    newest, told = versions[-1], Case.from_dict(content["case"])
    if kind == "html":
        data = case_html(told)
    elif kind == "pdf":
        from trialops.regulatory.documents.pdf import to_pdf
        from trialops.version import code_version

        data = to_pdf(
            case_document(
                told,
                study=register.study,
                cut=date.fromisoformat(told.report.most_recent[:10]),
                stamp=stamp,
                source=newest.delivery,
                program=code_version(),
            )
        )
    else:
        raise TrialOpsError(f"a form is not written as '{kind}'", where="kind", fix=f"use one of: {', '.join(FORMS)}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{case}-{newest.version}.{kind}"
    file.write_bytes(data)
    run.audit("case.form", f"{case}/{newest.version}", newest.digest, reason=purpose, kind=kind)
    return WrittenForm(file, len(data), newest.version)


@dataclass(frozen=True)
class ReadMessage:
    """A message of a file: its form, and how many findings FDA's rules have."""

    number: str
    file: Path
    rejections: int
    warnings: int


def write_forms_of(run: Step, document: bytes, *, target: str, purpose: str) -> tuple[ReadMessage, ...]:
    """Write the blinded form of every E2B(R3) message of a document, from whomever it comes.

    Args:
        run: The step, with the role of who asks.
        document: The XML of a batch.
        target: Folder outside the platform's home.
        purpose: Why; goes into the audit trail.

    Raises:
        TrialOpsError: The role may not see cases, it is no batch of messages, or the folder lies below the home.
    """
    from trialops.safety.e2b.checking import check, rejections
    from trialops.safety.e2b.reader import read_messages

    folder = outside_home(target, run.settings.home.resolve(), what="The form of a case")
    authorise(run, "safety_cases", purpose)
    _, messages = read_messages(document)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place, message in enumerate(messages, 1):
        findings = check(message.values)
        bad = len(rejections(findings))
        file = folder / f"message-{place}.html"
        file.write_bytes(case_html(message.case))
        written.append(ReadMessage(message.header.number, file, bad, len(findings) - bad))
    run.audit("case.read", "message file", sha256(document).hexdigest(), reason=purpose, messages=len(written))
    return tuple(written)
