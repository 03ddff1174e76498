"""One environment, of one variant: made, begun, and what lies between it and a network."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.keywords import fresh
from esd.config.plugins import is_of_the_users_code
from esd.config.settings import EnvironmentConfig
from esd.episodes import checked
from esd.episodes.checked import BrokenEnvironmentError, MisfitError
from esd.episodes.compiled_episodes import (
    CompiledEnvironment,
    CompiledEpisodes,
    HasNetwork,
    offered,
)
from esd.episodes.gymnasium_steps import SteppedEnvironment, known_step, peeled
from esd.episodes.making import (
    close,
    keeps_box2d_world,
    make_environment,
    refuse_useless_settings,
    results_of,
    step_limit,
)
from esd.episodes.one_step import OneStep, one_step_of
from esd.episodes.slots import SteppedEpisodes
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import UsageError
from esd.policies.base import Interface
from esd_envs.compiled_steps import CompiledStep, NotCompiledError

Environment = gymnasium.Env[Any, Any]
Numbers = npt.NDArray[Any]


class VariantEnvironment:
    """One variant's environment, and what lies between it and a network.

    Attributes:
        id: the environment's.
        limit: of an episode's steps.
        observe: makes observations flat.
        decode: makes actions of outputs.
        interface: the sizes, and whether actions are bounded.
        compiled: plays whole episodes, if the environment and the policy can.
        steps: makes steps, for policies that can't; None: the environment's own ``step`` does.
        one_step: gives actions for observations in one call, if the policy can.
        knows_no_step: what is compiled comes from ``esd_envs.compiled_steps``; the environment knows nothing of it.
        why_stepwise: why it is not, although there is such a step; empty for any other environment.
        who: what it is called in messages.
    """

    def __init__(self, config: EnvironmentConfig, format: int, name: str = "") -> None:
        """Make the environment of one variant, which may have a name."""
        self._config, self.id, self._format = config, config.id, format
        self.who = f"{checked.named(config)}, variant {name!r}" if name else checked.named(config)
        self._directory = Path.cwd()  # relative paths in the config begin here, in every episode
        self._environment = env = make_environment(config, format)
        self._go_back()
        self._rebuild = config.rebuild == "always" or (
            config.rebuild == "auto" and keeps_box2d_world(env)
        )
        self.limit = step_limit(env, config)
        self.observe = ObservationFlattener(
            env.observation_space, config.id, format, config.normalize_observations
        )
        self.decode = ActionDecoder(env.action_space, config.id)
        self.interface = Interface(
            self.observe.size, self.decode.size, self.decode.bounded, self.decode.described
        )
        try:
            self.units = results_of(env)
        except UsageError as error:
            raise UsageError(f"{self.who}: {error}") from None
        self.compiled: CompiledEpisodes | None = None
        self.steps: SteppedEpisodes | None = None
        self.one_step: OneStep | None = None
        self.knows_no_step = False
        self.why_stepwise = ""
        self._looked_at = format == 1
        self._cut_off = False  # the last episode ended somewhere in the environment's own code

    def refuse_useless_settings(self) -> None:
        """See ``making.refuse_useless_settings``."""
        refuse_useless_settings(self._environment, self._config)

    def compile_with(self, policy: HasNetwork) -> None:
        """Play compiled episodes with a policy from now on, if the environment offers them."""
        self.one_step = one_step_of(policy.network, self.observe, self.decode)
        found = self._compiled_environment()
        if found is not None:
            self.compiled = CompiledEpisodes(found, policy, self.observe, self.decode)

    def compile_steps(self) -> None:
        """Make compiled steps from now on, with whatever policy, if the environment offers them."""
        found = self._compiled_environment()
        if found is not None:
            self.steps = SteppedEpisodes(found, self.observe, self.decode)

    def _compiled_environment(self) -> CompiledEnvironment | SteppedEnvironment | None:
        """What the environment offers, or what is known of it; None if its own ``step`` has to play."""
        if self._rebuild or self._config.compiled == "never" or self.decode.tables is None:
            return None
        env, wrappers = peeled(self._environment, self.limit)
        options = bool(self._config.reset_options)
        found: Any = offered(env, self._config.id, self.limit)
        if found is None:
            found, self.why_stepwise = known_step(env, self.limit)
        self.knows_no_step = isinstance(found, CompiledStep)
        try:
            for wrapper in wrappers if found is not None else ():
                found = wrapper.compiled_around(found)
        except NotCompiledError as error:
            found, self.knows_no_step, self.why_stepwise = None, False, str(error)
        resets_itself = not getattr(found, "reset_address", 0) or (self.knows_no_step and options)
        # results and options are told and read in Python
        if found is not None and options and not resets_itself:
            found = None
            self.why_stepwise = "env.reset_options are passed to its own reset in Python"
        if found is None or (self.units and not hasattr(found, "info")):
            self.knows_no_step = False
            return None
        if resets_itself:
            return SteppedEnvironment(found, self._reset_to)
        offers_reset: CompiledEnvironment = found
        return offers_reset

    def _reset_to(self, seed: int, shown: Numbers) -> None:
        """Begin an episode, and write its first observation."""
        observation = checked.of_reset(self.reset(self.begin(), seed), checks=True)
        try:
            self.observe.take(observation)
        except MisfitError as error:
            raise self.misfit(0, error) from error.__cause__
        # a Box of float64 may be more than the buffer holds
        shown[:] = np.ravel(observation) if shown.dtype == np.float64 else self.observe.buffer

    @property
    def made_anew(self) -> bool:
        """Whether the environment is made again for every episode."""
        return self._rebuild

    @property
    def environment(self) -> Environment:
        """The environment as it was made last, with its wrappers."""
        return self._environment

    def _go_back(self) -> None:
        """Undo a change of the working directory by an environment, which would leak into the next episode."""
        with contextlib.suppress(OSError):  # it was removed
            os.chdir(self._directory)

    def begin(self) -> Environment:
        """The environment, fit for an episode: made anew if the last one may have left something in it."""
        anew, self._cut_off = self._rebuild or self._cut_off, False
        if anew:
            self.close()
        self._go_back()
        if anew:
            self._environment = make_environment(self._config, self._format)
            self._go_back()
        return self._environment

    def make_anew(self) -> None:
        """Make the environment anew before its next episode, unless compiled code keeps its addresses."""
        self._cut_off = self.compiled is None and self.steps is None

    def reset(self, environment: Environment, seed: int) -> Any:
        """Begin an episode; what ``reset`` returned.

        Raises:
            BrokenEnvironmentError: if it raises.
        """
        options: dict[str, Any] = {}
        if self._config.reset_options:  # a copy: an environment may change what it is given
            options["options"] = fresh(self._config.reset_options)
        try:
            return environment.reset(seed=seed, **options)
        except BaseException as error:
            if not is_of_the_users_code(error):
                raise
            raise checked.raised(self.who, "reset", error) from error

    def look_at(self, environment: Environment) -> None:
        """Once, after the first reset: the spaces that a policy was built for must still be there.

        Raises:
            BrokenEnvironmentError: if they are not.
        """
        if self._looked_at:
            return
        self._looked_at = True
        was = {"observation_space": self.observe.space, "action_space": self.decode.space}
        for which, space in was.items():
            now = getattr(environment, which, None)
            if now is not space and now != space:
                raise BrokenEnvironmentError(
                    f"{self.who}, reset: changed {which} from {checked.shortened(space)} to "
                    f"{checked.shortened(now)}; it has to be the same in all episodes; set it in __init__"
                )

    def misfit(self, steps: int, error: MisfitError) -> BrokenEnvironmentError:
        """What is said of an answer that does not fit: of reset, or of the step with that number."""
        return BrokenEnvironmentError(f"{self.who}, {checked.call(steps)}: {error}")

    def close(self) -> None:
        """Close the environment; see ``making.close``."""
        close(self._environment, self.who)
