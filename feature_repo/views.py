"""Feature views over the current features, one parquet file each in TRIALOPS_HOME/features/current."""

from trialops.settings import settings
from trialops.stores.features import definitions, shipped_columns, view

__all__ = ["conduct", "current", "definitions", "demographics", "events", "labs", "vitals"]

FOLDER = settings().home.resolve() / "features" / "current"
current = {name: view(name, str(FOLDER / f"{name}.parquet"), columns) for name, columns in shipped_columns().items()}

demographics = current["demographics"]
vitals = current["vitals"]
labs = current["labs"]
events = current["events"]
conduct = current["conduct"]
