"""Discovery over the lake and the database as a step: findings, masked copies, page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.privacy.discovery import Finding, MaskingPolicy, default_masking_policy, discover
from trialops.privacy.masking import mask, recheck

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Engine

    from trialops.privacy.fhir_text import Scrubber
    from trialops.stores.context import Step

DATABASE = "database/"
ROWS = 20_000
"""Newest rows of a database table that are looked at."""


@dataclass(frozen=True)
class DiscoveryRun:
    """What was looked at and found.

    Attributes:
        tables: Tables looked at.
        columns: Columns looked at.
        findings: Personal data where they should not be.
        expected: Personal data that may be there.
        masked: Tables of which a masked copy was written.
        page: For people.
    """

    tables: int
    columns: int
    findings: tuple[Finding, ...]
    expected: tuple[Finding, ...]
    masked: tuple[str, ...]
    page: Page

    def frame(self) -> pl.DataFrame:
        """The findings as a table."""
        import polars as pl

        text = {n: pl.String for n in ("table", "column", "kind", "identifier", "evidence")}
        schema = {**text, "values": pl.Int64, "matched": pl.Int64, "mask": pl.String}
        return pl.DataFrame([asdict(f) for f in self.findings], schema=schema)


def run_discovery(run: Step, *, scope: str = "*", apply: bool = False) -> DiscoveryRun:
    """Look at the newest version of every table in scope, and at the database.

    Args:
        run: The step.
        scope: Pattern of table names; database tables are "database/<name>".
        apply: Write masked copies ("masked/<zone>_<table>") of lake tables with findings, each looked at again.

    Raises:
        TrialOpsError: A masked copy still holds personal data.
    """
    from trialops.privacy.fhir_text import Scrubbers
    from trialops.stores.refs import TableRef

    policy = default_masking_policy()
    notes = Scrubbers("strict").notes
    names = [n for n in run.lake.tables() if fnmatchcase(n, scope) and not n.startswith("masked/")]
    found: list[Finding] = []
    copies: list[str] = []
    columns = looked = 0
    for i, name in enumerate(names):
        run.progress(f"looking at {name}", 0.8 * i / max(len(names), 1))
        commit = run.lake.versions(name)[0]
        if run.lake.disposed(name, commit["version"]):
            continue
        frame = run.lake.read(TableRef(name, commit["version"], commit["rows"], commit["digest"]))
        here = _look(name, frame, policy, run.settings.hipaa_compliance_mode, notes)
        looked, columns = looked + 1, columns + frame.width
        if here and apply:
            masked = mask(frame, here, run.vault, scrubber=notes, policy=policy)
            recheck(name, masked, here, policy=policy, scrubber=notes)
            copies.append(f"masked/{name.replace('/', '_')}")
            run.write_named(copies[-1], masked)
        found += here
    for name, frame in _database(run.engine, scope):
        found += _look(name, frame, policy, "strict", notes)
        looked, columns = looked + 1, columns + frame.width
    unexpected = tuple(f for f in found if not _listed(f, policy.expected))
    expected = tuple(f for f in found if _listed(f, policy.expected))
    page = _page(looked, columns, unexpected, expected, copies, policy)
    return DiscoveryRun(looked, columns, unexpected, expected, tuple(copies), page)


def _look(name: str, frame: pl.DataFrame, policy: MaskingPolicy, mode: str, notes: Scrubber) -> list[Finding]:
    kept = [c for c in frame.columns if not any(fnmatchcase(f"{name}.{c}", pattern) for pattern in policy.skip)]
    found = discover(name, frame.select(kept), policy, notes)
    calendar = any(fnmatchcase(name, pattern) for pattern in policy.calendar.get(mode, ()))
    return [f for f in found if not (calendar and f.kind in ("date", "birth_date"))]


def _listed(finding: Finding, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(f"{finding.table}.{finding.column}", pattern) for pattern in patterns)


def _database(engine: Engine, scope: str) -> list[tuple[str, pl.DataFrame]]:
    """Text columns of the database's tables, the newest rows of each."""
    import polars as pl
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import metadata

    made = []
    with reading(engine) as connection:
        for table in metadata.sorted_tables:
            name = f"{DATABASE}{table.name}"
            chosen = [c for c in table.columns if isinstance(c.type, sa.String)]
            if not chosen or not fnmatchcase(name, scope):
                continue
            order = [c.desc() for c in table.primary_key.columns]
            rows = connection.execute(sa.select(*chosen).order_by(*order).limit(ROWS)).all()
            if rows:
                schema = {c.name: pl.String for c in chosen}
                made.append((name, pl.DataFrame([tuple(r) for r in rows], schema=schema, orient="row")))
    return made


def _page(
    tables: int,
    columns: int,
    findings: tuple[Finding, ...],
    expected: tuple[Finding, ...],
    copies: list[str],
    policy: MaskingPolicy,
) -> Page:
    kinds: dict[str, int] = {}
    for finding in findings:
        kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
    shown = ("table", "column", "kind", "identifier", "evidence", "values", "matched", "mask")
    plot = [Figure(plots.bars(list(kinds), [float(n) for n in kinds.values()], xlabel="columns"), "Columns by kind.")]
    return Page(
        "Personal data in tables",
        [
            Section(
                "Found",
                [
                    Facts({"tables": tables, "columns": columns, "with personal data": len(findings)}),
                    *(plot if kinds else []),
                    Table(shown, [tuple(getattr(f, c) for c in shown) for f in findings]),
                ],
            ),
            Section(
                "Masked copies",
                [Text(f"Written and looked at again: {', '.join(copies)}." if copies else "None were asked for.")],
            ),
            Section("Expected", [Table(shown, [tuple(getattr(f, c) for c in shown) for f in expected])]),
        ],
        Verdict(
            f"{len(findings)} columns with personal data" if findings else "no personal data found",
            "bad" if findings else "good",
            f"policy version {policy.version}",
        ),
    )
