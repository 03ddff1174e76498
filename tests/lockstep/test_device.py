"""The device: found once and stored, free to change on resume, refused clearly when it isn't there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esd.config.identity import differences_that_matter, identity
from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd.evolution.state import make_strategy
from esd.lockstep.device import MEMBERS_ON_CUDA, device_of, resolved
from esd.problems.episodes import make_player
from esd.run.folder import RunFolder
from esd.training.plan import TrainRequest, make_plan
from tests.helpers.configs import of_table, small
from tests.helpers.shell import TINY, esd
from tests.helpers.training import trained


def config_of(device: str, batch_members: int = 0) -> Config:
    """A config on a device."""
    return parse({"device": device, "batch_members": batch_members}, "test")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine that says it has three."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    return 3


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_takes_what_there_is(gpus: int) -> None:
    assert resolved(config_of("auto")) == config_of("cuda", MEMBERS_ON_CUDA)
    assert resolved(config_of("cuda", 32)) == config_of("cuda", 32)


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_is_the_cpu_as_configured() -> None:
    assert resolved(config_of("auto")) == config_of("cpu", 0)
    assert resolved(config_of("auto", 9)) == config_of("cpu", 9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU here")
def test_cuda_without_a_gpu_is_refused_with_what_torch_says() -> None:
    for ask in (lambda: resolved(config_of("cuda")), lambda: device_of(config_of("cuda"), 0)):
        with pytest.raises(
            UsageError, match=r'device = "cuda": torch .* finds no GPU \(.+\)'
        ) as error:
            ask()
        assert "\n" not in str(error.value)


def test_the_ranks_of_a_node_take_its_gpus_in_turn(gpus: int) -> None:
    devices = [str(device_of(config_of("cuda", 4), rank)) for rank in range(5)]
    assert devices == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert str(device_of(config_of("cpu", 4), 2)) == "cpu"


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="device = 'gpu': expected one of cpu, cuda, auto"):
        config_of("gpu")
    with pytest.raises(UsageError, match="batch_members = -1: expected 0 or more"):
        config_of("cpu", -1)


def test_a_device_is_no_part_of_what_a_run_is() -> None:
    assert identity(config_of("cpu")) == identity(config_of("cuda", 64))
    assert not differences_that_matter(config_of("cpu"), config_of("cuda", 64))


def test_a_plan_stores_the_device_that_was_found(gpus: int, tmp_path: Path) -> None:
    request = TrainRequest("cartpole", tmp_path / "run", ["device=auto"])
    config = make_plan(request, lambda text: None).config
    assert (config.device, config.batch_members) == ("cuda", MEMBERS_ON_CUDA)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("hebbian", "the same bits"),
        ("tests.helpers.user_code:SmallModule", "differ in the last bits"),
    ],
)
def test_a_change_of_device_on_resume_is_told(policy: str, told: str, tmp_path: Path) -> None:
    config = small("cartpole", "generations=1", f"policy.kind={policy}")
    trained(config, tmp_path / "run")
    notes: list[str] = []
    request = TrainRequest(
        run=tmp_path / "run", settings=["generations=2", "device=cpu", "batch_members=3"]
    )
    plan = make_plan(request, notes.append)
    assert (plan.resumes, plan.config.batch_members) == (True, 3)
    assert len(notes) == 1
    assert "from here on device = cpu, batch_members = 3" in notes[0]
    assert told in notes[0]
    trained(plan.config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").config().batch_members == 3
    assert make_plan(TrainRequest(run=tmp_path / "run"), notes.append).finished
    assert len(notes) == 1, "nothing has changed this time"


def test_a_run_that_changes_its_device_on_the_way_has_the_same_h(
    device: torch.device, tmp_path: Path
) -> None:
    reference = trained(small("pendulum"), tmp_path / "compiled").state
    for generations, where, batch_members in ((2, device, 3), (3, "cpu", 0), (5, device, 64)):
        settings = (
            f"generations={generations}", f"batch_members={batch_members}", f"device={where}"
        )  # fmt: skip
        ending = trained(small("pendulum", *settings), tmp_path / "run")
    assert ending.state.generation == reference.generation
    assert ending.state.sha256() == reference.sha256()


def test_a_module_in_lock_step_resumes_with_the_same_bits(
    device: torch.device, tmp_path: Path
) -> None:
    kind = "policy.kind=tests.helpers.user_code:SmallModule"
    module = (kind, "batch_members=4", f"device={device}")
    whole = trained(small("pendulum", *module), tmp_path / "whole").state
    for generations in (2, 5):
        ending = trained(small("pendulum", *module, f"generations={generations}"), tmp_path / "run")
    assert ending.state.sha256() == whole.sha256()


def test_in_lock_step_steps_are_compiled_not_whole_episodes() -> None:
    for slots, what in ((0, "whole episodes run"), (4, "steps run")):
        rollout = Rollout(small("cartpole", f"batch_members={slots}"))
        assert rollout.how_played() == [f"CartPole-v1: {what} in compiled code"]
        rollout.close()


def test_the_cpu_alone_never_imports_torch() -> None:
    script = (
        "import sys, tempfile\n"
        "from pathlib import Path\n"
        "from tests.helpers.configs import small\n"
        "from tests.helpers.training import trained\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    trained(small('cartpole', 'generations=1'), Path(folder) / 'run')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


def test_the_command_line_trains_evaluates_and_refuses(tmp_path: Path) -> None:
    settings = (*TINY, "--set=batch_members=4", "--set=device=auto")
    trained_here = esd("train", "--run", "run", *settings, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert trained_here.returncode == 0, trained_here.stderr
    text = (tmp_path / "run" / "config.toml").read_text("utf-8")
    assert 'device = "cpu"' in text
    assert "batch_members = 4" in text
    assert esd("eval", "run", "--episodes=3", cwd=tmp_path).returncode == 0
    on_a_gpu = text.replace('device = "cpu"', 'device = "cuda"')  # a run that comes from elsewhere
    (tmp_path / "run" / "config.toml").write_text(on_a_gpu, "utf-8")
    for command in (("eval", "run", "--episodes=3"), ("show", "run")):
        assert esd(*command, cwd=tmp_path, CUDA_VISIBLE_DEVICES="").returncode == 0
    further = ("train", "--run", "run", "--set=generations=4")
    refused = esd(*further, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert refused.returncode == 2
    assert "finds no GPU" in refused.stderr
    resumed = esd(*further, "--set=device=cpu", "--set=batch_members=0", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "from here on device = cpu, batch_members = 0" in resumed.stdout
    refused = esd("train", "--set=device=cuda", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert refused.returncode == 2
    assert "finds no GPU" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = esd(
        "train", "--set=batch_members=4", "--set=policy.kind=tests.helpers.user_code:CountingPolicy", cwd=tmp_path
    )  # fmt: skip
    assert refused.returncode == 2
    assert "tests.helpers.user_code:CountingPolicy" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_more_members_than_memory_holds_are_told_in_one_line(device: torch.device) -> None:
    config = of_table(batch_members=10**12, policy={"hidden": [640]}, device=str(device))
    rollout = Rollout(config)  # beyond any address space, however much memory Linux promises
    algorithm = make_strategy(config, rollout.policy.layout)
    with pytest.raises(
        UsageError, match=rf"batch_members = 1000000000000: .* memory of {device.type}.*; use fewer"
    ):
        make_player(rollout, algorithm, 1, 0)


def test_pytorch_can_export_after_an_evaluation_in_lock_step(tmp_path: Path) -> None:
    trained(small("cartpole-static", "generations=1", "batch_members=4"), tmp_path / "run")
    assert torch.backends.fp32_precision == "ieee"  # type: ignore[attr-defined]
    assert not torch.backends.cudnn.allow_tf32  # raised where the old name and the new one disagree
