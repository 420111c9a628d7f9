"""`capacity soak`: the same batches for a while, and whether something grows that should not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.connection import grouped
from capacity.cli.measuring import HERE, Where, interruptible, print_left_behind, say, write
from capacity.cli.options import AnyParallelism, Form, Format, Out, check_out, whole
from capacity.cli.printing import columns, wrapped

if TYPE_CHECKING:
    from capacity.experiment.soaking import Reading
    from capacity.verdict.soak import Soak


@grouped
def soak(
    minutes: Annotated[float, typer.Option(metavar="MINUTES", help="How long.")] = 5.0,
    concurrent: Annotated[int, typer.Option(metavar="N", help="Batches at once, after one alone.")] = 8,
    batch: Annotated[
        int, typer.Option("--batch", "--count", metavar="N", parser=whole, help="Starts in one batch.")
    ] = 500,
    parallelism: AnyParallelism = "4",
    memory_limit: Annotated[float, typer.Option(metavar="MIB", help="Growth of memory allowed, MiB per hour.")] = 64.0,
    count_limit: Annotated[
        float, typer.Option(metavar="N", help="Growth allowed of tasks, threads or descriptors, per hour.")
    ] = 60.0,
    where: Where = HERE,
    out: Out = None,
    form: Form = Format.TEXT,
) -> None:
    """Launch batch after batch in one process and say what leaks.

    Memory, asyncio tasks, threads and descriptors are read after each round,
    when nothing is in flight. --parallelism is for each batch. Exit code 1 on a
    leak. Ctrl-C judges what is there.

    Example: capacity soak --minutes 10
    """
    from capacity.errors import InterruptedRunError, RunFailedError, UsageError
    from capacity.experiment.soaking import Plan, Soaking
    from capacity.launcher.settings import controller_for
    from capacity.verdict.soak import judge

    check_out("--out", out)
    controller_for(parallelism)
    for name, limit in (("memory-limit", memory_limit), ("count-limit", count_limit)):
        if not 0 < limit < 1e9:
            raise UsageError(f"{name} is {limit:g}", allowed="above 0, below 1e9, per hour")
    plan = Plan(minutes, concurrent, batch, parallelism)
    wanted = where.wanted()
    text = f"Rounds of one batch alone and {concurrent} at once, {batch:,} starts each, {wanted.where}"
    say("\n".join(wrapped(f"{text}: {minutes:g} min. Ctrl-C judges what is there.")))
    with interruptible("stopping: what is there is judged; once more to stop at once") as stop:
        found = Soaking(wanted, plan, on_reading=_Lines().show, say=say, stop=stop.is_set).run()
    judged = judge(
        found.readings, memory_limit=memory_limit, count_limit=count_limit, in_memory=found.store == "sqlite"
    )
    kept = json.dumps(judged.to_dict(), indent=1, allow_nan=False)
    try:
        write(out, kept, form)
    finally:
        print(kept if form is Format.JSON else "\n".join(report(judged)))
        print_left_behind(found.left, wanted, found.prefix, form)
    if found.error is not None:
        raise RunFailedError(f"the soak ended after {len(found.readings)} rounds, which are judged: {found.error}")
    if found.stopped:
        raise InterruptedRunError(f"interrupted after {len(found.readings)} rounds, which are judged")
    if judged.leaks:
        raise RunFailedError(f"leak: {', '.join(judged.leaks)}")


def report(judged: Soak) -> list[str]:
    """Return a soak in lines of at most 80 characters."""
    lines = ["", *columns(judged.rows(), left=(0, 5)), ""]
    for growth in judged.growths:
        lines += wrapped(f"{growth.name}: {growth.words}.", indent="  ")
    if judged.failed:
        lines.append(f"{judged.failed:,} starts failed.")
    return [*lines, "", *wrapped(judged.summary())]


class _Lines:
    """A line for a round, at most one every five seconds."""

    def __init__(self) -> None:
        self._shown = -5.0

    def show(self, reading: Reading) -> None:
        if reading.at < self._shown + 5:
            return
        if self._shown < 0:
            say("  after    starts  memory MiB  tasks  threads  descriptors  server MiB")
        self._shown = reading.at
        server = f"{reading.server_rss / 2**20:,.0f}" if reading.server_rss is not None else "-"
        say(
            f"{reading.at:>5.0f} s  {reading.starts:>8,}  {reading.rss / 2**20:>10,.1f}  {reading.tasks:>5}"
            f"  {reading.threads:>7}  {reading.descriptors:>11}  {server:>10}"
        )
