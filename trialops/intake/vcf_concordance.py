"""Whether a genome is the subject's: the sex its X speaks for against DM, and samples that are one person twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.intake.vcf_header import Build, plain_name
from trialops.intake.vcf_rows import Row, alleles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@lru_cache(maxsize=1)
def policy() -> dict[str, Any]:
    """Thresholds."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("vcf_policy.yaml").read_text("utf-8"))
    return loaded


@dataclass(frozen=True)
class SampleCheck:
    """What the genotypes of a sample say.

    Attributes:
        x_calls, x_het: Calls on X outside the pseudo-autosomal regions, and heterozygous ones among them.
        x_haploid: Calls with one allele among them.
        calls, het: On autosomes.
        sex: "M", "F", or "" where they do not tell.
    """

    x_calls: int
    x_het: int
    x_haploid: int
    calls: int
    het: int
    sex: str


class Concordance:
    """Counts genotypes row by row, in memory that depends on the number of samples alone.

    Args:
        samples: Number of samples.
        build: For the pseudo-autosomal regions.
    """

    def __init__(self, samples: int, build: Build) -> None:
        """See the class."""
        import numpy as np

        self._build = build
        self._counts = np.zeros((5, samples), dtype=np.int64)  # x calls, x het, x haploid, calls, het
        self._compared = samples <= policy()["max_samples_compared"] and samples > 1
        self._sites: list[npt.NDArray[np.int8]] = []

    def add(self, row: Row) -> None:
        """Count a row."""
        import numpy as np

        if not row.format or row.format[0] != "GT":
            return
        contig = plain_name(row.chrom)
        on_x = contig == "X" and not self._build.shared_x(row.pos)
        if not on_x and not contig.isdigit():
            return
        # 0 no call, 1 homozygous or haploid reference, 2 heterozygous, 3 homozygous alternate; +4 where haploid
        codes = np.array([_code(s.split(":", 1)[0]) for s in row.samples], dtype=np.int8)
        kind = codes & 3
        at = 0 if on_x else 3
        self._counts[at] += kind > 0
        self._counts[at + 1] += kind == 2
        if on_x:
            self._counts[2] += codes > 3
        elif self._compared and len(row.alts) == 1 and len(self._sites) < policy()["sites_compared"]:
            self._sites.append(kind)

    def samples(self) -> list[SampleCheck]:
        """Per sample, in the order of the columns."""
        found = []
        for column in self._counts.T:
            x_calls, x_het, x_haploid, calls, het = (int(n) for n in column)
            sex = sex_of(x_calls, x_het, x_haploid, calls, het)
            found.append(SampleCheck(x_calls, x_het, x_haploid, calls, het, sex))
        return found

    def same_person(self) -> list[tuple[int, int, float]]:
        """Pairs of columns that agree as only one person does with himself: columns, share of equal genotypes."""
        import numpy as np

        limits = policy()
        if len(self._sites) < limits["min_sites"]:
            return []
        table = np.stack(self._sites)
        found = []
        for i in range(table.shape[1]):
            one, others = table[:, i : i + 1], table[:, i + 1 :]
            joint = (one > 0) & (others > 0) & ((one > 1) | (others > 1))
            equal = ((one == others) & joint).sum(axis=0)
            sites = joint.sum(axis=0)
            for k in np.flatnonzero((sites >= limits["min_sites"] / 4) & (equal >= limits["same_person"] * sites)):
                found.append((i, i + 1 + int(k), float(equal[k] / sites[k])))
        return found


@lru_cache(maxsize=1 << 12)
def _code(genotype: str) -> int:
    numbers = alleles(genotype)
    if numbers is None or -1 in numbers:
        return 0
    if len(set(numbers)) > 1:
        return 2
    return (3 if numbers[0] else 1) + (4 if len(numbers) == 1 else 0)


def sex_of(x_calls: int, x_het: int, x_haploid: int, calls: int, het: int) -> str:
    """The sex that genotypes speak for; empty where they do not tell."""
    limits = policy()
    if x_calls < limits["min_x_calls"]:
        return ""
    if x_haploid >= limits["haploid_share"] * x_calls:
        return "M"
    rate = x_het / x_calls
    if calls >= limits["min_autosomal_calls"] and het:
        ratio = rate / (het / calls)
        return "M" if ratio <= limits["male_ratio"] else "F" if ratio >= limits["female_ratio"] else ""
    return "M" if rate <= limits["male_rate"] else "F" if rate >= limits["female_rate"] else ""
