"""VCF files for tests: genotypes drawn by sex, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trialops.intake.vcf_header import builds

EXTRA = (
    '##FILTER=<ID=PASS,Description="All filters passed">',
    '##INFO=<ID=AC,Number=A,Type=Integer,Description="Allele count">',
    '##INFO=<ID=AN,Number=1,Type=Integer,Description="Alleles">',
    '##INFO=<ID=NOTE,Number=1,Type=String,Description="Free text">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depths">',
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">',
)


def header(samples: Sequence[str], *, build: str = "GRCh38", version: str = "4.2", more: Sequence[str] = ()) -> str:
    """Header text."""
    contigs = [f"##contig=<ID=chr{c},length={n}>" for c, n in builds()[build].contigs.items()]
    columns = [
        "#CHROM",
        "POS",
        "ID",
        "REF",
        "ALT",
        "QUAL",
        "FILTER",
        "INFO",
        *(["FORMAT", *samples] if samples else []),
    ]
    return "\n".join([f"##fileformat=VCFv{version}", *EXTRA, *contigs, *more, "\t".join(columns)]) + "\n"


def rows(sexes: Sequence[str], *, seed: int = 0, autosomal: int = 400, on_x: int = 120) -> list[str]:
    """Rows in order: single-base variants on chr1, chr2 and X; one column per sex given."""
    random = Random(seed)
    found = []
    for chrom, count in (("chr1", autosomal // 2), ("chr2", autosomal - autosomal // 2), ("chrX", on_x)):
        pos = 5_000_000
        for _ in range(count):
            pos += random.randint(1, 4000)
            ref, alt = random.sample("ACGT", 2)
            share = random.uniform(0.2, 0.8)
            texts, total = [], 0
            for sex in sexes:
                both = [int(random.random() < share) for _ in range(2)]
                if chrom == "chrX" and sex == "M":
                    both[1] = both[0]
                total += sum(both)
                texts.append(f"{min(both)}/{max(both)}:{random.randint(5, 30)},{random.randint(5, 30)}:0,10,100")
            info = f"AC={total};AN={2 * len(sexes)}"
            found.append("\t".join([chrom, str(pos), ".", ref, alt, "50", "PASS", info, "GT:AD:PL", *texts]))
    return found


def vcf(samples: Sequence[str], sexes: Sequence[str], *, seed: int = 0, **how: object) -> str:
    """A whole file."""
    more = {k: how.pop(k) for k in ("build", "version", "more") if k in how}
    return header(samples, **more) + "\n".join(rows(sexes, seed=seed, **how)) + "\n"  # type: ignore[arg-type]
