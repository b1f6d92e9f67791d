"""VCF: what is accepted, how a row gets its shortest form, what may stay in a header, whose genome it is."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pysam
import pytest

from tests.support.vcf_maker import header, rows, vcf
from trialops.intake.bgzf import BgzfWriter
from trialops.intake.vcf import Stopped, VcfResult, convert
from trialops.intake.vcf_concordance import sex_of
from trialops.intake.vcf_header import assert_build, builds, read_header
from trialops.intake.vcf_lines import VcfError
from trialops.intake.vcf_rows import Row, RowError, read_row, shortest, split


def run(tmp_path: Path, text: str, **how: object) -> tuple[VcfResult, Path]:
    source, target = tmp_path / "in.vcf", tmp_path / "out.vcf.gz"
    source.write_text(text)
    names = how.pop("names", None) or (lambda samples: {s: f"p{i:015d}" for i, s in enumerate(samples)})
    result = convert(source, target, build="GRCh38", names=names, other=lambda who: "relative", **how)  # type: ignore[arg-type]
    return result, target


def text_of(target: Path) -> str:
    return gzip.decompress(target.read_bytes()).decode()


def test_pysam_reads_and_indexes_what_is_written(tmp_path: Path) -> None:
    samples, sexes = [f"01-701-{n}" for n in range(1001, 1005)], ["F", "M", "F", "M"]
    result, target = run(tmp_path, vcf(samples, sexes, seed=3))
    assert result.read == result.loaded == result.written == 520 and not result.findings
    pysam.tabix_index(str(target), preset="vcf", force=True)
    with pysam.VariantFile(str(target)) as file:
        assert list(file.header.samples) == [f"p{i:015d}" for i in range(4)]
        records = [(r.chrom, r.pos, r.ref, r.alts, [s["GT"] for s in r.samples.values()]) for r in file]
        assert len(records) == 520
        inside = [r for r in records if r[0] == "chr2" and 5_100_000 < r[1] <= 5_300_000]
        assert [(r.chrom, r.pos, r.ref, r.alts, [s["GT"] for s in r.samples.values()])
                for r in file.fetch("chr2", 5_100_000, 5_300_000)] == inside and inside  # fmt: skip
    # The oracle reads the source too: nothing but names and header differs.
    with pysam.VariantFile(str(tmp_path / "in.vcf")) as original:
        assert [(r.chrom, r.pos, r.ref, r.alts, [s["GT"] for s in r.samples.values()]) for r in original] == records
    assert [c.sex for c in result.checks] == sexes


def test_bgzf_of_any_content(tmp_path: Path) -> None:
    import random

    for data in (b"", b"x", bytes(200_000), random.Random(1).randbytes(200_001)):
        path = tmp_path / "data.gz"
        with path.open("wb") as stream, BgzfWriter(stream) as writer:
            for start in range(0, len(data), 7001):
                writer.write(data[start : start + 7001])
        assert gzip.decompress(path.read_bytes()) == data
        with pysam.BGZFile(str(path)) as reader:
            assert reader.read() == data
        assert subprocess.run(["gzip", "-t", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("chr1 100 . A C . . .", "COLUMN_COUNT"),
        ("chr1 100 . A", "COLUMN_COUNT"),
        ("chr1 100 . A C . . . GT 0/1 0/1", "SAMPLE_COUNT"),
        ("chr99 100 . A C . . . GT 0/1", "UNKNOWN_CONTIG"),
        ("chr1 ten . A C . . . GT 0/1", "BAD_POS"),
        ("chr1 0 . A C . . . GT 0/1", "BAD_POS"),
        ("chr1 248956500 . A C . . . GT 0/1", "BEYOND_CONTIG"),
        ("chr1 100 . Z C . . . GT 0/1", "BAD_REF"),
        ("chr1 100 . A Q . . . GT 0/1", "BAD_ALT"),
        ("chr1 100 . A C,C . . . GT 0/1", "BAD_ALT"),
        ("chr1 100 . A A . . . GT 0/0", "BAD_ALT"),
        ("chr1 100 . A C high . . GT 0/1", "BAD_QUAL"),
        ("chr1 100 . A C . . . GT 0/2", "GT_INDEX"),
        ("chr1 100 . A C . . . GT 0/x", "BAD_GT"),
        ("chr1 100 . A C . . . AD:GT 1,2:0/1", "BAD_FORMAT"),
        ("chr1 100 . A C . . . GT 0/1:5", "BAD_SAMPLE"),
        ("chr1 100 . A C . . . GT:GT 0/1:0/1", "BAD_FORMAT"),
    ],
)
def test_rows_set_aside(columns: str, reason: str) -> None:
    line = "\t".join(columns.split(" "))
    with pytest.raises(RowError) as caught:
        read_row(line, 1, 1, {"chr1": 248956422})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "alts", ["C", "CT", "*", "<DEL>", "C,<NON_REF>", "]chr2:321682]A", "A[chr2:321682[", ".A", "A.", "."]
)
def test_alleles_of_the_specification(alts: str) -> None:
    row = read_row(f"chr1\t100\trs1\tA\t{alts}\t.\tPASS\tDP=1\tGT\t0/0", 1, 1, {"chr1": 1000})
    assert row.text() == f"chr1\t100\trs1\tA\t{alts}\t.\tPASS\tDP=1\tGT\t0/0"


def row(pos: int, ref: str, *alts: str) -> Row:
    return Row("chr1", pos, ref, alts, (".", ".", ".", "."), ("GT",), ("0/1",), 1)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (row(100, "CTCC", "CCC"), (100, "CT", ("C",))),
        (row(100, "ATG", "ACG"), (101, "T", ("C",))),
        (row(100, "GCA", "GCACA"), (100, "G", ("GCA",))),
        (row(100, "A", "C"), (100, "A", ("C",))),
        (row(100, "AT", "A", "ATT"), (100, "AT", ("A", "ATT"))),
        (row(100, "TAAC", "TAAG", "TAAT"), (103, "C", ("G", "T"))),
        (row(100, "AT", "<DEL>"), (100, "AT", ("<DEL>",))),
    ],
)
def test_shortest_form(given: Row, wanted: tuple[int, str, tuple[str, ...]]) -> None:
    cut = shortest(given)
    assert (cut.pos, cut.ref, cut.alts) == wanted


def test_split_keeps_the_values_of_each_allele() -> None:
    numbers = {("INFO", "AC"): "A", ("INFO", "AN"): "1", ("FORMAT", "AD"): "R", ("FORMAT", "PL"): "G"}
    given = Row(
        "chr1", 5, "A", ("C", "G"), (".", ".", ".", "AC=3,4;AN=10;DB"), ("GT", "AD", "PL"),
        ("1/2:1,2,3:00,01,11,02,12,22", "0|2:9,.,7:.", "2:1,2,3:0,1,2"), 1,
    )  # fmt: skip
    one, two = split(given, numbers)
    assert one.alts == ("C",) and one.fixed[3] == "AC=3;AN=10;DB" and two.fixed[3] == "AC=4;AN=10;DB"
    assert one.samples == ("1/.:1,2:00,01,11", "0|.:9,.:.", ".:1,2:0,1")
    assert two.samples == ("./1:1,3:00,02,22", "0|1:9,7:.", "1:1,3:0,2")


def test_order_duplicates_and_moves(tmp_path: Path) -> None:
    lines = [
        "chr1\t100\t.\tCAAAT\tCAAAG\t.\t.\t.\tGT\t0/1",  # is 104 T>G
        "chr1\t102\t.\tA\tG\t.\t.\t.\tGT\t0/1",
        "chr1\t104\t.\tT\tG\t.\t.\t.\tGT\t0/1",  # the same as the first
        "chr1\t103\t.\tA\tG\t.\t.\t.\tGT\t0/1",  # not sorted
        "chr2\t5\t.\tA\tG,T\t.\t.\tAC=1,2\tGT\t1/2",
        "chr1\t200\t.\tA\tG\t.\t.\t.\tGT\t0/1",  # chr1 again
    ]
    result, target = run(tmp_path, header(["s1234567"]) + "\n".join(lines) + "\n", one_allele=True)
    assert (result.read, result.loaded, result.written, result.moved) == (6, 3, 4, 1)
    assert dict(result.reasons) == {"DUPLICATE": 1, "NOT_SORTED": 2}
    body = [line.split("\t")[:5] for line in text_of(target).splitlines() if not line.startswith("#")]
    assert [(c[0], c[1], c[3], c[4]) for c in body] == [
        ("chr1", "102", "A", "G"), ("chr1", "104", "T", "G"), ("chr2", "5", "A", "G"), ("chr2", "5", "A", "T"),
    ]  # fmt: skip
    pysam.tabix_index(str(target), preset="vcf", force=True)


def test_nothing_in_the_header_names_a_sample(tmp_path: Path) -> None:
    more = [
        "##fileDate=20260301",
        "##source=/home/quimby/run1/caller",
        "##reference=file:///data/quimby/GRCh38.fa",
        "##bcftools_viewCommand=view -s QUIMBY01 /mnt/QUIMBY01.bam; Date=Mon Mar  2 10:00:00 2026",
        '##GATKCommandLine=<ID=HaplotypeCaller,CommandLine="-I QUIMBY01.bam">',
        '##SAMPLE=<ID=QUIMBY01,Genomes=Germline,Mixture=1.,Description="Ada Quimby, left arm">',
        "##PEDIGREE=<ID=QUIMBY01,Father=OLDQUIMBY,Mother=QUIMBY02>",
        "##PEDIGREE=<Name_0=QUIMBY01,Name_1=QUIMBY02>",
        "##pedigreeDB=http://quimby.example/ped",
        '##INFO=<ID=SRC,Number=1,Type=String,Description="from QUIMBY01 by caller">',
        '##INFO=<ID=PTH,Number=1,Type=String,Description="see /srv/quimby/list.txt">',
        "##contig=<ID=chrUn,length=100,URL=ftp://quimby/x,assembly=GRCh38>",
        "##QUIMBY02=1",
    ]
    lines = [
        "chr1\t100\tQUIMBY01_v1\tA\tC\t.\tPASS\tAC=1;NOTE=seen_in_QUIMBY01;AN=4\tGT:XX\t0/1:QUIMBY02\t0/0:fine",
        "chr1\t101\trs5\tA\tC\t.\tPASS\tNOTE=other\tGT:XX\t0/1:a\t0/0:QUIMBY01",
    ]
    given = header(["QUIMBY01", "QUIMBY02"], more=more) + "\n".join(lines) + "\n"
    result, target = run(tmp_path, given)
    text = text_of(target)
    assert "quimby" not in text.lower() and "2026" not in text and "Ada" not in text and "##source=TrialOps" in text
    assert "##SAMPLE=<ID=p000000000000000>" in text
    assert "##PEDIGREE=<ID=p000000000000000,Father=relative,Mother=p000000000000001>" in text
    assert "chr1\t100\t.\tA\tC\t.\tPASS\tAC=1;AN=4\tGT:XX\t0/1:.\t0/0:fine" in text
    assert "chr1\t101\trs5\tA\tC\t.\tPASS\tNOTE=other\tGT:XX\t0/1:a\t0/0:." in text
    assert result.emptied == 4 and sum(result.header.dropped.values()) >= 7
    with pysam.VariantFile(str(target)) as file:
        assert len(list(file)) == 2


@pytest.mark.parametrize(
    ("build", "more", "reason"),
    [
        ("GRCh37", (), "WRONG_BUILD"),
        ("GRCh38", ("##reference=file:///ref/hg19.fa",), "BUILD_CONTRADICTS"),
        ("GRCh38", ("##contig=<ID=1,length=249250621>",), "BUILD_CONTRADICTS"),
        ("GRCh38", ("##contig=<ID=1,length=12345>",), "WRONG_BUILD"),
    ],
)
def test_another_build_is_refused(tmp_path: Path, build: str, more: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Stopped) as caught:
        run(tmp_path, vcf(["s1"], ["F"], build=build, more=more, autosomal=2, on_x=0))
    assert caught.value.cause.reason == reason and not (tmp_path / "out.vcf.gz").exists()


def test_build_by_name_where_no_length_is_stated() -> None:
    def say(*more: str) -> str:
        return assert_build(read_header(["##fileformat=VCFv4.3", *more, header(["s"]).splitlines()[-1]]), "GRCh38")

    assert say("##reference=/x/GRCh38_full_analysis.fa") == "named in the header"
    for lines, reason in ((["##reference=hs37d5.fa"], "WRONG_BUILD"), (["##source=x"], "BUILD_UNKNOWN")):
        with pytest.raises(VcfError) as caught:
            say(*lines)
        assert caught.value.reason == reason


def test_builds_add_up() -> None:
    # Totals of chromosomes 1 to 22, X and Y as published for hg19 and hg38.
    assert {n: sum(b.contigs.values()) for n, b in builds().items()} == {"GRCh37": 3095677412, "GRCh38": 3088269832}


def test_sex_by_genotypes() -> None:
    assert sex_of(100, 0, 0, 400, 160) == "M" and sex_of(100, 45, 0, 400, 160) == "F"
    assert sex_of(100, 10, 0, 400, 160) == "" and sex_of(10, 5, 0, 400, 160) == ""
    assert sex_of(100, 0, 95, 400, 160) == "M" and sex_of(100, 1, 0, 0, 0) == "M" and sex_of(100, 30, 0, 0, 0) == "F"


def test_one_person_under_two_names(tmp_path: Path) -> None:
    text = header(["a1", "b2", "c3"])
    for line in rows(["F", "M"], seed=5):
        columns = line.split("\t")
        text += "\t".join([*columns, columns[-1]]) + "\n"
    result, _ = run(tmp_path, text)
    assert [(i, j) for i, j, _ in result.same_person] == [(1, 2)]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    def peak(count: int) -> int:
        source = tmp_path / f"{count}.vcf"
        lines = (f"chr1\t{10 * i}\t.\tA\tC\t.\t.\t.\tGT\t0/1\n" for i in range(1, count))
        source.write_text(header(["s1"]) + "".join(lines))
        tracemalloc.start()
        convert(source, tmp_path / "o.gz", build="GRCh38", names=lambda s: dict.fromkeys(s, "p"), other=str)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    small, large = peak(2_000), peak(12_000)
    assert large < small + 1_000_000
