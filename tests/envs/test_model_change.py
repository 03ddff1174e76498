"""Changing a model in place: all of it, and back to the last bit."""

from __future__ import annotations

import copy

import gymnasium
import mujoco
import numpy as np
import pytest

from esd_envs.model_change import ModelChange, read_specification


def everything(model: mujoco.MjModel) -> bytes:
    """A model's bytes, as MuJoCo would save it."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_a_change_makes_the_very_model_that_was_compiled_and_gives_the_old_one_back() -> None:
    env = gymnasium.make("Ant-v5").unwrapped
    specification = mujoco.MjSpec.from_file(env.fullpath)
    specification.geom("left_ankle_geom").fromto[3:] *= 0.25
    specification.option.gravity[2] *= 2.0
    changed = specification.compile()
    model, original = env.model, everything(env.model)
    change = ModelChange(model, changed)
    assert everything(model) == original
    change.apply()
    changed.stat.meansize, changed.stat.meanmass = model.stat.meansize, model.stat.meanmass
    changed.stat.center[:], changed.stat.extent = model.stat.center, model.stat.extent
    changed.vis.global_.offwidth = model.vis.global_.offwidth
    changed.vis.global_.offheight = model.vis.global_.offheight
    assert everything(model) == everything(changed)
    change.undo()
    assert everything(model) == original


def test_a_change_of_layout_is_refused() -> None:
    env = gymnasium.make("Ant-v5").unwrapped
    specification = mujoco.MjSpec.from_file(env.fullpath)
    specification.delete(specification.geom("left_ankle_geom").parent)
    with pytest.raises(ValueError, match="the shape"):
        ModelChange(env.model, specification.compile())


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Walker2d-v5"])
def test_a_file_is_read_with_densities_that_give_the_model_s_masses(id: str) -> None:
    env = gymnasium.make(id).unwrapped
    compiled = read_specification(env.model, env.fullpath).compile()
    assert compiled.body_mass == pytest.approx(env.model.body_mass, rel=1e-12)
    unchanged = ModelChange(env.model, copy.copy(env.model))
    before = everything(env.model)
    unchanged.apply()
    assert everything(env.model) == before
