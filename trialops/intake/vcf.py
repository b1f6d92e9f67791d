"""Read a VCF 4.1 to 4.4 line by line and write the one that may be passed on: checked, shortest form, pseudonyms."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trialops.intake.bgzf import BgzfWriter
from trialops.intake.external import Finding
from trialops.intake.vcf_concordance import Concordance, SampleCheck
from trialops.intake.vcf_header import MAX_HEADER_LINES, Header, assert_build, builds, clean_header, read_header
from trialops.intake.vcf_lines import VcfError, lines
from trialops.intake.vcf_rows import Row, RowError, read_row, shortest, split

SOURCE = "TrialOps external data intake"
_WORDS = re.compile(r"[\w.-]{2,}")
MAX_SEARCHED = 64
"""Samples up to which an identifier is looked for inside words too."""
MAX_FINDINGS = 10_000
"""Rows of a file that are named one by one; of further ones only the number is kept."""


@dataclass
class VcfResult:
    """What came out of one file.

    Attributes:
        read, loaded, quarantined: Data lines; the three of a file that is whole sum.
        written: Rows of the new file: more than `loaded` where rows were split.
        findings: Lines set aside.
        reasons: Lines set aside by reason.
        shortened: Rows whose alleles were cut.
        moved: Rows whose position changed by that.
        emptied: Values of a row that held a sample identifier.
        header: As read.
        evidence: By what the genome build was told.
        checks: Per sample, in the order of the header.
        same_person: Pairs of samples that are one person.
    """

    header: Header
    evidence: str
    read: int = 0
    loaded: int = 0
    written: int = 0
    findings: list[Finding] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    shortened: int = 0
    moved: int = 0
    emptied: int = 0
    checks: list[SampleCheck] = field(default_factory=list)
    same_person: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        """Lines set aside."""
        return sum(self.reasons.values())

    def aside(self, line: int, error: RowError) -> None:
        """Set a line aside."""
        self.reasons[error.reason] += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(line, error.column, error.reason, error.message))


class Stopped(Exception):
    """A fault of the file as a whole after `read` data lines."""

    def __init__(self, cause: VcfError, read: int) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.read = read


def header_of(source: Iterator[str]) -> Header:
    """Read the header and leave the iterator at the first data line.

    Raises:
        VcfError: As :func:`vcf_header.read_header`; or the header is too long.
    """
    found: list[str] = []
    for line in source:
        if not found and not line.startswith("##fileformat=VCFv"):
            raise VcfError("NO_HEADER", "the first line is not ##fileformat=VCFv4.x", 1)
        if not line.startswith("#"):
            raise VcfError("NO_COLUMNS", "data begins without a #CHROM line", len(found) + 1)
        found.append(line)
        if line.startswith("#CHROM"):
            break
        if len(found) > MAX_HEADER_LINES:
            raise VcfError("HEADER_TOO_LONG", f"more than {MAX_HEADER_LINES:,} header lines", len(found))
    return read_header(found)


def convert(
    path: Path,
    target: Path,
    *,
    build: str,
    names: Callable[[tuple[str, ...]], Mapping[str, str]],
    other: Callable[[str], str],
    one_allele: bool = False,
    progress: Callable[[int], None] | None = None,
) -> VcfResult:
    """Check a VCF and write its clean form as BGZF, in memory that does not depend on its length.

    Args:
        path: Plain or gzip.
        target: File to write; exists only when this returns.
        build: Genome build the trial uses.
        names: Gives the pseudonym of every sample, or raises VcfError.
        other: Pseudonym of a person named in a pedigree who has no column.
        one_allele: Whether rows with several alternate alleles are split.
        progress: Called with the number of data lines read, now and then.

    Raises:
        Stopped: The file as a whole cannot be used; nothing is written.
    """
    read = 0
    try:
        source = lines(path)
        header = header_of(source)
        evidence = assert_build(header, build)
        pseudonyms = names(header.samples)
        result = VcfResult(header, evidence)
        staged = target.with_name(f".{target.name}.partial")
        with staged.open("wb") as stream, BgzfWriter(stream) as writer:
            for line in clean_header(header, pseudonyms, other, build, SOURCE):
                writer.write(line.encode() + b"\n")
            work = _Rows(header, build, pseudonyms, one_allele, result, writer)
            for number, text in enumerate(source, start=header.lines + 1):
                if not text:
                    continue
                read = result.read = result.read + 1
                work.take(text, number)
                if progress and read % 20_000 == 0:
                    progress(read)
            work.finish()
        staged.replace(target)
        return result
    except VcfError as error:
        raise Stopped(error, read) from None
    finally:
        target.with_name(f".{target.name}.partial").unlink(missing_ok=True)


class _Rows:
    """Rows on their way: checked, cut, split, and back in order after positions have moved."""

    def __init__(
        self, header: Header, build: str, names: Mapping[str, str], one_allele: bool, result: VcfResult,
        writer: BgzfWriter,
    ) -> None:  # fmt: skip
        spec = builds()[build]
        self._header, self._names, self._split, self._result, self._writer = header, names, one_allele, result, writer
        self._contigs = dict(header.contigs) or {f"{p}{c}": n for c, n in spec.contigs.items() for p in ("", "chr")}
        self._concordance = Concordance(len(header.samples), spec)
        self._waiting: list[tuple[int, int, int, str]] = []
        self._seen: dict[int, set[tuple[str, tuple[str, ...]]]] = {}
        self._chrom, self._pos, self._done, self._serial = "", 0, set[str](), 0
        # A short name is common inside words: it is looked for as a whole word only; so are those of many samples.
        self._long = tuple(s for s in names if len(s) > 5 and not s.isdigit()) if len(names) <= MAX_SEARCHED else ()

    def take(self, text: str, line: int) -> None:
        """One data line."""
        result = self._result
        try:
            row = read_row(text, line, len(self._header.samples), self._contigs)
            self._order(row)
            cut = shortest(row)
            key = (cut.ref, cut.alts)
            known = self._seen.setdefault(cut.pos, set())
            if key in known:
                raise RowError("DUPLICATE", "the same variant stands in an earlier row", "row")
            known.add(key)
        except RowError as error:
            result.aside(line, error)
            return
        result.loaded += 1
        result.shortened += cut is not row
        result.moved += cut.pos != row.pos
        self._concordance.add(row)
        pieces = split(self._without_names(cut), self._header.numbers) if self._split else [self._without_names(cut)]
        for piece in pieces:
            piece = shortest(piece)
            self._serial += 1
            heapq.heappush(self._waiting, (piece.pos, line, self._serial, piece.text()))
        # A cut moves a variant to the right only, so what lies before this row is final.
        self._flush(row.pos)

    def _order(self, row: Row) -> None:
        if row.chrom != self._chrom:
            if row.chrom in self._done:
                raise RowError("NOT_SORTED", "the contig stood before, with another one between", "CHROM")
            self._flush(None)
            self._done.add(self._chrom)
            self._chrom, self._pos = row.chrom, 0
            self._seen.clear()
        if row.pos < self._pos:
            raise RowError("NOT_SORTED", "the position is before that of the row above", "POS")
        if row.pos > self._pos and len(self._seen) > 256:
            self._seen = {p: k for p, k in self._seen.items() if p >= row.pos}
        self._pos = row.pos

    def _without_names(self, row: Row) -> Row:
        """Empty values that hold a sample identifier; sample columns only where a key may hold text."""
        name, qual, filters, info = row.fixed
        if self._named(info):
            kept = [e for e in info.split(";") if not self._named(e)]
            self._result.emptied += len(info.split(";")) - len(kept)
            info = ";".join(kept) or "."
        if self._named(name):
            name, self._result.emptied = ".", self._result.emptied + 1
        if self._named(filters):
            filters, self._result.emptied = ".", self._result.emptied + 1
        samples = row.samples
        free = [i for i, key in enumerate(row.format) if key not in self._header.coded]
        if free:
            samples = tuple(self._sample(s, free) for s in samples)
        return replace(row, fixed=(name, qual, filters, info), samples=samples)

    def _sample(self, text: str, free: list[int]) -> str:
        values = text.split(":")
        for i in free:
            if i < len(values) and self._named(values[i]):
                values[i] = "."
                self._result.emptied += 1
        return ":".join(values)

    def _named(self, text: str) -> bool:
        """Whether a text holds a sample identifier; one of few digits cannot be told from a value."""
        if any(s in text for s in self._long):
            return True
        names = self._names
        return any(w in names and (not w.isdigit() or len(w) > 5) for w in _WORDS.findall(text))

    def _flush(self, before: int | None) -> None:
        while self._waiting and (before is None or self._waiting[0][0] < before):
            self._writer.write(heapq.heappop(self._waiting)[3].encode() + b"\n")
            self._result.written += 1

    def finish(self) -> None:
        """Write what waits."""
        self._flush(None)
        self._result.checks = self._concordance.samples()
        self._result.same_person = self._concordance.same_person()
