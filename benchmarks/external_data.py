"""Cost of external data: HL7 results, VCF rows and DICOM objects, each beside the least that must be done.

    .venv/bin/python benchmarks/external_data.py [--sizes 100,200,400] [--repeat 3]

Baselines: splitting the bytes of a laboratory file into fields; inflating a VCF and splitting its lines at tabs;
reading DICOM objects with pydicom and writing them back. Both alternate in one process; medians of CPU time.
"""

from __future__ import annotations

import argparse
import gzip
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pydicom

from tests.support import dicom_maker, vcf_maker
from trialops.intake.dicom_files import read_object
from trialops.intake.hl7_labs import read_file, statements_frame
from trialops.intake.hl7_results import current
from trialops.intake.subjects import Subjects
from trialops.intake.vcf import convert
from trialops.privacy.dicom_deidentify import DicomDeidentifier, Treatment
from trialops.synthetic import generate


class Plain:
    """Pseudonyms without a vault: keys are not what is measured."""

    def pseudonym(self, kind: str, value: str) -> str:
        """The value itself."""
        return f"{kind}:{value}"


def measure(baseline: Callable[[], object], candidate: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Median CPU seconds of both, alternating: what a shared machine does beside does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for kind, work in enumerate((baseline, candidate)):
            start = time.process_time()
            work()
            times[kind].append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def show(what: str, unit: str, count: int, size: int, base: float, ours: float) -> None:
    """One line of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {what} | {count:,} {unit} | {size / 2**20:.1f} | {count / base:,.0f} | {count / ours:,.0f} "
        f"| {ours / base:.1f} | {peak:,.0f} |"
    )


def laboratory(folder: Path, subjects: int, repeat: int) -> None:
    """Messages of a synthesized trial: to fields, against to results that count."""
    generate(folder, subjects=subjects, sites=6, seed=1, formats=("hl7",))
    data = b"".join(p.read_bytes() for p in sorted((folder / "hl7").glob("*.hl7")))
    known = Subjects(Plain(), {line.split("\t")[0]: "" for r in [read_file(data, "f", "s")] for row in r.statements
                               for line in str(row[9]).split("\n")[1:2]})  # fmt: skip

    def baseline() -> int:
        return sum(len(line.split("|")) for line in data.decode("ascii").split("\r"))

    def candidate() -> int:
        frame = statements_frame([read_file(data, "f", "s")])
        return current(frame, known, study="T", labels={}).rows.height

    assert candidate() > 0
    show("HL7", "results", data.count(b"\rOBX"), len(data), *measure(baseline, candidate, repeat))


def genomes(folder: Path, rows: int, repeat: int) -> None:
    """A gzip VCF of four samples: to columns, against checked and written again."""
    text = vcf_maker.vcf(
        [f"sample{i}" for i in range(4)], ["F", "M", "F", "M"], autosomal=rows, on_x=rows // 4
    ).encode()
    source = folder / "in.vcf.gz"
    source.write_bytes(gzip.compress(text, mtime=0))

    def baseline() -> int:
        with gzip.open(source, "rt") as stream:
            return sum(len(line.split("\t")) for line in stream)

    def candidate() -> int:
        names = {f"sample{i}": f"p{i}" for i in range(4)}
        return convert(source, folder / "out.vcf.gz", build="GRCh38", names=lambda s: names, other=str).loaded

    assert candidate() == rows + rows // 4
    show("VCF", "rows", rows + rows // 4, len(text), *measure(baseline, candidate, repeat))


def images(objects: int, repeat: int) -> None:
    """Small objects: read and written, against read, checked, de-identified and written."""
    files = [dicom_maker.encode(dicom_maker.image("s", number=i)) for i in range(objects)]

    def baseline() -> None:
        for data in files:
            pydicom.dcmread(io.BytesIO(data)).save_as(io.BytesIO())

    def candidate() -> None:
        worker = DicomDeidentifier(Plain(), Treatment())
        for data in files:
            read = read_object(data)
            worker.apply(read.dataset, subject="p")
            worker.write(read)

    show("DICOM", "objects", objects, sum(map(len, files)), *measure(baseline, candidate, repeat))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default="100,200,400", help="subjects; rows are 50 times, objects as many")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print("| input | size | MB | baseline /s | ours /s | ratio | peak MB |\n|---|---|---|---|---|---|---|")
    for size in (int(text) for text in options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            laboratory(Path(folder), size, options.repeat)
            genomes(Path(folder), size * 50, options.repeat)
            images(size, options.repeat)


if __name__ == "__main__":
    main()
