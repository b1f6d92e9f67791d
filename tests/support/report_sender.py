"""A sender of reports as a program that a test kills: python -m tests.support.report_sender FILE.

The file is JSON: home, database, study, gateway (URL or folder), now (ISO 8601), and optionally kill: where the process
ends itself without a word, "append:STATE" (right after that row is written), "before:STATE" (right before), "deliver"
(after the gateway has answered, before the row).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tests.support.report_gateway import TOKEN
from tests.support.vaults import vault_in
from trialops.safety.e2b.outbox import Outbox
from trialops.safety.e2b.submission import describe, send_due, send_policy
from trialops.safety.e2b.transport import open_transport
from trialops.settings import Settings
from trialops.stores.database import connect, migrate
from trialops.stores.objects import open_store


def die(*_: Any) -> None:
    """End without a word, as a pod does whose node is gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(file: Path) -> None:
    """Send what is due, once, unless told to die."""
    given = json.loads(file.read_text())
    home = Path(given["home"])
    engine = connect(given["database"])
    migrate(engine)
    now = datetime.fromisoformat(given["now"])
    outbox = Outbox(engine, given["study"], vault_in(home), open_store(str(home)), actor="sender", clock=lambda: now)
    settings = Settings(home=home, regulatory_reporting_api=given["gateway"], regulatory_token=SecretStr(TOKEN))
    transport: Any = open_transport(settings, timeout=5)
    where, _, state = given.get("kill", "").partition(":")
    append, deliver = outbox.append, transport.deliver

    def appended(message: Any, to: str, **more: Any) -> Any:
        if (where, state) == ("before", to):
            die()
        row = append(message, to, **more)
        if (where, state) == ("append", to):
            die()
        return row

    def delivered(*args: Any) -> Any:
        receipt = deliver(*args)
        if where == "deliver":
            die()
        return receipt

    outbox.append, transport.deliver = appended, delivered  # type: ignore[method-assign]
    print(json.dumps(describe(send_due(outbox, transport, send_policy()))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
