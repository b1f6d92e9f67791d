"""A screening from files to results, as a step and the command line do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.pages import Page, Verdict
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.faers import STRATA, read_faers
from trialops.safety.signals.masking import maskers
from trialops.safety.signals.page import TITLE, batch_page, screening_page
from trialops.safety.signals.policy import SignalPolicy
from trialops.safety.signals.readers import Columns, ReportRows
from trialops.safety.signals.screening import Screening, measured, since
from trialops.safety.signals.state import SignalState, Update

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.lake import Lake

    Progress = Callable[[str, float | None], None]

FAERS, ROWS = "faers", "rows"
UNSCORED = "nothing scored"


@dataclass(frozen=True)
class Request:
    """What to screen.

    Attributes:
        source: CSV or Parquet file or folder of report rows; or a folder of FAERS quarters.
        form: "rows" or "faers".
        columns: Names of the columns; for FAERS only the strata count, any of sex, age and year.
        delimiter: Of CSV files.
        roles: Roles of products that count, for FAERS.
        without: Pairs whose reports are left out.
        ebgm: Whether to compute EBGM.
        public: Whether the reports are published data, so that small counts may be shown.
    """

    source: Path
    form: str = ROWS
    columns: Columns = Columns()
    delimiter: str = ","
    roles: tuple[str, ...] = ("PS",)
    without: tuple[tuple[str, str], ...] = ()
    ebgm: bool = True
    public: bool = False


def asked(
    source: str,
    *,
    form: str,
    report: str,
    product: str,
    event: str,
    strata: Sequence[str],
    roles: Sequence[str],
    without: Sequence[str],
    ebgm: bool,
    public: bool,
    delimiter: str = ",",
) -> Request:
    """A request from plain parameters.

    Raises:
        TrialOpsError: The form is unknown, a stratum is not one of FAERS's, or a pair lacks its ``=>``.
    """
    if form not in (ROWS, FAERS):
        raise TrialOpsError("The form is not known", where=f"form {form}", fix=f"Use {ROWS} or {FAERS}.")
    unknown = sorted(set(strata) - set(STRATA)) if form == FAERS else []
    if unknown:
        raise TrialOpsError(
            f"FAERS has no stratum {', '.join(unknown)}", where="strata", fix="Use " + ", ".join(STRATA)
        )
    pairs = [tuple(part.strip() for part in pair.split("=>")) for pair in without]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise TrialOpsError("A pair to leave out is not understood", where="without", fix='Write "PRODUCT => EVENT".')
    return Request(
        source=Path(source),
        form=form,
        columns=Columns(report, product, event, tuple(strata)),
        delimiter=delimiter,
        roles=tuple(roles),
        without=tuple((pair[0], pair[1]) for pair in pairs),
        ebgm=ebgm,
        public=public,
    )


def rows_of(request: Request, folder: Path) -> ReportRows:
    """The report rows of a request; FAERS quarters are brought into one file in the folder first."""
    if request.form == FAERS:
        made = read_faers(request.source, folder / "faers.parquet", roles=request.roles)
        return made.rows(request.columns.strata)
    return ReportRows(request.source, request.columns, delimiter=request.delimiter)


def screen(request: Request, policy: SignalPolicy, folder: Path, progress: Progress) -> Screening:
    """Count and measure everything in the source.

    Args:
        request: What to screen.
        policy: Thresholds.
        folder: For files that matter only meanwhile.
        progress: Called with a message and the share done.
    """
    rows = rows_of(request, folder)
    counts = count_reports(rows, without=request.without, progress=progress, folder=folder)
    return measured(counts, policy, ebgm=request.ebgm, progress=progress)


def screening_report(
    result: Screening, before: pl.DataFrame | None, request: Request, update: Update | None = None
) -> Page:
    """The page of a screening, with what hides what."""
    found = maskers(result.counts, result.policy)
    return screening_page(result, before, found, public=request.public, update=update, without=request.without)


def advance(
    lake: Lake,
    name: str,
    request: Request,
    policy: SignalPolicy,
    folder: Path,
    *,
    withdrawn: Sequence[str] = (),
    run_id: str = "",
) -> tuple[Update, Screening | None, bool]:
    """Take the source in as a batch, and screen everything anew where the policy says it is due.

    Returns:
        What the batch changed; the screening (of everything, or of the pairs the batch touched; None where there is no
        prior to score them with); whether it is of everything.
    """
    if request.without:
        raise TrialOpsError(
            "A continuous state holds all reports", where="without", fix="Leave pairs out in a screening of its own."
        )
    rows = rows_of(request, folder)
    state = SignalState(lake, name, rows.strata, run_id=run_id)
    update = state.update(rows.frame_of_all(), policy, withdrawn)
    if update.refit_due:
        return update, state.refresh(policy, ebgm=request.ebgm), True
    return update, update.touched, False


@dataclass(frozen=True)
class Screened:
    """What a screening leaves.

    Attributes:
        pairs: Pairs with all measures; those a batch touched, where not everything was screened.
        signals: The signals among them, the highest first, with ``criteria`` and ``new``.
        page: For people.
        numbers: Figures of the whole.
        table: Full name of the table the pairs belong in.
        outcome: "signals", "no signals", "no EBGM" or "nothing scored".
    """

    pairs: pl.DataFrame
    signals: pl.DataFrame
    page: Page
    numbers: dict[str, Any]
    table: str
    outcome: str


def screened(
    lake: Lake,
    dataset: str,
    request: Request,
    policy: SignalPolicy,
    folder: Path,
    progress: Progress,
    *,
    continuous: bool = False,
    withdrawn: str = "",
    run_id: str = "",
) -> Screened:
    """Screen the source, as a whole or as a batch of a continuous state, and compare with the screening before.

    Args:
        lake: Holds the screenings before, and the state.
        dataset: Name of the data set: lower case letters, digits and _.
        request: What to screen.
        policy: Thresholds.
        folder: For files that matter only meanwhile.
        progress: Called with a message and the share done.
        continuous: Whether the source is a batch.
        withdrawn: File of report ids that are no longer in force, one per line; for a batch.
        run_id: Kept in the commits.
    """
    update, whole = None, True
    result: Screening | None
    if continuous:
        ids = _lines(withdrawn)
        update, result, whole = advance(lake, dataset, request, policy, folder, withdrawn=ids, run_id=run_id)
    else:
        result = screen(request, policy, folder, progress)
    table = f"signals/{dataset}" if whole else f"signals/{dataset}_touched"
    if result is None:
        assert update is not None
        empty = nothing(policy).pairs
        return Screened(
            empty, since(empty, None), batch_page(update, policy), {"batch": _told(update)}, table, UNSCORED
        )
    before = earlier(lake, f"signals/{dataset}", None if whole else result.pairs)
    numbers = {**result.numbers(), "policy_version": policy.version}
    if update is not None:
        numbers["batch"] = _told(update)
    outcome = "signals" if result.signals["ebgm"] else "no signals"
    return Screened(
        pairs=result.pairs,
        signals=since(result.pairs, before),
        page=screening_report(result, before, request, update),
        numbers=numbers,
        table=table,
        outcome=outcome if result.theta else "no EBGM",
    )


def nothing(policy: SignalPolicy) -> Screening:
    """The screening of no report at all."""
    import polars as pl

    empty = pl.DataFrame(schema=dict.fromkeys(("report", "product", "event"), pl.String))
    return measured(count_reports(ReportRows(empty)), policy, ebgm=False)


def nothing_page() -> Page:
    """The page of a step that was given no reports."""
    return Page(
        TITLE, verdict=Verdict("No reports were given", "plain", "Name a file of spontaneous reports to screen.")
    )


def _lines(path: str) -> list[str]:
    if not path:
        return []
    try:
        return [line.strip() for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise TrialOpsError(
            "The list of withdrawn reports cannot be read", where=path, fix="One report id per line, UTF-8."
        ) from None


def _told(update: Update) -> dict[str, Any]:
    told = {f.name: getattr(update, f.name) for f in fields(update) if f.name not in ("touched", "expected_moved")}
    return {**told, "expected_moved": list(update.expected_moved) if update.expected_moved else None}


def earlier(lake: Lake, table: str, pairs: pl.DataFrame | None = None) -> pl.DataFrame | None:
    """Pairs of the screening before, or of it the ones with the products of some pairs; None when there was none."""
    import polars as pl

    from trialops.stores.refs import TableRef

    versions = lake.versions(table)
    if not versions:
        return None
    newest = versions[0]
    scan = lake.scan(TableRef(table, newest["version"], newest["rows"], newest["digest"]))
    if pairs is not None:
        scan = scan.filter(pl.col("product").is_in(pairs["product"].unique().implode()))
    return scan.collect()
