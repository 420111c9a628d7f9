"""The way back: the exact setting for each place a scheduler is configured in, and whether a process honours it.

The original's document said SCHEDULER_MAX_PARALLELISM=64; its code read SCHEDULER_BATCH_MAX_PARALLELISM, so its
rollback did nothing. Every way printed here ends with the check that it took effect.

Invariants: the number in a setting is what the rules give on the named CPU count; a variable is read when a process
starts, so a setting without a restart changes nothing; a number given in code or on the command line wins over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from capacity.model.words import many
from capacity.rules.environment import VARIABLE
from capacity.rules.flight import Flight
from capacity.rules.plan import pool_plan
from capacity.rules.pool import DEFAULT_RULES, Sized, positive, whole_number

READ_BY_THE_ORIGINAL: Final = "SCHEDULER_BATCH_MAX_PARALLELISM"
TITLES: Final = {
    "environment": "Environment",
    "systemd": "systemd drop-in",
    "kubernetes": "Kubernetes patch",
    "go": "Go code",
    "python": "Python code",
}
"""What a way is called above its lines, by its name."""
SERVICE: Final = "scheduler"
"""What the unit, deployment and container are called in the printed settings."""


@dataclass(frozen=True)
class Way:
    """How to set it in one place.

    Parameters
    ----------
    name : str
        ``environment``, ``systemd``, ``kubernetes``, ``go`` or ``python``.
    where : str
        File or place it belongs to.
    setting : str
        What to write there, to the letter.
    commands : tuple of str
        What to run for it to take effect.
    """

    name: str
    where: str
    setting: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollback:
    """A way back from one parallelism to another, on a machine of so many CPUs.

    Parameters
    ----------
    source, target : Flight
        What holds now, and what shall hold.
    cpus : int
        CPUs of the scheduler's machine.
    cpus_source : str
        Where that number comes from.
    before, after : Sized
        Effective parallelism, with what sets it.
    ways : tuple of Way
    notes : tuple of str
        What would make a rollback do nothing.
    verify : tuple of str
        Commands that show whether it took effect.
    """

    source: Flight
    target: Flight
    cpus: int
    cpus_source: str
    before: Sized
    after: Sized
    ways: tuple[Way, ...]
    notes: tuple[str, ...]
    verify: tuple[str, ...]

    def way(self, name: str) -> Way:
        """Return one of the ways by its name."""
        return next(way for way in self.ways if way.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "from": str(self.source),
            "to": str(self.target),
            "cpus": self.cpus,
            "cpus_source": self.cpus_source,
            "parallelism_before": self.before.value,
            "reason_before": self.before.reason,
            "parallelism_after": self.after.value,
            "reason_after": self.after.reason,
            "ways": {
                way.name: {"where": way.where, "setting": way.setting, "commands": list(way.commands)}
                for way in self.ways
            },
            "notes": list(self.notes),
            "verify": list(self.verify),
        }


def rollback(target: Flight, *, source: Flight | None = None, cpus: int | None = None) -> Rollback:
    """Return the settings that take a scheduler back to a parallelism.

    Parameters
    ----------
    target : Flight
        What shall hold.
    source : Flight, optional
        What holds now; the rules' own multiplier by default.
    cpus : int, optional
        CPUs of the scheduler's machine; those this process may use by default.

    Examples
    --------
    >>> print(rollback(Flight(multiplier=2), cpus=32).way("environment").setting)
    export SCHEDULER_MAX_PARALLELISM=64
    """
    source = source or Flight(multiplier=DEFAULT_RULES.multiplier)
    plan = pool_plan(None if cpus is None else positive("--cpus", whole_number("--cpus", cpus)), environment={})
    after = target.on(plan.cpus)
    value = after.value
    ways = (
        Way(
            "environment", "the shell or script that starts it", f"export {VARIABLE}={value}", ("restart the process",)
        ),
        _systemd(value),
        _kubernetes(value),
        _go(target, value),
        Way("python", "where the batch is launched", _python(value), ("restart the process",)),
    )
    return Rollback(
        source,
        target,
        plan.cpus,
        plan.cpus_source,
        source.on(plan.cpus),
        after,
        ways,
        _notes(target, plan.cpus, source.on(plan.cpus).value, value),
        _verify(value),
    )


def _systemd(value: int) -> Way:
    # The last name wins, also over override.conf, which `systemctl edit` writes.
    file = f"/etc/systemd/system/{SERVICE}.service.d/zz-parallelism.conf"
    setting = f"[Service]\n# An EnvironmentFile= that sets it wins: change it there.\nEnvironment={VARIABLE}={value}"
    check = f"capacity rollback --to {value} \\\n  --pid $(systemctl show {SERVICE} -p MainPID --value)"
    commands = ("systemctl daemon-reload", f"systemctl restart {SERVICE}", check)
    return Way("systemd", file, setting, commands)


def _kubernetes(value: int) -> Way:
    patch = f"""\
spec:
  template:
    spec:
      containers:
      - name: {SERVICE}
        env:
        - name: {VARIABLE}
          value: "{value}\""""
    commands = (
        f"kubectl patch deployment/{SERVICE} --patch-file rollback.yaml",
        f"kubectl rollout status deployment/{SERVICE}",
    )
    return Way("kubernetes", "rollback.yaml", patch, commands)


def _go(target: Flight, value: int) -> Way:
    rules = DEFAULT_RULES
    if target.multiplier is None:
        rule = f"\tworkers := {value}"
    else:
        rule = f"\tworkers := min(max(runtime.NumCPU()*{target.multiplier}, {rules.minimum}), {rules.maximum})"
    lines = (
        "func parallelism() int {",
        "\t// The variable wins over the number below.",
        f'\ttext := os.Getenv("{VARIABLE}")',
        "\tif n, err := strconv.Atoi(text); err == nil && n > 0 {",
        f"\t\treturn min(n, {rules.maximum})",
        "\t}",
        rule,
        "\treturn workers",
        "}",
    )
    commands = (f"unset {VARIABLE} where it is started", "go build, then roll it out")
    return Way("go", "where the scheduler's pool is sized", "\n".join(lines), commands)


def _python(value: int) -> str:
    """Return a call with the number, which wins over the variable; a multiplier would not."""
    return f"run = asyncio.run(capacity.launch(batch, target, parallelism={value}))"


def _notes(target: Flight, cpus: int, before: int, value: int) -> tuple[str, ...]:
    notes = [f"{value:,} is not fewer than the {before:,} now: this is no way back."] if value >= before else []
    notes += [
        f"The name is {VARIABLE}, to the letter: this package and the Go code here read none that merely looks like "
        "it.",
        f"The original's document said {VARIABLE}, but its code read {READ_BY_THE_ORIGINAL}: where that code runs, "
        "change it to the Go code here, or set the name that it reads.",
        "A process reads it when it starts: without a restart nothing changes.",
        f"A number in code or on the command line (--parallelism 128) wins over it; a multiplier (4x) does not. "
        f"Only numbers from 1 to {DEFAULT_RULES.maximum} take effect as they are; 0 means no override.",
    ]
    if target.multiplier is not None:
        notes.append(f"{value} is {target} on {many(cpus, 'CPU')}: machines of another size need another number.")
    return tuple(notes)


def _verify(value: int) -> tuple[str, ...]:
    back = f"capacity rollback --to {value}"
    return (
        f"# what a restarted launcher would use\n{VARIABLE}={value} \\\n"
        "  capacity launch --dry-run --count 1 --parallelism 4x",
        "# what the last run had\ncapacity runs show last --format json | grep '\"parallelism\"'",
        f"# is a running process back\n{back} --pid PID",
        f"# what a pod was started with\nkubectl exec deployment/{SERVICE} -- printenv {VARIABLE}",
        f"# is it, by its own log\njournalctl -u {SERVICE} --since -1h | {back} --log -",
        f"kubectl logs deployment/{SERVICE} --since 1h \\\n  | {back} --log -",
    )
