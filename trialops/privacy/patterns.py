"""What an identifier looks like in running text (dates, numbers, addresses), and what a plain result looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

_YEAR = r"(?:19|20)\d{2}"
_MM = r"(?:0[1-9]|1[0-2])"
_DD = r"(?:0[1-9]|[12]\d|3[01])"
_M = r"(?:0?[1-9]|1[0-2])"
_D = r"(?:0?[1-9]|[12]\d|3[01])"
_GAP = r"[ ./,-]"
_ORDINAL = r"(?:st|nd|rd|th|er|º)?"
# No digit before and after; a full stop may end a sentence.
_BEFORE, _AFTER = r"(?:^|[^0-9.])", r"(?:$|[^0-9.]|\.(?:$|[^0-9]))"
# English, French, German, Spanish and Italian, whole or as usually cut.
_MONTH = (
    r"(?:jan(?:uary|vier|uar)?|enero|gennaio|feb(?:ruary|ruar|rero|braio)?|f[ée]v(?:rier)?|mar(?:ch|s|zo)?|m[äa]rz|"
    r"apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|may|mai|mayo|maggio|june?|juni|juin|junio|giugno|july?|juli|juil(?:let)?|"
    r"julio|luglio|aug(?:ust)?|ao[ûu]t|agosto|sept?(?:ember|embre)?|septiembre|settembre|oct(?:ober|obre|ubre)?|"
    r"okt(?:ober)?|ott(?:obre)?|nov(?:ember|embre|iembre)?|dec(?:ember)?|d[ée]c(?:embre)?|dez(?:ember)?|"
    r"dic(?:iembre|embre)?)"
)
#: A calendar date more exact than its year, as people write it.
DATE = "|".join(
    (
        # 2013-01-07, 2013/1/7, 2013.01.07, 2013-01-07T10:00; and 2013-01
        rf"(?:^|[^0-9]){_YEAR}[/.-]{_M}[/.-]{_D}(?:$|[^0-9])",
        rf"(?:^|[^0-9]){_YEAR}[/-]{_MM}(?:$|[^0-9])",
        # 20130107, 20130107T1000
        rf"(?:^|[^0-9A-Za-z]){_YEAR}{_MM}{_DD}(?:$|[^0-9A-Za-z]|T)",
        # 07/01/2013, 7.1.13, 01-07-2013; and 01/2013
        rf"{_BEFORE}(?:{_D}[/.-]{_M}|{_M}[/.-]{_D})[/.-](?:{_YEAR}|\d{{2}}){_AFTER}",
        rf"(?:^|[^0-9./-]){_MM}[/.-]{_YEAR}{_AFTER}",
        # 12 March 2013, 12th of March, 12MAR13
        rf"(?i:(?:^|[^0-9]){_D}{_ORDINAL}(?: of)?{_GAP}{{0,2}}{_MONTH}"
        rf"(?:{_GAP}{{0,2}}\d{{2}}(?:\d{{2}})?)?(?:$|[^0-9a-zà-ÿ]))",
        # March 2013, March 12, 2013
        rf"(?i:(?:^|[^a-zà-ÿ]){_MONTH}{_GAP}{{1,2}}(?:{_D}{_ORDINAL}|{_YEAR})(?:$|[^0-9a-zà-ÿ]))",
    )
)
PATTERNS = {
    "e-mail address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}",
    "web address": r"(?i)\bhttps?://|\bwww\.",
    "network address": r"(?:^|[^0-9.])(?:\d{1,3}\.){3}\d{1,3}(?:$|[^0-9.])",
    "social security number": r"(?:^|[^0-9])\d{3}[- ]\d{2}[- ]\d{4}(?:$|[^0-9])",
    "telephone number": (
        r"(?:^|[^0-9])\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?:$|[^0-9])"
        r"|(?:^|[^0-9A-Za-z])(?:\+|00)\d{1,3}[ ().-]{1,2}\d[\d ().-]{5,}\d"
        r"|(?i:\b(?:tel|telephone|phone|fax|mobile|pager|call)\b[ .:#-]{0,3}[+(]?\d[\d ().-]{4,}\d)"
    ),
    "postal code": r"(?:^|[^0-9-])\d{5}-\d{4}(?:$|[^0-9-])",
    "title and name": r"\b(?:Dr|Prof|Mrs?)\.? +[A-Z][a-z]|\b(?:DR|PROF|MRS?)\. *[A-Z]",
    "record number": r"(?i)\b(?:mrn|medical record|chart no|social security|passport)\b[^0-9]{0,12}\d{3,}",
}
#: A result that is a number: with a comparator, a sign, a unit mark, or two numbers as in 120/80, 1:640 or 0-2. More
#: than seven digits in a row can be a telephone number or a date.
NUMBER = (
    r"^(?:<|>|<=|>=|≤|≥|=|~)? *[+-]?(?:\d{1,7}(?:[.,]\d{0,12})?|\d{1,3}(?:,\d{3}){1,2}(?:\.\d{0,12})?|[.]\d{1,12})"
    r"(?:[eE][+-]?\d{1,2})? *[%+]?$"
    r"|^\d{1,3}(?:\.\d{1,3})? *[/-] *\d{1,3}(?:\.\d{1,3})?$"
    r"|^1 *: *\d{1,7}$"
)


def plain_results(texts: pl.Series, terms: Iterable[str]) -> pl.Series:
    """Distinct results that are a number or one of the coded terms, in any case, and look like no identifier."""
    distinct = texts.drop_nulls().unique()
    allowed = distinct.filter(distinct.str.contains(NUMBER) | distinct.str.to_uppercase().is_in(list(terms)))
    for pattern in (*PATTERNS.values(), DATE):
        allowed = allowed.filter(~allowed.str.contains(pattern))
    return allowed.sort()
