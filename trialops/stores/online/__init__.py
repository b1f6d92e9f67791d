"""Online features in Feast's own layout, read and written without Feast.

The reading half (`spec`, `layout`, `reader`, `vector`) needs numpy and the driver of the store alone: it is part of the
model server's image.
"""

from trialops.stores.online.reader import OnlineReader, open_reader
from trialops.stores.online.spec import FeatureServiceSpec, OnlineRows, ViewSpec, entity_services, from_definitions

__all__ = [
    "FeatureServiceSpec",
    "OnlineReader",
    "OnlineRows",
    "ViewSpec",
    "entity_services",
    "from_definitions",
    "open_reader",
]
