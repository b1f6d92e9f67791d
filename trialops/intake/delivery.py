"""What a delivery folder holds: SDTM files, FHIR documents, laboratory messages, each in its own folder or alone."""

from __future__ import annotations

from pathlib import Path

from trialops.errors import TrialOpsError
from trialops.intake.fhir_documents import SUFFIXES

ENDINGS = {
    "sdtm": (".xpt",),
    "fhir": (*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES)),
    "hl7": (".hl7", ".txt", ".msg", ".dat", ".oru"),
}
"""Endings of the files of each kind."""
KINDS = (*ENDINGS, "dicom", "vcf")


def own_folder(folder: Path, kind: str) -> Path:
    """The folder of one kind below a delivery where there is one, else the delivery itself; nothing is looked at."""
    return folder / kind if (folder / kind).is_dir() else folder


def find_kind(folder: Path, kind: str) -> Path | None:
    """The folder that holds one kind of data of a delivery.

    Args:
        folder: A delivery: a folder with sdtm/, fhir/, hl7/ ... below it, or with the files of one kind.
        kind: A key of ENDINGS.

    Returns:
        The folder below of that name; the folder itself where it has no such folders and holds files of the kind;
        None where there are none.

    Raises:
        TrialOpsError: The delivery does not exist.
    """
    if not folder.is_dir():
        raise TrialOpsError(
            "The delivery folder does not exist.",
            where=str(folder),
            fix="Give the folder that holds sdtm/, fhir/ or hl7/, or the files themselves.",
        )
    own = folder / kind
    if own.is_dir():
        return own if _holds(own, kind) else None
    if kind != "sdtm" and any((folder / name).is_dir() for name in KINDS):
        return None
    return folder if _holds(folder, kind) else None


def _holds(folder: Path, kind: str) -> bool:
    """Whether there is a file of a kind; SDTM files lie at the top, others anywhere below."""
    found = folder.iterdir() if kind == "sdtm" else folder.rglob("*")
    return any(path.name.lower().endswith(ENDINGS[kind]) and not path.name.startswith(".") for path in found)
