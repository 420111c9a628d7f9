"""Past runs in a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from capacity import files
from capacity.cli.options import check_out
from capacity.cli.printing import print_columns, print_rows
from capacity.errors import CapacityError
from capacity.observe.history import PastRun, past_run, past_runs, runs_folder


def _facts(run: PastRun) -> dict[str, Any]:
    counts = run.counts
    return {
        "run_id": run.run_id,
        "running": run.running,
        "address": run.address,
        "namespace": run.namespace,
        "count": counts.count,
        "started": counts.started,
        "already_running": counts.already_running,
        "already_finished": counts.already_finished,
        "failed": counts.failed,
        "not_attempted": counts.not_attempted,
        "starts_per_second": run.record.starts_per_second if run.record else None,
        "verified": run.record.verified if run.record else None,
        "journal": str(run.journal) if run.journal else None,
        "batch": run.batch,
    }


def show_list(as_json: bool) -> None:
    """Print one line a run."""
    facts = [_facts(run) for run in past_runs()]
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    if not facts:
        print(f"no runs in {runs_folder()}")
        return
    lines = [("run", "items", "in place", "failed", "to do", "starts/s", "target")]
    for fact in facts:
        rate = fact["starts_per_second"]
        speed = "running" if fact["running"] else "-" if rate is None else f"{rate:,.0f}"
        in_place = fact["started"] + fact["already_running"] + fact["already_finished"]
        counts = (fact["count"], in_place, fact["failed"], fact["not_attempted"])
        numbers = [f"{n:,}" for n in counts]
        lines.append((fact["run_id"], *numbers, speed, fact["address"]))
    print_columns(lines, left=(0, 6))


def show_run(name: str, as_json: bool) -> None:
    """Print a run's record, or what its journal says."""
    run = past_run(name)
    if as_json:
        print(run.record.model_dump_json(indent=1) if run.record else json.dumps(_facts(run), indent=1))
        return
    rows = [("run", run.run_id), ("target", f"{run.address}, namespace {run.namespace}")]
    running = run.running
    if run.record:
        rows += [*run.record.rows(), ("server's count", run.record.verification())]
        rows += [("record", "so far: it is still running")] if running else []
    else:
        why = "none yet: it is still running" if running else "none: the launch was killed"
        counts = run.counts
        rows += [
            ("record", f"{why}; this is what its journal says"),
            ("outcome", f"{counts.done:,} of {counts.count:,} done, {counts.failed:,} of them failed"),
        ]
        rows += [] if running else [("resume", f"the same command and --resume --journal {run.journal}")]
    print_rows(rows)


def export_failed(name: str, out: Path | None, stdout: TextIO) -> None:
    """Write the failed items as JSON lines, and how many of which kind to standard error."""
    run = past_run(name)
    items, read, record = run.batch.get("path"), Path(name), runs_folder() / f"{run.run_id}.json"
    own = (run.journal, record, read if read.is_file() else None, Path(items) if isinstance(items, str) else None)
    check_out("--out", out, *own)
    kinds: Counter[str] = Counter()
    lines = []
    for columns, kind in run.failed_items():
        kinds[kind] += 1
        lines.append(json.dumps(columns))
    text = "".join(f"{line}\n" for line in lines)
    if out is None:
        stdout.write(text)
    else:
        try:
            files.write_whole(out, text)
        except OSError as error:
            raise CapacityError(f"cannot write {out}: {error.strerror}", next_step="pass another --out") from error
    what = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()) or "none"
    what += "; it is still running" if run.running else ""
    print(f"failed items of run {run.run_id}: {what}", file=sys.stderr)
