"""Feature views over the current features: one parquet file each, published by the step that builds the features.

Which views there are is said once, in trialops/features/definitions.yaml; Feast finds them here under their names.
"""

from trialops.stores.features import ages_view, current_url, shipped_columns, shipped_keys, view

_keys = shipped_keys()
current = {name: view(name, current_url(name), columns, _keys[name]) for name, columns in shipped_columns().items()}
study_ages = ages_view(current)
globals().update(current)
