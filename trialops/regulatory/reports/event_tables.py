"""Tables of adverse events: overview, by system and term, rates, comparison of arms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.regulatory.documents.content import Cell, Chart, DataTable, rows_of, share
from trialops.regulatory.reports.counting import having, heads, sizes_of
from trialops.safety.seriousness import NOT_SERIOUS, SERIOUS, TO_CONFIRM

if TYPE_CHECKING:
    import polars as pl

    from trialops.regulatory.reports.basis import Basis

NOT_CODED = "(not coded)"
SHOWN = 25
"""Terms in the comparison of arms and its figure."""


def overview(basis: Basis, number: str, events: pl.DataFrame | None = None) -> DataTable:
    """How many subjects had an event of each kind, by group.

    Args:
        basis: The trial at its cut.
        number: Number of the table.
        events: Events that count; the treatment-emergent ones by default.
    """
    import polars as pl

    emergent = basis.emergent if events is None else events
    total = len(basis.groups) > 1
    severity = pl.col("AESEV") if "AESEV" in emergent.columns else pl.lit(None, pl.String)
    action = pl.col("AEACN") if "AEACN" in emergent.columns else pl.lit(None, pl.String)
    kinds: list[tuple[str, pl.Expr]] = [
        ("Any event", pl.lit(True)),
        ("Related to treatment by the investigator, or not assessed", pl.col("RELATED_INVESTIGATOR").fill_null(True)),
        ("Severe", severity == "SEVERE"),
        ("Serious", pl.col("SERIOUS") == SERIOUS),
        ("Seriousness to be confirmed by the site", pl.col("SERIOUS") == TO_CONFIRM),
        ("Serious and related", (pl.col("SERIOUS") != NOT_SERIOUS) & pl.col("RELATED_INVESTIGATOR").fill_null(True)),
        ("Fatal", pl.col("FATAL")),
        ("Treatment withdrawn for the event", action == "DRUG WITHDRAWN"),
    ]
    if "GRADE" in emergent.columns and emergent["GRADE"].is_not_null().any():
        kinds.append(("Grade 3 or higher", pl.col("GRADE") >= 3))
    rows: list[list[Cell]] = []
    for label, wanted in kinds:
        found = emergent.filter(wanted.fill_null(False))
        rows.append([label, *having(basis.safety, found["USUBJID"], basis.groups, total=total), found.height])
    notes = ["Subjects with at least one such event, n (%); the last column counts events."]
    if not len(emergent.filter(action.is_not_null())):
        notes.append("The delivery does not say what was done with treatment (AEACN is empty).")
    columns = ("Adverse events", *heads(basis.groups, sizes_of(basis.safety, basis.groups), total=total), "Events")
    return DataTable(
        number,
        "Overview of treatment-emergent adverse events",
        basis.safety_population,
        columns,
        rows_of(rows),
        tuple(notes),
    )


def by_term(
    basis: Basis, number: str, title: str, events: pl.DataFrame, *, least: float = 0.0, notes: tuple[str, ...] = ()
) -> DataTable:
    """Subjects with each term by system organ class and preferred term, the most frequent first.

    Args:
        basis: The trial at its cut.
        number: Number of the table.
        title: Its title.
        events: Events that count, of treated subjects.
        least: Share of subjects in some group from which a term is shown; systems are always.
        notes: Further footnotes.
    """
    import polars as pl

    total = len(basis.groups) > 1
    sizes = sizes_of(basis.safety, basis.groups)
    coded = events.select(
        "USUBJID",
        system=pl.col("AEBODSYS").replace("", None).fill_null(NOT_CODED),
        term=pl.col("AEDECOD").replace("", None).fill_null(NOT_CODED),
    ).join(basis.safety.select("USUBJID", "group"), on="USUBJID", how="inner")

    def counted(by: list[str]) -> pl.DataFrame:
        per = coded.group_by(*by, "group").agg(subjects=pl.col("USUBJID").n_unique(), events=pl.len())
        wide = per.group_by(by).agg(
            *[pl.col("subjects").filter(pl.col("group") == g).sum().alias(f"n{k}") for k, g in enumerate(basis.groups)],
            all=pl.col("subjects").sum(),
            events=pl.col("events").sum(),
        )
        return wide.sort("all", *by, descending=[True, *([False] * len(by))])

    def cells(row: dict[str, int]) -> list[Cell]:
        made: list[Cell] = [share(row[f"n{k}"], sizes[g]) for k, g in enumerate(basis.groups)]
        return [*made, *([share(row["all"], sum(sizes.values()))] if total else []), row["events"]]

    systems, terms = counted(["system"]), counted(["system", "term"])
    rows: list[list[Cell]] = []
    for system in systems.iter_rows(named=True):
        rows.append([system["system"], *cells(system)])
        for term in terms.filter(pl.col("system") == system["system"]).iter_rows(named=True):
            shares = [term[f"n{k}"] / max(sizes[g], 1) for k, g in enumerate(basis.groups)]
            if max(shares) >= least:
                rows.append([f"  {term['term']}", *cells(term)])
    told = ["Subjects with at least one event, n (%); a subject counts once in a row. The last column counts events."]
    if least:
        told.append(f"Terms of at least {least:.0%} of the subjects of a group.")
    columns = ("System organ class / preferred term", *heads(basis.groups, sizes, total=total), "Events")
    return DataTable(number, title, basis.safety_population, columns, rows_of(rows), (*told, *notes))


def rates(basis: Basis, number: str, *, least: float = 0.05) -> DataTable:
    """Exposure-adjusted incidence rates of frequent terms, by group, with exact intervals."""
    import polars as pl

    from trialops.safety.incidence import incidence

    emergent = basis.emergent.select("USUBJID", "AEBODSYS", "AEDECOD", day="DAY")
    table = incidence(emergent, basis.safety.select("USUBJID", "group", "days"))
    keep = table.group_by("AEBODSYS", "AEDECOD").agg(top=pl.col("proportion").max(), all=pl.col("subjects").sum())
    frequent = keep.filter(pl.col("top") >= least).sort("all", "AEDECOD", descending=[True, False])
    rows: list[list[Cell]] = []
    for term in frequent.iter_rows(named=True):
        for row in table.filter(
            pl.col("AEDECOD").eq_missing(term["AEDECOD"]) & pl.col("AEBODSYS").eq_missing(term["AEBODSYS"])
        ).iter_rows(named=True):
            interval = f"{row['rate_low']:.1f} to {row['rate_high']:.1f}"
            rows.append(
                [
                    term["AEDECOD"] or NOT_CODED,
                    row["group"],
                    share(row["subjects"], row["n"]),
                    round(row["years"], 1),
                    f"{row['rate']:.1f}",
                    interval,
                ]
            )
    return DataTable(
        number,
        "Exposure-adjusted incidence rates of frequent events",
        basis.safety_population,
        ("Preferred term", "Group", "Subjects n (%)", "Subject-years at risk", "Rate per 100", "95 % interval"),
        rows_of(rows),
        (
            f"Terms of at least {least:.0%} of the subjects of a group. First events; at risk until then, or the "
            "end of exposure.",
            "Exact Poisson intervals (Garwood).",
        ),
    )


def comparison(basis: Basis, number: str) -> list[DataTable | Chart]:
    """Every other arm against control: differences with score intervals, and what stands out; unblinded.

    Args:
        basis: With a control arm.
        number: Number of the first table; each arm has its own, and a figure.
    """
    from trialops.pages import plots
    from trialops.safety.arm_comparison import compare_arms
    from trialops.safety.incidence import incidence

    emergent = basis.emergent.select("USUBJID", "AEBODSYS", "AEDECOD", day="DAY")
    table = incidence(emergent, basis.safety.select("USUBJID", "group", "days"))
    made: list[DataTable | Chart] = []
    for k, found in enumerate(compare_arms(table, basis.control), 1):
        flagged = found.terms["flagged"].sum()
        top = found.terms.sort("flagged", "p", "AEDECOD", descending=[True, False, False]).head(SHOWN)
        rows: list[list[Cell]] = [
            [
                row["AEDECOD"] or NOT_CODED,
                share(row["x1"], row["n1"]),
                share(row["x0"], row["n0"]),
                f"{100 * row['difference']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})",
                None if row["ratio"] != row["ratio"] else f"{row['ratio']:.2f}",
                f"{row['p']:.4f}",
                None if row["adjusted"] is None else f"{row['adjusted']:.4f}",
                f"{row['more']:.3f}",
                "flagged" if row["flagged"] else "",
            ]
            for row in top.iter_rows(named=True)
        ]
        made.append(
            DataTable(
                f"{number}.{k}",
                f"{found.arm} against {found.control}: the {len(rows)} terms that differ most",
                basis.safety_population,
                (
                    "Preferred term",
                    found.arm,
                    found.control,
                    "Difference, % (95 %)",
                    "Risk ratio",
                    "p",
                    "Adjusted p",
                    "P(more)",
                    "",
                ),
                rows_of(rows),
                (
                    "Risk difference with the interval of Miettinen and Nurminen; p of Fisher's exact test.",
                    f"Adjusted p: double false discovery rate (Mehrotra and Adewale 2012), systems at "
                    f"{found.fdr.system_level:g}, terms at {found.fdr.term_level:g}; {flagged} of "
                    f"{found.terms.height} terms flagged. None where its system shows nothing.",
                    "P(more): posterior probability of a higher risk than control, Jeffreys' priors. Tests of safety "
                    "data raise questions; they answer none.",
                ),
            )
        )
        svg = plots.intervals(
            [str(row["AEDECOD"] or NOT_CODED) for row in top.iter_rows(named=True)],
            [100 * v for v in top["difference"]],
            [100 * v for v in top["low"]],
            [100 * v for v in top["high"]],
            xlabel=f"risk difference to {found.control}, %",
            reference=0.0,
        )
        made.append(Chart(f"{number}.{k}f", f"{found.arm} against {found.control}", basis.safety_population, svg))
    return made
