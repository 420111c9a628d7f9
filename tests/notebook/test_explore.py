"""The explorer: set a control, read what follows. No kernel, no browser, no server."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from capacity.errors import UsageError
from capacity.notebook import Explorer, explore
from capacity.rules import tuning_table


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCHEDULER_MAX_PARALLELISM", "SCHEDULER_BATCH_MAX_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shared() -> Explorer:
    """One figure for the module: each takes half a second to make."""
    return explore(8)


@pytest.fixture
def explorer(shared: Explorer) -> Explorer:
    """The explorer at 8 CPUs, 4 per CPU, batches of 1,000, no override."""
    shared.cpus.value, shared.multiplier.value, shared.batch.value, shared.override.value = 8, 4, 1000, 0
    return shared


def current(explorer: Explorer) -> str:
    """The text of the marked cell."""
    (cell,) = re.findall(r'<td class="now[^>]*>(.*?)</td>', explorer.table.value)
    return " ".join(re.sub("<[^>]+>", " ", cell).split())


def test_it_starts_with_the_cpus_of_this_process() -> None:
    """Without an argument the explorer shows this machine."""
    from capacity.rules import available_cpus

    assert explore().plan.cpus == min(available_cpus().count, 512)


def test_a_slider_moves_box_table_sizes_and_figure(explorer: Explorer) -> None:
    """Moving CPUs to 64 shows 256 everywhere."""
    explorer.cpus.slider.value = 64
    assert explorer.cpus.box.value == 64
    assert explorer.plan.parallelism.value == 256
    assert current(explorer) == "256 now"
    assert "<b>256 in flight</b>, queue of <b>256,000</b>" in explorer.summary.value
    assert explorer.figure.layout.title.text.startswith("<b>256 starts in flight; CPUs beyond 128 add none</b>")


def test_a_typed_number_moves_the_slider_to_the_nearest_stop(explorer: Explorer) -> None:
    """77 CPUs are taken as they are; the slider stands at 64."""
    explorer.cpus.box.value = 77
    assert (explorer.plan.cpus, explorer.cpus.slider.value, current(explorer)) == (77, 64, "308 now")


def test_the_multiplier_gets_a_column_of_its_own(explorer: Explorer) -> None:
    """5 per CPU is not in the announced table, and is shown in its place."""
    explorer.multiplier.slider.value = 5
    heads = re.findall(r'<th scope="col">(.*?)</th>', explorer.table.value)
    assert heads == ["CPU Count", "2x", "4x", "5x", "6x", "8x"]


def test_the_batch_sets_the_queue(explorer: Explorer) -> None:
    """32 in flight and batches of 750,000 reach the longest queue, and the reason says so."""
    explorer.batch.slider.value = 750_000
    assert explorer.plan.queue.value == 262_144
    assert "cut to the maximum of 262,144" in explorer.summary.value


def test_an_override_replaces_the_rule(explorer: Explorer) -> None:
    """Override 64 gives 64 whatever the CPUs; the table says that its cell is overridden."""
    explorer.override.box.value = 64
    assert explorer.plan.parallelism.reason == "override 64"
    assert current(explorer) == "32 overridden"
    assert explorer.figure.layout.title.text.startswith("<b>64 starts in flight, whatever the CPUs")


@pytest.mark.parametrize(
    ("control", "typed", "allowed"),
    [
        ("cpus", 0, "1 to 512"),
        ("cpus", -8, "1 to 512"),
        ("cpus", 10**9, "1 to 512"),
        ("multiplier", 0, "1 to 512"),
        ("batch", -1, "1 to 10,000,000"),
        ("override", -1, "0 to 1,000,000"),
    ],
)
def test_an_absurd_number_is_refused_in_words(explorer: Explorer, control: str, typed: int, allowed: str) -> None:
    """The box says what is allowed, and the last good state stays on the screen."""
    before = (explorer.plan, explorer.table.value, explorer.figure.layout.title.text)
    number = getattr(explorer, control)
    number.box.value = typed
    assert 'role="alert"' in number.refusal.value
    assert f"{typed:,}; allowed: {allowed}" in number.refusal.value
    assert (explorer.plan, explorer.table.value, explorer.figure.layout.title.text) == before


def test_a_refusal_goes_when_a_good_number_is_set(explorer: Explorer) -> None:
    """After a refusal the slider works on and the words go."""
    explorer.cpus.box.value = 0
    explorer.cpus.slider.value = 16
    assert (explorer.cpus.refusal.value, explorer.cpus.box.value, explorer.plan.cpus) == ("", 16, 16)


def test_an_absurd_number_from_a_cell_is_an_error(explorer: Explorer) -> None:
    """`explorer.cpus.value = 0` raises, since there is no box to say it beside."""
    with pytest.raises(UsageError, match="CPUs is 0"):
        explorer.cpus.value = 0
    assert explorer.plan.cpus == 8


def test_an_absurd_first_number_is_an_error() -> None:
    """`explore(cpus=0)` is refused at once."""
    with pytest.raises(UsageError, match="CPUs is 0; allowed: 1 to 512"):
        explore(0)


def test_a_look_alike_variable_is_warned_about(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the original's code read is named on the screen."""
    monkeypatch.setenv("SCHEDULER_BATCH_MAX_PARALLELISM", "64")
    explorer.cpus.slider.value = 16
    assert "SCHEDULER_BATCH_MAX_PARALLELISM is set, but only" in explorer.warning.value


def test_the_variable_of_this_process_counts(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM holds here as it would in a launch, and is named."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "48")
    explorer.cpus.slider.value = 16
    assert "Parallelism: SCHEDULER_MAX_PARALLELISM 48." in explorer.summary.value


def test_an_unusable_variable_is_said_and_left_out(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM=lots does not break the panel: it says so and shows the rule."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "lots")
    explorer.cpus.slider.value = 16
    assert "SCHEDULER_MAX_PARALLELISM is &#x27;lots&#x27;" in explorer.warning.value
    assert explorer.plan.parallelism.value == 64


def test_the_table_reads_without_its_style(explorer: Explorer) -> None:
    """Caption, scoped heads, the marked cell and the meaning of * are text and roles, not colour."""
    explorer.cpus.value = 128
    html = explorer.table.value
    assert html.count('scope="row"') == len(tuning_table().cpus)
    assert html.count('scope="col"') == 1 + len(tuning_table().multipliers)
    assert "<caption>Starts in flight, by CPUs and starts per CPU</caption>" in html
    assert 'aria-current="true">512*<br><small>now</small>' in html
    assert "* cap of 512 reached, and it cuts this row: a higher multiplier buys nothing" in html


def test_every_box_has_its_label_as_name(explorer: Explorer) -> None:
    """Sliders of ipywidgets have no accessible name, so the box beside each carries it."""
    controls = (explorer.cpus, explorer.multiplier, explorer.batch, explorer.override)
    assert [control.box.description for control in controls] == [control.name for control in controls]
    assert all(control.name for control in controls)


def test_the_figures_state_is_the_current_one_after_a_reload(explorer: Explorer) -> None:
    """What a reloaded page is sent holds the current title and the current mark, not the first ones."""
    explorer.cpus.value = 96
    state = explorer.figure.get_state()
    assert state["_widget_layout"]["title"]["text"].startswith("<b>384 starts in flight")
    assert [list(trace["x"]) for trace in state["_widget_data"] if trace["name"] == "now"] == [[96], [96]]


def test_the_figure_shows_the_rules_numbers(explorer: Explorer) -> None:
    """At 32 CPUs the line of 6 per CPU stands at 192, and the cap line at 512."""
    lines = {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in explorer.figure.data}
    assert (lines["6 per CPU"][32], lines["now: 4 per CPU"][512]) == (192, 512)
    assert explorer.figure.layout.shapes[0].y0 == 512


def test_the_explorer_needs_no_cluster_and_no_client() -> None:
    """The explorer imports neither Temporal nor gRPC: it works where only the lab is installed."""
    code = (
        "import sys; from capacity.notebook import explore; explore(); print({'temporalio', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "set()\n"
