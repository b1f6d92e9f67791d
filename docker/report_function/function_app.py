"""The report function: HTTP in, a durable orchestration of three activities, names and digests out.

    POST /api/reports/{instance}             start: 202 with Location; 409 where the instance is there already
    GET  /api/reports/{instance}             status: 202 while it runs, 200 when it has ended; runtimeStatus, output
    POST /api/reports/{instance}/terminate   stop it

The routes are the app's own, under the app's function key or the platform's authentication, so that no address that
holds a system key is ever handed out. All that is done is in trialops.transfer.final_reports; each activity starts it
as a process of its own, which has the run's settings, and whose memory is given back.
"""

import json
import logging
import os
import re
import subprocess
import sys
from urllib.parse import quote, urlsplit, urlunsplit

import azure.durable_functions as df
import azure.functions as func

from trialops.errors import TrialOpsError
from trialops.transfer.final_reports import DONE, REFUSED, parse_request

ORCHESTRATOR = "make_final_reports"
ENDED = {"Completed", "Failed", "Canceled", "Terminated"}
RETRY_MILLISECONDS = int(os.environ.get("TRIALOPS_REPORT_RETRY_MILLISECONDS", "30000"))
ATTEMPTS = 3
SECONDS = 3600
INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)
log = logging.getLogger("trialops.report_function")


def answer(status: int, body: dict, **headers: str) -> func.HttpResponse:
    """A JSON answer that nobody caches."""
    named = {"Cache-Control": "no-store", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return func.HttpResponse(json.dumps(body), status_code=status, headers=named, mimetype="application/json")


def links(request: func.HttpRequest, instance: str) -> dict:
    """The instance's addresses on the host that was asked, without a key."""
    parts = urlsplit(request.url)
    path = parts.path.split("/reports/", 1)[0] + f"/reports/{quote(instance, safe='')}"
    status = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return {"id": instance, "statusQueryGetUri": status, "terminatePostUri": f"{status}/terminate"}


async def state_of(client: df.DurableOrchestrationClient, instance: str) -> dict:
    """What the instance's status says; empty where there is none."""
    found = await client.get_status(instance)
    if not found:
        return {}
    told = found.to_json()
    told.pop("input", None)
    told.pop("historyEvents", None)
    return {**told, "instanceId": instance, "output": found.output, "customStatus": found.custom_status}


@app.route(route="reports/{instance}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start the orchestration under the caller's own id, once."""
    instance = req.route_params.get("instance", "")
    if not INSTANCE.fullmatch(instance):
        return answer(400, {"error": "The instance id is letters, digits and dashes, 100 at most"})
    try:
        wanted = parse_request(json.loads(req.get_body() or b"null"))
    except ValueError:
        return answer(400, {"error": "The body is no JSON"})
    except TrialOpsError as error:
        return answer(400, {"error": error.what, "fix": error.fix})
    where = links(req, instance)
    if await state_of(client, instance):
        return answer(409, where, Location=where["statusQueryGetUri"])
    try:
        await client.start_new(ORCHESTRATOR, instance_id=instance, client_input=wanted.as_dict())
    except Exception as error:  # two starts at once: the second finds the first, or it was no such case
        if not await state_of(client, instance):
            log.error("instance %s could not be started (%s)", instance, type(error).__name__)
            return answer(503, {"error": "The orchestration could not be started"}, Retry_After="10")
        return answer(409, where, Location=where["statusQueryGetUri"])
    log.info("instance %s of run %s started", instance, wanted.run_id)
    return answer(202, where, Location=where["statusQueryGetUri"], Retry_After="10")


@app.route(route="reports/{instance}", methods=["GET"])
@app.durable_client_input(client_name="client")
async def status(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """The instance's status, as Durable Functions' own address has it."""
    instance = req.route_params.get("instance", "")
    found = await state_of(client, instance) if INSTANCE.fullmatch(instance) else {}
    if not found:
        return answer(404, {"error": "There is no such instance"})
    if found.get("runtimeStatus") in ENDED:
        return answer(200, found)
    return answer(202, found, Location=links(req, instance)["statusQueryGetUri"], Retry_After="10")


@app.route(route="reports/{instance}/terminate", methods=["POST"])
@app.durable_client_input(client_name="client")
async def terminate(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Stop the instance; an activity that has begun is finished by its process."""
    instance = req.route_params.get("instance", "")
    found = await state_of(client, instance) if INSTANCE.fullmatch(instance) else {}
    if not found:
        return answer(404, {"error": "There is no such instance"})
    if found.get("runtimeStatus") not in ENDED:
        await client.terminate(instance, "asked for")
    return answer(202, links(req, instance))


@app.orchestration_trigger(context_name="context", orchestration=ORCHESTRATOR)
def make_final_reports(context: df.DurableOrchestrationContext):
    """Verify, make, publish. Deterministic: the day is the orchestration's own, and nothing else is asked for."""
    request = context.get_input()
    request = json.loads(request) if isinstance(request, str) else request
    retry = df.RetryOptions(RETRY_MILLISECONDS, ATTEMPTS)
    document = {"request": request, "as_of": context.current_utc_datetime.date().isoformat()}
    for part, gives in (("verify", "verified"), ("make", "made"), ("publish", "output")):
        context.set_custom_status(part)
        done = yield context.call_activity_with_retry(f"{part}_reports", retry, document)
        if "refused" in done:
            raise ValueError(": ".join(filter(None, (part, done["refused"]["what"], done["refused"]["where"]))))
        document = {**document, gives: done["result"]}
    return document["output"]


def perform(part: str, document: dict) -> dict:
    """One part in a process of its own.

    Raises:
        RuntimeError: It failed in a way that may pass; what it said is withheld.
    """
    environment = {**os.environ, "TRIALOPS_RUN_ID": document["request"]["run_id"]}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "trialops.transfer.final_reports", part]
    done = subprocess.run(
        command, input=json.dumps(document), env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    lines = done.stdout.strip().splitlines()
    log.info("part %s of run %s ended with %d", part, document["request"]["run_id"], done.returncode)
    if done.returncode in (DONE, REFUSED) and lines:
        told: dict = json.loads(lines[-1])
        return told
    raise RuntimeError(f"{part} ended with exit code {done.returncode}")


@app.activity_trigger(input_name="document", activity="verify_reports")
def verify_reports(document: dict) -> dict:
    """The final repository holds what was cleansed."""
    return perform("verify", document)


@app.activity_trigger(input_name="document", activity="make_reports")
def make_reports(document: dict) -> dict:
    """The reports of the validated version are made and registered."""
    return perform("make", document)


@app.activity_trigger(input_name="document", activity="publish_reports")
def publish_reports(document: dict) -> dict:
    """What was made is named in the repository."""
    return perform("publish", document)
