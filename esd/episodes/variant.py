"""One environment, of one variant: made, begun, and what lies between it and a network."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import gymnasium

from esd.config.keywords import fresh
from esd.config.settings import EnvironmentConfig
from esd.episodes import checked
from esd.episodes.checked import BrokenEnvironmentError, MisfitError
from esd.episodes.compiled_episodes import CompiledEpisodes, HasNetwork, offered
from esd.episodes.making import (
    close,
    keeps_box2d_world,
    make_environment,
    metadata_of,
    refuse_useless_limit,
    step_limit,
)
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import EsdError
from esd.policies.base import Interface

Environment = gymnasium.Env[Any, Any]


class VariantEnvironment:
    """One variant's environment, and what lies between it and a network.

    Attributes:
        id: the environment's.
        limit: of an episode's steps.
        observe: makes observations flat.
        decode: makes actions of outputs.
        interface: the sizes, and whether actions are bounded.
        compiled: plays whole episodes, if the environment and the policy can.
        who: what it is called in messages.
    """

    def __init__(self, config: EnvironmentConfig, format: int, name: str = "") -> None:
        """Make the environment of one variant, which may have a name."""
        self._config, self.id = config, config.id
        self.who = f"{checked.named(config)}, variant {name!r}" if name else checked.named(config)
        self._directory = Path.cwd()  # relative paths in the config begin here, in every episode
        self._environment = env = make_environment(config)
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
        results = metadata_of(env).get("results")
        self.units: dict[str, str] = dict(results) if isinstance(results, dict) else {}
        self.compiled: CompiledEpisodes | None = None
        self._looked_at = format == 1

    def refuse_useless_limit(self) -> None:
        """See ``making.refuse_useless_limit``."""
        refuse_useless_limit(self._environment, self._config)

    def compile_with(self, policy: HasNetwork) -> None:
        """Play compiled episodes with a policy from now on, if the environment offers them."""
        if (
            self._rebuild or self._config.wrappers or self.units or self._config.reset_options
        ):  # an episode's results are told in Python, and options read there
            return
        environment = offered(self._environment, self._config.id)
        if environment is not None and self.decode.tables is not None:
            self.compiled = CompiledEpisodes(environment, policy, self.observe.size, self.decode)

    @property
    def made_anew(self) -> bool:
        """Whether the environment is made anew for every episode."""
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
        if self._rebuild:
            self.close()
        self._go_back()
        if self._rebuild:
            self._environment = make_environment(self._config)
            self._go_back()
        return self._environment

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
        except (EsdError, KeyboardInterrupt):
            raise
        except BaseException as error:
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
                    f"{self.who}, reset: changed {which} from {checked.shortened(space)} to {checked.shortened(now)}; "
                    "it has to be the same in all episodes: set it in __init__"
                )

    def misfit(self, steps: int, error: MisfitError) -> BrokenEnvironmentError:
        """What is said of an answer that does not fit: of reset, or of the step with that number."""
        return BrokenEnvironmentError(f"{self.who}, {checked.call(steps)}: {error}")

    def close(self) -> None:
        """Close the environment; see ``making.close``."""
        close(self._environment, self.who)
