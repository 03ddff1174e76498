"""Copies of metrics.jsonl: whole, without doubles after a resume, and never a reason for a run to end."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import shutil
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esd.config.settings import LOGGERS, Config
from esd.errors import MissingPackageError, UsageError
from esd.loggers import all as every
from esd.loggers.all import Loggers, require
from esd.loggers.base import Context, Line
from esd.loggers.tensorboard import tag
from esd.mpi.comm import JobFailedError
from esd.run.folder import OWN_FOLDERS
from tests.helpers.configs import objective
from tests.helpers.training import trained


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed: pip install 'esd-mpi[{package}]'",
    )


def config(*names: str, generations: int = 5) -> Config:
    made = objective("noisy_sphere", f"generations={generations}")
    return dataclasses.replace(made, run=dataclasses.replace(made.run, loggers=names))


def line(generation: int, **changes: Any) -> dict[str, Any]:
    known = {
        "schema": 2,
        "generation": generation,
        "return_mean": 1.5 * generation,
        "env_steps": 10 * generation,
    }
    return {**known, "sigma": 0.1, "center_return": None, "seconds": 0.5 * generation, **changes}


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(rows: Sequence[dict[str, str]], lines: Sequence[Line]) -> bool:
    """Whether a CSV file says what the metrics say."""
    texts = [{k: "" if v is None else str(v) for k, v in line.items()} for line in lines]
    return [dict(row) for row in rows] == texts


def test_a_csv_file_has_a_row_for_every_line_also_after_a_resume_that_drops_one(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    trained(config("csv"), run)
    assert same(rows_of(run), lines_of(run))
    assert len(rows_of(run)) == 6
    trained(
        config("csv", generations=8), run
    )  # generation 5 was the center's alone, and has members now
    assert same(rows_of(run), lines_of(run))
    assert [row["generation"] for row in rows_of(run)] == [str(g) for g in range(9)]


def test_a_run_without_loggers_has_no_folder_for_them(tmp_path: Path) -> None:
    trained(config(generations=1), tmp_path / "run")
    assert not (tmp_path / "run" / "logs").exists()
    assert "logs" in OWN_FOLDERS


@needs("tensorboard")
def test_tensorboard_reads_what_was_written_and_nothing_is_there_twice_after_a_resume(
    tmp_path: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, threads = tmp_path / "run", threading.active_count()
    for generations in (5, 8):
        trained(config("tensorboard", generations=generations), run)
        read = EventAccumulator(str(run / "logs" / "tensorboard"), size_guidance={"scalars": 0})
        read.Reload()
        for key in ("return_mean", "return_min", "center_return", "sigma", "env_steps", "h_norm"):
            known = [(one["generation"], one[key]) for one in lines_of(run) if one[key] is not None]
            found = [(event.step, event.value) for event in read.Scalars(tag(key))]
            assert [step for step, _ in found] == [step for step, _ in known]
            assert [value for _, value in found] == pytest.approx(
                [value for _, value in known], rel=1e-6
            )
        times = [event.wall_time for event in read.Scalars(tag("sigma"))]
        assert times == sorted(times)
    assert threading.active_count() == threads


def test_tags_are_grouped_by_what_they_say() -> None:
    assert tag("return_mean.seen") == "return/return_mean.seen"
    assert tag("center_return") == "return/center_return"
    assert tag("sigma_max") == "update/sigma_max"
    assert tag("gradient_agreement") == "update/gradient_agreement"
    assert tag("idle_share") == "time/idle_share"


@needs("mlflow")
def test_mlflow_reads_what_was_written_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "run" / "logs"
    folder.parent.mkdir()
    lines = [line(g) for g in range(3)]
    for start in (0, 1):  # begun, and resumed with what was there
        loggers = Loggers(folder, config("mlflow"), lines[:start], pytest.fail)
        for one in lines[start:]:
            loggers.add(one)
        loggers.add(line(5, return_mean=None))  # the center alone
        loggers.close()
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("esd")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["es.sigma"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "return_mean")
    assert [(metric.step, metric.value) for metric in history] == [(g, 1.5 * g) for g in range(3)]


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a W&B file, which is a LevelDB log behind seven bytes: blocks of 32 KiB, records in pieces."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


@needs("wandb")
def test_wandb_writes_offline_what_its_own_messages_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "run" / "logs"
    folder.parent.mkdir()
    for start in (0, 1):
        loggers = Loggers(folder, config("wandb"), [line(g) for g in range(start)], pytest.fail)
        for g in range(start, 3):
            loggers.add(line(g))
        loggers.close()
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found = []
    for text in records_of(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(text)
        if record.WhichOneof("record_type") == "history":
            items = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in record.history.item
            }
            found.append((items["_step"], items["return_mean"]))
    assert found == [(g, 1.5 * g) for g in range(3)]


class Server:
    """Stands in for the package ``wandb`` and a server, which keeps what it was sent by the runs' ids."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Any]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.Settings = dict

    def init(self, id: str, **rest: Any) -> Any:
        logged = self.runs.setdefault(id, {})
        summary = self.summaries.setdefault(id, {})

        def log(numbers: dict[str, Any], step: int) -> None:
            assert step not in logged
            logged[step] = numbers

        start = max(logged, default=-1) + 1
        return SimpleNamespace(starting_step=start, log=log, summary=summary, finish=list)

    def teardown(self) -> None:
        pass


def test_wandb_online_has_every_generation_once_and_a_new_run_of_the_same_folder_beside_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    folder = tmp_path / "run" / "logs"
    folder.parent.mkdir()
    center = line(2, return_mean=None, center_return=7.0)
    loggers = Loggers(folder, config("wandb", generations=2), [], pytest.fail)
    for one in (line(0), line(1), center):
        loggers.add(one)
    loggers.close()
    (first,) = server.runs
    assert server.summaries[first]["center_return"] == 7.0
    extended = Loggers(folder, config("wandb", generations=4), [line(0), line(1)], pytest.fail)
    for one in (line(2), line(3)):
        extended.add(one)
    extended.close()
    assert [*server.runs] == [first]
    assert [logged["return_mean"] for logged in server.runs[first].values()] == [0.0, 1.5, 3.0, 4.5]
    shutil.rmtree(folder)  # as --fresh does, or a user
    Loggers(folder, config("wandb"), [line(0)], pytest.fail).close()
    assert len(server.runs) == 2
    copied = shutil.copytree(folder.parent, tmp_path / "copy") / "logs"
    Loggers(copied, config("wandb"), [line(0)], pytest.fail).close()
    assert len(server.runs) == 3


@needs("mlflow")
def test_a_new_run_of_the_same_folder_is_a_new_run_of_an_mlflow_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    server = f"sqlite:///{tmp_path}/server.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    folder = tmp_path / "run" / "logs"
    folder.parent.mkdir()
    for _ in range(2):
        for _ in range(2):  # begun, and resumed
            Loggers(folder, config("mlflow"), [line(0)], pytest.fail).close()
        shutil.rmtree(folder)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("esd")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


class Failing:
    """Fails when it writes for the second time."""

    def __init__(self, context: Context) -> None:
        self.written: list[Line] = []
        self.closed = False

    def write(self, lines: Sequence[Line]) -> None:
        if self.written:
            raise OSError("no room\nleft")
        self.written += lines

    def close(self) -> None:
        self.closed = True


def test_a_logger_that_fails_says_so_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(every, "FLUSH_SECONDS", 0.0)
    made: list[Failing] = []

    def make(name: str, context: Context) -> Any:
        if name == "tensorboard":
            raise ImportError("broken")
        made.append(Failing(context))
        return made[-1] if name == "wandb" else every._make(name, context)

    notes: list[str] = []
    loggers = Loggers(
        tmp_path / "logs", config("tensorboard", "wandb", "csv"), [], notes.append, make
    )
    for g in range(4):
        loggers.add(line(g))
    loggers.close()
    assert len(notes) == 2
    assert 'run.loggers = ["tensorboard"] failed (ImportError: broken)' in notes[0]
    assert 'run.loggers = ["wandb"] failed (OSError: no room left); the run continues' in notes[1]
    assert made[0].closed
    assert len((tmp_path / "logs" / "metrics.csv").read_text().splitlines()) == 5


def test_a_link_in_place_of_a_copy_is_not_written_through(tmp_path: Path) -> None:
    run, notes = tmp_path / "run", list[str]()
    (run / "logs").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "precious").touch()
    (run / "logs" / "tensorboard").symlink_to(tmp_path / "theirs")
    (run / "logs" / "metrics.csv").symlink_to(tmp_path / "theirs" / "precious")
    Loggers(run / "logs", config("tensorboard", "csv"), [line(0)], notes.append).close()
    assert len(notes) == 2
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["precious"]
    assert (tmp_path / "theirs" / "precious").read_text() == ""


def test_a_missing_package_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        every.importlib.util, "find_spec", lambda name: None if name == "wandb" else there(name)
    )
    with pytest.raises(MissingPackageError, match=r"needs Weights & Biases; .*esd-mpi\[wandb\]"):
        require(["csv", "wandb"])
    require(["csv"])
    with pytest.raises(JobFailedError) as failure:
        trained(config("wandb"), tmp_path / "run")
    assert 'run.loggers = ["wandb"]: needs' in str(failure.value.__cause__)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ['["excel"]', '["csv", "csv"]', "csv"])
def test_other_loggers_are_refused_with_those_that_there_are(value: str) -> None:
    with pytest.raises(UsageError, match=r"run\.loggers.*"):
        objective("sphere", f"run.loggers={value}")
    assert set(LOGGERS) == {"csv", *every.PACKAGES}
