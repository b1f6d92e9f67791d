"""Feature services: what one model asks for. Their names carry the task and the version of the feature definitions."""

from feature_repo.views import current, study_ages
from trialops.stores.features import services

globals().update({service.name: service for service in services("withdrawal", list(current.values()), study_ages)})
