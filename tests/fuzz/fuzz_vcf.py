"""Coverage-guided fuzzing of the VCF reader: python tests/fuzz/fuzz_vcf.py [corpus folder] [-runs=N] [-seed=N].

The property: a file is converted or stopped with a reason; every line is loaded or has one; no sample name is left.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["trialops.intake"]):
    from trialops.intake import vcf

from tests.support.vcf_maker import header  # noqa: E402

HEAD = header(["QUIMBY01"]).encode()
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-vcf-"))


def convert(data: bytes) -> None:
    """One file through the whole way."""
    source, target = FOLDER / "in.vcf", FOLDER / "out.vcf.gz"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    try:
        result = vcf.convert(
            source,
            target,
            build="GRCh38",
            names=lambda s: {n: f"p{i}" for i, n in enumerate(s)},
            other=lambda who: "r",
            one_allele=True,
        )
    except vcf.Stopped as stopped:
        assert stopped.cause.reason and stopped.cause.message and not target.exists()
        return
    assert result.read == result.loaded + result.quarantined and len(result.findings) == result.quarantined
    text = gzip.decompress(target.read_bytes()).decode()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) == result.written
    if result.header.samples == ("QUIMBY01",):
        assert "QUIMBY01" not in text
    order = [(r[0], int(r[1])) for r in rows]
    assert all(a[0] != b[0] or a[1] <= b[1] for a, b in zip(order, order[1:], strict=False))


def one_input(data: bytes) -> None:
    """The bytes as a file, as rows below a sound header, and as the value columns of a row."""
    convert(data)
    convert(HEAD + data)
    convert(HEAD + b"chr1\t100\t.\tAT\t" + data[:300].replace(b"\n", b"") + b"\n")


def main() -> None:
    """Run until stopped, or for the number of runs asked for."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
