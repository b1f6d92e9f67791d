"""External data ingestion: what laboratories, imaging sites and sequencing centres send.

1. Laboratory results: HL7 v2 ORU^R01, from files and the MLLP interface; corrections supersede, subjects are matched.
2. Images: DICOM, de-identified by PS3.15 Annex E, encrypted.
3. Genomes: VCF, checked against the build and the subject, encrypted in the controlled tier.

The three do not wait for one another; a kind that was not delivered counts zero files.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_dicom, ingest_hl7, ingest_vcf


@dsl.pipeline(name="external-data-ingestion", display_name="External data ingestion")
def external_data_ingestion(
    source: str, build: str = "GRCh38", split_alleles: bool = False, imaging_options: str = ""
) -> None:
    """Take in laboratory results, images and genomes of one delivery.

    Args:
        source: Folder with hl7/, dicom/ and vcf/ below it; any of them may be missing.
        build: Genome build of the trial: GRCh37 or GRCh38.
        split_alleles: Whether a variant row with several alternate alleles becomes one row for each.
        imaging_options: Options of the DICOM profile, comma-separated.
    """
    closing = notify(pipeline="external_data_ingestion").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        labs = ingest_hl7(source=source).set_display_name("Laboratory results")
        images = ingest_dicom(source=source, options=imaging_options).set_display_name("Images")
        genomes = ingest_vcf(source=source, build=build, split_alleles=split_alleles).set_display_name("Genomes")
        for task, memory in ((labs, "4Gi"), (images, "4Gi"), (genomes, "2Gi")):
            # A folder, an inbox and decisions people took: look every time, reuse by content.
            task.set_caching_options(False)
            harden(task, memory=memory)
