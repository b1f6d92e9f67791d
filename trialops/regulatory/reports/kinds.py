"""The parts of reports by the names reports.yaml has for them, and a report put together from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.regulatory.documents.content import Cell, Chapter, DataTable, Document, Item, Paragraph, rows_of
from trialops.regulatory.reports import event_tables, laboratory_tables, listings, subject_tables
from trialops.regulatory.reports.periods import catalogue_digest, report
from trialops.safety.seriousness import NOT_SERIOUS, SERIOUS, TO_CONFIRM

if TYPE_CHECKING:
    import polars as pl

    from trialops.regulatory.reports.basis import Basis

SPONSOR_WRITES = "This section is written by the sponsor; the data hold nothing for it."
FREQUENT = 0.05


@dataclass(frozen=True)
class SentReport:
    """An individual case safety report that was sent: case, version, authority, kind of report, when, its state."""

    case: str
    version: int
    authority: str
    rule: str
    sent: date
    state: str


@dataclass(frozen=True)
class Material:
    """What the parts of a report are made from: the trial at its cut, and the reports that were sent."""

    basis: Basis
    sent: Sequence[SentReport] = ()


Part = Callable[[Material, str], "Sequence[Item]"]


def _serious(basis: Basis) -> pl.DataFrame:
    import polars as pl

    return basis.in_safety.filter(pl.col("SERIOUS") == SERIOUS)


def _to_confirm(basis: Basis) -> pl.DataFrame:
    import polars as pl

    return basis.in_safety.filter(pl.col("SERIOUS") == TO_CONFIRM)


def _recruitment(m: Material, number: str) -> Sequence[Item]:
    """Screened, failed and randomised subjects by site."""
    import polars as pl

    subjects = m.basis.subjects.with_columns(pl.col("SITEID").fill_null("(none)"))
    by_site = (
        subjects.group_by("SITEID")
        .agg(
            screened=pl.len(),
            failed=pl.col("screen_failure").sum(),
            randomised=pl.col("randomised").sum(),
            treated=pl.col("treated").sum(),
        )
        .sort("SITEID")
    )
    rows: list[list[Cell]] = [list(row) for row in by_site.iter_rows()]
    rows.append(["Total", *(int(by_site[c].sum()) for c in ("screened", "failed", "randomised", "treated"))])
    planned = m.basis.study.protocol.get("planned_enrolment")
    randomised = int(by_site["randomised"].sum())
    notes = (f"{randomised:,} of {planned:,} planned subjects are randomised.",) if planned else ()
    columns = ("Site", "Screened", "Screen failures", "Randomised", "Treated")
    population = m.basis.population("All subjects", m.basis.subjects)
    return [DataTable(number, "Recruitment by site", population, columns, rows_of(rows), notes)]


def _inventory(m: Material, number: str) -> Sequence[Item]:
    """The trial in one row, as ICH E2F section 5 lists trials."""
    basis, protocol = m.basis, m.basis.study.protocol
    countries = ", ".join(sorted(set(basis.subjects["COUNTRY"].drop_nulls().to_list()))) or None
    row: list[Cell] = [
        str(protocol["number"]),
        str(protocol["title"]),
        protocol.get("phase"),
        protocol.get("indication"),
        countries,
        protocol.get("planned_enrolment"),
        basis.randomised.height,
        basis.safety.height,
    ]
    columns = ("Trial", "Title", "Phase", "Indication", "Countries", "Planned", "Randomised", "Treated")
    return [DataTable(number, "The trial", basis.population("All subjects", basis.subjects), columns, rows_of([row]))]


def _products(m: Material, number: str) -> Sequence[Item]:
    products = m.basis.study.safety.get("products") or ()
    rows: list[list[Cell]] = [
        [p["name"], p["role"], p.get("active_substance"), p.get("dose_form"), p.get("route")] for p in products
    ]
    columns = ("Product", "Role", "Active substance", "Dose form", "Route")
    population = m.basis.population("All subjects", m.basis.subjects)
    return [DataTable(number, "Products of the trial", population, columns, rows_of(rows))]


def _references(m: Material, number: str) -> Sequence[Item]:
    """Versions of the reference safety information, and which was in force at the beginning of the period."""
    rows: list[list[Cell]] = [
        [r.version, r.valid_from.isoformat(), r.valid_to.isoformat() if r.valid_to else None, len(r.terms)]
        for r in m.basis.policy.references
    ]
    changed = [r.version for r in m.basis.policy.references if m.basis.since < r.valid_from <= m.basis.cut]
    columns = ("Version", "In force from", "To", "Terms listed")
    population = m.basis.population("All subjects", m.basis.subjects)
    told = f"Changed in the period: {', '.join(changed)}." if changed else "No change in the period."
    return [DataTable(number, "Reference safety information", population, columns, rows_of(rows), (told,))]


def _susars(m: Material, number: str) -> Sequence[Item]:
    """Events of the period that are serious, unexpected and suspected; what is not known counts at its worst."""
    import polars as pl

    basis = m.basis
    suspected = pl.col("RELATED_INVESTIGATOR").fill_null(True) | pl.col("RELATED_SPONSOR").fill_null(False)
    found = basis.in_safety.filter(
        (pl.col("SERIOUS") != NOT_SERIOUS)
        & suspected
        & ~pl.col("EXPECTED").fill_null(False)
        & (pl.col("ONSET_LATEST") >= basis.since).fill_null(True)
    )
    return [
        listings.event_listing(
            basis,
            number,
            f"Suspected unexpected serious adverse reactions, onset {basis.since} to {basis.cut}",
            found,
        )
    ]


def _safety_reports(m: Material, number: str) -> Sequence[Item]:
    inside = [s for s in m.sent if m.basis.since <= s.sent <= m.basis.cut]
    rows: list[list[Cell]] = [
        [s.case, s.version, s.authority, s.rule, s.sent.isoformat(), s.state]
        for s in sorted(inside, key=lambda s: (s.sent, s.case, s.version))
    ]
    columns = ("Case", "Version", "Authority", "Report", "Sent", "State")
    title = f"Safety reports sent, {m.basis.since.isoformat()} to {m.basis.cut.isoformat()}"
    return [DataTable(number, title, m.basis.safety_population, columns, rows_of(rows), listing=True)]


def _comparison(m: Material, number: str) -> Sequence[Item]:
    basis = m.basis
    if basis.audience == "blinded":
        return [Paragraph("The arms are not compared in a blinded report.")]
    if not basis.control or len(basis.groups) < 2:
        return [Paragraph("There is no control arm to compare with: name it in the study file (comparator: true).")]
    return event_tables.comparison(basis, number)


def _one(make: Callable[..., DataTable], *arguments: object, **named: object) -> Part:
    return lambda m, number: [make(m.basis, number, *arguments, **named)]


def _terms(title: str, events: Callable[[Basis], pl.DataFrame], least: float = 0.0) -> Part:
    return lambda m, number: [event_tables.by_term(m.basis, number, title, events(m.basis), least=least)]


PARTS: Mapping[str, Part] = {
    "recruitment": _recruitment,
    "inventory": _inventory,
    "products": _products,
    "references": _references,
    "demographics": _one(subject_tables.demographics),
    "disposition": _one(subject_tables.disposition),
    "retention": lambda m, number: subject_tables.retention(m.basis, number),
    "exposure": _one(subject_tables.exposure),
    "exposure_by_age": _one(subject_tables.exposure_by, "age_group", "Age group"),
    "exposure_by_race": _one(subject_tables.exposure_by, "RACE", "Race"),
    "overview": _one(event_tables.overview),
    "by_term": _terms("Treatment-emergent adverse events", lambda b: b.emergent),
    "frequent_by_term": _terms("Frequent treatment-emergent adverse events", lambda b: b.emergent, FREQUENT),
    "serious_by_term": _terms("Cumulative serious adverse events", _serious),
    "to_confirm_by_term": _terms("Cumulative events whose seriousness the sites are asked to confirm", _to_confirm),
    "rates": _one(event_tables.rates),
    "laboratory": _one(laboratory_tables.shift_table),
    "liver": _one(laboratory_tables.liver_table),
    "comparison": _comparison,
    "serious_listing": _one(listings.serious_events, period=False, related=False),
    "serious_reactions_period": _one(listings.serious_events, period=True, related=True),
    "susars_period": _susars,
    "deaths": _one(listings.deaths, period=False),
    "deaths_period": _one(listings.deaths, period=True),
    "withdrawals": _one(listings.withdrawals, period=False),
    "withdrawals_period": _one(listings.withdrawals, period=True),
    "safety_reports": _safety_reports,
    "sponsor_writes": lambda m, number: [Paragraph(SPONSOR_WRITES, note=True)],
}
"""What a part is made by."""


def put_together(kind: str, material: Material, *, due: date, stamp: datetime, program: str) -> Document:
    """Make a report.

    Args:
        kind: One of reports.yaml.
        material: What it is made of.
        due: Day by which it is filed; on the title page.
        stamp: When it is made, by declaration.
        program: Version of the code.

    Raises:
        TrialOpsError: reports.yaml names a part nobody makes.
    """
    rule, basis = report(kind), material.basis
    chapters = []
    for number, title, parts in rule["chapters"]:
        items: list[Item] = []
        for k, name in enumerate(parts, 1):
            if name not in PARTS:
                raise TrialOpsError(f"Nobody makes the part {name!r}", where=f"reports.yaml, {kind}")
            items += PARTS[name](material, f"{number}.{k}")
        chapters.append(Chapter(str(number), title, tuple(items)))
    safety, protocol = basis.study.safety, basis.study.protocol
    facts = {
        "Sponsor": protocol.get("sponsor") or basis.study.sender.get("organisation"),
        "Protocol": f"{protocol['number']}: {protocol['title']}",
        "IND": safety.get("ind_number"),
        "EudraCT": safety.get("eudract_number"),
        "EU CT number": safety.get("ctis_number"),
        "Reporting period": f"{basis.since.isoformat()} to {basis.cut.isoformat()}",
        "To be filed by": due.isoformat(),
        "Follows": rule["basis"],
        "Populations": f"{basis.randomised.height:,} randomised, {basis.safety.height:,} treated",
        "Treatment": "not disclosed: arms together" if basis.audience == "blinded" else ", ".join(basis.groups),
        "Policies": f"safety {basis.policy.digest[:12]}, study file {basis.study.digest[:12]}, "
        f"reports {catalogue_digest()[:12]}",
    }
    return Document(
        kind=kind,
        title=str(rule["title"]),
        study=basis.trial.study,
        audience=basis.audience,
        cut=basis.cut,
        stamp=stamp,
        source=basis.trial.source,
        program=program,
        facts={label: str(value) for label, value in facts.items() if value},
        chapters=tuple(chapters),
        confidential="Confidential" if basis.audience == "blinded" else "Confidential: unblinded",
    )
