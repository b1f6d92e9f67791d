"""Rows of a VCF: whether one can be used, its shortest form, and one row per alternate allele where that is wanted.

Without the reference sequence a variant can be made shortest (bases that all alleles share at an end are cut, keeping
one) but not shifted left through a repeat; two spellings of one insertion in a repeat therefore stay two variants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

REF = re.compile(r"[ACGTN]+\Z")
SYMBOLIC = re.compile(r"<[^<>\s,]+>\Z")
BREAKEND = re.compile(
    r"(?:[ACGTN]+[\[\]][^\[\]\s]+:\d+[\[\]]|[\[\]][^\[\]\s]+:\d+[\[\]][ACGTN]+|\.[ACGTN]+|[ACGTN]+\.)\Z", re.A
)
QUAL = re.compile(r"(?:\.|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan|Inf|NaN|INF|NAN|Infinity))\Z", re.A)
GENOTYPE = re.compile(r"[/|]?(?:\.|\d{1,4})(?:[/|](?:\.|\d{1,4}))*\Z", re.A)
MAX_ALLELES = 1000


class RowError(Exception):
    """A row that cannot be used: reason, words without content, column."""

    def __init__(self, reason: str, message: str, column: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.column = column


@dataclass(frozen=True)
class Row:
    """A row that can be used.

    Attributes:
        chrom, pos, ref, alts: As sent, bases in upper case.
        fixed: ID, QUAL, FILTER and INFO.
        format: Keys of the sample columns.
        samples: Sample columns, as sent.
        line: 1-based line of the file.
    """

    chrom: str
    pos: int
    ref: str
    alts: tuple[str, ...]
    fixed: tuple[str, str, str, str]
    format: tuple[str, ...]
    samples: tuple[str, ...]
    line: int

    def text(self) -> str:
        """The row as a line of VCF."""
        name, qual, filters, info = self.fixed
        columns = [self.chrom, str(self.pos), name, self.ref, ",".join(self.alts) or ".", qual, filters, info]
        if self.format:
            columns += [":".join(self.format), *self.samples]
        return "\t".join(columns)


def read_row(text: str, line: int, samples: int, contigs: Mapping[str, int]) -> Row:
    """Check a data line.

    Args:
        text: The line.
        line: Its number.
        samples: Sample columns the header names.
        contigs: Length by contig; 0 where it is not known.

    Raises:
        RowError: It cannot be used.
    """
    columns = text.split("\t")
    wanted = 9 + samples if samples else 8
    if len(columns) != wanted:
        # A FORMAT column without samples is allowed.
        if not samples and len(columns) == 9:
            columns.pop()
        elif len(columns) > 8 and samples:
            raise RowError("SAMPLE_COUNT", "the number of sample columns is not that of the header", "samples")
        else:
            raise RowError("COLUMN_COUNT", "the number of columns is not that of the header", "row")
    chrom, position, name, ref, alt, qual, filters, info = columns[:8]
    if chrom not in contigs:
        raise RowError("UNKNOWN_CONTIG", "the contig is not in the header", "CHROM")
    if not (position.isascii() and position.isdigit()) or len(position) > 12:
        raise RowError("BAD_POS", "the position is no number", "POS")
    pos = int(position)
    ref = ref.upper()
    if not REF.match(ref):
        raise RowError("BAD_REF", "REF holds other letters than A, C, G, T, N", "REF")
    length = contigs[chrom]
    # Positions 0 and length + 1 stand for the telomeres.
    if pos < 1 and not any(c in alt for c in "[]"):
        raise RowError("BAD_POS", "the position is not within the contig", "POS")
    if length and pos + len(ref) - 1 > length + 1:
        raise RowError("BEYOND_CONTIG", "the variant lies beyond the end of its contig", "POS")
    alts = () if alt == "." else tuple(_allele(a) for a in alt.split(","))
    if len(alts) > MAX_ALLELES:
        raise RowError("BAD_ALT", f"more than {MAX_ALLELES} alternate alleles", "ALT")
    if len(set(alts)) != len(alts) or ref in alts:
        raise RowError("BAD_ALT", "an allele stands twice", "ALT")
    if not QUAL.match(qual):
        raise RowError("BAD_QUAL", "QUAL is no number", "QUAL")
    for column, value in (("ID", name), ("FILTER", filters), ("INFO", info)):
        if not value or " " in value.strip() and column != "INFO":
            raise RowError("BAD_FIELD", f"{column} is empty or holds a blank", column)
    keys: tuple[str, ...] = ()
    if samples:
        keys = tuple(columns[8].split(":"))
        _check_samples(keys, columns[9:], len(alts))
    return Row(chrom, pos, ref, alts, (name, qual, filters, info), keys, tuple(columns[9:]), line)


@lru_cache(maxsize=1 << 14)
def _allele(text: str) -> str:
    upper = text.upper()
    if REF.match(upper):
        return upper
    if text == "*" or SYMBOLIC.match(text):
        return text
    if BREAKEND.match(upper) and upper != ".":
        return text
    raise RowError("BAD_ALT", "ALT is neither bases, *, <symbolic> nor a breakend", "ALT")


@lru_cache(maxsize=1 << 14)
def alleles(genotype: str) -> tuple[int, ...] | None:
    """Allele numbers of a genotype, -1 where one is missing; None where it is no genotype."""
    if not GENOTYPE.match(genotype):
        return None
    return tuple(-1 if a == "." else int(a) for a in re.split(r"[/|]", genotype.lstrip("/|")))


def _check_samples(keys: tuple[str, ...], samples: Sequence[str], alts: int) -> None:
    if len(set(keys)) != len(keys) or not all(keys):
        raise RowError("BAD_FORMAT", "FORMAT names a key twice or an empty one", "FORMAT")
    if "GT" in keys and keys[0] != "GT":
        raise RowError("BAD_FORMAT", "GT is not the first key of FORMAT", "FORMAT")
    most = len(keys) - 1
    for text in samples:
        if text.count(":") > most or not text:
            raise RowError("BAD_SAMPLE", "a sample has more values than FORMAT names, or none", "samples")
    if keys[0] == "GT":
        for text in {s.split(":", 1)[0] for s in samples}:
            numbers = alleles(text)
            if numbers is None:
                raise RowError("BAD_GT", "a genotype is malformed", "samples")
            if max(numbers) > alts:
                raise RowError("GT_INDEX", "a genotype names an allele that the row does not have", "samples")


def plain(row: Row) -> bool:
    """Whether all alleles are written out in bases."""
    return bool(row.alts) and all(REF.match(a) for a in row.alts)


def shortest(row: Row) -> Row:
    """The row with bases cut that all alleles share: from the end, then from the start, keeping one of each."""
    if not plain(row) or len(row.ref) < 2 or min(map(len, row.alts)) < 2:
        return row
    every = [row.ref, *row.alts]
    end = 0
    while all(len(a) - end > 1 for a in every) and len({a[-1 - end] for a in every}) == 1:
        end += 1
    every = [a[: len(a) - end] for a in every]
    start = 0
    while all(len(a) - start > 1 for a in every) and len({a[start] for a in every}) == 1:
        start += 1
    if not start and not end:
        return row
    every = [a[start:] for a in every]
    return Row(
        row.chrom, row.pos + start, every[0], tuple(every[1:]), row.fixed, row.format, row.samples, row.line
    )  # fmt: skip


def split(row: Row, numbers: Mapping[tuple[str, str], str]) -> list[Row]:
    """One row per alternate allele.

    In a genotype the allele of the row is 1, the reference 0, and every other allele missing. Values with one entry
    per allele (Number=A, R, G) keep those that belong to the row; a list of another length becomes missing.

    Args:
        row: To split.
        numbers: Number by ("INFO" or "FORMAT", id), from the header.
    """
    n = len(row.alts)
    if n < 2:
        return [row]
    out = []
    for j in range(1, n + 1):
        info = ";".join(_info(entry, j, n, numbers) for entry in row.fixed[3].split(";"))
        samples = tuple(_sample(text, row.format, j, n, numbers) for text in row.samples)
        fixed = (*row.fixed[:3], info)
        out.append(Row(row.chrom, row.pos, row.ref, (row.alts[j - 1],), fixed, row.format, samples, row.line))
    return out


def _info(entry: str, j: int, n: int, numbers: Mapping[tuple[str, str], str]) -> str:
    key, equals, value = entry.partition("=")
    if not equals:
        return entry
    return f"{key}={_subset(value, numbers.get(('INFO', key), '.'), j, n, 2)}"


def _sample(
    text: str, keys: tuple[str, ...], j: int, n: int, numbers: Mapping[tuple[str, str], str]
) -> str:  # fmt: skip
    values = text.split(":")
    ploidy = 2
    for i, value in enumerate(values):
        if keys[i] == "GT":
            ploidy = len(re.split(r"[/|]", value.lstrip("/|")))
            values[i] = re.sub(r"\d+", lambda m: m[0] if m[0] == "0" else "1" if int(m[0]) == j else ".", value)
        else:
            values[i] = _subset(value, numbers.get(("FORMAT", keys[i]), "."), j, n, ploidy)
    return ":".join(values)


def _subset(value: str, number: str, j: int, n: int, ploidy: int) -> str:
    if value == "." or number not in ("A", "R", "G"):
        return value
    entries = value.split(",")
    if number == "A":
        picks, length = [j - 1], n
    elif number == "R" or ploidy == 1:
        picks, length = [0, j], n + 1
    else:
        # Genotypes are listed as 0/0 0/1 1/1 0/2 1/2 2/2 ...: a/b (a <= b) stands at b(b+1)/2 + a.
        picks, length = [0, j * (j + 1) // 2, j * (j + 1) // 2 + j], (n + 1) * (n + 2) // 2
    return ",".join(entries[p] for p in picks) if len(entries) == length else "."
