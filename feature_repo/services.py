"""Feature services: what one model asks for."""

from feature_repo.views import current
from trialops.stores.features import service, service_name

withdrawal_v1 = service(service_name("withdrawal"), list(current.values()))
