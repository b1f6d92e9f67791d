"""An earlier delivery of a trial: the files with those alone who had consented by then."""

from __future__ import annotations

from pathlib import Path


def first_recruited(source: Path, target: Path, share: float) -> None:
    """Write the SDTM files of the first share of subjects by day of consent.

    Args:
        source: Folder of the whole trial's files.
        target: Folder to write.
        share: Share of the subjects, those who consented first.
    """
    import pyreadstat

    target.mkdir(parents=True)
    dm, _ = pyreadstat.read_xport(str(source / "dm.xpt"))
    first = set(dm.sort_values(["RFICDTC", "USUBJID"])["USUBJID"][: round(share * len(dm))])
    for path in sorted(source.glob("*.xpt")):
        frame, described = pyreadstat.read_xport(str(path))
        if "USUBJID" in frame:
            frame = frame[frame["USUBJID"].isin(first)]
        pyreadstat.write_xport(
            frame,
            str(target / path.name),
            table_name=described.table_name,
            column_labels=described.column_names_to_labels,
            file_format_version=5,
        )
