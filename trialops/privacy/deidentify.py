"""De-identify SDTM tables: Safe Harbor (strict), limited data set (limited), or study days only (off)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake import partial_dates, quarantine
from trialops.intake.domains import ROW, SOURCE, catalog, deliveries, file_labels
from trialops.privacy import needles, study_days
from trialops.privacy.data_cut import with_cut
from trialops.privacy.policy import MODES, Policy, default_policy
from trialops.privacy.report import LABELS, DeidentificationReport, Deidentified
from trialops.privacy.scan import scan
from trialops.privacy.study_days import HELPERS, OFFSET, REFERENCE, SOURCES, day_column
from trialops.privacy.transform import Withheld, action_of, clean_table, counted_across

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import polars as pl

    from trialops.privacy.fhir_deidentify import FhirDeidentified
    from trialops.privacy.keys import Vault

    Progress = Callable[[str, float], None] | None


class HIPAAComplianceOperator:
    """Turns raw SDTM tables into clean ones by a column policy, and FHIR resources by an element policy."""

    def __init__(self, policy: Policy | None = None) -> None:
        """Take a column policy; the platform's own by default."""
        self.policy = policy or default_policy()

    def run(
        self,
        tables: dict[str, pl.DataFrame],
        mode: str,
        vault: Vault,
        *,
        synthetic: bool = False,
        progress: Progress = None,
        only: Collection[str] | None = None,
        before: dict[str, pl.DataFrame] | None = None,
    ) -> Deidentified:
        """De-identify all tables of a trial, or those of a few subjects after a correction.

        Args:
            tables: Raw tables by domain, with DM; as `read_folder` gives them.
            mode: "strict", "limited" or "off".
            vault: Keys of the trial.
            synthetic: States that the tables describe nobody; mode "off" needs it.
            progress: Called with a message and the fraction done.
            only: USUBJIDs whose rows are made anew; what concerns the whole trial (day 1, the data cut, the numbers
                of deliveries) still comes from all rows, so that the rows are those a full run gives.
            before: Clean tables that hold everybody else's rows; needed with `only`.

        Returns:
            Clean tables sorted by subject pseudonym and key, the report, and a quarantine.

        Raises:
            TrialOpsError: Unknown mode, "off" on data not declared synthetic, no DM, colliding pseudonyms, or
                an identifier left in a clean table.
        """
        import polars as pl

        self._require(tables, mode, synthetic)
        tables, absent = _with_optional(tables)
        day_one = study_days.references(tables, self.policy).filter(pl.col("USUBJID").is_not_null())
        subjects = day_one["USUBJID"].sort()
        reference = day_one.select("USUBJID", *(c for c in HELPERS if c in day_one.columns))
        visits = study_days.visits(tables)
        if mode == "limited":
            offsets = pl.DataFrame(
                {"USUBJID": subjects, OFFSET: [vault.offset_days(s) for s in subjects]},
                schema={"USUBJID": pl.String, OFFSET: pl.Int64},
            )
            reference = reference.join(offsets, on="USUBJID")
        names = self._pseudonyms(tables, mode, vault)
        files = _files(tables)
        numbers, labels = deliveries(files), file_labels(files)
        clean: dict[str, pl.DataFrame] = {}
        aside = [quarantine.empty()]
        lines: list[dict[str, Any]] = []
        disagree: dict[str, int] = {}
        withheld = Withheld()
        for i, domain in enumerate(sorted(tables)):
            if progress:
                progress(f"de-identifying {domain}", 0.9 * i / len(tables))
            frame = tables[domain].join(reference, on="USUBJID", how="left")
            if frame.schema.get("VISITNUM") == pl.Float64:
                frame = frame.join(visits, on=["USUBJID", "VISITNUM"], how="left")
            orphan = ~pl.col("USUBJID").is_in(subjects.implode()).fill_null(False)
            aside.append(_set_aside(domain, frame.filter(orphan), labels))
            frame = frame.filter(~orphan)
            disagree |= _disagreements(frame)
            lines += self._lines(domain, frame.drop(absent.get(domain, [])), mode)
            again = counted_across(domain, frame, mode)
            if only is not None:
                frame = frame.filter(pl.col("USUBJID").is_in(list(only)))
            cleaned = clean_table(domain, frame, mode, self.policy, names, numbers, withheld, renumber=again)
            if before is not None and domain in before:
                cleaned = _beside(before[domain], cleaned, only or (), names.get("subject"))
            clean[domain] = _sorted(domain, cleaned)
        clean["DM"] = with_cut(clean["DM"], day_one, names.get("subject"), self.policy.data_cut)
        listed = pl.DataFrame(lines, schema=_COLUMNS)
        dropped = listed.filter(pl.col("action") == "drop")
        report = DeidentificationReport(
            mode=mode,
            label=LABELS[mode],
            policy_version=self.policy.version,
            subjects=subjects.len(),
            columns=listed,
            capped_ages=withheld.ages,
            ages_without_unit=withheld.units,
            withheld=withheld.values,
            days_over_age=withheld.days,
            day_one=_day_one(day_one),
            day_one_outside=int(day_one["contradicts"].sum()),
            absent_columns=[f"{d}.{c}" for d, columns in sorted(absent.items()) for c in columns],
            renumbered=withheld.renumbered,
            identifiers=_identifiers(listed),
            unlisted_columns=_names(dropped.filter(~pl.col("listed"))),
            dropped_columns=_names(dropped),
            day_disagreements={c: n for c, n in sorted(disagree.items()) if n},
            subjects_without_reference=int(reference[REFERENCE].null_count()),
            scanned={} if mode == "off" else scan(clean, needles.collect(tables, self.policy), mode, self.policy),
        )
        if progress:
            progress("searched the clean tables for identifiers", 1.0)
        return Deidentified(clean, report, pl.concat(aside).sort("file", "row"), names)

    def run_fhir(
        self,
        tables: Mapping[str, pl.DataFrame],
        mode: str,
        vault: Vault,
        *,
        synthetic: bool = False,
        denied: Mapping[str, Mapping[str, str]] | None = None,
        progress: Progress = None,
    ) -> FhirDeidentified:
        """De-identify FHIR resources, subjects' pseudonyms and offsets the same as in SDTM tables.

        Args:
            tables: Raw tables by resource type, see `trialops.intake.fhir_tables`.
            mode: "strict", "limited" or "off".
            vault: Keys of the trial.
            synthetic: States that the resources describe nobody; mode "off" needs it.
            denied: Resource type -> id -> reason for resources that are withheld.
            progress: Called with a message and the fraction done.

        Raises:
            TrialOpsError: As `run`.
        """
        from trialops.privacy.fhir_deidentify import deidentify_fhir

        return deidentify_fhir(tables, mode, vault, synthetic=synthetic, denied=denied, progress=progress)

    def _require(self, tables: dict[str, pl.DataFrame], mode: str, synthetic: bool) -> None:
        if mode not in MODES:
            raise TrialOpsError(
                f"There is no de-identification mode {mode!r}.",
                where="HIPAA_COMPLIANCE_MODE",
                fix=f"Use one of {', '.join(MODES)}.",
            )
        if mode == "off" and not synthetic:
            raise TrialOpsError(
                "De-identification is off, and the data are not declared synthetic.",
                where="HIPAA_COMPLIANCE_MODE",
                fix="Use strict or limited for real subjects.",
            )
        if "DM" not in tables or "RFSTDTC" not in tables["DM"].columns:
            raise TrialOpsError(
                "De-identification needs DM with RFSTDTC: it holds day 1 of every subject.",
                where="DM",
                fix="Load the delivery again with its DM data set.",
            )

    def _pseudonyms(self, tables: dict[str, pl.DataFrame], mode: str, vault: Vault) -> dict[str, pl.DataFrame]:
        """Per key space, a table of raw value and pseudonym."""
        import polars as pl

        values: dict[str, list[pl.Series]] = {}
        for domain, frame in tables.items():
            for column in frame.columns:
                rule = self.policy.rule(domain, column)
                if rule and rule.action(mode) == "pseudonymise":
                    values.setdefault(rule.kind, []).append(frame[column].cast(pl.String).rename("raw"))
        names = {}
        for kind, series in values.items():
            raw = pl.concat(series).drop_nulls().unique().sort()
            given = pl.Series("pseudonym", vault.pseudonyms(kind, raw.to_list()), dtype=pl.String)
            if given.n_unique() != raw.len() or given.len() != raw.len():
                raise TrialOpsError(
                    "The vault gave two values the same pseudonym.",
                    where=f"vault, kind {kind}",
                    fix="Use longer pseudonyms; nothing was released.",
                )
            names[kind] = pl.DataFrame([raw, given])
        return names

    def _lines(self, domain: str, frame: pl.DataFrame, mode: str) -> list[dict[str, Any]]:
        lines = []
        for column in frame.columns:
            if column in HELPERS:
                continue
            rule = self.policy.rule(domain, column)
            lines.append(
                {
                    "domain": domain,
                    "column": column,
                    "action": action_of(self.policy, domain, column, mode),
                    "identifier": rule.identifier if rule else "",
                    "values": frame[column].count(),
                    "listed": rule is not None,
                }
            )
        return lines


_COLUMNS = ["domain", "column", "action", "identifier", "values", "listed"]


def _with_optional(tables: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], dict[str, list[str]]]:
    """The tables with every optional column that later steps read, empty where it was not delivered; and which."""
    import polars as pl

    absent: dict[str, list[str]] = {}
    out = {}
    for domain, frame in tables.items():
        spec = catalog().domains.get(domain)
        missing = [c for c in (spec.optional if spec else ()) if c not in frame.columns]
        kinds = {c: pl.Float64 if catalog().is_numeric(domain, c) else pl.String for c in missing}
        out[domain] = frame.with_columns(pl.lit(None, kind).alias(c) for c, kind in kinds.items())
        if missing:
            absent[domain] = missing
    return out, absent


def _day_one(day_one: pl.DataFrame) -> dict[str, int]:
    """Subjects by where their day 1 came from."""
    import polars as pl

    counts = dict(day_one.group_by("source").len().iter_rows())
    contact = day_one.filter(pl.col("treated") & (pl.col("source") == SOURCES[-1])).height
    shown = {source: int(counts.get(source, 0)) for source in (*SOURCES, "none")}
    return {**shown, f"{SOURCES[-1]}, treated": contact}


def _files(tables: dict[str, pl.DataFrame]) -> list[str]:
    """Names of all files that rows came from."""
    return sorted({file for t in tables.values() if SOURCE in t.columns for file in t[SOURCE].drop_nulls().unique()})


def _set_aside(domain: str, frame: pl.DataFrame, labels: dict[str, str]) -> pl.DataFrame:
    """Rows without a subject in DM: there is no day 1 to count from."""
    import polars as pl

    if frame.is_empty():
        return quarantine.empty()
    reason = pl.when(pl.col("USUBJID").is_null()).then(pl.lit("MISSING_SUBJECT")).otherwise(pl.lit("ORPHAN_SUBJECT"))
    return frame.select(
        file=pl.col(SOURCE).replace(labels) if SOURCE in frame.columns else pl.lit(None, pl.String),
        row=pl.col(ROW) if ROW in frame.columns else pl.lit(None, pl.Int64),
        domain=pl.lit(domain),
        column=pl.lit("USUBJID"),
        reason=reason,
        message=reason.replace_strict(quarantine.REASONS, return_dtype=pl.String),
        all_reasons=reason,
    )


def _disagreements(frame: pl.DataFrame) -> dict[str, int]:
    """Rows per date column where source and computed study day differ."""
    import polars as pl

    pairs = [(c, day_column(c)) for c in frame.columns if c.endswith("DTC") and day_column(c) in frame.columns]
    counts = {
        date: (study_days.study_day(partial_dates.exact_day(date), pl.col(REFERENCE)) != pl.col(day)).sum()
        for date, day in pairs
    }
    return {c: int(n) for c, n in frame.select(**counts).row(0, named=True).items()} if pairs else {}


def _sorted(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """By pseudonym and then by what is in the row, so that the order of the raw file is not carried over."""
    spec = catalog().domains.get(domain)
    keys = [*(spec.key if spec else ("USUBJID",)), "KNOWNDY", SOURCE]
    first = [k for k in keys if k in frame.columns]
    return frame.sort([*first, *(c for c in frame.columns if c not in first)])


def _beside(
    before: pl.DataFrame, cleaned: pl.DataFrame, only: Collection[str], names: pl.DataFrame | None
) -> pl.DataFrame:
    """Rows made anew, beside those of everybody else as they were."""
    import polars as pl

    subjects = list(only) if names is None else names.filter(pl.col("raw").is_in(list(only)))["pseudonym"].to_list()
    others = before.filter(~pl.col("USUBJID").is_in(subjects))
    return pl.concat([others.select(cleaned.columns).cast(cleaned.schema), cleaned])


def _names(lines: pl.DataFrame) -> list[str]:
    return [f"{domain}.{column}" for domain, column in lines.select("domain", "column").iter_rows()]


def _identifiers(lines: pl.DataFrame) -> dict[str, list[str]]:
    import polars as pl

    touched = lines.filter((pl.col("identifier") != "") & (pl.col("action") != "keep") & (pl.col("values") > 0))
    classes = sorted(touched["identifier"].unique())
    return {letter: _names(touched.filter(pl.col("identifier") == letter)) for letter in classes}
