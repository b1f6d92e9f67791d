"""A scan of what was written for a treatment it must not tell: names, columns, and columns that mean the same."""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from trialops.stores.envelope import BLOB, FILE

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

MOST_GROUPS = 12
"""A column with more different values than this cannot stand for the arm of a trial."""

FEWEST_SUBJECTS = 8
"""With fewer subjects a column follows the arm by chance."""


@dataclass(frozen=True)
class Leak:
    """A place that tells a treatment.

    Attributes:
        where: File, table or column.
        what: The name found, or the column.
        how: named, column, or follows the arm.
    """

    where: str
    what: str
    how: str


def pattern(names: Iterable[str]) -> str:
    """A regular expression for any of the names as whole words, whatever blank, dash or underscore joins them."""
    parts = []
    for name in sorted(set(names), key=lambda n: (-len(n), n)):
        words = [re.escape(w) for w in re.split(r"[\s_\-]+", name.strip()) if w]
        text = r"[\s_\-]{0,3}".join(words)
        # A name may end in a bracket; a boundary is asked for only beside a letter, a digit or an underscore.
        parts.append(
            (r"\b" if re.match(r"\w", name.strip()) else "") + text + (r"\b" if re.search(r"\w$", name.strip()) else "")
        )
    return "(?:" + "|".join(parts) + ")"


def leaks(
    content: Any, trial: TrialTables, allowed: Collection[str] = (), *, where: str = "content", subject: str = "USUBJID"
) -> list[Leak]:
    """Where content tells a treatment.

    Texts are searched for the names and codes of the trial's arms and products as whole words in any case: plain, as
    HTML entities, percent-encoded, in UTF-16, inside gzip and zip. What the vault has encrypted is passed over. Codes
    of one or two characters are looked for as whole values of JSON or of a column. Tables are searched too for columns
    that hold a treatment (any value but ``BLINDED``), and for columns that follow the arm one to one under other names
    ("Group 1").

    Args:
        content: Text, bytes, a table, a path of a file or folder, or mappings and sequences of them.
        trial: The delivery, unblinded.
        allowed: Names that may stand there: the treatment of the one subject a report is about.
        where: What to call the content.
        subject: Column of tables that holds the subject, for the comparison with the arms.

    Returns:
        All of them, sorted; empty where there is none.
    """
    from trialops.safety.blinding import SHORTEST_NAME, arms_named

    may = {a.strip().upper() for a in allowed}
    names = [n for n in arms_named(trial) if n.upper() not in may]
    long = [n for n in names if len(n) >= SHORTEST_NAME]
    scan = _Scan(
        re.compile(pattern(long) if long else r"(?!)", re.IGNORECASE),
        frozenset(n for n in names if len(n) < SHORTEST_NAME),
        trial,
        may,
        subject,
    )
    return sorted(set(scan.of(content, where)), key=lambda leak: (leak.where, leak.how, leak.what))


@dataclass(frozen=True)
class _Scan:
    words: re.Pattern[str]
    codes: frozenset[str]
    trial: TrialTables
    allowed: set[str]
    subject: str

    def of(self, content: Any, where: str) -> Iterator[Leak]:
        import polars as pl

        if isinstance(content, str):
            yield from self.text(content, where)
        elif isinstance(content, bytes | bytearray | memoryview):
            yield from self.raw(bytes(content), where)
        elif isinstance(content, pl.DataFrame):
            yield from self.frame(content, where)
        elif isinstance(content, Path):
            for file in sorted(content.rglob("*")) if content.is_dir() else [content]:
                if file.is_file():
                    name = str(file.relative_to(content)) if file != content else file.name
                    yield from self.text(name, f"{where}: name of a file")
                    yield from self.raw(file.read_bytes(), f"{where}/{name}")
        elif isinstance(content, Mapping):
            for key, item in content.items():
                yield from self.text(str(key), where)
                yield from self.of(item, f"{where}/{key}")
        elif isinstance(content, Iterable):
            for number, item in enumerate(content):
                yield from self.of(item, f"{where}[{number}]")
        elif content is not None:
            yield from self.text(str(content), where)

    def text(self, text: str, where: str, *, codes: bool = True) -> Iterator[Leak]:
        seen = {text, html.unescape(text)} | ({unquote(text)} if "%" in text else set())
        for one in seen:
            for match in self.words.finditer(one):
                yield Leak(where, match.group(0), "named")
            if codes and one.strip() in self.codes:
                yield Leak(where, one.strip(), "named")
        if codes and self.codes:
            for value in re.findall(r'(?<=")[^"\\]{1,2}(?=")', text):
                if value in self.codes:
                    yield Leak(where, value, "named")

    def raw(self, data: bytes, where: str) -> Iterator[Leak]:
        if data[: len(BLOB)] in (BLOB, FILE):
            return  # encrypted by the vault: nobody reads it without
        if data[:2] == b"\x1f\x8b":
            yield from self.raw(gzip.decompress(data), f"{where} (gzip)")
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    yield from self.raw(archive.read(name), f"{where}/{name}")
        elif data[:4] == b"PAR1":
            import polars as pl

            yield from self.frame(pl.read_parquet(io.BytesIO(data)), where)
        else:
            text = data.decode("utf-8", "replace")
            # In what is no text two quotes around a letter mean nothing.
            yield from self.text(text, where, codes="\ufffd" not in text)
            # What a Python program or SQLite wrote in UTF-16 has a zero in every other byte.
            if data.count(0) * 3 > len(data):
                for shift in (0, 1):
                    yield from self.text(data[shift:].decode("utf-16-le", "replace"), where, codes=False)
            if text[:1] in "[{":
                try:
                    yield from self.of(json.loads(text), where)
                except ValueError:
                    return

    def frame(self, frame: pl.DataFrame, where: str) -> Iterator[Leak]:
        import polars as pl

        from trialops.safety.blinding import BLINDED, rules

        nothing = {*rules()["no_arm"], BLINDED, ""} | self.allowed
        for column in frame.columns:
            values = frame[column].drop_nulls().unique()
            if column in rules()["telling"] and any(str(v).strip().upper() not in nothing for v in values):
                yield Leak(f"{where}.{column}", column, "column")
            if values.dtype in (pl.String, pl.Categorical):
                for value in values.cast(pl.String):
                    yield from self.text(value, f"{where}.{column}")
        yield from self.follows(frame, where)

    def follows(self, frame: pl.DataFrame, where: str) -> Iterator[Leak]:
        """Columns whose values and the arms determine each other."""
        import polars as pl

        from trialops.safety.blinding import BLINDED, rules

        if self.subject not in frame.columns:
            return
        nothing = [*rules()["no_arm"], BLINDED, ""]
        arms = self.trial.table("DM").select("USUBJID", pl.col("ARMCD").alias("_arm")).drop_nulls()
        arms = arms.filter(~pl.col("_arm").str.to_uppercase().is_in(nothing))
        for column in frame.columns:
            if column == self.subject or frame[column].dtype.is_nested():
                continue
            pairs = frame.select(pl.col(self.subject).alias("USUBJID"), pl.col(column).alias("_value")).drop_nulls()
            pairs = pairs.unique().join(arms, on="USUBJID")
            if pairs["USUBJID"].n_unique() < FEWEST_SUBJECTS or pairs["_value"].n_unique() > MOST_GROUPS:
                continue
            cells = pairs.select("_value", "_arm").unique()
            if cells.height >= 2 and cells["_value"].n_unique() == cells["_arm"].n_unique() == cells.height:
                yield Leak(f"{where}.{column}", column, "follows the arm")
