"""Coverage-guided fuzzing of the HL7 parser: python tests/fuzz/fuzz_hl7.py [corpus folder] [-runs=N] [-seed=N].

The property: no exception, and every record of a file is a statement or has a reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["trialops.intake"]):
    from trialops.intake import hl7_labs, hl7_parse
    from trialops.intake.hl7_ack import acknowledge, header_of

SEED = (
    b"MSH|^~\\&|LIS|LAB|T|1|20260302||ORU^R01^ORU_R01|M1|P|2.5.1\rPID|1||S1^^^T||A^B||19480229|F\r"
    b"OBR|1|P1|A1|PANEL|||20260301\rOBX|1|NM|1742-6^ALT^LN|1|5|U/L|1-2|H|||F|||20260301\r"
)


def one_input(data: bytes) -> None:
    """Read the bytes as a file, and as what follows a sound header; answer what would be answered."""
    for whole in (data, SEED + data, SEED.replace(b"5|U/L", data[:200] + b"|U/L")):
        result = hl7_labs.read_file(whole, "f", "s")
        aside = {f.row for f in result.findings}
        assert result.count.read == len(result.statements) + len(aside) >= 1
        assert aside.isdisjoint(row[1] for row in result.statements)
        for finding in result.findings:
            assert finding.reason and finding.message and finding.place
        batch = hl7_parse.split_file(whole)
        for framed in batch.messages[:3]:
            answer = acknowledge(header_of(framed.lines[0]), [hl7_parse.Hl7Error("X", "x")], at="1")
            assert answer is None or (answer.count(b"\r") == 3 and answer.startswith(b"MSH"))


def main() -> None:
    """Run until stopped, or for the number of runs asked for."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
