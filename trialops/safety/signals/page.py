"""The page of a screening: what was counted, how the prior was fitted, the signals, what may hide others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Page, Section, Table, Text, Verdict
from trialops.pages.page import Item, suppressed
from trialops.safety.signals.measures import LABEL
from trialops.safety.signals.page_pairs import NAMES, SAID, cloud, masking, signal_table
from trialops.safety.signals.policy import PARAMETERS, SignalPolicy, theta_words
from trialops.safety.signals.screening import CRITERIA, Screening, since

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.signals.state import Update

TITLE = "Disproportionality in spontaneous reports"


def screening_page(
    result: Screening,
    before: pl.DataFrame | None,
    maskers: pl.DataFrame,
    *,
    public: bool,
    update: Update | None = None,
    without: Sequence[tuple[str, str]] = (),
) -> Page:
    """The page.

    Args:
        result: The screening.
        before: Pairs of the screening before; None when there was none.
        maskers: Pairs that hide others.
        public: Whether the reports are published data; counts below 11 are not shown otherwise.
        update: What a batch changed, where only the pairs it touched were screened.
        without: Pairs whose reports were left out.
    """
    signals = since(result.pairs, before)
    leading = "ebgm" if result.theta else "ic"
    met = result.signals[leading]
    text = f"{NAMES[leading]}: {criterion(leading, result.policy)}. {SAID}."
    verdict = Verdict(f"{met:,} signals among {result.pairs.height:,} pairs", "warn" if met else "plain", text)
    sections = [
        Section("Counts", _counts(result, before, signals, public, without)),
        Section("How to read this", _reading(result)),
        Section("The prior of EBGM", _prior(result)),
        Section("All pairs", [cloud(result, public)]),
        Section("Signals", signal_table(result, signals, public)),
        Section("What may hide other signals", masking(maskers, result.policy, public)),
    ]
    if update is not None:
        sections.insert(0, Section("This batch", _batch(update, result.policy)))
    return Page(TITLE, sections, verdict, intro=f"Every figure on this page: {LABEL}.")


def batch_page(update: Update, policy: SignalPolicy) -> Page:
    """The page of a batch after which nothing could be scored: there is no prior yet, or no pair changed."""
    return Page(TITLE, [Section("This batch", _batch(update, policy))], Verdict("No pair was scored", "plain", SAID))


def criterion(measure: str, policy: SignalPolicy) -> str:
    """A measure's criterion in words."""
    if measure == "prr":
        correction = "with" if policy.yates else "without"
        return (
            f"PRR >= {policy.prr_min_ratio:g}, chi-squared {correction} Yates's correction >= "
            f"{policy.prr_min_chi_squared:g}, at least {policy.prr_min_reports} reports"
        )
    if measure == "ror":
        return f"lower 95 % bound > {policy.ror_min_lower:g}, at least {policy.ror_min_reports} reports"
    if measure == "ic":
        return f"IC025 > {policy.ic_min_lower:g}"
    return f"EB05 {'>=' if policy.eb05_inclusive else '>'} {policy.min_eb05:g}"


def _counts(
    result: Screening,
    before: pl.DataFrame | None,
    signals: pl.DataFrame,
    public: bool,
    without: Sequence[tuple[str, str]],
) -> list[Item]:
    counts, policy = result.counts, result.policy
    facts: dict[str, Any] = {
        "reports": counts.reports if public else suppressed(counts.reports),
        "products": len(counts.products),
        "events": len(counts.events),
        "pairs reported": result.pairs.height,
        "strata": int((counts.by_stratum > 0).sum()),
        "signals new since the last run": int(signals["new"].sum()) if before is not None else None,
    }
    found = {**result.signals, **({} if result.theta else {"ebgm": None})}
    rows = [[NAMES[measure], criterion(measure, policy), found[measure]] for measure in CRITERIA]
    items: list[Item] = [
        Facts(facts),
        Table(
            ["measure", "a signal is", "signals"],
            rows,
            f"Policy {policy.name} version {policy.version}, {policy.digest[:12]}.",
        ),
    ]
    notes = [
        f"{counts.rows:,} rows; {counts.distinct:,} different ones were counted, a repetition within a report once",
        f"{counts.crossed:,} reports did not name every product with every event in a row and count for each all the "
        "same",
    ]
    if counts.conflicting:
        notes.append(f"{counts.conflicting:,} reports name more than one stratum and are a stratum of their own")
    if without:
        named = "; ".join(f"{product} / {event}" for product, event in without)
        notes.append(f"{counts.removed:,} reports left out because they hold {named}")
    items.append(Text(". ".join(notes) + "."))
    if counts.aside:
        places = {reason: [str(row) for row, why in counts.places if why == reason][:10] for reason in counts.aside}
        table = [[reason, n, ", ".join(places[reason])] for reason, n in counts.aside.items()]
        items.append(
            Table(["set aside", "rows", "first rows"], table, "Complete these rows in the source and screen again.")
        )
    return items


def _reading(result: Screening) -> list[Item]:
    enough = int((result.pairs["a"] >= result.policy.ror_min_reports).sum())
    return [
        Text(
            "A signal says that a pair is reported more often, among these reports, than the product's and the "
            "event's reports together would suggest. Nobody knows how many people took a product or had an event "
            "without a report: no figure here is an incidence, a risk or a rate, and none shows that the product is "
            "the cause."
        ),
        Text(
            "Many pairs are looked at once. PRR, ROR and IC are not corrected for it: with intervals of 95 %, "
            f"chance alone may put up to {0.025 * enough:,.0f} of the {enough:,} pairs with at least "
            f"{result.policy.ror_min_reports} reports above the ROR's bound, and chi-squared has its own share. EBGM "
            "is drawn towards the prior, which tempers small counts and controls no error rate either. A signal is "
            "a reason to review cases."
        ),
    ]


def _prior(result: Screening) -> list[Item]:
    if result.prior is not None:
        prior, optima = result.prior, result.prior.optima
        rows = [[", ".join(f"{v:g}" for v in o.start), *o.theta, o.nll, o.gradient / prior.pairs] for o in optima]
        return [
            Text(
                f"Two gamma distributions fitted to {prior.pairs:,} pairs, squashed to {prior.points:,} points; each "
                f"negative binomial conditioned on at least one report. {prior.agreeing} of {len(optima)} starts "
                f"agree. Largest gradient {prior.gradient:.1g} per pair, smallest eigenvalue of the Hessian "
                f"{prior.smallest_eigenvalue:.3g}."
            ),
            Table(["start", "alpha1", "beta1", "alpha2", "beta2", "P", "-ln L", "gradient"], rows),
        ]
    if result.theta is not None:
        named = theta_words(dict(zip(PARAMETERS, result.theta, strict=True)))
        return [Text(f"Fitted at the last full screening: {named}.")]
    return [Verdict("There is no EBGM", "warn", result.refusal or "None was asked for.")]


def _batch(update: Update, policy: SignalPolicy) -> list[Item]:
    facts = {
        "reports named": update.reports,
        "new": update.new,
        "corrected": update.corrected,
        "as known": update.unchanged,
        "withdrawn": update.withdrawn,
        "withdrawals of unknown reports": update.unknown,
        "incomplete rows": update.aside,
        "in force now": update.total,
    }
    items: list[Item] = [Facts(facts)]
    share = f"{update.since_fit:.1%} of the reports changed since the prior was fitted"
    if update.refit_due:
        return [*items, Text(f"{share}: a full screening is due (from {policy.refit_share:.0%} on).")]
    moved = "cannot be bounded: a name came to a stratum for the first time"
    if update.expected_moved is not None:
        moved = "lies between {:.3f} and {:.3f}".format(*update.expected_moved)
    return [
        *items,
        Text(
            f"{share}; a full screening is due from {policy.refit_share:.0%} on. Only pairs whose count changed were "
            "scored again. The margins of others changed too, and their scores are those of the last full "
            f"screening: the factor by which their expected count has changed since then {moved}."
        ),
    ]
