"""From [env] in a config to an environment: made and wrapped, or one line that says why not."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import find_highest_version, parse_env_id
from gymnasium.wrappers import TimeLimit

from esd import errors
from esd.config.keywords import fresh
from esd.config.plugins import (
    how_to_write,
    import_name,
    in_one_line,
    is_missing,
    is_module_name,
    is_of_the_users_code,
    make_working_directory_importable,
    not_found,
    text_of,
)
from esd.config.settings import FORMAT, EnvironmentConfig
from esd.config.settings import Wrapper as WrapperConfig
from esd.episodes.checked import described, raised, shortened
from esd.episodes.registration import register_for
from esd.episodes.spaces import space_of
from esd.errors import EsdError, MissingPackageError, UsageError, missing_module, nearest, warn

Environment = gymnasium.Env[Any, Any]

UNEXPECTED = "got an unexpected keyword argument"
METHODS = ("reset", "step", "close")
UNHEEDED = (  # warnings of Gymnasium's
    "is out of date. You should consider",  # a version that is named is meant
    "that is not in the possible render_modes",  # it is refused
)
UNHEEDED_OF_MUJOCO = ("'settotalmass' is deprecated",)  # in Gymnasium's own model of the cheetah


def make_environment(config: EnvironmentConfig, format: int = FORMAT) -> Environment:
    """Make the environment with its wrappers.

    Args:
        config: [env].
        format: of the run's config. In the first one an id needed no version, and any ``render_mode`` was taken.

    Raises:
        UsageError: if the id is unknown, its keyword arguments or its wrappers don't fit, a dependency is missing, it
            raises, or what was made is no single environment with spaces; ``MissingPackageError`` if an optional
            package is missing.
    """
    who = f"env.id = {config.id!r}"
    _refuse_what_is_no_module(config.id, who)
    if ":" in config.id:
        make_working_directory_importable(config.id.partition(":")[0])
    broken = register_for(config.id)
    builder = _unregistered(config.id)
    if format > 1 and builder is None:
        _refuse_missing_version(config.id, who)
    try:
        if builder is not None:
            env: Any = builder(**fresh(config.kwargs))
        else:
            _import_entry_point(config.id)
            with warnings.catch_warnings(), _without_warnings_of_mujoco():
                for text in UNHEEDED:
                    warnings.filterwarnings("ignore", f".*{re.escape(text)}")
                env = gymnasium.make(config.id, disable_env_checker=True, **fresh(config.kwargs))
    except EsdError:
        raise
    except (gymnasium.error.Error, ImportError) as error:
        _refuse_missing_package(who, error)
        module, colon, _ = config.id.partition(":")
        absent = error.__cause__ or error  # Gymnasium says more
        if colon and isinstance(absent, ModuleNotFoundError) and is_missing(module, absent):
            raise not_found(who, module, absent) from error
        hint = ""
        if isinstance(error, gymnasium.error.UnregisteredEnv | ModuleNotFoundError):
            hint = _where_it_was_looked_for(config.id) + "".join(
                f"; {reason}" for reason in broken.values()
            )
        raise UsageError(f"{who}: {_one_line(error)}{hint}") from error
    except (TypeError, ValueError) as error:
        given = shortened(config.kwargs)
        unexpected = str(error).partition(UNEXPECTED)[2].split()[:1]
        name = unexpected[0].strip("'") if unexpected else ""
        if isinstance(error, TypeError) and name in config.kwargs:
            raise UsageError(
                f"{who}: env.kwargs = {given} does not fit this environment, which takes no argument {name!r}. Remove "
                "it from env.kwargs (--set 'env.kwargs={}' removes all) or from the variant"
            ) from error
        raise UsageError(f"{who} with env.kwargs = {given}: {_one_line(error)}") from error
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        raise UsageError(f"{who}: creating it raised {in_one_line(error)}") from error
    _refuse_what_is_none(env, who)
    if format > 1:
        _refuse_unknown_render_mode(env, config, who)
    with _without_warnings_of_mujoco():
        for wrapper in config.wrappers:
            env = _wrapped(env, wrapper, who)
    for space in ("observation_space", "action_space"):
        space_of(env, space, config.id)
    made: Environment = env
    return made


def _import_entry_point(id: str) -> None:
    """Import the module of an environment, as ``gymnasium.make`` would: then it is known whether it uses MuJoCo."""
    spec = gymnasium.registry.get(id.rpartition(":")[2])
    if spec is not None and isinstance(spec.entry_point, str):
        importlib.import_module(spec.entry_point.partition(":")[0])


@contextlib.contextmanager
def _without_warnings_of_mujoco() -> Iterator[None]:
    """Leave out the warnings about a model that nobody but its author can mend.

    MuJoCo would write them to stderr and into a file MUJOCO_LOG.TXT, once for each model, rank and variant. Others are
    passed on.
    """
    mujoco: Any = sys.modules.get("mujoco")
    if not hasattr(mujoco, "set_mju_user_warning"):
        yield
        return
    before = mujoco.get_mju_user_warning()

    def heed(text: str) -> None:
        if any(known in text for known in UNHEEDED_OF_MUJOCO):
            return
        if before is None:
            warn(f"MuJoCo: {text}")
        else:
            before(text)

    mujoco.set_mju_user_warning(heed)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _one_line(error: Exception) -> str:
    return errors.shortened(text_of(error) or type(error).__name__, 400)


def _refuse_missing_package(who: str, error: BaseException) -> None:
    """Name the extra that brings a missing package."""
    if (missing := missing_module(error)) is not None:
        raise MissingPackageError(who, missing) from error


def _refuse_what_is_no_module(id: str, who: str) -> None:
    """Refuse an id whose part before the colon can't be imported, such as a file's path."""
    module, colon, name = id.partition(":")
    if colon and not is_module_name(module):
        raise UsageError(
            f"{who}: expected a Gymnasium id such as CartPole-v1, or module:Name-v0 or module:Class of your own"
            f"{how_to_write(module, name)}"
        )


def _refuse_missing_version(id: str, who: str) -> None:
    """Refuse an id without a version: it means the newest one, which another Gymnasium may not have."""
    module, colon, name = id.rpartition(":")
    try:
        namespace, bare, version = parse_env_id(name)
    except gymnasium.error.Error:  # gymnasium.make says so
        return
    newest = find_highest_version(namespace, bare)
    if name in gymnasium.registry or version is not None or newest is None:
        return
    raise UsageError(
        f"{who}: has no version; without one it means the newest installed version, which may change. Use env.id = "
        f'"{module}{colon}{name}-v{newest}"'
    )


def _refuse_unknown_render_mode(env: Environment, config: EnvironmentConfig, who: str) -> None:
    """Refuse a ``render_mode`` that the environment does not have."""
    mode, modes = config.kwargs.get("render_mode"), metadata_of(env.unwrapped).get("render_modes")
    if mode is None or not isinstance(modes, list | tuple):
        return
    if mode != "human" and mode not in (*modes, *(f"{each}_list" for each in modes)):
        known = ", ".join(str(each) for each in modes)
        expected = f"expected one of {shortened(known)}" if modes else "it has none"
        raise UsageError(
            f"{who}: env.kwargs.render_mode = {mode!r}: {expected}; remove it; training does not render"
        )


def _unregistered(id: str) -> Callable[..., Any] | None:
    """What ``module:Class`` names, where that is no registered environment; None of any other id.

    Raises:
        UsageError: if the module registers no such environment and has no such class or function.
    """
    module_name, colon, name = id.partition(":")
    if not colon:
        return None
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        return None  # gymnasium.make meets it again, and ``make_environment`` says so
    if name in gymnasium.registry:
        return None
    found = getattr(module, name, None)
    if callable(found):
        builder: Callable[..., Any] = found
        return builder
    if "-v" not in name and any(known.startswith(f"{name}-v") for known in gymnasium.registry):
        return None  # without a version it is the newest
    registered = [
        spec.id
        for spec in gymnasium.registry.values()
        if getattr(spec.entry_point, "__module__", None) == module_name
        or str(spec.entry_point).startswith(f"{module_name}:")
    ]
    near = f"; it registers {shortened(', '.join(registered))}" if registered else ""
    if not registered and not found:
        near = f"; {nearest(name, [key for key in vars(module) if not key.startswith('_')])}"
    place = getattr(module, "__file__", None) or module_name
    raise UsageError(
        f"env.id = {id!r}: {place} registers no environment {name!r} and has no class or function of that name"
        f"{near[:200]}. Call gymnasium.register(id={name!r}, entry_point=…, max_episode_steps=…) in it, or name a "
        f'class: env.id = "{module_name}:MyEnv" with env.max_steps'
    )


def _where_it_was_looked_for(id: str) -> str:
    """What to do about an id that nobody has registered."""
    known = nearest(id, list(gymnasium.registry))
    if len(known) > 100:
        known = "esd list environments lists the installed ones"
    return (
        f" ({known}). Register your own environment with gymnasium.register(id=…) in a module that the id names, "
        f'env.id = "module:Name-v0", or use a class, env.id = "module:Class"; esd looks for modules in {Path.cwd()} '
        "and the installed packages"
    )


def _wrapped(env: Environment, wrapper: WrapperConfig, who: str) -> Environment:
    """An environment in one wrapper more."""
    wrapper_class = import_name(wrapper.id, "env.wrappers")
    given = f"env.wrappers: {wrapper.id} with {shortened(wrapper.kwargs)}"
    if not callable(wrapper_class):
        raise UsageError(
            f"env.wrappers: {wrapper.id} is {described(wrapper_class)}: expected a class"
        )
    try:
        wrapped = wrapper_class(env, **fresh(wrapper.kwargs))
    except (EsdError, KeyboardInterrupt):
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"{given}: {_one_line(error)}") from error
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        _refuse_missing_package(f"env.wrappers: {wrapper.id}", error)
        raise UsageError(f"{given}: creating it raised {in_one_line(error)}") from error
    _refuse_what_is_none(wrapped, f"{who}, in env.wrappers: {wrapper.id}")
    made: Environment = wrapped
    return made


def _refuse_what_is_none(env: Any, who: str) -> None:
    """Refuse what was made if it is not one environment."""
    vector = sys.modules.get("gymnasium.vector")
    if hasattr(env, "num_envs") or (vector is not None and isinstance(env, vector.VectorEnv)):
        raise UsageError(
            f"{who}: a {type(env).__name__} is a vector environment; use the single environment: esd runs one per "
            "rank, or many in lock-step with batch_members"
        )
    lacking = [method for method in METHODS if not callable(getattr(env, method, None))]
    if lacking:
        raise UsageError(
            f"{who}: returned {described(env)}, which lacks {', '.join(lacking)}; expected a gymnasium.Env"
        )
    if not isinstance(env, gymnasium.Env):  # wrappers, ours too, go around nothing else
        raise UsageError(
            f"{who}: returned a {type(env).__name__}, which is not a gymnasium.Env; inherit from that class"
        )


def close(env: Environment, who: str) -> None:
    """Close an environment; if it can't, that is said, but ends nothing: what it was needed for is done."""
    try:
        env.close()
    except BaseException as error:
        if not is_of_the_users_code(error):
            raise
        warn(f"{raised(who, 'close', error)}; ignored")


def step_limit(env: Environment, config: EnvironmentConfig) -> int:
    """Steps after which an episode ends at the latest.

    Raises:
        UsageError: if neither the environment nor ``env.max_steps`` says so: an episode might never end.
    """
    spec = getattr(env, "spec", None)
    own = spec.max_episode_steps if spec is not None else None
    limits = [limit for limit in (own, config.max_steps) if limit]
    if not limits:
        raise UsageError(
            f"env.id = {config.id!r} has no step limit; set env.max_steps, because otherwise an episode may never end"
        )
    return min(limits)


def refuse_useless_settings(env: Any, config: EnvironmentConfig) -> None:
    """Refuse ``env.max_steps`` where the environment itself ends episodes before, and changes that come after the end.

    Raises:
        UsageError: naming both numbers, and what is to be set instead.
    """
    _refuse_late_changes(env, config)
    own = [int(layer._max_episode_steps) for layer in _layers(env) if isinstance(layer, TimeLimit)]
    if own and config.max_steps > min(own):
        who = f"the environment {config.id!r} itself"
        mend = f"Set env.kwargs.max_episode_steps = {config.max_steps} instead to raise that limit"
        registered = gymnasium.registry.get(config.id.rpartition(":")[2])
        made_with = config.kwargs.get("max_episode_steps") or (
            registered and registered.max_episode_steps
        )
        wrapped = any(wrapper.id.endswith("TimeLimit") for wrapper in config.wrappers)
        # the innermost is what it was made with, if that was with a limit
        if min(own) < own[-1] or (wrapped and not made_with):
            who = "a TimeLimit in env.wrappers"
            mend = f"Set max_episode_steps = {config.max_steps} in the kwargs of that wrapper, or remove it"
        raise UsageError(
            f"env.max_steps = {config.max_steps}: has no effect, since {who} ends an episode after {min(own)} steps. "
            f"{mend}, or set env.max_steps to {min(own)} or less"
        )


def _refuse_late_changes(env: Any, config: EnvironmentConfig) -> None:
    """Refuse changes within the episode that come after its end.

    A layer that makes one says when: ``changes_at``, the first such step by the keyword that sets it.
    """
    limit = step_limit(env, config)
    for layer in _layers(env):
        for keyword, step in getattr(layer, "changes_at", {}).items():
            if step >= limit:
                raise UsageError(
                    f"env.id = {config.id!r}: {keyword} = {step} of {type(layer).__name__} has no effect, since an "
                    f"episode ends after {limit} steps, the last of which is step {limit - 1}. Set {keyword} to "
                    f"{limit - 1} or less, or allow longer episodes"
                )


def _layers(env: Any) -> Iterator[Any]:
    """An environment's wrappers from the outermost on, and then the environment itself."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def keeps_box2d_world(env: Environment) -> bool:
    """Whether an environment keeps a Box2D world: its contact order survives a reset, and with it the last episode.

    One whose ``metadata`` says ``"rebuilds_world": True`` makes a new world in every reset itself.
    """
    innermost = getattr(env, "unwrapped", env)
    world = getattr(innermost, "world", None)
    return type(world).__name__ == "b2World" and not metadata_of(innermost).get("rebuilds_world")


def results_of(env: object) -> dict[str, str]:
    """The results that an environment tells at the end of an episode, by name with their units.

    Raises:
        UsageError: if its ``metadata["results"]`` is no such table.
    """
    results = metadata_of(env).get("results")
    if results is None:
        return {}
    named = isinstance(results, dict) and all(
        isinstance(name, str) and isinstance(unit, str) for name, unit in results.items()
    )
    if not named:
        raise UsageError(
            f'metadata["results"] = {shortened(results)}: expected a dict of names and units, both strings, such as '
            '{"distance": "m"}'
        )
    return dict(results)


def metadata_of(env: object) -> dict[str, Any]:
    """What an environment says about itself; nothing if that is no dict."""
    metadata = getattr(env, "metadata", None)
    return metadata if isinstance(metadata, dict) else {}
