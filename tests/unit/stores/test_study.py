from __future__ import annotations

from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.stores.objects import open_store
from trialops.stores.study import bind_study, bound_study


def test_first_delivery_binds_and_others_are_refused(tmp_path: Path) -> None:
    objects = open_store(str(tmp_path))
    assert bound_study(objects) == ""
    bind_study(objects, "CDISCPILOT01")
    bind_study(objects, "CDISCPILOT01")
    with pytest.raises(TrialOpsError, match="hold study CDISCPILOT01") as caught:
        bind_study(objects, "TRX-101")
    assert "--home" in caught.value.fix
    assert bound_study(objects) == "CDISCPILOT01"
