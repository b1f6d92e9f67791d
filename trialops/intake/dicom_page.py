"""The page of an intake of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake.subjects import REASONS
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.privacy.dicom_profile import BASIC, OPTIONS

if TYPE_CHECKING:
    from trialops.intake.dicom_intake import DicomIntake
    from trialops.pages.page import Item
    from trialops.privacy.dicom_deidentify import Treatment

MEANING = {
    "X": "removed", "Z": "emptied", "D": "dummy", "U": "UID replaced", "U*": "UIDs inside replaced", "K": "kept",
    "C": "cleaned",
}  # fmt: skip


def dicom_page(intake: DicomIntake, treatment: Treatment) -> Page:
    """Counts alone; no value of any object is shown."""
    import polars as pl

    files, all_of_them = intake.dispositions, intake.instances
    counts = {name: int(files[name].sum()) for name in ("read", "loaded", "quarantined", "ignored")}
    verdict = Verdict(
        f"{counts['read']:,} files read",
        "warn" if counts["quarantined"] else "good",
        " + ".join(f"{counts[n]:,} {n}" for n in ("loaded", "quarantined", "ignored"))
        + f" = {counts['loaded'] + counts['quarantined'] + counts['ignored']:,}",
    )
    modalities = (
        all_of_them.group_by("MODALITY")
        .agg(
            pl.col("SUBJECT").n_unique(), pl.col("STUDY_UID").n_unique(), pl.col("SERIES_UID").n_unique(), pl.len(),
            (pl.col("BYTES").sum() / 2**20).round(2),
        )
        .sort("MODALITY")
    )  # fmt: skip
    shown = [(m or "not stated", suppressed(s), *rest) for m, s, *rest in modalities.iter_rows()]
    held: list[Item] = [
        Facts({"objects": all_of_them.height, "of this delivery": intake.landed.height}),
        Table(("modality", "subjects", "studies", "series", "objects", "MB"), shown),
    ]
    if shown:
        names, sizes = [str(line[0]) for line in shown], modalities["len"].to_list()
        held.insert(1, Figure(plots.bars(names, sizes, xlabel="objects")))
    options = [(BASIC.code, BASIC.meaning)]
    options += [(OPTIONS[o].code, OPTIONS[o].meaning) for o in sorted(treatment.effective)]
    done = [(MEANING.get(a, a), a if a in MEANING else "", n) for a, n in intake.actions.items()]
    reasons = intake.quarantine.group_by("reason", "message").len().sort("len", "reason", descending=[True, False])
    queue = intake.unmatched.group_by("REASON").agg(pl.len(), pl.col("OBJECTS").sum()).sort("REASON")
    return Page(
        "Images",
        [
            Section("Images held", held),
            Section(
                "De-identification",
                [
                    Text(
                        "Dates shifted by one offset per subject: a limited data set, not Safe Harbor."
                        if treatment.mode == "limited"
                        else "No date of the subject remains."
                    ),
                    Table(("code", "profile or option of DICOM PS3.15"), options),
                    Table(("attributes", "action", "times"), done),
                    Text(
                        "Pixels are not changed. An object with pixels is taken only if it states that no text is "
                        "burned into them.",
                        quiet=True,
                    ),
                ],
            ),
            Section("Set aside", [Table(("reason", "what it says", "objects"), reasons.rows())]),
            Section("Ignored", [Table(("reason", "objects"), list(intake.ignored.items()))]),
            Section(
                "Subjects not found",
                [
                    Table(
                        ("why", "identifiers", "objects"), [(REASONS[r], suppressed(n), o) for r, n, o in queue.rows()]
                    )
                ],
            ),
        ],
        verdict,
    )
