"""`capacity compare`: two settings in turns on one dev cluster, and which is better."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capacity.cli.connection import grouped
from capacity.cli.measuring import HERE, Where, interruptible, print_left_behind, say, write
from capacity.cli.options import Cpus, Form, Format, Out, Seconds, Seed, check_out, parallelisms, refuse
from capacity.cli.printing import columns, wrapped

if TYPE_CHECKING:
    from capacity.experiment.blocks import Block
    from capacity.experiment.wanted import Wanted
    from capacity.verdict.comparison import Comparison

NAME = 28
"""Characters of a setting's name that a line has room for."""


@grouped
def compare(
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="BASELINE", help="The setting there is: 2x, 64, auto, rate=300, processes=2, key=value."
        ),
    ],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The setting to try, in the same form.")],
    cpus: Cpus = None,
    blocks: Annotated[int, typer.Option(metavar="N", help="Blocks, each with both settings.")] = 12,
    seconds: Seconds = 5.0,
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="P", help="Starts in flight: 128, 4x or auto.", autocompletion=parallelisms, show_default="4x"
        ),
    ] = None,
    seed: Seed = 0,
    where: Where = HERE,
    out: Out = None,
    form: Form = Format.TEXT,
) -> None:
    """Compare two settings in turns: throughput, p99, and a verdict.

    Each block runs both, in random order, so that drift falls on both alike.
    Ctrl-C keeps whole blocks.

    Join what belongs to one setting by commas: 4x,processes=2. A key is one of
    the server's dynamic configuration (frontend.rps=1200) or, with --store
    postgres, shards, max-conns or unused-indexes=dropped. A setting with a key
    starts a new cluster for each run; one that names no number in flight has
    --parallelism.

    Example: capacity compare 2x 4x --store postgres

    Example: capacity compare shards=64 shards=512 --store postgres
    """
    from capacity.errors import InterruptedRunError, RunFailedError
    from capacity.experiment.blocks import Comparing, estimate, notes
    from capacity.experiment.setting import setting_of
    from capacity.rules.pool import positive
    from capacity.verdict import comparison

    check_out("--out", out)
    if cpus is not None:
        positive("--cpus", cpus)
    beside = "4x" if parallelism is None else parallelism
    sides = setting_of(baseline, cpus=cpus, beside=beside), setting_of(candidate, cpus=cpus, beside=beside)
    if all(side.says_flight for side in sides):
        each = f"{sides[0].name} and {sides[1].name}"
        refuse({"--parallelism": parallelism}, f"does not go with {each}", "both say how many are in flight")
    wanted = where.wanted(seconds, seed)
    lines = _Lines(blocks)
    with interruptible("stopping: whole blocks are kept; once more to stop at once") as stop:
        comparing = Comparing(wanted, *sides, blocks, on_block=lines.show, say=say, stop=stop.is_set)
        own = any(side.needs_own_cluster for side in sides)
        say(_announcement(wanted, sides, blocks, estimate(blocks, seconds, wanted.store, own)))
        found = comparing.run()
    judged = comparison.compare(found.blocks, sides[0].name, sides[1].name, notes(*sides, found.conditions))
    kept = {**judged.to_dict(), "seed": seed, "conditions": found.conditions.model_dump(mode="json")}
    text = json.dumps(kept, indent=1, allow_nan=False)
    try:
        write(out, text, form)
    finally:
        print(text if form is Format.JSON else "\n".join(report(judged)))
        print_left_behind(found.left, wanted, found.prefix, form)
    done = f"{len(found.blocks)} of {blocks} blocks, which are kept"
    if found.error is not None:
        raise RunFailedError(f"the comparison ended after {done}: {found.error}")
    if found.stopped:
        raise InterruptedRunError(f"interrupted after {done}")


def report(judged: Comparison) -> list[str]:
    """Return a comparison in lines of at most 80 characters."""
    rows = [(name if len(name) <= NAME else f"{name[: NAME - 3]}...", *rest) for name, *rest in judged.rows()]
    lines = ["", *columns(rows, left=(0,)), "", *wrapped(f"{judged.verdict}.")]
    for note in judged.notes:
        lines += wrapped(f"Note: {note}.")
    return lines


def _announcement(wanted: Wanted, sides: tuple[Any, ...], blocks: int, seconds: float) -> str:
    from capacity.model.words import duration

    text = f"{blocks} blocks of {sides[0].label} and {sides[1].label}, {wanted.seconds:g} s each, {wanted.where}"
    if any(side.needs_own_cluster for side in sides):
        text += ", new for each run"
    return "\n".join(wrapped(f"{text}: about {duration(seconds)}. Ctrl-C keeps whole blocks."))


class _Lines:
    """A line for each block as it comes."""

    def __init__(self, blocks: int) -> None:
        self._blocks, self._done = blocks, 0

    def show(self, block: Block) -> None:
        if not self._done:
            say(f"{'block':<7}  first      starts/s: baseline, candidate   p99 ms: baseline, candidate")
        self._done += 1
        a, b = block.baseline, block.candidate
        first = "baseline" if block.baseline_first else "candidate"
        say(
            f"{self._done:>3}/{self._blocks:<3}  {first:<9}  {a.throughput:>18,.0f}  {b.throughput:>9,.0f}"
            f"   {a.p99 * 1e3:>16,.1f}  {b.p99 * 1e3:>9,.1f}"
        )
