"""What must not be found in a clean table: the identifiers of the raw tables, in the forms in which they turn up.

A number of one or two digits is equal to some dose or visit in every trial, so how an identifier is looked for
depends on its form; what it looks like is never enough, it has to be one of this trial's own:

* with a sign or a space in it (01-701-1015) or six characters of letters and digits: anywhere in a text, in any case,
  and also written with other signs or none (01 701 1015) from eight characters on;
* four characters and more (1015): as a whole run of digits, or of letters and digits;
* three characters: as the whole text;
* any shorter one, and those of three: after a word that announces it (site 701, subject no. 12).

Two things keep a number that is equal by chance from being taken for an identifier. A text that many subjects share
(a dose of 1200 mg in the name of an arm) names none of them, so a number in it counts only after its word. And in a
column of measured values or of dictionary codes numbers are not compared: 1015 is a platelet count as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake import partial_dates

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy

ANYWHERE, TOKEN, WHOLE = 6, 4, 3
SQUEEZED = 8
#: A text borne by this many subjects is shared.
SHARED = 5
ANNOUNCED = (
    r"(?:SITE|CENTRE|CENTER|SUBJECT|SUBJ|PATIENT|PAT|PARTICIPANT|INVESTIGATOR|SCREENING|RANDOMI[SZ]ATION)"
    r"[^\p{L}\p{N}]{0,3}(?:NO|NR|NUMBER|ID|CODE)?[^\p{L}\p{N}]{0,3}([\p{L}\p{N}]*\p{N}[\p{L}\p{N}]*)"
)


@dataclass(frozen=True)
class Needles:
    """Raw identifiers in upper case, by the way they are looked for.

    Attributes:
        anywhere: Found inside any text.
        squeezed: The same without signs and spaces, found inside a text without them.
        tokens: Found as a run of letters and digits, or of digits.
        whole: Found as the whole text.
        announced: Found after a word such as "site".
    """

    anywhere: tuple[str, ...] = ()
    squeezed: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Distinct identifiers and forms looked for."""
        return len({*self.anywhere, *self.tokens, *self.whole, *self.announced})

    def looks(self, *, numbers: bool = True, pseudonyms: bool = False) -> dict[str, pl.Expr]:
        """Per kind of find, an expression that is true where a text holds an identifier.

        The frame has `text`, and `subjects`: how many bear it.

        Args:
            numbers: Compare runs of digits; off for measured values and codes.
            pseudonyms: The texts are pseudonyms, whose letters come by chance: they are compared as a whole.
        """
        import polars as pl

        text, own = pl.col("text").str.to_uppercase(), pl.col("subjects") < SHARED
        if pseudonyms:
            return {"raw identifier": text.is_in([*self.anywhere, *self.tokens, *self.whole])}
        found = {"raw identifier": text.str.contains_any(list(self.anywhere)) if self.anywhere else pl.lit(False)}
        words = [t for t in self.tokens if not t.isdigit()]
        found["raw identifier as a word"] = _holds(text, (r"[\p{L}\p{N}]+", r"\p{L}+"), words)
        if not numbers:
            return found
        bare = text.str.replace_all(r"[^\p{L}\p{N}]", "")
        if self.squeezed:
            found["raw identifier, written otherwise"] = bare.str.contains_any(list(self.squeezed))
        found["raw identifier as a number"] = own & _holds(text, (r"\p{N}+",), [t for t in self.tokens if t.isdigit()])
        found["raw identifier as the whole value"] = own & text.is_in(list(self.whole))
        named = text.str.extract_all(ANNOUNCED).list.eval(
            pl.element().str.extract(ANNOUNCED).is_in(list(self.announced))
        )
        found["raw identifier after its name"] = named.list.any()
        return found


def _holds(text: pl.Expr, runs: tuple[str, ...], wanted: list[str]) -> pl.Expr:
    """True where one of the runs of characters of a text is one of those wanted."""
    import polars as pl

    parts = (text.str.extract_all(run).list.eval(pl.element().is_in(wanted)).list.any() for run in runs)
    return pl.any_horizontal(parts)


def collect(tables: dict[str, pl.DataFrame], policy: Policy) -> Needles:
    """All identifiers of raw tables, from every column for which the policy has a `search`."""
    import polars as pl

    values: dict[str, set[str]] = {"identifier": set(), "name": set(), "record": set()}
    days: dict[bool, list[pl.Series]] = {True: [], False: []}
    for domain, frame in tables.items():
        for column in frame.columns:
            rule = policy.rule(domain, column)
            if rule is None or not rule.search:
                continue
            if rule.search == "date":
                dates = frame.select(partial_dates.exact_day(column)).to_series().drop_nulls().unique()
                days[column == "BRTHDTC"].append(dates)
                continue
            texts = frame.select("USUBJID", text=pl.col(column).cast(pl.String).str.strip_chars().str.to_uppercase())
            texts = texts.filter(pl.col("text").str.len_chars() > 0)
            if rule.search == "record":
                own = texts.group_by("text").agg(pl.col("USUBJID").n_unique().alias("subjects"))
                long = (pl.col("text").str.len_chars() >= TOKEN) & pl.col("text").str.contains(r"\d")
                texts = own.filter((pl.col("subjects") == 1) & long)
            values[rule.search] |= set(texts["text"].unique())
    return _sorted_out(values["identifier"] | values["record"], values["name"], _dates(days), policy)


def _sorted_out(identifiers: set[str], names: set[str], dates: set[str], policy: Policy) -> Needles:
    words = {w for name in names for w in re.findall(r"[^\W\d_]+", name) if len(w) >= TOKEN}
    signed = {v for v in identifiers | names if not v.isalnum()}
    plain = {v for v in identifiers if v.isalnum()}
    # A run of digits inside a longer one is another number; letters make it distinct enough to be found inside a word.
    anywhere = {v for v in signed if len(v) >= ANYWHERE} | {v for v in plain if len(v) >= ANYWHERE and not v.isdigit()}
    tokens = {v for v in plain if len(v) >= TOKEN} | (words - set(policy.common_words)) | dates
    bare = {re.sub(r"[\W_]", "", v) for v in identifiers if not v.isalnum()}
    short = {v for v in plain if len(v) < TOKEN}
    return Needles(
        anywhere=tuple(sorted(anywhere)),
        squeezed=tuple(sorted(v for v in bare if len(v) >= SQUEEZED)),
        tokens=tuple(sorted(tokens)),
        whole=tuple(sorted({v for v in short if len(v) == WHOLE} | {v for v in signed if WHOLE <= len(v) < ANYWHERE})),
        announced=tuple(sorted(v for v in plain if any(c.isdigit() for c in v))),
    )


def _dates(days: dict[bool, list[pl.Series]]) -> set[str]:
    """Days as runs of digits: in eight digits, and those of birth in six too."""
    import polars as pl

    forms = {False: ("%Y%m%d", "%d%m%Y", "%m%d%Y"), True: ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%d%m%y", "%m%d%y", "%y%m%d")}
    found: set[str] = set()
    for birth, series in days.items():
        if series:
            unique = pl.concat(series).unique()
            found |= {text for form in forms[birth] for text in unique.dt.to_string(form)}
    return found
