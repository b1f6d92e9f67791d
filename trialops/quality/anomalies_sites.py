"""Central statistical monitoring: what one site's numbers look like beside those of all other sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl


def benjamini_hochberg(p: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.bool_]:
    """Which of many tests to call, so that at most a share `rate` of those called are expected to be wrong.

    Args:
        p: P values, any shape (tests,).
        rate: False discovery rate (Benjamini and Hochberg 1995, step-up procedure).
    """
    import numpy as np

    called = np.zeros(len(p), dtype=bool)
    if not len(p):
        return called
    order = np.argsort(p, kind="stable")
    below = p[order] <= rate * np.arange(1, len(p) + 1) / len(p)
    if below.any():
        called[order[: int(np.flatnonzero(below)[-1]) + 1]] = True
    return called


def with_sites(data: pl.DataFrame, dm: pl.DataFrame) -> pl.DataFrame:
    """Add `site` to measurements; subjects without one are left out."""
    import polars as pl

    sites = dm.select(subject=pl.col("USUBJID"), site=pl.col("SITEID")).drop_nulls().unique("subject", keep="first")
    return data.join(sites, on="subject", how="inner", maintain_order="left")


def digit_preference(
    frame: pl.DataFrame, domain: str, dm: pl.DataFrame, *, rate: float, effect: float, least: int, **_: Any
) -> pl.DataFrame:
    """Compare the last digits a site writes with those of all others.

    Only tests whose results move by more than ten units of the last digit within subjects are judged: in others the
    last digit is part of the result, and a subject's own level would look like a preference.

    Args:
        frame: LB or VS rows with --TESTCD, --ORRES and USUBJID.
        domain: "LB" or "VS".
        dm: DM rows: USUBJID, SITEID.
        rate: False discovery rate over all sites and tests.
        effect: Smallest effect size w = sqrt(chi-square / n) worth calling (Cohen's w).
        least: Fewest results of a site in a test.

    Returns:
        site, test, results, chi2, p, w, digit (the one most in excess), flagged; one line per site and test judged.
    """
    import numpy as np
    import polars as pl

    text = pl.col(f"{domain}ORRES").cast(pl.String).str.strip_chars()
    data = frame.select(subject="USUBJID", test=pl.col(f"{domain}TESTCD"), text=text).filter(
        pl.col("text").str.contains(r"^\d+(\.\d+)?$")
    )
    data = data.with_columns(
        digit=pl.col("text").str.tail(1).cast(pl.Int8),
        decimals=pl.col("text").str.extract(r"\.(\d+)$").str.len_chars().fill_null(0).cast(pl.Int32),
        value=pl.col("text").cast(pl.Float64),
    )
    moved = (
        data.group_by("test", "subject")
        .agg(span=(pl.col("value").max() - pl.col("value").min()) * 10.0 ** pl.col("decimals").max(), n=pl.len())
        .filter(pl.col("n") >= 3)
        .group_by("test")
        .agg(span=pl.col("span").median())
        .filter(pl.col("span") > 10)
    )
    counted = (
        with_sites(data, dm).join(moved, on="test", how="semi").group_by("test", "site", "digit").len().sort("test")
    )
    lines: list[dict[str, Any]] = []
    for (test,), part in counted.partition_by("test", as_dict=True, maintain_order=True).items():
        names = part["site"].unique().sort().to_list()
        table = np.zeros((len(names), 10))
        table[[names.index(s) for s in part["site"]], part["digit"].to_numpy()] = part["len"].to_numpy()
        lines += [{"site": names[i], "test": test, **line} for i, line in _peel(table, rate, effect, least).items()]
    return _called(lines, rate, pl.col("w") >= effect, ("chi2", "p", "w"), {"digit": pl.Int64})


def _peel(table: npt.NDArray[np.float64], rate: float, effect: float, least: int) -> dict[int, dict[str, Any]]:
    """Compare every site (row) with the others; the most unlike one is set aside before the rest is compared again.

    Otherwise one large site with a preference would make all others look unlike "the others".
    """
    judged: dict[int, dict[str, Any]] = {}
    pool = set(range(len(table)))
    while True:
        now = {i: line for i in sorted(pool) if (line := _against(table, i, pool, least))}
        unlike = {i: line for i, line in now.items() if line["p"] <= rate and line["w"] >= effect}
        if not unlike:
            return {**judged, **now}
        worst = max(unlike, key=lambda i: (unlike[i]["w"], -i))
        judged[worst] = unlike[worst]
        pool.discard(worst)


def _against(table: npt.NDArray[np.float64], site: int, pool: set[int], least: int) -> dict[str, Any] | None:
    """Chi-square of homogeneity of one site's last digits with those of the other sites of the pool."""
    import numpy as np
    from scipy.stats import chi2 as chi_square

    own, others = table[site], table[sorted(pool - {site})].sum(axis=0)
    n, m = own.sum(), others.sum()
    if n < least or m < least:
        return None
    both = own + others
    used = both > 0
    expected = (both * n / (n + m))[used]
    gap = own[used] - expected
    statistic = float((gap**2 / expected).sum() + (gap**2 / (both[used] - expected)).sum())
    apart = own / n - others / m
    return {
        "results": int(n),
        "chi2": statistic,
        "p": float(chi_square.sf(statistic, int(used.sum()) - 1)),
        "w": float(np.sqrt((apart[used] ** 2 / (both[used] / (n + m))).sum())),
        "digit": int(np.argmax(apart)),
    }


def _called(
    lines: list[dict[str, Any]], rate: float, large: pl.Expr, floats: tuple[str, ...], more: dict[str, Any]
) -> pl.DataFrame:
    """Lines with the verdict of the false discovery rate and of the effect size."""
    import polars as pl

    shape: dict[str, Any] = {"site": pl.String, "test": pl.String, "results": pl.Int64}
    table = pl.DataFrame(lines, schema=shape | dict.fromkeys(floats, pl.Float64) | more).sort("site", "test")
    called = benjamini_hochberg(table["p"].to_numpy(), rate)
    return table.with_columns(flagged=pl.Series(called, dtype=pl.Boolean) & table.select(large).to_series())


def site_variance(
    data: pl.DataFrame, dm: pl.DataFrame, *, limit: float, factor: float, least: int, **_: Any
) -> pl.DataFrame:
    """Compare how much results vary within subjects at a site with how much they do at the other sites.

    Args:
        data: From `anomalies.measurements`.
        dm: DM rows: USUBJID, SITEID.
        limit: Distance of the log standard deviation from the median of the sites, in its standard errors; these
            hold the sampling error of a standard deviation, 1 / sqrt(2 (n - 1)), and the spread between sites.
        factor: Smallest ratio of standard deviations worth calling.
        least: Fewest results of a site in a test.

    Returns:
        site, test, results, ratio (to the median site), z, flagged; one line per site and test judged.
    """
    import polars as pl

    own = pl.col("log") - pl.col("log").mean().over("subject", "test", "unit")
    spread = (
        with_sites(data, dm)
        .with_columns(own=own, n=pl.len().over("subject", "test", "unit"))
        .filter(pl.col("n") >= 3)
        .group_by("site", "test")
        .agg(results=pl.len(), deviation=(pl.col("own") ** 2).mean().sqrt())
        .filter(pl.col("results") >= least)
        .with_columns(log=(pl.col("deviation").clip(lower_bound=1e-6)).log(), sites=pl.len().over("test"))
        .filter(pl.col("sites") >= 4)
    )
    away = pl.col("log") - pl.col("log").median().over("test")
    between = (away.abs().median().over("test")) * 1.4826
    error = (1 / (2 * (pl.col("results") - 1)) + between**2).sqrt()
    ratio = away.exp()
    return (
        spread.with_columns(ratio=ratio, z=away / error)
        .with_columns(
            flagged=(pl.col("z").abs() > limit) & ((pl.col("ratio") > factor) | (pl.col("ratio") < 1 / factor))
        )
        .select("site", "test", pl.col("results").cast(pl.Int64), "ratio", "z", "flagged")
        .sort("site", "test")
    )


def weekend_visits(sv: pl.DataFrame, dm: pl.DataFrame, *, rate: float, least: int, **_: Any) -> pl.DataFrame:
    """Compare the share of a site's visits on Saturdays and Sundays with that of the other sites.

    Args:
        sv: SV rows with real dates: USUBJID, SVSTDTC.
        dm: DM rows: USUBJID, SITEID.
        rate: False discovery rate over the sites.
        least: Fewest visits of a site.

    Returns:
        site, test ("visits"), results, share, p, flagged.
    """
    import polars as pl
    from scipy.stats import binomtest

    from trialops.intake.partial_dates import exact_day

    days = sv.select(subject="USUBJID", day=exact_day("SVSTDTC")).drop_nulls()
    counts = (
        with_sites(days, dm)
        .group_by("site")
        .agg(results=pl.len(), weekend=(pl.col("day").dt.weekday() >= 6).sum())
        .sort("site")
    )
    pool = {str(site): (int(n), int(k)) for site, n, k in counts.iter_rows()}
    judged: dict[str, dict[str, Any]] = {}
    while pool:
        now: dict[str, dict[str, Any]] = {}
        for site, (n, k) in pool.items():
            others, theirs = (sum(v[i] for v in pool.values()) - pool[site][i] for i in (0, 1))
            if n >= least and others:
                # Half a visit is added to either side: that no other site has a weekend visit is not impossible.
                p = float(binomtest(k, n, (theirs + 0.5) / (others + 1), alternative="two-sided").pvalue)
                now[site] = {"site": site, "test": "visits", "results": n, "share": k / n, "p": p}
        unlike = [site for site, line in now.items() if line["p"] <= rate]
        if not unlike:
            judged |= now
            break
        # The most unlike one is set aside, or it would make all others look unlike "the others".
        worst = min(unlike, key=lambda site: (now[site]["p"], site))
        judged[worst] = now[worst]
        del pool[worst]
    return _called(list(judged.values()), rate, pl.lit(True), ("share", "p"), {})
