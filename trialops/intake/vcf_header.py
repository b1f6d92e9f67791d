"""The header of a VCF: version, contigs, samples, genome build; and the header that may be passed on.

Header lines quote command lines, paths, dates and names. What may stay is listed (`KEPT`); everything else is dropped
and counted, and what stays loses sample identifiers, paths and dates. Source: VCF 4.1 to 4.4, section 1.2 and 1.4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from trialops.intake.vcf_lines import VcfError

VERSIONS = ("4.1", "4.2", "4.3", "4.4")
FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
KEPT = ("INFO", "FORMAT", "FILTER", "ALT", "contig", "SAMPLE", "PEDIGREE")
MAX_HEADER_LINES = 200_000
CODED = ("GT", "FT", "PGT", "PID", "PS", "PL", "GL", "GQ", "DP", "AD")
"""FORMAT keys that the specification or every caller gives codes or numbers."""
_META = re.compile(r"##([^=<>\s]+)=(.*)\Z", re.S)
_PAIR = re.compile(r'([A-Za-z0-9_.+-]+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,<>"]*)(?:,|\Z)')
_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/][\w.~-]+[\\/]|file:|[a-z]+://|\\\\")
_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12]\d|3[01])(?!\d)")
_PLAIN = re.compile(r"[\w.*:+-]+\Z")
_CONTIG = ("ID", "length", "assembly", "md5", "species", "taxonomy")
_DEFINED = ("ID", "Number", "Type", "Description", "Version")


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        version: "4.1" to "4.4".
        meta: (key, value) of its ## lines, in order.
        contigs: Length by contig, 0 where it is not stated.
        numbers: Number by ("INFO" or "FORMAT", id).
        coded: FORMAT keys whose values are numbers or codes, not free text.
        samples: Sample identifiers as sent.
        lines: Header lines, #CHROM included.
    """

    version: str
    meta: tuple[tuple[str, str], ...]
    contigs: Mapping[str, int]
    numbers: Mapping[tuple[str, str], str]
    coded: frozenset[str]
    samples: tuple[str, ...]
    lines: int
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Build:
    """A genome build: name, contig lengths, pseudo-autosomal regions of X (1-based, inclusive)."""

    name: str
    names: tuple[str, ...]
    contigs: Mapping[str, int]
    pseudoautosomal_x: tuple[tuple[int, int], ...]

    def shared_x(self, position: int) -> bool:
        """Whether a position of X lies where a man has two copies."""
        return any(low <= position <= high for low, high in self.pseudoautosomal_x)


@lru_cache(maxsize=1)
def builds() -> Mapping[str, Build]:
    """The builds that are known."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("vcf_builds.yaml").read_text("utf-8"))
    return {
        name: Build(
            name,
            tuple(spec["names"]),
            {str(c): int(n) for c, n in spec["contigs"].items()},
            tuple((int(a), int(b)) for a, b in spec["pseudoautosomal_x"]),
        )
        for name, spec in data.items()
        if isinstance(spec, dict)
    }


def plain_name(contig: str) -> str:
    """A contig without its prefix: chr1 and 1 are the same."""
    return contig[3:] if contig[:3].lower() == "chr" else contig


def fields_of(value: str) -> dict[str, str] | None:
    """Pairs of a structured value ``<ID=...,Description="...">``; None where it is none."""
    if not (value.startswith("<") and value.endswith(">")):
        return None
    inner, found, at = value[1:-1], {}, 0
    while at < len(inner):
        match = _PAIR.match(inner, at)
        if not match or match.end() == at:
            return None
        found[match.group(1)] = match.group(2).strip('"') if match.group(2).startswith('"') else match.group(2)
        at = match.end()
    return found


def read_header(lines: Sequence[str]) -> Header:
    """Read the lines up to and including #CHROM.

    Raises:
        VcfError: The first line is no VCF version that is read here, a line is malformed, or #CHROM is missing or
            wrong.
    """
    if not lines or not lines[0].startswith("##fileformat=VCFv"):
        raise VcfError("NO_HEADER", "the first line is not ##fileformat=VCFv4.x", 1)
    version = lines[0].removeprefix("##fileformat=VCFv").strip()
    if version not in VERSIONS:
        raise VcfError("WRONG_VERSION", f"the version is none of {', '.join(VERSIONS)}", 1)
    if not lines[-1].startswith("#CHROM"):
        raise VcfError("NO_COLUMNS", "there is no #CHROM line", len(lines))
    meta: list[tuple[str, str]] = []
    contigs: dict[str, int] = {}
    numbers: dict[tuple[str, str], str] = {}
    coded = set(CODED)
    for number, line in enumerate(lines[1:-1], start=2):
        match = _META.match(line)
        if not match:
            raise VcfError("BAD_HEADER", "a header line is not ##key=value", number)
        key, value = match.groups()
        pairs = fields_of(value) if key in KEPT else None
        if key in KEPT and pairs is None and not (key == "PEDIGREE" and not value.startswith("<")):
            raise VcfError("BAD_HEADER", f"##{key} is not <key=value,...>", number)
        if pairs is not None and key != "PEDIGREE" and not pairs.get("ID"):
            raise VcfError("BAD_HEADER", f"##{key} has no ID", number)
        if key == "contig" and pairs is not None:
            length = pairs.get("length", "0")
            if not (length.isascii() and length.isdigit()) or len(length) > 12 or pairs["ID"] in contigs:
                raise VcfError("BAD_CONTIG", "a ##contig has no usable length, or stands twice", number)
            contigs[pairs["ID"]] = int(length)
        if key in ("INFO", "FORMAT") and pairs is not None:
            numbers[key, pairs["ID"]] = pairs.get("Number", ".")
            if key == "FORMAT" and pairs.get("Type") in ("Integer", "Float"):
                coded.add(pairs["ID"])
        meta.append((key, value))
    columns = lines[-1].split("\t")
    if tuple(columns[:8]) != FIXED or (len(columns) > 8 and columns[8] != "FORMAT") or len(columns) == 9:
        raise VcfError("BAD_COLUMNS", "the #CHROM line does not name the columns of VCF", len(lines))
    samples = tuple(columns[9:])
    if len(set(samples)) != len(samples) or not all(s.strip() for s in samples):
        raise VcfError("SAMPLE_NAMES", "a sample name is empty or stands twice", len(lines))
    return Header(version, tuple(meta), contigs, numbers, frozenset(coded), samples, len(lines))


def assert_build(header: Header, wanted: str) -> str:
    """Make sure the positions are of the build that the trial uses; says by what evidence.

    Lengths of primary contigs decide; where the header states none, a name in ##reference, ##assembly or a contig's
    assembly does. Evidence for two builds is a refusal, and so is none at all.

    Raises:
        VcfError: It is another build, contradictory, or cannot be told.
    """
    table = builds()
    if wanted not in table:
        raise VcfError("BUILD_NOT_KNOWN", f"the build asked for is none of {', '.join(table)}")
    by_length: Counter[str] = Counter()
    wrong = 0
    for contig, length in header.contigs.items():
        name = plain_name(contig)
        if length and name in table[wanted].contigs:
            fits = [build for build, spec in table.items() if spec.contigs[name] == length]
            by_length.update(fits)
            wrong += not fits
    by_name = {build for build, spec in table.items() for text in _naming(header) if _says(text, spec.names)}
    if wrong:
        raise VcfError("WRONG_BUILD", f"{wrong} primary contigs have lengths of no build that is known")
    if len(by_length) > 1:
        raise VcfError("BUILD_CONTRADICTS", "contig lengths are of two genome builds")
    said = set(by_length) or by_name
    if not said:
        raise VcfError("BUILD_UNKNOWN", "neither contig lengths nor the header tell the genome build")
    if len(said) > 1 or (by_length and by_name - set(by_length)):
        raise VcfError("BUILD_CONTRADICTS", "the header names another genome build than the contig lengths")
    if said != {wanted}:
        raise VcfError("WRONG_BUILD", f"the positions are of {said.pop()}, the trial uses {wanted}")
    return f"{by_length[wanted]} contig lengths" if by_length else "named in the header"


def _naming(header: Header) -> list[str]:
    texts = [value for key, value in header.meta if key in ("reference", "assembly")]
    for key, value in header.meta:
        if key == "contig":
            texts.append((fields_of(value) or {}).get("assembly", ""))
    return [t for t in texts if t]


def _says(text: str, names: Sequence[str]) -> bool:
    words = re.split(r"[^a-z0-9]+", text.lower().replace("_", " "))
    joined = text.lower()
    return any(n in words or re.search(rf"(?<![a-z0-9]){re.escape(n)}(?![a-z0-9])", joined) for n in names)


def clean_header(
    header: Header, names: Mapping[str, str], other: Callable[[str], str], build: str, source: str
) -> list[str]:
    """The header that may be passed on, #CHROM included.

    Args:
        header: As read; what is dropped is counted in it.
        names: Pseudonym by sample.
        other: Pseudonym of a person who is named in a pedigree and has no column.
        build: Genome build.
        source: Who wrote it.
    """
    out = [f"##fileformat=VCFv{header.version}", f"##source={source}", f"##reference={build}"]
    for key, value in header.meta:
        pairs = fields_of(value) if key in KEPT else None
        if pairs is None:
            header.dropped[_class_of(key, value)] += 1
            continue
        line = _line(key, pairs, names, other, header.dropped)
        if line and line not in out:
            out.append(line)
    if not any(line.startswith("##contig") for line in out):
        out += [f"##contig=<ID={c},length={n}>" for c, n in builds()[build].contigs.items()]
    columns = list(FIXED)
    if header.samples:
        columns += ["FORMAT", *(names[s] for s in header.samples)]
    return [*out, "\t".join(columns)]


def _line(
    key: str, pairs: Mapping[str, str], names: Mapping[str, str], other: Callable[[str], str], dropped: Counter[str]
) -> str:
    if key == "SAMPLE":
        # Whatever else a ##SAMPLE says (tissue, family, description) is about a person.
        known = names.get(pairs["ID"])
        dropped["sample description"] += len(pairs) > 1
        return f"##SAMPLE=<ID={known or other(pairs['ID'])}>"
    if key == "PEDIGREE":
        people = ",".join(f"{role}={names.get(who) or other(who)}" for role, who in pairs.items() if _PLAIN.match(role))
        return f"##PEDIGREE=<{people}>"
    allowed = _CONTIG if key == "contig" else _DEFINED
    kept = {}
    for name, text in pairs.items():
        if name not in allowed:
            dropped["attribute of a definition"] += 1
        elif name == "Description":
            kept[name] = '"' + _described(text, names, dropped) + '"'
        elif _PLAIN.match(text) and not _holds(text, names):
            kept[name] = text
        elif name in ("species",) and not _PATH.search(text) and not _holds(text, names):
            kept[name] = f'"{text}"'
        else:
            dropped["attribute of a definition"] += 1
    return f"##{key}=<{','.join(f'{n}={t}' for n, t in kept.items())}>" if "ID" in kept else ""


def _described(text: str, names: Mapping[str, str], dropped: Counter[str]) -> str:
    if _PATH.search(text) or _DATE.search(text) or _holds(text, names):
        dropped["description"] += 1
        return "removed"
    return text


def _holds(text: str, names: Mapping[str, str]) -> bool:
    """Whether a text holds a sample identifier as a word, or a long one anywhere."""
    words = set(re.split(r"[^\w.-]+", text)) | set(re.split(r"\W+", text))
    return any(w in names for w in words) or any(len(s) > 5 and s in text for s in names)


def _class_of(key: str, value: str) -> str:
    lower = key.lower()
    if "command" in lower or "cmd" in lower or "version" in lower:
        return "command or program"
    if "date" in lower or _DATE.search(value):
        return "date"
    if _PATH.search(value) or lower in ("reference", "source", "assembly", "pedigreedb"):
        return "path or source"
    return "other"
