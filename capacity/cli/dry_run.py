"""What a launch would do, without doing it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from capacity.cli.printing import console, print_rows
from capacity.cluster.guard import check_count, check_target
from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.launcher.batch import ON_EXISTING, Batch, fingerprint
from capacity.launcher.controller import OpenLoop
from capacity.launcher.journal_file import check_new
from capacity.launcher.left import Left, left_in
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.settings import controller_for
from capacity.model.ceiling import passes
from capacity.model.description import DEFAULTS
from capacity.model.words import duration
from capacity.observe.history import past_runs, runs_folder
from capacity.observe.metrics import LaunchMetrics, serving
from capacity.observe.session import Journaling, check_launchers, new_run_id


def dry_run(
    batch: Batch, target: Target, allowed: Collection[str], policy: RetryPolicy, as_json: bool, **control: Any
) -> None:
    """Print target, guard's word, policy, controller, first and last request and how long it may take."""
    word = check_target(target, allowed)
    check_count(batch.count)
    controller, asked = controller_for(
        control["parallelism"], rate=control["rate"], max_in_flight=control["max_in_flight"]
    )
    check_launchers(control["processes"], fleet := control["fleet"])
    noted, left = _noted(control["journaling"], batch, target)
    if (port := control["metrics_port"]) is not None:
        with serving(LaunchMetrics(), port):
            pass
    rate = controller.rate if isinstance(controller, OpenLoop) else None
    tls = "TLS" if target.tls else "plain text"
    rows = [
        ("target", f"{target.address}, namespace {target.namespace}, {tls}{', API key' if target.api_key else ''}"),
        ("guard", word),
        ("batch", f"{batch.count:,} x {batch.options.workflow_type} on task queue {batch.options.task_queue}"),
        ("existing ids", f"{batch.options.on_existing} ({_policy_name(batch)})"),
        ("control", asked),
        ("launchers", f"fleet {fleet.task_queue!r}" if fleet else f"{control['processes']} on this machine"),
        *([("worker", "one, here; waits until what was started has completed")] if control["with_worker"] else []),
        (
            "attempts",
            f"{policy.attempts} per item, {policy.deadline:g} s each; waits {policy.patience:g} s for a lost server",
        ),
        ("journal", noted),
        ("duration", "; ".join(_durations(left.count, rate, target.address)) if left.count else "none: all is done"),
    ]
    ends = (("first request", left.first), ("last request", left.last)) if left.count else ()
    requests = {name: _request(batch, target, left.run_id, index) for name, index in ends}
    if as_json:
        told: dict[str, Any] = dict(rows) | requests
        print(json.dumps({name.replace(" ", "_"): value for name, value in told.items()}, indent=1))
        return
    print_rows(rows)
    shown = console(soft_wrap=not sys.stdout.isatty())
    for title, request in requests.items():
        shown.print(title, style="bold")
        shown.print(json.dumps(request, indent=1))
    shown.print("nothing was started")


def _noted(journaling: Journaling, batch: Batch, target: Target) -> tuple[str, Left]:
    """Return where outcomes would be noted, and what there is to do; refuse a journal that the launch would refuse."""
    if journaling.resume:
        mark = fingerprint(batch, target.address, target.namespace)
        left = left_in(journaling.existing(mark), mark)
        return f"{left.path}: {batch.count - left.count:,} done, {left.count:,} left", left
    path = journaling.path
    if path is not None:
        check_new(path.absolute())
    run_id = new_run_id()
    whole = Left(path or runs_folder() / f"{run_id}.journal", run_id, batch.count, 0, batch.count - 1)
    return f"new: {path}" if path is not None else f"a new one in {runs_folder()}", whole


def _policy_name(batch: Batch) -> str:
    from temporalio.api.enums.v1 import WorkflowIdReusePolicy

    return WorkflowIdReusePolicy.Name(ON_EXISTING[batch.options.on_existing]).removeprefix("WORKFLOW_ID_REUSE_POLICY_")


def _durations(count: int, rate: float | None, address: str) -> list[str]:
    """Return how long it takes by what is known without a model; a rate is the shortest where it is the slowest."""
    known = []
    if rate is not None:
        known.append(f"{duration(count / rate)} at the {rate:g}/s asked for")
    records = (past.record for past in past_runs() if past.record)
    past = next((run for run in records if run.address == address and run.starts_per_second > 0), None)
    if past is not None and (speed := past.sustained_starts_per_second or past.starts_per_second) < (rate or math.inf):
        known.append(f"{duration(count / speed)} at the {speed:,.0f}/s of run {past.run_id} here")
    limit = DEFAULTS["frontend.namespaceRPS"]
    if rate is not None and rate <= limit:  # what is due passes that limit, which then sets no time
        return known
    burst = limit * DEFAULTS["frontend.namespaceBurstRatio"]
    known.append(
        f"{duration(passes(count, limit, burst))} at best where frontend.namespaceRPS is the default {limit:,}/s, "
        f"which passes {burst:,} at once"
    )
    return known


def _request(batch: Batch, target: Target, run_id: str, index: int) -> dict[str, Any]:
    _, body = next(batch.bodies(run_id, lambda _: False, index))
    if body is None:
        try:
            batch.columns(index)
        except ValueError as error:
            raise UsageError(f"item {index} makes no request: {error}") from error
        raise UsageError(f"item {index} makes no request", next_step="check its columns against --input-template")
    request = StartWorkflowExecutionRequest.FromString(batch.options.request_template(target.namespace, run_id) + body)
    shown: dict[str, Any] = MessageToDict(request)
    for payload in shown.get("input", {}).get("payloads", []):
        payload.pop("metadata", None)
    for own, given in zip(shown.get("input", {}).get("payloads", []), request.input.payloads, strict=True):
        own["data"] = json.loads(given.data)
    shown["memo"] = {key: json.loads(value.data) for key, value in request.memo.fields.items()}
    if request.search_attributes.indexed_fields:
        shown["searchAttributes"] = {
            key: json.loads(value.data) for key, value in request.search_attributes.indexed_fields.items()
        }
    return shown
