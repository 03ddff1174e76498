"""A run in one file is the run: eval, show, report, export and --from read it, and nothing in it is believed."""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import esd
from esd.config.experiment_files import read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse
from esd.errors import EsdError, UntrustedError, UsageError
from esd.evolution.algorithm import EvolutionState
from esd.evolution.observations import ObservationStatistics
from esd.evolution.shaping import SHAPINGS
from esd.evolution.state import RunState
from esd.export.exporting import export_run
from esd.export.formats import FORMATS
from esd.policies.base import Interface
from esd.run import packed_fitness, run_file
from esd.run.run_file import open_run
from esd.run.trust import Trust
from esd.training.plan import TrainRequest, make_plan
from tests.helpers.configs import objective, small
from tests.helpers.shell import esd as esd_command
from tests.helpers.training import from_journal, trained


def silent(text: str) -> None:
    raise AssertionError(text)


def exported(run: Path, path: Path, checkpoint: str = "best", format: str | None = None) -> Path:
    export_run(open_run(run), path, format, checkpoint, silent)
    return path


def rewritten(path: Path, **words: str) -> None:
    """Change the metadata of a file and keep its arrays."""
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(arrays, path, {**metadata, **words})


def test_a_file_holds_h_config_spaces_normalizer_and_metrics(run: Path, tmp_path: Path) -> None:
    path = exported(run, tmp_path / "tiny.safetensors", "last")
    folder, file = esd.Run(run), esd.Run(path)
    assert np.array_equal(folder.h(), file.h())
    assert file.config == folder.config
    assert file.metrics() == folder.metrics()
    assert file.finished
    assert file.generation == folder.generation
    with safetensors.safe_open(path, "np") as anybody:  # by a reader that is not ours
        words = anybody.metadata()
        assert np.array_equal(anybody.get_tensor("h"), folder.h())
    spaces, normalizer = json.loads(words["spaces"]), json.loads(words["normalizer"])
    assert json.loads(words["config"])["env"]["id"] == "CartPole-v1"
    assert spaces["action"] == {"type": "Discrete", "n": 2, "start": 0}
    assert spaces["observation"]["high"][1] is None or spaces["observation"]["high"][1] > 1e30
    mean, inverse = from_journal(run).observations.scale()
    assert normalizer["mean"] == mean.tolist()
    assert normalizer["inverse_deviation"] == inverse.tolist()
    assert json.loads(words["layout"])["arrays"]["layer0.A"] == [4, 5]


@pytest.mark.parametrize("suffix", [".safetensors", ".seed"])
def test_evaluations_of_a_file_are_those_of_the_folder(
    run: Path, tmp_path: Path, suffix: str
) -> None:
    path = exported(run, tmp_path / f"tiny{suffix}")
    copy = Path(shutil.copytree(run, tmp_path / "folder"))
    ours = esd.Run(path).evaluate(episodes=3)
    theirs = esd.Run(copy).evaluate(episodes=3)
    assert ours.pop("run") == str(path)
    theirs.pop("run")
    assert ours == theirs
    assert len([*(tmp_path / f"tiny{suffix}.evaluations").iterdir()]) == 1


def test_a_new_run_starts_from_a_file_as_from_the_folder(run: Path, tmp_path: Path) -> None:
    path = exported(run, tmp_path / "tiny.seed", "last")
    small_steps = ("generations=1",)
    found = []
    for number, source in enumerate((run, path)):
        request = TrainRequest(run=tmp_path / str(number), settings=small_steps, start_from=source)
        plan = make_plan(request, silent)
        esd.train(run=tmp_path / str(number), start_from=source, settings={"generations": 1})
        found.append((plan.source and plan.source.generation, esd.Run(tmp_path / str(number)).h(0)))
    assert found[0][0] == found[1][0] == 5
    assert np.array_equal(found[0][1], found[1][1])
    assert np.array_equal(found[0][1], esd.Run(run).h())


@pytest.mark.parametrize("suffix", [".safetensors", ".seed"])
def test_only_an_exported_run_is_replaced(run: Path, tmp_path: Path, suffix: str) -> None:
    """The run's own checkpoints have the same suffix."""
    path = exported(run, tmp_path / f"tiny{suffix}", "last")
    before = path.stat().st_ino
    assert exported(run, path, "last").stat().st_ino != before
    safetensors.numpy.save_file({"x": np.zeros(3)}, path)
    before = path.stat().st_ino
    with pytest.raises(UsageError, match="exists and is not an exported run; use another file"):
        exported(run, path, "last")
    assert path.stat().st_ino == before


@pytest.mark.parametrize("suffix", [".mat", ".onnx", ".pt2"])
def test_only_a_file_of_ours_is_replaced(run: Path, tmp_path: Path, suffix: str) -> None:
    path = exported(run, tmp_path / f"tiny{suffix}", "last")
    before = path.stat().st_ino
    assert exported(run, path, "last").stat().st_ino != before
    for content in (b"", b"MATLAB 5.0 MAT-file, of somebody else" * 10):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="exists and is not an exported run; use another file"):
            exported(run, path, "last")
        assert path.read_bytes() == content
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="exists and is not an exported run; use another file"):
        exported(run, path, "last")
    assert path.is_fifo()


@pytest.mark.parametrize("suffix", [".safetensors", ".seed", ".mat", ".onnx", ".pt2"])
def test_a_folder_whose_name_is_not_utf8_can_be_exported(
    run: Path, tmp_path: Path, suffix: str
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(run, odd)
    assert exported(odd, tmp_path / f"tiny{suffix}").stat().st_size > 0


def test_a_seed_file_of_a_finished_run_is_finished(run: Path, tmp_path: Path) -> None:
    assert esd.Run(run).finished
    assert esd.Run(exported(run, tmp_path / "tiny.seed", "last")).finished


def test_a_file_can_be_exported_again(run: Path, tmp_path: Path) -> None:
    first = exported(run, tmp_path / "a.safetensors")
    second = exported(first, tmp_path / "b.safetensors")
    with safetensors.safe_open(first, "np") as a, safetensors.safe_open(second, "np") as b:
        names = [name for name in a.metadata() if name != "run"]
        assert [a.metadata()[n] for n in names] == [b.metadata()[n] for n in names]
    with pytest.raises(UsageError, match="has no journal"):
        exported(first, tmp_path / "c.seed")
    with pytest.raises(UsageError, match="contains the best checkpoint"):
        exported(first, tmp_path / "c.safetensors", "last")
    with pytest.raises(UsageError, match="is the file to export"):
        exported(first, first)


@pytest.mark.parametrize(
    "settings",
    [
        ("es.shaping=sign",),
        ("es.shaping=centered_rank_unit", "env.normalize_observations=true"),
        ("es.shaping=standardize", "es.optimizer=clipup"),
        ("es.algorithm=snes",),
        ("es.noise=low_rank", "es.rank=1", "es.shaping=sign"),
    ],
    ids=lambda settings: settings[0],
)
def test_a_seed_file_gives_the_whole_state_bit_for_bit(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    config = small("cartpole", "policy.hidden=[3]", "generations=3", *settings, max_steps=30)
    trained(config, tmp_path / "run")
    path = exported(tmp_path / "run", tmp_path / "run.seed", "last")
    file = open_run(path)
    state = file.last_state(file.config(), silent)
    kept = from_journal(tmp_path / "run")
    assert state.sha256() == kept.sha256()
    with safetensors.safe_open(path, "np") as anybody:
        assert "h" not in anybody.keys()  # noqa: SIM118


def test_the_run_of_an_objective_travels_too(tmp_path: Path) -> None:
    trained(objective("sphere"), tmp_path / "run")
    for name in ("run.safetensors", "run.seed"):
        path = exported(tmp_path / "run", tmp_path / name, "last")
        ours, theirs = esd.Run(path).parameters(), esd.Run(tmp_path / "run").parameters()
        assert ours["x"].tolist() == theirs["x"].tolist()
    with pytest.raises(UsageError, match=r"--format onnx: .* is a run of an objective"):
        exported(tmp_path / "run", tmp_path / "run.onnx")


def test_a_car_of_458002_coefficients_fits_into_8_kilobytes(tmp_path: Path) -> None:
    """300 generations of 200 members with sign shaping, a few pairs of them tied."""
    settings = ["es.shaping=sign", "population=200", "generations=300"]
    whole = apply_settings(read_experiment("car-racing")[1], settings)
    config: Config = parse(whole, "car-racing")
    interface = Interface(96 * 96 * 3, 3, True)
    state = RunState(
        EvolutionState(300, np.zeros(458_002, np.float32), {}, {}), ObservationStatistics.empty(0)
    )
    generator = np.random.default_rng(0)
    fitness = [generator.normal(size=200) for _ in range(300)]
    for values in fitness:
        values[:2] = 0.0
    packed: dict[str, Any] = packed_fitness.pack("sign", fitness)
    words = run_file.words_of(config, state, "last", interface)
    size = run_file.save(tmp_path / "car.seed", run_file.SEED, {**words, "fitness": "sign"}, packed)
    assert size == (tmp_path / "car.seed").stat().st_size
    assert 300 * 100 / 8 < size <= 8_000


@pytest.mark.parametrize("shaping", SHAPINGS)
def test_packed_fitnesses_are_shaped_to_the_same_bits(shaping: str) -> None:
    config = parse({"es": {"shaping": shaping}, "population": 10}, "test")
    kind = packed_fitness.kind_of(config)
    generator = np.random.default_rng(3)
    fitness = [generator.normal(size=10) for _ in range(7)]
    fitness[1][:] = 2.5
    fitness[2][[1, 4]] = np.nan, np.inf
    fitness[3][[0, 1]] = -np.inf, np.nan
    fitness[4][:] = np.nan
    fitness[5][3:9] = -0.0
    again = packed_fitness.unpack(kind, packed_fitness.pack(kind, fitness), 7, 10)  # type: ignore[arg-type]
    for before, after in zip(fitness, again, strict=True):
        assert SHAPINGS[shaping](before).tobytes() == SHAPINGS[shaping](after).tobytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".seed"])
def test_a_damaged_file_is_refused_in_one_line(run: Path, tmp_path: Path, suffix: str) -> None:
    path = exported(run, tmp_path / f"tiny{suffix}", "last")
    h = esd.Run(path).h()
    whole = path.read_bytes()
    chance = random.Random(5)
    refused = 0
    for trial in range(120):
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        text = ""
        try:
            assert np.array_equal(esd.Run(path).h(), h)
            esd.Run(path).metrics()
        except EsdError as error:
            text = str(error)
        refused += bool(text)
        assert "\n" not in text
        assert len(text) <= 1000
    assert refused > 80


def test_a_foreign_file_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model")
    (tmp_path / "empty").touch()
    for name in ("text", "model", "empty"):
        with pytest.raises(UsageError, match="a run that esd export has written"):
            esd.Run(tmp_path / name)
    newer = exported(run, tmp_path / "newer.safetensors")
    rewritten(newer, format="esd-run-2")
    with pytest.raises(UsageError, match="written by a newer version of esd"):
        esd.Run(newer)
    with pytest.raises(UsageError, match="does not exist"):
        esd.Run(tmp_path / "nothing")


def test_a_file_for_other_programs_is_not_called_damaged(run: Path, tmp_path: Path) -> None:
    suffixes = {format.suffix for format in FORMATS.values()}
    assert suffixes == {*run_file.READ_BACK, *run_file.ONE_WAY}
    for suffix in run_file.ONE_WAY:
        path = tmp_path / f"policy{suffix}"
        path.write_bytes(b"MATLAB 5.0 MAT-file, or whatever")
        with pytest.raises(UsageError) as refused:
            esd.Run(path)
        assert str(refused.value) == (
            f"{path}: is for other programs and can't be read back; use the run's folder, or a .safetensors or "
            ".seed file of esd export"
        )
    misnamed = exported(run, tmp_path / "tiny.mat", format="safetensors")
    assert esd.Run(misnamed).finished


def test_the_csv_of_a_file_is_that_of_the_folder(run: Path, tmp_path: Path) -> None:
    path = exported(run, tmp_path / "tiny.safetensors", "last")

    def csv_of(which: Path) -> str:
        return esd_command("show", which, "--csv", cwd=tmp_path).stdout

    csv = csv_of(run)
    assert csv.startswith("schema,generation,")
    assert csv_of(path) == csv
    again = exported(path, tmp_path / "again.safetensors", "last")
    assert csv_of(again) == csv
    for order in ("null", '["schema", "generation", 3]'):  # of older files, and a wrong one
        rewritten(path, metrics=order)
        found = csv_of(path).splitlines()[0].split(",")
        assert found[:2] == ["schema", "generation"]
        assert found[2:] == sorted({*csv.splitlines()[0].split(",")} - {*found[:2]})


def test_settings_that_were_changed_in_a_file_are_noticed(run: Path, tmp_path: Path) -> None:
    path = exported(run, tmp_path / "tiny.safetensors")
    config = json.loads(safetensors.safe_open(path, "np").metadata()["config"])
    rewritten(path, config=json.dumps({**config, "seed": 77}))
    with pytest.raises(UsageError, match="not those that its h was evolved with"):
        esd.Run(path).h()


def test_a_file_that_asks_for_more_memory_than_there_is_is_refused(
    run: Path, tmp_path: Path
) -> None:
    path = exported(run, tmp_path / "tiny.seed", "last")
    for generation in ("999999999999999", "5", "-1", "1e3"):
        rewritten(path, generation=generation)
        if generation != "5":
            with pytest.raises(UsageError, match="damaged"):
                esd.Run(path).h()
    bomb = np.frombuffer(zlib.compress(bytes(10_000_000), 9), np.uint8)
    with pytest.raises(ValueError, match="more fitnesses than generations"):
        packed_fitness.unpack("rank", {"fitness": bomb}, 5, 14)
    with pytest.raises(ValueError, match="fewer fitnesses"):
        packed_fitness.unpack("value", {"fitness": bomb}, 10**15, 14)


def untrusted(path: Path) -> bool:
    try:
        open_run(path).config()
    except UntrustedError:
        return True
    return False


def test_a_file_that_was_exported_here_is_trusted_and_a_copied_or_changed_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_bowl.py").write_text("def bowl(x):\n    return float((x * x).sum())\n")
    Path("bowl.toml").write_text(
        "generations = 1\npopulation = 2\n[objective]\nfunction = 'own_bowl:bowl'\n"
        "direction = 'minimize'\n[objective.parameters.x]\nshape = [2]\ninitial = 1.0\n"
    )
    esd.train("bowl.toml", run="run")
    mine = Path(shutil.copytree("run", "copy"))
    for suffix in ("seed", "safetensors"):
        path = exported(Path("run"), Path(f"mine.{suffix}"), "last")
        assert not untrusted(path)
        assert untrusted(Path(shutil.copy(path, f"copy.{suffix}")))
        if suffix == "safetensors":  # which a file can be exported to again
            assert not untrusted(exported(path, Path("second.safetensors"), "last"))
        with path.open("r+b") as file:  # the same file of the file system, with one bit changed
            last = file.read()[-1]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
        assert untrusted(path)
    export_run(open_run(mine, Trust.YES), Path("theirs.seed"), None, "last", silent)
    assert untrusted(Path("theirs.seed"))  # --trust was for that one command
    monkeypatch.setenv("ESD_TRUST", "1")
    export_run(open_run(mine), Path("theirs.seed"), None, "last", silent)
    monkeypatch.delenv("ESD_TRUST")
    assert untrusted(Path("theirs.seed"))


def test_code_that_a_file_names_is_imported_only_for_a_user_who_trusts_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file from elsewhere: also whoever has trained such a run has to say so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_policy.py").write_text("raise SystemExit('was imported')")
    path = exported(run, tmp_path / "tiny.safetensors")
    config = json.loads(safetensors.safe_open(path, "np").metadata()["config"])
    config["policy"] = {"kind": "evil_policy:Policy"}
    rewritten(path, config=json.dumps(config))
    with pytest.raises(UntrustedError, match="--trust"):
        esd.Run(path).h()
    looked_at = open_run(path, Trust.NEVER)
    with pytest.raises(UsageError, match="not those that its h"):  # which needs no import
        looked_at.config()


def test_a_run_that_started_from_another_has_no_seed_file(run: Path, tmp_path: Path) -> None:
    esd.train(run=tmp_path / "child", start_from=run, settings={"generations": 1})
    with pytest.raises(UsageError, match="started from another run's h"):
        exported(tmp_path / "child", tmp_path / "child.seed", "last")


def test_formats_are_found_by_name_or_suffix(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no format has the suffix '\.xyz'"):
        exported(run, tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="did you mean 'safetensors'"):
        exported(run, tmp_path / "a.xyz", format="safetensor")
    with pytest.raises(UsageError, match="a folder that exists"):
        exported(run, tmp_path / "no" / "a.seed")
    assert exported(run, tmp_path / "a.xyz", format="seed").stat().st_size < 4000
