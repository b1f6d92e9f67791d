"""De-identify DICOM objects by the Basic Application Level Confidentiality Profile (PS3.15 Annex E) and its options.

Beyond the table, because real files are not tidy: attributes that no dictionary knows are removed; names of persons and
dates the table does not list are treated like those it does; UIDs that are neither registered nor of a class are
replaced; and free text that still holds the subject's name or a number of the record is emptied.

Pixels are not cleaned. An object with pixels is accepted only when it states that no text is burned into them
((0028,0301) is NO) and does not state that a face can be recognised ((0028,0302) is not YES).
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections import Counter
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from trialops.intake.dicom_files import DEFLATED, DicomError, DicomObject
from trialops.privacy import dicom_values as values
from trialops.privacy.dicom_profile import BASIC, OPTIONS, Profile, check_options, profile

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

VERSION = "1"
METHOD = f"PS3.15 Annex E basic profile, TrialOps {VERSION}"
PATIENT_NAME, PATIENT_ID, BIRTH_DATE, AGE = 0x00100010, 0x00100020, 0x00100030, 0x00101010
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "CS")
NAMING = (0x00100010, 0x00100020, 0x00101000, 0x00101001, 0x00101005, 0x00080050, 0x00120040, 0x00101060)
"""Patient name and id, other ids and names, accession number, trial subject, mother's name: looked for in free text."""


class Pseudonyms(Protocol):
    """The part of the vault that is needed."""

    def pseudonym(self, kind: str, value: str) -> str:
        """The pseudonym of one value."""
        ...


@dataclass(frozen=True)
class Treatment:
    """How objects are de-identified.

    Attributes:
        mode: "strict": no date remains; "limited": dates shifted by the subject's offset, times as they were.
        options: Names of `OPTIONS`.
        safe_private: (private creator, last two digits of the element) that may stay under "safe_private".
    """

    mode: str = "strict"
    options: frozenset[str] = frozenset()
    safe_private: frozenset[tuple[str, int]] = frozenset()

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            TrialOpsError: One does not exist or is not allowed in this mode.
        """
        check_options(self.options, self.mode)

    @property
    def effective(self) -> frozenset[str]:
        """Options with what the mode implies."""
        return self.options | ({"modified_dates"} if self.mode == "limited" else set())


@dataclass
class Report:
    """What was done, by action and in counts: X, Z, D, U, U*, K, C, and what went beyond the profile."""

    actions: Counter[str] = field(default_factory=Counter)

    def did(self, action: str) -> None:
        """Count one."""
        self.actions[action] += 1


class UidMap:
    """Replaces UIDs by a keyed function: the same UID gets the same replacement in every object and every run.

    The replacement is ``2.25.`` and the number of a UUID (PS3.5, B.2) made of 122 keyed bits.

    Args:
        vault: Holds the key.
    """

    def __init__(self, vault: Pseudonyms) -> None:
        """See the class."""
        self._vault = vault
        self._known: dict[str, str] = {}

    def __call__(self, uid: str) -> str:
        """The replacement; a UID that the standard registers (a class, a transfer syntax) stays."""
        from pydicom.uid import UID_dictionary

        uid = uid.strip("\0 ")
        if not uid or uid in UID_dictionary:
            return uid
        new = self._known.get(uid)
        if new is None:
            # One pseudonym has 80 bits; two kinds give 160.
            keyed = "".join(self._vault.pseudonym(f"dicom_uid/{half}", uid) for half in "ab")
            number = uuid.UUID(bytes=hashlib.sha256(keyed.encode()).digest()[:16], version=4).int
            new = self._known[uid] = f"2.25.{number}"
        return new


def refuse_pixels(dataset: Dataset) -> None:
    """Whether pixels may be passed on.

    Raises:
        DicomError: There are pixels, and the object does not say that they hold no text, or says they show a face.
    """
    if not any(tag in dataset for tag in PIXELS):
        return
    stated = str(dataset.get("BurnedInAnnotation", "") or "").strip().upper()
    if stated != "NO":
        word = "says YES" if stated == "YES" else "is missing" if not stated else "is neither YES nor NO"
        raise DicomError("BURNED_IN", f"Burned In Annotation {word}: text may be part of the image", "00280301")
    if str(dataset.get("RecognizableVisualFeatures", "") or "").strip().upper() == "YES":
        raise DicomError("RECOGNIZABLE", "the object says that its subject can be recognised in the image", "00280302")


class DicomDeidentifier:
    """Applies the profile.

    Args:
        vault: Pseudonyms of UIDs.
        treatment: Mode and options.
        table: Instead of the profile as shipped.
    """

    def __init__(self, vault: Pseudonyms, treatment: Treatment, *, table: Profile | None = None) -> None:
        """See the class."""
        self.treatment = treatment
        self.uids = UidMap(vault)
        self._table = table or profile()
        self._options = treatment.effective

    def apply(self, dataset: Dataset, *, subject: str, offset: int = 0) -> Report:
        """De-identify a data set in place, nested ones included; pixels are not looked at.

        Args:
            dataset: As read.
            subject: Pseudonym of the subject; it becomes name and id.
            offset: Days by which dates are shifted in limited mode.

        Returns:
            What was done.
        """
        report = Report()
        needles = _needles(dataset)
        self._walk(dataset, subject, offset, needles, report)
        self._mark(dataset)
        return report

    def _walk(self, dataset: Dataset, subject: str, offset: int, needles: list[str], report: Report) -> None:
        from pydicom.datadict import dictionary_has_tag

        for tag in list(dataset.keys()):
            number = int(tag)
            if number >> 16 in (0x0000, 0x0002) or number & 0xFFFF == 0:
                # Command and file meta elements have no place here; group lengths are void after a change.
                del dataset[tag]
                continue
            action = self._table.action(number, self._options)
            if number >> 16 & 1:
                if self._safe_private(dataset, number):
                    continue
                action = "X"
            elif action is None and not dictionary_has_tag(tag):
                report.did("unknown attribute removed")
                del dataset[tag]
                continue
            if action == "X":
                del dataset[tag]
                report.did("X")
                continue
            element = dataset[tag]
            if action is None:
                self._beyond(dataset, element, subject, offset, needles, report)
            else:
                self._act(dataset, element, action, subject, offset, needles, report)

    def _safe_private(self, dataset: Dataset, number: int) -> bool:
        if "safe_private" not in self._options or not self.treatment.safe_private:
            return False
        group, element = number >> 16, number & 0xFFFF
        block = element >> 8 if element >= 0x1000 else element & 0xFF
        creator = str(dataset.get((group, block)).value if (group, block) in dataset else "").strip()
        if element < 0x1000:
            return any(name == creator for name, _ in self.treatment.safe_private)
        return (creator, element & 0xFF) in self.treatment.safe_private

    def _act(
        self, dataset: Dataset, element: DataElement, action: str, subject: str, offset: int, needles: list[str],
        report: Report,
    ) -> None:  # fmt: skip
        from pydicom.sequence import Sequence

        number = int(element.tag)
        report.did(action)
        if number in (PATIENT_NAME, PATIENT_ID):
            element.value = subject
        elif action == "K":
            self._keep(dataset, element, subject, offset, needles, report)
        elif action == "C" and self._clean(element, offset):
            self._without_needles(element, needles, report)
        elif action == "C":
            # Nothing of it could stay: what the profile does without the option.
            self._fall_back(dataset, element, subject, offset, needles, report)
        elif action == "Z":
            element.value = Sequence([]) if element.VR == "SQ" else None
        elif action in ("U", "U*"):
            if element.VR == "SQ":
                for item in element.value:
                    self._walk(item, subject, offset, needles, report)
            else:
                element.value = values.each(element.value, self.uids)
        elif action == "D":
            self._dummy(element)

    def _fall_back(
        self, dataset: Dataset, element: DataElement, subject: str, offset: int, needles: list[str], report: Report
    ) -> None:
        basic = self._table.action(int(element.tag), frozenset())
        if basic == "X" or basic is None:
            del dataset[element.tag]
        else:
            self._act(dataset, element, basic, subject, offset, needles, report)

    def _keep(
        self, dataset: Dataset, element: DataElement, subject: str, offset: int, needles: list[str], report: Report
    ) -> None:
        if element.VR == "SQ":
            for item in element.value:
                self._walk(item, subject, offset, needles, report)
        elif element.VR == "AS":
            element.value = values.each(element.value, values.capped_age)
        else:
            self._without_needles(element, needles, report)

    def _clean(self, element: DataElement, offset: int) -> bool:
        """Replace a value by a clean one; False where nothing of it may stay."""
        if element.VR in ("DA", "DT") and "modified_dates" in self._options:
            found = [values.shift_date(str(v), offset) for v in _many(element.value) if str(v).strip()]
            if any(v is None for v in found):
                return False
            element.value = found if len(found) != 1 else found[0]
            return True
        if element.VR == "TM" and "modified_dates" in self._options:
            # The offset is in whole days: the time of day stays, so intervals are exact.
            return True
        if element.VR in TEXTS and "clean_descriptors" in self._options:
            texts = [values.cleaned(str(v)) for v in _many(element.value)]
            element.value = (texts if len(texts) != 1 else texts[0]) or None
            return any(texts)
        return False

    def _dummy(self, element: DataElement) -> None:
        from pydicom.dataset import Dataset as Item
        from pydicom.sequence import Sequence

        if element.VR == "SQ":
            # One item that says nothing but what kind of thing stood here.
            element.value = Sequence([_blank(element.value[0]) if len(element.value) else Item()])
        elif element.VR == "UI":
            element.value = values.each(element.value or "1.2.3", self.uids) or "2.25.0"
        else:
            element.value = values.dummy(element.VR)

    def _beyond(
        self, dataset: Dataset, element: DataElement, subject: str, offset: int, needles: list[str], report: Report
    ) -> None:
        """What the profile does not name."""
        if element.VR == "SQ":
            for item in element.value:
                self._walk(item, subject, offset, needles, report)
        elif element.VR == "UI":
            if "Class" not in element.keyword and "TransferSyntax" not in element.keyword:
                element.value = values.each(element.value, self.uids)
        elif element.VR == "PN" or (element.VR in ("DA", "DT") and not self._clean(element, offset)):
            report.did(f"{element.VR} beyond the profile removed")
            del dataset[element.tag]
        else:
            self._without_needles(element, needles, report)

    def _without_needles(self, element: DataElement, needles: list[str], report: Report) -> None:
        if element.VR in TEXTS and needles:
            text = " ".join(str(v) for v in _many(element.value)).upper()
            if any(re.search(rf"(?<![A-Z0-9]){re.escape(n)}(?![A-Z0-9])", text) for n in needles):
                element.value = None
                report.did("text with an identifier emptied")

    def _mark(self, dataset: Dataset) -> None:
        """Say what was done, as the standard asks."""
        from pydicom.dataset import Dataset as Item
        from pydicom.sequence import Sequence

        codes = []
        for option in (BASIC, *(OPTIONS[name] for name in sorted(self._options))):
            item = Item()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = option.code, "DCM", option.meaning
            codes.append(item)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = METHOD
        dataset.DeidentificationMethodCodeSequence = Sequence(codes)
        modified = "modified_dates" in self._options
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if modified else "REMOVED"

    def write(self, source: DicomObject) -> bytes:
        """A DICOM file of an object that was de-identified: new file meta information, an empty preamble.

        Raises:
            DicomError: A value it keeps cannot be written.
        """
        from pydicom import dcmwrite
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

        dataset = source.dataset
        meta = FileMetaDataset()
        guessed = ImplicitVRLittleEndian if source.implicit else ExplicitVRLittleEndian
        syntax = source.meta.get("TransferSyntaxUID") or guessed
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == DEFLATED else syntax
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.ImplementationClassUID = UID("2.25.302030101060205040")
        meta.ImplementationVersionName = f"TRIALOPS_{VERSION}"
        file = FileDataset(None, dataset, preamble=b"\0" * 128, file_meta=meta)  # type: ignore[arg-type]
        buffer = io.BytesIO()
        try:
            dcmwrite(buffer, file, enforce_file_format=True)
        except Exception as error:  # the writer raises many types, and what they say may quote a value
            raise DicomError("CANNOT_WRITE", f"a value cannot be written ({type(error).__name__})") from None
        return buffer.getvalue()


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    # Several values are a MultiValue; a PersonName can be iterated over too, letter by letter, and is one value.
    return list(value) if isinstance(value, MutableSequence) else [value]


def _blank(item: Dataset) -> Dataset:
    """A copy of an item in which every value is a dummy; sequences inside are left out."""
    from pydicom.dataset import Dataset as Item

    blank = Item()
    for tag in list(item.keys()):
        element = item[tag]
        if element.VR not in ("SQ", "UI") and not tag.is_private:
            blank.add_new(tag, element.VR, values.dummy(element.VR))
    return blank


def _needles(dataset: Dataset) -> list[str]:
    """What names the subject in this object: parts of names and numbers of three characters and more."""
    found: set[str] = set()
    for tag in NAMING:
        if tag in dataset:
            try:
                texts = [str(v) for v in _many(dataset[tag].value)]
            except Exception:  # a value that cannot be read is treated by the profile, but cannot be looked for
                continue
            for text in texts:
                parts = re.split(r"[\^=\s,]+", text) if dataset[tag].VR == "PN" else [text]
                found |= {p.strip().upper() for p in parts if len(p.strip()) >= 3 and not p.isspace()}
    return sorted(found - {values.REMOVED, "ANONYMOUS", "ANONYMIZED", "UNKNOWN", "NONE"})
