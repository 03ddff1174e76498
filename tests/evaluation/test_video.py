"""Videos of test episodes: what is in them, and one line for each reason why there can't be one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.tables import parse
from esd.episodes.rollout import Rollout
from esd.errors import EsdError, MissingPackageError
from esd.evaluation import film, video, video_facts
from esd.evaluation.test_episodes import Subject, choose, evaluate
from esd.evolution.algorithm import EvolutionState
from esd.evolution.observations import ObservationStatistics
from esd.evolution.state import RunState
from esd.mpi.comm import Alone

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'esd-mpi[video]'")


STATIC = {"kind": "static", "hidden": [3]}


def evaluated(env: dict[str, Any], policy: Mapping[str, Any] = STATIC) -> tuple[Subject, RunState]:
    """An untrained run."""
    config = parse({"env": env, "policy": policy}, "test")
    subject = choose(config, None, [], [])
    rollout = Rollout(subject.config)
    h = rollout.policy.initial_parameters(0)
    rollout.close()
    return subject, RunState(EvolutionState(0, h, {}, {}), ObservationStatistics.empty(0))


def frames_of(path: Path) -> list[Any]:
    with Image.open(path) as picture:
        found = []
        for number in range(picture.n_frames):
            picture.seek(number)
            found.append((np.asarray(picture.convert("RGB")), picture.info["duration"]))
        return found


DRAWN = {"id": "tests.helpers.exported_worlds:Drawn", "max_steps": 7}


def test_a_gif_has_a_frame_per_step_at_the_environments_speed_and_a_caption(
    tmp_path: Path,
) -> None:
    path = tmp_path / "episode.gif"
    subject, state = evaluated(DRAWN)
    shown = video.record(subject, state, 0, path, 30.0)
    frames = frames_of(path)
    assert (shown.frames, shown.rate, shown.steps, shown.whole) == (8, 10.0, 7, True)
    assert shown.total == 7.0
    assert shown.size == (160, 120)
    assert shown.bytes == path.stat().st_size
    assert [duration for _, duration in frames] == [100] * 8
    for step, (frame, _) in enumerate(frames):
        assert abs(int(frame[100, 20 * step + 10, 0]) - 255) < 8, "the bar stands at its step"
        strip = frame[:14]
        assert strip.max() > 200, "white text"
        assert np.median(strip) < 60, "on a dark strip"
    assert not np.array_equal(frames[0][0][:14], frames[5][0][:14]), "the text changes"
    assert "first test episode on tests.helpers.exported_worlds:Drawn" in shown.described()
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("draw", ["episode", "member", "run"])
def test_the_episode_is_the_first_one_of_the_table_with_its_initial_weights(
    draw: str, tmp_path: Path
) -> None:
    policy = {"hidden": [3], "draw_weights": draw}
    subject, state = evaluated({"id": "Pendulum-v1", "max_steps": 8}, policy)
    shown = video.record(subject, state, 5, tmp_path / "episode.gif", 0.1)
    assert shown.total == evaluate(Alone(), subject, state, 1, 5)[0].returns[0]


def test_what_does_not_change_has_the_same_color_in_all_frames_of_a_gif(tmp_path: Path) -> None:
    path = tmp_path / "episode.gif"
    subject, state = evaluated({**DRAWN, "id": "tests.helpers.exported_worlds:Appearing"})
    video.record(subject, state, 0, path, 30.0)
    frames = [frame.astype(int) for frame, _ in frames_of(path)]
    assert len(frames) == 8
    assert all((frame[112:] == 255).all() for frame in frames), "white stays white"
    assert all((frame[28:34, :6] == frames[0][28:34, :6]).all() for frame in frames)
    balls = [frame[100:110, 130:140] for frame in frames]
    assert (balls[3] == 255).all()
    for ball in balls[4:]:
        assert (ball == [250, 10, 30]).all(), "a color that comes later has an entry of its own"


def test_a_video_says_which_run_and_episode_it_shows(tmp_path: Path) -> None:
    subject, state = evaluated(DRAWN)
    about = {"run": "ä" * 300, "checkpoint": "best", "generation": 7, "settings": ""}
    path = tmp_path / "episode.gif"
    video.record(subject, state, 5, path, 0.4, "evolved", about)
    data = path.read_bytes()
    found = video_facts.facts_of(data)
    assert len(found.pop("run")) == 200
    assert found == {
        "checkpoint": "best", "generation": 7, "settings": "", "env": DRAWN["id"], "variant": DRAWN["id"],
        "seed": 5, "rules": "evolved", "return": 7.0, "steps": 7, "whole": False,
    }  # fmt: skip
    assert video_facts.size_of(data) == (160, 120)
    for end in range(0, len(data), 97):  # a file that is cut short says less, or nothing
        assert video_facts.facts_of(data[:end]) in ({}, video_facts.facts_of(data))


def test_a_video_is_no_longer_than_asked_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "episode.gif"
    subject, state = evaluated(DRAWN)
    shown = video.record(subject, state, 0, path, 0.4)
    assert (shown.frames, shown.whole, shown.steps) == (4, False, 7)
    assert len(frames_of(path)) == 4
    assert "0.4 s of the first test episode" in shown.described()
    assert "which ends at step 7" in shown.described()


def test_an_environment_faster_than_players_is_shown_at_its_speed_with_fewer_frames(
    tmp_path: Path,
) -> None:
    path = tmp_path / "episode.gif"
    subject, state = evaluated({"id": "CartPole-v1", "max_steps": 8})  # 50 steps per second
    shown = video.record(subject, state, 0, path, 30.0)
    assert shown.rate == 25.0
    assert shown.frames == shown.steps // 2 + 1
    assert {duration for _, duration in frames_of(path)} == {40}


def test_the_variant_is_named_in_the_video_of_its_body(tmp_path: Path) -> None:
    variants = [{"name": "light", "kwargs": {}}, {"name": "heavy", "kwargs": {}}]
    subject, state = evaluated({**DRAWN, "variants": variants})
    shown = video.record(subject, state, 0, tmp_path / "a.gif", 30.0)
    assert shown.variant == "light"
    heavy = choose(subject.trained, None, [], ["heavy"])
    assert video.record(heavy, state, 0, tmp_path / "b.gif", 30.0).variant == "heavy"


def test_an_mp4_is_read_by_ffmpeg(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip(
        "imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install 'esd-mpi[video]'"
    )
    path = tmp_path / "episode.mp4"
    subject, state = evaluated(DRAWN)
    shown = video.record(subject, state, 0, path, 30.0)
    # its own reader leaves pipes open
    words = [ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    read = subprocess.run(words, capture_output=True, check=True)
    assert b" 10 fps" in read.stderr
    assert shown.rate == 10.0
    pictures = np.frombuffer(read.stdout, np.uint8).reshape(-1, 120, 160, 3)
    assert len(pictures) == shown.frames == 8
    assert video_facts.size_of(path.read_bytes()) == (160, 120)
    assert video_facts.facts_of(path.read_bytes())["return"] == 7.0
    assert pictures[7][100, 150, 0] > 180 > 90 > pictures[0][100, 150, 0]
    assert [*tmp_path.iterdir()] == [path]


def test_without_pygame_only_pygame_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    text = refusal(tmp_path / "a.gif", {"id": "CartPole-v1", "max_steps": 3})
    assert "pip install 'gymnasium[classic-control]'" in text
    assert "MuJoCo" not in text


def refusal(path: Path, env: dict[str, Any]) -> str:
    subject, state = evaluated(env)
    with pytest.raises(EsdError) as refused:
        video.record(subject, state, 0, path, 30.0)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) <= 1000
    assert not path.exists()
    return text


def test_what_cannot_be_filmed_is_refused_in_one_line(tmp_path: Path) -> None:
    gif = tmp_path / "a.gif"
    no_mode = refusal(gif, {"id": "esd/TMaze-v0"})
    assert "no render mode 'rgb_array'" in no_mode
    assert "Leave out --video" in no_mode
    blind = refusal(gif, {"id": "tests.helpers.exported_worlds:Blind", "max_steps": 3})
    assert "can't be rendered on this machine (RuntimeError: no display)" in blind
    assert "MuJoCo" not in blind
    odd = refusal(gif, {"id": "tests.helpers.exported_worlds:Scribble", "max_steps": 3})
    assert "render() returned list" in odd
    none = refusal(gif, {"id": "tests.helpers.exported_worlds:Stops", "max_steps": 5})
    assert "step 3: render() returned None, expected a uint8 array" in none
    grows = refusal(gif, {"id": "tests.helpers.exported_worlds:Grows", "max_steps": 5})
    assert "step 1: render() returned 160 × 61 pixels, and 160 × 60 pixels before" in grows
    assert "ends with .mp4 or .gif" in refusal(tmp_path / "a.avi", DRAWN)
    assert "a folder that exists" in refusal(tmp_path / "no" / "a.gif", DRAWN)
    assert [*tmp_path.iterdir()] == []


def test_a_missing_writer_is_named_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in (("a.gif", "PIL"), ("a.mp4", "imageio_ffmpeg")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(MissingPackageError, match=r"pip install 'esd-mpi\[video\]'"):
                video.check(tmp_path / name)


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, state = evaluated(DRAWN)

    def full(path: Path, data: bytes) -> None:
        raise film.NotWritableError(f"{path}: can't be written (No space left)", "unchanged")

    monkeypatch.setattr(film, "write_atomically", full)
    with pytest.raises(film.NotWritableError, match="No space left"):
        video.record(subject, state, 0, tmp_path / "a.gif", 30.0)
    assert [*tmp_path.iterdir()] == []


def test_drawing_without_a_screen_leaves_the_environment_variables_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")  # the user's own
    before = dict(os.environ)
    with video.without_a_screen():
        assert os.environ["SDL_VIDEODRIVER"] == "dummy"
        assert os.environ["MUJOCO_GL"] == "osmesa"
    assert dict(os.environ) == before


def test_mujoco_is_drawn_without_a_screen_and_its_camera_follows_the_body(tmp_path: Path) -> None:
    """In a process of its own: OpenGL keeps the first library that it has found."""
    pytest.importorskip("mujoco", reason="needs MuJoCo: pip install 'esd-mpi[mujoco]'")
    needed = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libEGL.so.1')"],
        capture_output=True,
        check=False,
    )
    if needed.returncode:
        pytest.skip("needs EGL: apt-get install libegl1 libgl1-mesa-dri")
    program = (
        "import sys; from pathlib import Path; from tests.evaluation.test_video import evaluated\n"
        "from esd.evaluation import video\n"
        "env = {'id': 'HalfCheetah-v5', 'max_steps': 60, 'kwargs': {'width': 120, 'height': 90}}\n"
        "shown = video.record(*evaluated(env), 0, Path(sys.argv[1]), 30.0)\n"
        "print(shown.frames, shown.rate, shown.size)\n"
    )
    env = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    }
    path = tmp_path / "cheetah.gif"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["61", "20.0", "(120,", "90)"]
    for frame, _ in frames_of(path):
        colors = frame[20:].astype(int)
        body = (colors[..., 0] > colors[..., 2] + 30).sum()  # nothing else is brown
        assert body > 50


def test_a_name_of_the_environment_longer_than_the_picture_gets_a_smaller_caption() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    shown = film.captioned(picture, "return 1.0    step 3    a very long name of a body")
    assert shown.shape == picture.shape
    assert shown[:20].max() > 100
