"""A Dask cluster gives the bytes that this process gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_sim import executors
from fractal_lba_sim.executors import Dask, ExecutorError, Serial
from fractal_lba_sim.playing import job_of
from fractal_lba_sim.runner import Runner, Work
from fractal_lba_sim.versions import all_versions

Make = Callable[..., Scenario]
HERE = Path(__file__).parent

pytest.importorskip("distributed", reason="the extra dask is not installed")

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                      host="127.0.0.1") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a cluster of processes, in a process that ends with its input."""
    program = tmp_path_factory.mktemp("dask") / "cluster.py"
    program.write_text(CLUSTER)
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": path},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdin is not None
        address = running.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield address
        running.stdin.close()


def test_a_cluster_gives_the_same_bytes(tiny: Make, cluster: str) -> None:
    job = job_of(tiny(), "tiny")
    found = []
    for where in (Serial(), Dask(cluster, versions=all_versions())):
        runner = Runner(where)
        with where:
            runner.play([Work(job, range(1, 41))])
        found.append(json.dumps(runner.outcomes(job, range(1, 41))))
    assert found[0] == found[1]


def test_what_an_engine_refuses_there_is_said_here(tiny: Make, cluster: str) -> None:
    job = job_of(tiny(settings={**tiny().part("settings"), "on_partition": "refuse"}), "tiny")
    with Dask(cluster, versions=all_versions()) as where:
        runner = Runner(where)
        runner.play([Work(job, [1])])
        with pytest.raises(ScenarioError, match="cannot refuse writes"):
            runner.outcomes(job, [1])


def test_a_worker_of_another_version_is_refused(cluster: str) -> None:
    with pytest.raises(ExecutorError, match=r"has fractal-lba-sim .*, here is 9"):
        Dask(cluster, versions={"fractal-lba-sim": "9"})


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "CONNECT_S", 0.3)
    with pytest.raises(ExecutorError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        Dask("tcp://127.0.0.1:9", versions={})


def test_the_command_line_gives_the_same_files_and_an_interrupt_ends_it(
    cluster: str, tmp_path: Path
) -> None:
    from test_cli import SCENARIO

    scenario = tmp_path / "tiny.yaml"
    scenario.write_text(SCENARIO)
    words = [sys.executable, str(HERE / "tiny_cli.py"), "run", str(scenario), "--engine", "tiny"]
    there = ["--executor", "dask", "--scheduler", cluster]
    for name, where in (("here", ["--jobs", "1"]), ("there", there)):
        out = str(tmp_path / name)
        subprocess.run([*words, "-n", "12", *where, "--out", out], check=True, timeout=120)
    for name in ("results.json", "report.html", "outcomes.jsonl"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    long = [*words, "-n", "20000", "--no-what-ifs", *there, "--out", str(tmp_path / "long")]
    with subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        kept = tmp_path / "long" / "outcomes.jsonl"
        while not (kept.exists() and kept.read_bytes().count(b"\n") > 50):
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    run = json.loads((tmp_path / "long" / "results.json").read_text())["run"]
    assert not run["complete"]
    assert 0 < run["done"] < 20_000
