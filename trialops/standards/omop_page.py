"""Pages of standardization: what was read and loaded, how much of it is mapped, and what came back as FHIR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.standards import calendar, cdm
from trialops.standards.omop_back import Returned

if TYPE_CHECKING:
    from trialops.standards.transformer import Transformed
    from trialops.standards.vocabulary import Vocabulary

MOST = 20
"""Codes in the list of the unmapped."""


def omop_page(result: Transformed, vocabulary: Vocabulary) -> Page:
    """The page of a load. A code seen fewer than eleven times is counted as such: a rare one may point at somebody."""
    made = result.made
    given, reasons = made.dispositions(), made.reasons()
    rates = made.mapping_rates().filter(made.mapping_rates()["rows"] > 0)
    rows, mapped = int(rates["rows"].sum()), int(rates["mapped"].sum())
    percent = [100 * m / r for _, r, m in rates.iter_rows()]
    whole = "Persons with changes were mapped again; all others are as they were."
    everything = "Everything was mapped."
    sections = [
        Section(
            "What was read",
            [
                Facts(
                    {
                        "read": int(given["read"].sum()),
                        "loaded": int(given["loaded"].sum()),
                        "quarantined": int(given["quarantined"].sum()),
                        "ignored": int(given["ignored"].sum()),
                        "persons": suppressed(made.tables["person"].height),
                    }
                ),
                Text(whole if result.incremental else everything),
                Table(given.columns, given.rows()),
                Table(reasons.columns, reasons.rows(), caption="Why something was not loaded"),
            ],
        ),
        Section(
            "Mapping to standard concepts",
            [
                Facts({"rows": rows, "mapped": mapped, "concept 0": rows - mapped, "vocabulary": vocabulary.version}),
                *([Text(_NO_VOCABULARY)] if vocabulary.folder is None else []),
                Figure(
                    plots.bars(rates["table"].to_list(), percent, xlabel="rows with a standard concept (%)"),
                    "Share of rows whose concept is not 0, by table.",
                ),
                Table(("table", "rows", "mapped", "%"), [(*r, p) for r, p in zip(rates.rows(), percent, strict=True)]),
                Table(
                    ("table", "code system", "code", "rows"),
                    [(t, s, c, suppressed(n)) for t, s, c, n in made.unmapped(MOST).iter_rows()],
                    caption="Codes without a standard concept, the most frequent first; texts are not shown",
                ),
            ],
        ),
        Section(
            "Tables",
            [
                Table(
                    ("table", "rows"),
                    [(n, f.height if n != "person" else suppressed(f.height)) for n, f in made.tables.items()],
                ),
                Text(
                    f"CDM {cdm.VERSION}: columns, types, required fields, keys and references of all tables were "
                    "checked; nothing breaks the specification."
                ),
            ],
        ),
    ]
    return Page(
        "Standardization to OMOP",
        sections,
        Verdict(
            f"{mapped / rows:.1%} of {rows:,} rows mapped" if rows else "No rows",
            "good" if rows and mapped / rows >= 0.9 else "warn",
            "loaded, quarantined and ignored add up to what was read",
        ),
        intro=calendar.NOTE if made.study_days else "",
    )


_NO_VOCABULARY = (
    "No vocabulary is loaded: only sex, race, ethnicity, visits and common units are mapped, by the few concepts that "
    "the model itself fixes. Every other code is kept as it came, with concept 0. Download vocabularies from "
    "athena.ohdsi.org under your own licence and give their folder."
)


def returned_page(back: Returned) -> Page:
    """The page of OMOP tables turned back into FHIR."""
    bad = sum(row[3] for row in back.counts)
    return Page(
        "OMOP back to FHIR",
        [
            Section(
                "Resources",
                [
                    Facts({"resources": sum(row[1] for row in back.counts), "checked by model": back.modelled}),
                    Table(("type", "resources", "valid", "invalid"), back.counts),
                    *([Table(("type", "element", "rule", "resources"), back.faults)] if back.faults else []),
                    Text(
                        "Every resource is checked against the R4 elements, types, cardinalities and codes; of each "
                        f"type the first {back.sample} also by the full R4B model."
                    ),
                ],
            )
        ],
        Verdict("All resources are valid R4" if not bad else f"{bad:,} invalid resources", "bad" if bad else "good"),
    )
