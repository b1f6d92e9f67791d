"""Continuous screening: reports that arrive update counts, margins and signals; corrections and withdrawals subtract.

What is kept, in the lake, as segments that are never changed:

* reports: the rows each report had from a batch on. A batch holds the whole present content of every report it names;
  a later batch replaces a report, or withdraws it.
* counts: what each batch changed in the counts of pairs, and of products, events and all reports by stratum.

A chain of documents names the segments in force; an update is there with its document or not at all. Segments are put
together when the newer is no longer much smaller than the one before it, so a row is rewritten a number of times that
grows with the logarithm of the history.

An update reads what is new, looks up the reports it names (for new reports whose ids follow those known, by the
smallest and largest id of each row group: nothing is read) and the counts of the pairs concerned (one look along the
stored keys, eight bytes each). No stored report is counted again.

Scores: pairs whose count changed are scored with the margins as they now are and with the prior fitted before. All
other pairs keep the scores of the last full screening, though the margins of many have moved too; by how much their
expected count can have changed is computed and told. When the declared share of the reports is new the prior is due,
and :meth:`SignalState.refresh` counts all reports anew, compares with the running counts, fits and scores everything:
the same to the last bit as one run over everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.signals.policy import SignalPolicy
from trialops.safety.signals.readers import Columns, ReportRows
from trialops.safety.signals.screening import Screening, measured
from trialops.safety.signals.state_tables import (
    ALL,
    PAIR,
    assembled,
    deltas,
    differing,
    expected_moved,
    keys,
    lengthened,
    margins_of,
    newest,
    no_counts,
    plain_rows,
    report_schema,
    summed,
)
from trialops.stores.chain_log import ChainLog, IntegrityError, Link
from trialops.stores.refs import TableRef

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.lake import Lake

_LARGER = 2  # a segment is put together with the one before unless that is at least so many times as large


@dataclass(frozen=True)
class Update:
    """What a batch changed.

    Attributes:
        reports: Reports the batch named.
        new: Of them, reports not known before.
        corrected: Known reports whose content changed.
        unchanged: Known reports that came again as they were.
        withdrawn: Known reports that were withdrawn.
        unknown: Withdrawals of reports that were not there.
        aside: Incomplete rows.
        counted: Rows that were counted: the batch's, and the former ones of what it changed.
        total: Reports in force afterwards.
        touched: Screening of the pairs whose count changed, with the prior fitted before; None before the first fit.
        gone: Pairs that no report has any more.
        since_fit: Reports changed since the prior was fitted, as a share of all.
        refit_due: Whether that share has reached the policy's.
        expected_moved: Smallest and largest factor by which the expected count of a pair that was not scored can have
            changed since the last full screening; None where no bound can be given.
    """

    reports: int
    new: int
    corrected: int
    unchanged: int
    withdrawn: int
    unknown: int
    aside: int
    counted: int
    total: int
    touched: Screening | None
    gone: int
    since_fit: float
    refit_due: bool
    expected_moved: tuple[float, float] | None


class SignalState:
    """The continuous state of one data set.

    Args:
        lake: Where segments are kept.
        name: Lower case letters, digits and _.
        strata: Stratum columns; the same in every batch.
        run_id: Kept in the commits.
    """

    def __init__(self, lake: Lake, name: str, strata: Sequence[str] = (), *, run_id: str = "") -> None:
        self.lake, self.name, self.strata, self.run_id = lake, name, tuple(strata), run_id
        self._chain = ChainLog(lake.objects, f"signals/{name}", "signal states")

    def update(self, batch: pl.DataFrame, policy: SignalPolicy, withdrawn: Sequence[str] = ()) -> Update:
        """Take in a batch.

        Args:
            batch: Rows with report, product, event and the strata: the whole content of every report in it.
            policy: Thresholds, and when the prior is due.
            withdrawn: Reports that are no longer in force.

        Raises:
            TrialOpsError: A report is both in the batch and withdrawn, the strata are other ones, or another update
                came in between.
        """
        import polars as pl

        head, body = self._head()
        number = int(body["batches"]) + 1
        rows = plain_rows(batch, Columns(strata=self.strata))
        named = rows["report"].drop_nulls().unique()
        gone = pl.Series("report", sorted({str(report).strip() for report in withdrawn}), pl.String)
        if gone.is_in(named.implode()).any():
            raise TrialOpsError("A report is both in the batch and withdrawn", where=self.name, fix="Leave out one.")
        complete = rows.drop_nulls(["report", "product", "event"])
        now = complete.unique().sort(complete.columns, nulls_last=True)
        asked = gone.len()
        # A report of which nothing complete is left says nothing any more.
        gone = pl.concat([gone, named.filter(~named.is_in(now["report"].implode()))])
        known = self._current(body, pl.concat([now["report"].unique(), gone]))
        known_ids, now_ids = known["report"].unique(), now["report"].unique()
        old = known.filter(pl.col("report").is_in(now_ids.implode()))
        changed = differing(now, old)
        replaced = known.sort(known.columns, nulls_last=True).filter(
            pl.col("report").is_in(changed.implode()) | pl.col("report").is_in(gone.implode())
        )
        added = now.filter(pl.col("report").is_in(changed.implode()))
        leaving = gone.filter(gone.is_in(known_ids.implode()))
        change = deltas(added, replaced, self.strata)
        kept = pl.concat([added, leaving.to_frame()], how="diagonal").with_columns(batch=pl.lit(number, pl.Int64))
        segments = self._appended(body["segments"], kept, change, number)
        moved = changed.len() + leaving.len()
        following = {**body, "segments": segments, "batches": number, "changed": int(body["changed"]) + moved}
        total = int(body["reports"]) + int(change.filter(kind=ALL)["n"].sum())
        following["reports"] = total
        if moved:
            self._append(head, following)
        share = min(following["changed"] / total, 1.0) if total else 0.0
        new = changed.len() - changed.is_in(known_ids.implode()).sum()
        touched, emptied = self._score(following, change, policy)
        return Update(
            reports=named.len() + asked,
            new=int(new),
            corrected=int(changed.len() - new),
            unchanged=now_ids.len() - changed.len(),
            withdrawn=leaving.len(),
            unknown=asked - leaving.filter(leaving.is_in(gone[:asked].implode())).len(),
            aside=rows.height - complete.height,
            counted=added.height + replaced.height,
            total=total,
            touched=touched,
            gone=emptied,
            since_fit=share,
            refit_due=body["theta"] is None or share >= policy.refit_share,
            expected_moved=self._moved(following),
        )

    def refresh(self, policy: SignalPolicy, *, ebgm: bool = True) -> Screening:
        """Count all reports in force anew, fit the prior, score every pair.

        Raises:
            IntegrityError: The running counts are not those of the reports.
        """
        import polars as pl

        from trialops.safety.signals.counting import count_reports

        head, body = self._head()
        parts = [self.lake.read(_ref(segment["reports"])) for segment in body["segments"]]
        rows = pl.concat([pl.DataFrame(schema=report_schema(self.strata)), *parts])
        current = newest(rows).drop_nulls("product").sort("report")
        counts = count_reports(ReportRows(current, Columns(strata=self.strata)))
        stored = [self.lake.read(_ref(s["counts"])) for s in body["segments"] if s["counts"] is not None]
        running = summed(pl.concat([no_counts(), *stored]))
        anew = lengthened(counts)
        if not anew.equals(running):
            raise IntegrityError(
                "The running counts are not those of the reports in force",
                where=f"signals/{self.name}",
                fix="Start a new state from the reports; find out what changed the stored tables.",
            )
        result = measured(counts, policy, ebgm=ebgm)
        segments = [dict(segment) for segment in body["segments"]]
        if segments:
            # All counts in one segment, the first; the later ones keep their reports alone.
            ref = self._write("counts", int(body["batches"]), anew)
            segments = [{**s, "counts": asdict(ref) if i == 0 else None} for i, s in enumerate(segments)]
        theta = list(result.theta) if result.theta else None
        self._append(head, {**body, "segments": segments, "theta": theta, "changed": 0, "screened": True})
        return result

    # -- inside ------------------------------------------------------------------------------------------------

    def _head(self) -> tuple[Link | None, dict[str, Any]]:
        links = self._chain.links()
        if not links:
            empty: dict[str, Any] = {"segments": [], "batches": 0, "reports": 0, "changed": 0, "theta": None}
            return None, {**empty, "strata": list(self.strata), "screened": False}
        body = {name: value for name, value in links[-1].body.items() if name not in ("sequence", "previous")}
        if body["strata"] != list(self.strata):
            raise TrialOpsError(
                "The state was begun with other strata",
                where=f"signals/{self.name}: {', '.join(body['strata']) or 'none'}",
                fix="Use the same strata, or begin a state under another name.",
            )
        return links[-1], body

    def _append(self, head: Link | None, body: Mapping[str, Any]) -> None:
        def overtaken(chain: Any) -> None:
            last = list(chain)[-1:]
            if (last[0].digest if last else None) != (head.digest if head else None):
                raise TrialOpsError(
                    "Another update of the signals came in between", where=f"signals/{self.name}", fix="Run it again."
                )

        self._chain.append(body, unless=overtaken)

    def _write(self, what: str, number: int, frame: pl.DataFrame) -> TableRef:
        table = f"signals_{what}/{self.name}_{number:06d}"
        return self.lake.write(table, frame, run_id=self.run_id, step="signals")

    def _appended(
        self, segments: Sequence[Mapping[str, Any]], reports: pl.DataFrame, counts: pl.DataFrame, number: int
    ) -> list[dict[str, Any]]:
        """The segments with one more, the last ones put together where they have become alike in size."""
        import polars as pl

        if not reports.height:
            return [dict(segment) for segment in segments]
        schema = report_schema(self.strata)
        reports = pl.concat([pl.DataFrame(schema=schema), reports.select(list(schema))])
        older = [dict(segment) for segment in segments]
        while older and older[-1]["rows"] < _LARGER * reports.height and len(older) > 1:
            last = older.pop()
            reports = newest(pl.concat([self.lake.read(_ref(last["reports"])), reports]))
            if last["counts"] is not None:
                counts = summed(pl.concat([self.lake.read(_ref(last["counts"])), counts]))
        reports = reports.sort("report", "product", "event", *self.strata, nulls_last=True)
        written = {"reports": self._write("reports", number, reports), "counts": self._write("counts", number, counts)}
        return [*older, {"rows": reports.height, **{what: asdict(ref) for what, ref in written.items()}}]

    def _current(self, body: Mapping[str, Any], ids: pl.Series) -> pl.DataFrame:
        """Rows in force of some reports."""
        import polars as pl

        schema = report_schema(self.strata)
        found = [pl.DataFrame(schema=schema)]
        if ids.len():
            within = pl.col("report").is_between(pl.lit(ids.min()), pl.lit(ids.max()))
            for segment in body["segments"]:
                scan = self.lake.scan(_ref(segment["reports"]))
                found.append(scan.filter(within & pl.col("report").is_in(ids.implode())).collect())
        return newest(pl.concat(found)).drop_nulls("product").drop("batch")

    def _looked_up(self, body: Mapping[str, Any], wanted: pl.Series) -> pl.DataFrame:
        """Counts with some keys, over the segments."""
        import polars as pl

        refs = [_ref(s["counts"]) for s in body["segments"] if s["counts"] is not None]
        found = [self.lake.scan(ref).filter(pl.col("key").is_in(wanted.implode())) for ref in refs]
        return summed(pl.concat([no_counts(), *pl.collect_all(found)]))

    def _score(
        self, body: Mapping[str, Any], change: pl.DataFrame, policy: SignalPolicy
    ) -> tuple[Screening | None, int]:
        import polars as pl

        pairs = change.filter(kind=PAIR)
        margins = margins_of(pairs)
        wanted = pl.concat([pairs["key"], keys(margins)]).unique()
        names = pl.concat([pairs.select("kind", "product", "event"), margins])
        found = self._looked_up(body, wanted).join(names, on=["kind", "product", "event"], how="semi", nulls_equal=True)
        emptied = pairs.height - found.filter(kind=PAIR).height
        if body["theta"] is None:
            return None, emptied
        return measured(assembled(found), policy, theta=body["theta"]), emptied

    def _moved(self, body: Mapping[str, Any]) -> tuple[float, float] | None:
        """Bounds on E now over E at the last full screening; None before the first, or where there are none."""
        import polars as pl

        if not body["screened"]:
            return None
        later = [self.lake.read(_ref(s["counts"])) for s in body["segments"][1:] if s["counts"] is not None]
        if not later:
            return (1.0, 1.0)
        change = summed(pl.concat(later)).filter(pl.col("kind") != PAIR)
        return expected_moved(change, self._looked_up(body, change["key"].unique()))


def _ref(stored: Mapping[str, Any]) -> TableRef:
    return TableRef(str(stored["table"]), int(stored["version"]), int(stored["rows"]), str(stored["digest"]))
