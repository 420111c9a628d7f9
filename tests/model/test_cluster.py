"""The description of a cluster: complete, possible, and one line for whatever is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from capacity.errors import UsageError
from capacity.model import shipped
from capacity.model.cluster import DEFAULTS, Cluster


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", shipped.names("clusters"))
def test_every_shipped_description_loads_and_comes_back_from_its_dict(name: str) -> None:
    """A shipped description is valid, and its dict, through JSON, is the same description."""
    cluster = Cluster.load(name)
    assert Cluster.model_validate(json.loads(json.dumps(cluster.to_dict()))) == cluster


def test_the_five_announced_descriptions_are_shipped() -> None:
    """Dev server, development PostgreSQL, Helm default, a 32-core example and Temporal Cloud are there."""
    expected = {"devserver", "postgres-dev", "helm-default", "example-32-core", "temporal-cloud"}
    assert expected <= set(shipped.names("clusters"))


@pytest.mark.parametrize("name", shipped.names("clusters"))
def test_every_figure_of_a_shipped_description_has_its_source(name: str) -> None:
    """No number stands without a comment on its line or on the comment lines right above its group."""
    explained, bare = False, []
    for line in shipped.path("clusters", name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            explained = True
        elif not line.strip() or line.startswith("["):
            explained = False
        elif re.search(r"=\s*[0-9]", line):
            explained = explained or "#" in line
            bare += [] if explained else [line]
    assert bare == []


def test_the_dev_server_is_what_start_dev_is() -> None:
    """One shard, one connection, request limits at the server's defaults, database limits raised."""
    cluster = Cluster.load("devserver")
    assert (cluster.shards, cluster.max_conns, cluster.store) == (1, 1, "sqlite")
    assert {key: cluster.limits[key] for key in ("frontend.rps", "frontend.namespaceRPS", "history.rps")} == {
        "frontend.rps": 2400,
        "frontend.namespaceRPS": 2400,
        "history.rps": 3000,
    }
    assert cluster.limits["history.persistenceMaxQPS"] > DEFAULTS["history.persistenceMaxQPS"]


def test_what_is_not_said_is_the_servers_default(tmp_path: Path) -> None:
    """A file of one line is a whole cluster, named after the file."""
    cluster = Cluster.load(written(tmp_path, "cores = 8\n"))
    assert (cluster.name, cluster.cores, cluster.limits) == ("mine", 8, DEFAULTS)


def test_limits_may_be_quoted_or_dotted(tmp_path: Path) -> None:
    """`"frontend.rps" = 1` and `frontend.rps = 1` say the same."""
    quoted = Cluster.load(written(tmp_path, 'cores = 8\n[limits]\n"frontend.rps" = 7\n"history.rps" = 9\n'))
    dotted = Cluster.load(written(tmp_path, "cores = 8\n[limits]\nfrontend.rps = 7\nhistory.rps = 9\n"))
    assert quoted == dotted
    assert (quoted.limits["frontend.rps"], quoted.limits["history.rps"]) == (7, 9)


def test_temporal_cloud_has_its_own_limits_and_no_cores(tmp_path: Path) -> None:
    """Of Temporal Cloud only the namespace's rates are known; unsaid they are its defaults."""
    cluster = Cluster.load(written(tmp_path, 'store = "cloud"\nactions_per_second = 900\n'))
    assert (cluster.actions_per_second, cluster.requests_per_second, cluster.cores) == (900, 2000, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cores = \n", r"is not TOML: .*line 1"),
        ("cores = 2\nshrds = 4\n", "unknown key 'shrds'; did you mean shards?"),
        ("cores = 2\nxyzzy = 4\n", "unknown key 'xyzzy'; allowed: name, "),
        ('cores = 2\n"frontend.rps" = 4\n', r"unknown key 'frontend.rps'; did you mean \"frontend.rps\" in the table"),
        ("cores = 2\n[limits]\nfrontend.rsp = 4\n", "unknown limit 'frontend.rsp'; did you mean frontend.rps"),
        ('cores = 2\n[limits]\n"history.shardIOConcurrency" = 4\n', "did you mean shard_io_concurrency"),
        ("cores = 2\n[limits]\nfrontend.rps = true\n", "frontend.rps is true; allowed: a whole number from 1"),
        ("cores = 2\n[limits]\nfrontend.rps = 2.5\n", "frontend.rps is 2.5; allowed: a whole number from 1"),
        ("cores = 2\n[limits]\nfrontend.rps = 0\n", "frontend.rps is 0; allowed: a whole number from 1"),
        ("cores = 2\n[limits]\nfrontend.globalRPS = -1\n", "frontend.globalRPS is -1; allowed: a whole number from 0"),
        ("cores = 2\nlimits = 3\n", "limits is 3; allowed: a table"),
        ('cores = "two"\n', "cores is 'two'; allowed: a whole number from 1 to 1,000,000"),
        ("cores = 0\n", "cores is 0; allowed: a whole number from 1 to 1,000,000"),
        ("cores = true\n", "cores is true; allowed: a whole number"),
        ("cores = 2\nlauncher_shares_cores = 1\n", "launcher_shares_cores is 1; allowed: true or false"),
        ("cores = 2\nnetwork_delay = -0.1\n", "network_delay is -0.1; allowed: a number from 0 to 60"),
        ("cores = 2\nnetwork_delay = nan\n", "network_delay is nan; allowed: a number from 0 to 60"),
        ('cores = 2\nstore = "oracle"\n', "store is 'oracle'; allowed: sqlite or postgres or"),
        ("cores = 2\nserver_cores = 2\n", "cores and server_cores are both set"),
        ("server_cores = 2\n", "database_cores is missing"),
        ("shards = 2\n", "cores is missing; allowed: cores"),
        (
            "server_cores = 2\ndatabase_cores = 2\nlauncher_shares_cores = true\n",
            "launcher_shares_cores is true without",
        ),
        ('store = "cloud"\ncores = 2\n', "cores is set, but Temporal Cloud"),
        ("cores = 2\nactions_per_second = 2\n", "actions_per_second is set, but store is"),
    ],
)
def test_a_mistake_gets_one_line_that_names_file_key_and_value(text: str, said: str, tmp_path: Path) -> None:
    """Whatever is wrong with a file, the error is one line that says where, what and what is allowed."""
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=said.replace("(", r"\(")) as raised:
        Cluster.load(file)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_lists_the_shipped_names() -> None:
    """A misspelt name is answered with the names that exist and the nearest of them."""
    with pytest.raises(UsageError, match=r"'postgres-dve': no such file; .*devserver.*did you mean postgres-dev\?"):
        Cluster.load("postgres-dve")


def test_a_folder_or_bytes_are_no_description(tmp_path: Path) -> None:
    """A folder and a file that is not text are refused in one line too."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, binary):
        with pytest.raises(UsageError, match=str(path)):
            Cluster.load(path)


def test_a_calibrations_path_is_relative_to_the_file(tmp_path: Path) -> None:
    """A calibration given by path is found from the description, wherever the command runs; a name is kept."""
    by_path = Cluster.load(written(tmp_path, 'cores = 2\ncalibration = "sweeps/mine.json"\n'))
    assert by_path.calibration == str(tmp_path / "sweeps/mine.json")
    assert Cluster.load(written(tmp_path, 'cores = 2\ncalibration = "nowhere"\n')).calibration == "nowhere"


def test_a_description_cannot_be_changed_in_place() -> None:
    """A cluster is frozen: another value is another cluster, and the first keeps its own."""
    cluster = Cluster(name="mine", cores=2)
    other = cluster.changed({"cores": 4, "history.rps": 1})
    assert (cluster.cores, cluster.limits["history.rps"], other.cores, other.limits["history.rps"]) == (2, 3000, 4, 1)
    with pytest.raises(ValueError, match="frozen"):
        cluster.cores = 3  # type: ignore[misc]
