"""The page of an intake of genomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake.subjects import REASONS
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.intake.vcf_intake import VcfIntake
    from trialops.pages.page import Item

CONTROLLED = (
    "A genome identifies its bearer by itself and cannot be made anonymous. These files carry pseudonyms, are "
    "encrypted under a key of their own and belong to the controlled tier: access needs a reason of its own, and no "
    "export takes them along."
)


def vcf_page(intake: VcfIntake, build: str) -> Page:
    """Counts alone; no genotype and no identifier is shown."""
    files = intake.dispositions
    counts = {name: int(files[name].sum()) for name in ("read", "loaded", "quarantined", "ignored")}
    held = intake.files
    verdict = Verdict(
        f"{counts['read']:,} variant records read",
        "warn" if counts["quarantined"] else "good",
        " + ".join(f"{counts[n]:,} {n}" for n in ("loaded", "quarantined", "ignored"))
        + f" = {counts['loaded'] + counts['quarantined'] + counts['ignored']:,}",
    )
    columns = ("file", "read", "loaded", "quarantined", "ignored", "reason")
    facts = {
        "genome build": build,
        "files held": held.height,
        "subjects": suppressed(intake.samples["SUBJECT"].n_unique()),
        "variants": int(held["WRITTEN"].sum()),
        "rows made shorter": int(held["SHORTENED"].sum()),
        "header lines dropped": int(held["HEADER_LINES_DROPPED"].sum()),
        "values with a name emptied": int(held["EMPTIED"].sum()),
    }
    reasons: list[Item] = [Table(("reason", "lines"), sorted(intake.reasons.items(), key=lambda r: (-r[1], r[0])))]
    if intake.reasons:
        names, sizes = zip(*sorted(intake.reasons.items()), strict=True)
        reasons.append(Figure(plots.bars(names, sizes, xlabel="lines set aside")))
    sexes = [(fate, suppressed(intake.sexes[fate])) for fate in ("agrees", "not told", "disagrees")]
    queue = intake.unmatched.group_by("REASON").len().sort("REASON")
    return Page(
        "Genomes",
        [
            Section("Controlled tier", [Text(CONTROLLED), Facts(facts)]),
            Section("Files", [Table((*columns[:-1], "remark"), files.select(columns).rows())]),
            Section("Set aside", reasons),
            Section(
                "Is it the subject's?",
                [
                    Table(("sex by genotypes on X against DM", "samples"), sexes),
                    Facts({"pairs of samples that are one person": intake.same_person}),
                    Text(
                        "A file in which one sample disagrees is held back whole: two may have been swapped.",
                        quiet=True,
                    ),
                ],
            ),
            Section("Header lines dropped", [Table(("what they held", "lines"), sorted(intake.dropped.items()))]),
            Section(
                "Subjects not found",
                [Table(("why", "samples"), [(REASONS[r], suppressed(n)) for r, n in queue.iter_rows()])],
            ),
        ],
        verdict,
    )
