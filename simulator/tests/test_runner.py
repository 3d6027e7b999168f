"""Runs are the same whoever plays them, are kept, and are gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_sim.executors import (
    Executor,
    ExecutorError,
    Played,
    Processes,
    Serial,
    executor,
)
from fractal_lba_sim.journal import FILE, Journal, JournalError
from fractal_lba_sim.playing import Chunk, Job, job_of, play
from fractal_lba_sim.runner import CHUNK_RUNS_MAX, Runner, Work
from fractal_lba_sim.versions import all_versions, package_versions

Make = Callable[..., Scenario]


class Counting:
    """Plays in this process and counts; may be interrupted after some chunks."""

    def __init__(self, *, jobs: int = 1, interrupt_after: int | None = None) -> None:
        self.jobs = jobs
        self.played: list[int] = []
        self._left = interrupt_after

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        for chunk in chunks:
            if self._left is not None and self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.played += chunk.seeds
            yield chunk, [play(chunk.job, seed) for seed in chunk.seeds]


def outcomes(where: Executor, job: Job, seeds: Sequence[int]) -> str:
    runner = Runner(where)
    with where:
        runner.play([Work(job, seeds)])
    return json.dumps(runner.outcomes(job, seeds))


def test_processes_and_this_process_give_the_same_bytes(tiny: Make) -> None:
    job = job_of(tiny(), "tiny")
    alone = outcomes(Serial(), job, range(1, 9))
    assert alone == outcomes(Processes(2), job, range(1, 9))


def test_outcomes_come_in_the_order_of_the_seeds(tiny: Make) -> None:
    class Backwards(Counting):
        def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
            yield from super().play(list(reversed(chunks)))

    job = job_of(tiny(), "tiny")
    runner = Runner(Backwards(jobs=2))
    runner.play([Work(job, range(5, 15))])
    assert [one["seed"] for one in runner.outcomes(job, range(5, 15))] == list(range(5, 15))


def test_a_run_that_is_known_is_not_played_again(tiny: Make) -> None:
    where = Counting()
    job = job_of(tiny(), "tiny")
    runner = Runner(where)
    runner.play([Work(job, range(1, 4))])
    runner.play([Work(job, range(2, 6))])
    assert where.played == [1, 2, 3, 4, 5]


def test_runs_are_told_as_they_end(tiny: Make) -> None:
    told: list[tuple[int, int]] = []
    runner = Runner(Counting(), tell=lambda done, of, _: told.append((done, of)))
    runner.play([Work(job_of(tiny(), "tiny"), range(3))])
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_chunks_have_a_limit(tiny: Make) -> None:
    sizes: list[int] = []

    class Looking(Counting):
        def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
            sizes.extend(len(chunk.seeds) for chunk in chunks)
            return iter(())

    Runner(Looking(jobs=2)).play([Work(job_of(tiny(), "tiny"), range(10_000))])
    assert max(sizes) == CHUNK_RUNS_MAX
    assert sum(sizes) == 10_000


def test_what_an_engine_refuses_is_an_error_of_that_scenario_alone(tiny: Make) -> None:
    refused = job_of(tiny(settings={**tiny().part("settings"), "on_partition": "refuse"}), "tiny")
    fine = job_of(tiny(), "tiny")
    runner = Runner(Serial())
    runner.play([Work(refused, range(2)), Work(fine, range(2))])
    assert len(runner.outcomes(fine, range(2))) == 2
    with pytest.raises(ScenarioError, match="cannot refuse writes"):
        runner.outcomes(refused, range(2))


def test_a_fault_that_the_engine_alone_can_find_comes_from_a_worker_as_it_is(tiny: Make) -> None:
    job = job_of(tiny(settings={**tiny().part("settings"), "level": "witnessed"}), "tiny")
    with Processes(1) as where:
        runner = Runner(where)
        runner.play([Work(job, [1])])
    with pytest.raises(ScenarioError, match="/settings/level: nobody witnesses; choose another"):
        runner.outcomes(job, [1])


def test_a_worker_that_dies_is_named_by_its_seeds(tiny: Make) -> None:
    job = job_of(tiny(title="tiny-crash"), "tiny")
    with pytest.raises(ExecutorError, match="seeds 3 to 3"), Processes(1) as where:
        Runner(where).play([Work(job, [3])])


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_choose_the_executor(jobs: int) -> None:
    with executor("processes", jobs=jobs) as where:
        assert where.jobs == jobs


def test_dask_needs_an_address() -> None:
    with pytest.raises(ExecutorError, match="--scheduler ADDRESS"):
        executor("dask")


# --- the journal


def test_an_interrupted_command_goes_on_where_it_was(tiny: Make, tmp_path: Path) -> None:
    job = job_of(tiny(), "tiny")
    first = Counting(interrupt_after=4)
    with Journal(tmp_path, tiny()) as journal:
        runner = Runner(first, journal=journal)
        with pytest.raises(KeyboardInterrupt):
            runner.play([Work(job, range(10))])
        assert [one["seed"] for one in runner.outcomes(job, range(10))] == [0, 1, 2, 3]
    second = Counting()
    with Journal(tmp_path, tiny()) as journal:
        runner = Runner(second, journal=journal)
        runner.play([Work(job, range(10))])
        assert runner.resumed == 4
        resumed = json.dumps(runner.outcomes(job, range(10)))
    assert second.played == [4, 5, 6, 7, 8, 9]
    assert resumed == outcomes(Serial(), job, range(10))


def test_the_folder_has_the_same_bytes_in_whatever_order_runs_ended(
    tiny: Make, tmp_path: Path
) -> None:
    job = job_of(tiny(), "tiny")
    for name, seeds in (("up", [1, 2, 3]), ("down", [3, 2, 1])):
        with Journal(tmp_path / name, tiny()) as journal:
            Runner(Serial(), journal=journal).play([Work(job, seeds)])
    assert (tmp_path / "up" / FILE).read_bytes() == (tmp_path / "down" / FILE).read_bytes()


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_torn_last_line_is_dropped_and_played_again(tiny: Make, tmp_path: Path, cut: int) -> None:
    job = job_of(tiny(), "tiny")
    with Journal(tmp_path, tiny()) as journal:
        Runner(Serial(), journal=journal).play([Work(job, [1, 2, 3])])
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-cut])
    where = Counting()
    with Journal(tmp_path, tiny()) as journal:
        Runner(where, journal=journal).play([Work(job, [1, 2, 3])])
    assert where.played == [3]
    assert (tmp_path / FILE).read_bytes() == whole


def test_a_fault_inside_the_file_is_named_by_its_line(tiny: Make, tmp_path: Path) -> None:
    with Journal(tmp_path, tiny()) as journal:
        Runner(Serial(), journal=journal).play([Work(job_of(tiny(), "tiny"), [1, 2])])
    lines = (tmp_path / FILE).read_text().splitlines()
    lines[1] = lines[1][:20]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalError, match=f"{FILE}:2: is not JSON"):
        Journal(tmp_path, tiny())


def test_a_folder_of_another_scenario_is_refused_by_name(tiny: Make, tmp_path: Path) -> None:
    with Journal(tmp_path, tiny(name="small")):
        pass
    with pytest.raises(JournalError, match=r"runs of scenario small \(.{16}\), not of tiny"):
        Journal(tmp_path, tiny())


def test_a_changed_scenario_is_another_one(tiny: Make, tmp_path: Path) -> None:
    with Journal(tmp_path, tiny()):
        pass
    with pytest.raises(JournalError, match="tiny as it was before it was changed"):
        Journal(tmp_path, tiny(promises={"rto": "1s"}))


def test_outcomes_of_other_code_are_not_taken(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tiny(), "tiny")
    with Journal(tmp_path, tiny()) as journal:
        Runner(Serial(), journal=journal).play([Work(job, [1])])
    monkeypatch.setattr("fractal_lba_sim.journal.code_digest", lambda: "0" * 16)
    with Journal(tmp_path, tiny()) as journal:
        assert journal.outdated
        assert journal.known == {}


def test_an_outcome_belongs_to_its_engine_its_plants_and_its_control(tiny: Make) -> None:
    runner = Runner(Counting())
    job = job_of(tiny(), "tiny")
    runner.play([Work(job, [1])])
    planted = Job(job.scenario, "tiny", job.module, job.digest, ("lease-for-ever",))
    other = Job(job.scenario, "plan", job.module, job.digest)
    assert runner.outcomes(planted, [1]) == []
    assert runner.outcomes(other, [1]) == []


def test_traces_are_kept_whole_and_missing_ones_are_made(tiny: Make, tmp_path: Path) -> None:
    job = job_of(tiny(), "tiny", traces=tmp_path)
    where = Counting()
    runner = Runner(where)
    runner.play([Work(job, [1, 2])])
    lines = (tmp_path / "trace-2.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["event"] == "run"
    assert json.loads(lines[-1])["event"] == "end"
    (tmp_path / "trace-2.jsonl").unlink()
    runner.play([Work(job, [1, 2])])
    assert where.played == [1, 2, 2]


def test_versions_name_what_outcomes_depend_on() -> None:
    assert set(package_versions()) == {"fractal-lba-server", "fractal-lba-sim"}
    assert set(all_versions()) == {*package_versions(), "code"}
