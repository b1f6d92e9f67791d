"""Seriousness from every criterion, not from the flag alone; what is doubtful becomes a query to the site.

An event is serious when the site says so or when it was fatal, whoever says so (AESDTH, AEOUT, or DM and DS of a
subject of whom no event says it). Another criterion of ICH E2A beside a flag that says no is a contradiction: the event
is "to confirm", the site is asked, and the clocks treat it as serious until the site has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.trial.tables import TrialTables

SERIOUS, TO_CONFIRM, NOT_SERIOUS = "serious", "to confirm", "not serious"
DEATH, LIFE_THREATENING, IMPORTANT = "death", "life-threatening", "medically important"

RULES = {
    "SAF01": ("critical", "The event was fatal and is flagged not serious: correct AESER or the outcome"),
    "SAF02": (
        "major",
        "A criterion of seriousness is met and the event is flagged not serious: confirm which is right",
    ),
    "SAF03": ("major", "The term is medically important and the event is flagged not serious: confirm that it was not"),
    "SAF04": ("major", "The event is flagged serious and no criterion says why: give the criterion"),
    "SAF05": ("major", "Seriousness is not stated: give AESER"),
    "SAF06": ("critical", "The subject died and no event is fatal: say which event led to death"),
    "SAF07": ("critical", "An event is fatal and nothing else says that the subject died: confirm the death"),
    "SAF08": ("major", "The causality of a serious event is not stated: give AEREL"),
    "SAF09": ("major", "The causality of a serious event is a word without a meaning in the study file: correct AEREL"),
}
"""Rules of the queries: priority and question."""


def seriousness(trial: TrialTables, policy: SafetyPolicy) -> pl.DataFrame:
    """The AE rows with what makes them serious.

    Args:
        trial: The delivery; a blinded one serves as well.
        policy: The study's.

    Returns:
        AE in its order with ``EVENT`` (AESPID, else SEQ and the number: rows of one subject with the same EVENT record
        one event), ``FATAL``, ``LIFE_THREATENING`` (bool), ``CRITERIA`` (list, in order of gravity), ``SERIOUS``,
        ``SERIOUS_BASIS`` and ``DIED`` (bool: DM or DS say that the subject died).
    """
    import polars as pl

    events = trial.table("AE")
    there = set(events.columns)
    yes = {c: _upper(c).is_in(["Y", "YES"]).fill_null(False) for c in (*policy.criteria, "AESER") if c in there}
    nothing = pl.lit(False)
    dead = deaths(trial, policy)
    rows = events.join(dead, on="USUBJID", how="left", maintain_order="left").with_columns(
        DIED=pl.col("DIED").fill_null(False)
    )
    outcome = _upper("AEOUT").is_in(policy.fatal_outcomes).fill_null(False) if "AEOUT" in there else nothing
    said = yes.get("AESDTH", nothing) | outcome
    rows = rows.with_columns(_said=said)
    # The subject died and no event says it: the event that ended that day, unresolved, is taken for the fatal one.
    silent = pl.col("DIED") & ~pl.col("_said").any().over("USUBJID")
    rows = rows.with_columns(
        FATAL=pl.col("_said") | (silent & _ended_in_death(policy, there)),
        _at_death=silent & _going_on(policy, there),
    )
    threat = yes.get("AESLIFE", nothing) | (
        (pl.col("AETOXGR").cast(pl.String).str.strip_chars() == "4").fill_null(False) if "AETOXGR" in there else nothing
    )
    term = _upper("AEDECOD").is_in(sorted(policy.important)).fill_null(False) if "AEDECOD" in there else nothing
    listed = []
    for column, criterion in policy.criteria.items():
        met = yes.get(column, nothing)
        if criterion == DEATH:
            met = pl.col("FATAL") | pl.col("_at_death")
        elif criterion == LIFE_THREATENING:
            met = threat
        elif criterion == IMPORTANT:
            met = met | term
        listed.append(pl.when(met).then(pl.lit(criterion)))
    flagged = yes.get("AESER", nothing)
    stated = _upper("AESER").is_in(["Y", "N", "YES", "NO"]).fill_null(False) if "AESER" in there else nothing
    rows = rows.with_columns(
        LIFE_THREATENING=threat, CRITERIA=pl.concat_list(listed).list.drop_nulls(), _flag=flagged, _stated=stated
    )
    by_form = pl.col("CRITERIA").list.set_difference([IMPORTANT]).list.len() > 0
    by_form = by_form | yes.get("AESMIE", nothing)
    basis = (
        pl.when(pl.col("FATAL") & pl.col("_flag"))
        .then(pl.lit("flag, fatal"))
        .when("FATAL")
        .then(pl.lit("fatal"))
        .when("_flag")
        .then(pl.lit("flag"))
        .when("_at_death")
        .then(pl.lit("going on at death"))
        .when(by_form)
        .then(pl.lit("criterion"))
        .when(term)
        .then(pl.lit("important term"))
        .when(~pl.col("_stated"))
        .then(pl.lit("not stated"))
        .otherwise(pl.lit(""))
    )
    serious = (
        pl.when(basis.is_in(["flag, fatal", "fatal", "flag"]))
        .then(pl.lit(SERIOUS))
        .when(basis != "")
        .then(pl.lit(TO_CONFIRM))
        .otherwise(pl.lit(NOT_SERIOUS))
    )
    number = pl.format("SEQ{}", pl.col("AESEQ").cast(pl.Int64, strict=False))
    sponsor = pl.col("AESPID").str.strip_chars() if "AESPID" in there else pl.lit(None, pl.String)
    event = pl.when(sponsor.fill_null("") != "").then(sponsor).otherwise(number)
    done = rows.with_columns(EVENT=event, SERIOUS=serious, SERIOUS_BASIS=basis)
    return done.drop("_said", "_at_death", "_flag", "_stated", "DEATH")


def deaths(trial: TrialTables, policy: SafetyPolicy) -> pl.DataFrame:
    """Subjects that DM (DTHFL, DTHDTC) or DS says died: USUBJID, ``DIED`` (true), ``DEATH`` (exact Date or null)."""
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    dm, ds = trial.table("DM"), trial.get("DS")
    flag = _upper("DTHFL").is_in(["Y", "YES"]).fill_null(False) if "DTHFL" in dm.columns else pl.lit(False)
    dated = (pl.col("DTHDTC").fill_null("") != "") if "DTHDTC" in dm.columns else pl.lit(False)
    day = exact_day("DTHDTC") if "DTHDTC" in dm.columns else pl.lit(None, pl.Date)
    parts = [dm.filter(flag | dated).select("USUBJID", DEATH=day)]
    if ds is not None and "DSDECOD" in ds.columns:
        of = ds.filter(_upper("DSDECOD").is_in(policy.death_terms))
        start = exact_day("DSSTDTC") if "DSSTDTC" in ds.columns else pl.lit(None, pl.Date)
        parts.append(of.select("USUBJID", DEATH=start))
    return pl.concat(parts).group_by("USUBJID").agg(pl.col("DEATH").min()).with_columns(DIED=True)


def _ended_in_death(policy: SafetyPolicy, there: set[str]) -> pl.Expr:
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    if "AEENDTC" not in there:
        return pl.lit(False)
    return ((exact_day("AEENDTC") == pl.col("DEATH")) & ~_resolved(policy, there)).fill_null(False)


def _going_on(policy: SafetyPolicy, there: set[str]) -> pl.Expr:
    """Not known to have been over by the day of death: no end, no outcome that says so."""
    import polars as pl

    ended = (pl.col("AEENDTC").fill_null("") != "") if "AEENDTC" in there else pl.lit(False)
    return ~ended & ~_resolved(policy, there)


def _resolved(policy: SafetyPolicy, there: set[str]) -> pl.Expr:
    import polars as pl

    return _upper("AEOUT").is_in(policy.resolved_outcomes).fill_null(False) if "AEOUT" in there else pl.lit(False)


def _upper(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).str.strip_chars().str.to_uppercase()


def queries(events: pl.DataFrame, trial: TrialTables, policy: SafetyPolicy) -> pl.DataFrame:
    """What the sites are asked about seriousness and causality.

    Args:
        events: From :func:`seriousness`, with ``RELATED_INVESTIGATOR``.
        trial: The delivery.
        policy: The study's.

    Returns:
        Sorted: ``rule``, ``USUBJID``, ``domain``, ``sequence`` (AESEQ; null for a question about the subject),
        ``severity`` (critical, major), ``text``.
    """
    import polars as pl

    basis = pl.col("SERIOUS_BASIS")
    serious = pl.col("SERIOUS") != NOT_SERIOUS
    unknown = serious & pl.col("RELATED_INVESTIGATOR").is_null()
    unsaid = (pl.col("AEREL").fill_null("") == "") if "AEREL" in events.columns else pl.lit(True)
    asked = {
        "SAF01": basis == "fatal",
        "SAF02": basis == "criterion",
        "SAF03": basis == "important term",
        "SAF04": (basis == "flag") & (pl.col("CRITERIA").list.len() == 0),
        "SAF05": basis == "not stated",
        "SAF07": pl.col("FATAL") & ~pl.col("DIED"),
        "SAF08": unknown & unsaid,
        "SAF09": unknown & ~unsaid,
    }
    parts = [
        events.filter(condition)
        .select("USUBJID", sequence="AESEQ")
        .with_columns(rule=pl.lit(rule), domain=pl.lit("AE"))
        for rule, condition in asked.items()
    ]
    fatal = events.filter(pl.col("FATAL") & basis.str.contains("fatal")).select("USUBJID")
    unnamed = deaths(trial, policy).join(
        events.join(fatal, on="USUBJID", how="semi").select("USUBJID").unique(), on="USUBJID", how="anti"
    )
    parts.append(
        unnamed.select("USUBJID", sequence=pl.lit(None, pl.Float64), rule=pl.lit("SAF06"), domain=pl.lit("DM"))
    )
    found = pl.concat(
        [part.with_columns(pl.col("sequence").cast(pl.Float64)) for part in parts], how="diagonal_relaxed"
    )
    return (
        found.with_columns(
            severity=pl.col("rule").replace_strict({r: s for r, (s, _) in RULES.items()}, return_dtype=pl.String),
            text=pl.col("rule").replace_strict({r: t for r, (_, t) in RULES.items()}, return_dtype=pl.String),
        )
        .select("rule", "USUBJID", "domain", "sequence", "severity", "text")
        .sort("rule", "USUBJID", "sequence")
    )
