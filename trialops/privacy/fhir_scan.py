"""The check after FHIR de-identification: every string at every depth of the clean JSON is searched.

It does not use the element policy: an identifier is one wherever it stands. What the walk made itself (pseudonyms in
ids and references) is not compared letter by letter, because letters come by chance.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import parse
from trialops.privacy.needles import ANYWHERE, SHARED, SQUEEZED, TOKEN, Needles
from trialops.privacy.patterns import DATE, PATTERNS

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.fhir_people import People

_MADE = re.compile(r"^(?:[A-Z][A-Za-z]+[/ ])?[a-z2-7]{16}$")
_SYSTEM = ("system", "url", "profile", "resourceType", "contentType", "comparator", "status", "use")
_WHOLE_DATE = r"^\d{4}(-\d{2}(-\d{2}(T[0-9:.]+(Z|[+-]\d{2}:\d{2})?)?)?)?$"
_CODE = ("code",)
BLOCK = 20_000
"""Resources whose strings are held as Python objects at a time."""


def strings(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path and text of every string below a node; the text of a plain-text attachment is decoded."""
    if isinstance(node, dict):
        plain = str(node.get("contentType", "")).startswith("text/plain")
        for key, value in node.items():
            if plain and key == "data" and isinstance(value, str):
                yield f"{path}.data", base64.b64decode(value).decode("utf-8", "replace")
            else:
                yield from strings(value, f"{path}.{key}")
    elif isinstance(node, list):
        for item in node:
            yield from strings(item, path)
    elif isinstance(node, str):
        yield path, node


def needles(people: People) -> Needles:
    """The identifiers of all subjects, and the names of the people around them, to be found in any text."""
    whole: set[str] = set(people.clinicians)
    numbers: set[str] = set()
    for subject in people.subjects.values():
        known = subject.known
        whole |= {n for n in known.names if " " in n} | set(known.emails) | {a for a in known.addresses if _street(a)}
        numbers |= {*known.phones, *known.identifiers, subject.key.removeprefix("Patient/")}
    # Ids of resources other than the subjects' can be short words ("visit-1"); those that are random are looked for.
    numbers |= {name.split("/", 1)[1] for name in people.references if len(name.split("/", 1)[1]) >= 20}
    whole = {w.upper() for w in whole}
    numbers = {n.upper() for n in numbers}
    both = whole | numbers
    anywhere = {v for v in both if len(v) >= ANYWHERE and not v.isdigit()}
    bare = {re.sub(r"[\W_]", "", v) for v in numbers if not v.isalnum()}
    return Needles(
        anywhere=tuple(sorted(anywhere)),
        squeezed=tuple(sorted(v for v in bare if len(v) >= SQUEEZED)),
        tokens=tuple(sorted(v for v in numbers if len(v) >= TOKEN and v.isalnum())),
    )


def _street(address: str) -> bool:
    return any(c.isdigit() for c in address) and any(c.isalpha() for c in address)


def scan_fhir(tables: Mapping[str, pl.DataFrame], people: People, mode: str) -> dict[str, int]:
    """Search every string of every clean resource.

    Args:
        tables: Clean tables; their `subject` is a pseudonym.
        people: Whose identifiers are looked for.
        mode: In "limited", whole values that are dates are shifted dates.

    Returns:
        {"paths": searched, "values": distinct texts searched, "identifiers": looked for}.

    Raises:
        TrialOpsError: Something was found. The message has paths and counts, never the text.
    """
    import polars as pl

    wanted = needles(people)
    own = _own_words(people)
    texts = _texts(tables)
    distinct = texts.group_by("path", "text").agg(pl.col("subject").n_unique().alias("subjects"))
    last = pl.col("path").str.split(".").list.last()
    prose = distinct.filter(~last.is_in(_SYSTEM))
    coded = prose.filter(last.is_in(_CODE))
    rest = prose.filter(~last.is_in(_CODE))
    if mode == "limited":
        # Shifted dates, and the postal codes a limited data set may keep (164.514(e)(2)(ii)).
        rest = rest.filter(~pl.col("text").str.contains(_WHOLE_DATE) & (last != "postalCode"))
    hits: list[pl.DataFrame] = []
    # In a limited data set dates stay, shifted, in texts too: that one is somebody's real date is chance.
    forms = PATTERNS if mode == "limited" else {**PATTERNS, "date": DATE}
    patterns = {name: pl.col("text").str.contains(p) for name, p in forms.items()}
    for frame, looks in (
        (rest, wanted.looks() | patterns),
        # A code is equal to somebody's number by chance; letters and signs make it somebody's own.
        (coded, wanted.looks(numbers=False)),
        # No system, address or profile may hold a subject's identifier either.
        (distinct.filter(last.is_in(_SYSTEM)), {"raw identifier": wanted.looks(numbers=False)["raw identifier"]}),
    ):
        for name, look in looks.items():
            hits.append(frame.filter(look).select("path", what=pl.lit(name)))
    hits.append(_own_hits(texts, distinct, own))
    found = pl.concat(hits).group_by("path", "what").len().sort("path", "what")
    if found.height:
        raise TrialOpsError(
            "De-identified FHIR resources still hold identifiers, so they were not released.",
            where="; ".join(f"{path}: {what} ({count} values)" for path, what, count in found.iter_rows()),
            fix="Set these elements to drop or text in the FHIR policy; then run again.",
        )
    words = {word for words in own.values() for word in words}
    return {"paths": distinct["path"].n_unique(), "values": distinct.height, "identifiers": len(wanted) + len(words)}


def _texts(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Distinct path, text and subject over all resources, without what is a pseudonym as a whole.

    Block by block, and in columns between: the strings of a large trial as Python objects would not fit into memory.
    """
    import polars as pl

    schema = {"path": pl.String, "text": pl.String, "subject": pl.String}
    parts = [pl.DataFrame(schema=schema)]
    for kind, frame in sorted(tables.items()):
        # A subject's resources beside each other: what repeats within them is then found within a block.
        for block in frame.select("subject", "json").sort("subject", maintain_order=True).iter_slices(BLOCK):
            seen = {
                (path, text, subject)
                for subject, document in block.iter_rows()
                for path, text in strings(parse(document), kind)
                if not _MADE.match(text)
            }
            parts.append(pl.DataFrame(list(seen), schema=schema, orient="row"))
    return pl.concat(parts).unique()


def _own_words(people: People) -> dict[str, set[str]]:
    """Pseudonym -> words of the subject's own names, upper case."""
    from trialops.privacy.name_forms import COMMON_WORDS

    common = {w.upper() for w in COMMON_WORDS}
    words: dict[str, set[str]] = {}
    for subject in people.subjects.values():
        found = {w.upper() for n in subject.known.names for w in re.findall(r"[^\W\d_]+", n) if len(w) >= TOKEN}
        words.setdefault(subject.pseudonym, set()).update(found - common - {"DOCTOR"})
    return words


def _own_hits(texts: pl.DataFrame, distinct: pl.DataFrame, own: Mapping[str, set[str]]) -> pl.DataFrame:
    """Texts that hold a word of the subject's own names; a text that many subjects share names none of them."""
    import polars as pl

    rows = [(pseudonym, word) for pseudonym, words in own.items() for word in words]
    wanted = pl.DataFrame(rows, schema={"subject": pl.String, "word": pl.String}, orient="row")
    rare = distinct.filter(pl.col("subjects") < SHARED).select("path", "text")
    words = (
        texts.join(rare, on=["path", "text"], how="semi")
        .filter(pl.col("subject").is_not_null())
        .with_columns(word=pl.col("text").str.to_uppercase().str.extract_all(r"\p{L}+"))
        .explode("word")
        .drop_nulls("word")
    )
    return words.join(wanted, on=["subject", "word"], how="semi").select("path", what=pl.lit("own name"))
