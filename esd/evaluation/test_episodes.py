"""Evaluation of a state on the test stream: episodes that training and selection never see."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.objective import WORST
from esd.config.settings import Config, EnvironmentConfig, Variant
from esd.config.tables import apply_settings, flatten, parse, to_table
from esd.episodes.check_at_start import is_checked
from esd.episodes.environments import Outcome
from esd.episodes.evaluator import OF_ONE_MEMBER, failed
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.stateful_wrappers import refuse_in, refuse_named
from esd.errors import RunError, UsageError, warn
from esd.evaluation.variant_names import named
from esd.evolution.noise import Purpose
from esd.evolution.records import Status
from esd.evolution.state import RunState
from esd.mpi.comm import Communicator, agreement, gather, raise_if_any_failed
from esd.mpi.team import Team
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from esd.training.merged_rules import differences, sizes

Float64s = npt.NDArray[np.float64]

# keyword arguments and wrappers that show a world and change nothing in it
DRAWING = (
    "render_mode", "camera_id", "camera_name", "default_camera_config", "max_geom", "visual_options", "render_fps",
)  # fmt: skip
SIZES_OF_PICTURES = ("width", "height")
MUJOCO = ("gymnasium.envs.mujoco", "esd_envs.damaged_ant", "esd_envs.changed_body")
WATCHING = ("RecordVideo", "RecordEpisodeStatistics", "HumanRendering", "RenderCollection")
RECORDED = "esd.evaluation.trace:Recorded"

NOT_FOR_EVALUATION = {
    "env.episodes_per_member": "use the option --episodes of esd eval",
    "env.normalize_observations": "h was evolved with the observations of the run",
    "policy.kind": "h was evolved for another policy",
    "policy.assignment": "h was evolved with the run's assignment of rules",
}


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        trained: the run's config.
        config: with settings changed, and with just the chosen variants, none of them unseen.
        settings: the flat settings that were changed; None if one is not there any more.
    """

    trained: Config
    config: Config
    settings: dict[str, Any]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The chosen ones; without variants one, without a name."""
        return self.config.env.trained

    @property
    def title(self) -> str:
        """What was evolved for: the environment's id, or the objective's function."""
        return self.config.objective.function or self.config.env.id

    @property
    def noise(self) -> str:
        """What differs between two results of the same h."""
        return "evaluation" if self.config.objective.named else "episode"

    @property
    def objective(self) -> dict[str, Any]:
        """What an objective is, in place of a world."""
        table = to_table(self.config.objective)
        return {name: table[name] for name in ("function", "direction", "kwargs")}

    def name(self, variant: Variant) -> str:
        """What a variant is called in results."""
        return variant.name or self.config.env.id

    def world(self, variant: Variant) -> dict[str, Any]:
        """What a variant is, whatever it is called: id, kwargs, wrappers, and what ends an episode."""
        return _described(self.config.env.of_variant(variant))

    def seen(self, variant: Variant) -> bool:
        """Whether training used the same body."""
        env = self.trained.env
        trained = [_without_its_end(_described(env.of_variant(v))) for v in env.trained]
        return _without_its_end(self.world(variant)) in trained


def _described(env: EnvironmentConfig) -> dict[str, Any]:
    names = ("id", "kwargs", "wrappers", "max_steps", "stop_after_negative")
    table = to_table(env)
    options = {"reset_options": env.reset_options} if env.reset_options else {}
    return {**{name: table[name] for name in names}, **options}


def _without_its_end(world: dict[str, Any]) -> dict[str, Any]:
    """A world without what ends an episode, whoever acts in it, and how it is drawn or recorded."""
    acting = "esd_envs:ZeroAction"
    wrappers = [w for w in world["wrappers"] if w["id"] != acting and not _only_watches(w["id"])]
    drawing = {*DRAWING, *(SIZES_OF_PICTURES if is_drawn_by_mujoco(world["id"]) else ())}
    kwargs = {key: value for key, value in world["kwargs"].items() if key not in drawing}
    return {
        "id": world["id"],
        "kwargs": kwargs,
        "wrappers": wrappers,
        "reset_options": world.get("reset_options", {}),
    }


def _only_watches(wrapper: str) -> bool:
    """Whether a wrapper draws or records a world and changes nothing in it."""
    module, _, name = wrapper.partition(":")
    return (module.partition(".")[0] == "gymnasium" and name in WATCHING) or wrapper == RECORDED


def is_drawn_by_mujoco(env_id: str) -> bool:
    """Whether width and height are those of a picture: elsewhere they may be those of the world itself."""
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    return spec is not None and str(spec.entry_point).startswith(MUJOCO)


def choose(
    trained: Config, env: str | None, settings: Sequence[str], variants: Sequence[str]
) -> Subject:
    """What a command line asks to be evaluated.

    Args:
        trained: the run's config.
        env: another ``env.id``.
        settings: ``key=value``, of [env] and [policy].
        variants: names; none for all of them, seen and unseen.

    Raises:
        UsageError: if a setting has no place in an evaluation or no effect, or there is no such variant.
    """
    if trained.objective.named:
        named = [*([env] if env is not None else []), *settings, *variants]
        if named:
            raise UsageError(
                f"{', '.join(named)}: not supported for the run of an objective; --env, --set and --variant are for "
                "policies in environments"
            )
        return Subject(trained, trained, {})
    if env is not None:
        settings = [f"env.id={env}", *settings]
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in NOT_FOR_EVALUATION or not key.startswith(("env.", "policy.")):
            reason = NOT_FOR_EVALUATION.get(key, "only env.* and policy.* can be changed")
            raise UsageError(f"--set {setting}: can't be changed in an evaluation: {reason}")
    config = parse(apply_settings(to_table(trained), settings), "--set") if settings else trained
    chosen = _named(config.env, variants)
    for setting in settings:
        _check_effect(setting, chosen)
    old, new = flatten(to_table(trained)), flatten(to_table(config))
    # a table that was empty and isn't any more (env.kwargs) is told by what is in it now
    changed = {
        key: new.get(key)
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and (key in new or old[key] != {})
    }
    # all are played, as if they were trained on
    opened = tuple(dataclasses.replace(variant, unseen=False) for variant in chosen)
    env_of_all = dataclasses.replace(config.env, variants=opened)
    return Subject(trained, dataclasses.replace(config, env=env_of_all), changed)


def _named(env: EnvironmentConfig, names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants with these names or patterns, each once, in the order in which they are asked for."""
    if not names or (not env.variants and {*names} == {env.id}):
        return env.variants
    by_name = {variant.name: variant for variant in env.variants}
    return tuple(by_name[name] for name in named(names, by_name, "no such variant"))


def _check_effect(setting: str, variants: Sequence[Variant]) -> None:
    """Refuse a setting that a variant overrides: nobody would notice that it did nothing."""
    changed = {tuple(key.split(".")) for key in flatten(apply_settings({}, [setting]))}
    for variant in variants:
        own: list[tuple[str, ...]] = [("env", "kwargs", name) for name in variant.kwargs]
        own += [("env", "id")] if variant.id else []
        if any(key[: len(o)] == o for key in changed for o in own):  # it replaces tables as a whole
            raise UsageError(
                f"--set {setting}: has no effect on variant {variant.name!r}, which sets this itself; exclude this "
                'variant with --variant, or define another one: --set \'env.variants=[{name = "…", kwargs = '
                "{…}}]'"
            )


@dataclass(frozen=True)
class VariantResult:
    """Test episodes of one state on one variant.

    Attributes:
        name: of the variant.
        seen: whether training used it.
        world: see ``Subject.world``.
        returns: float64 [episodes], in episode order.
        steps: environment steps of all of them.
        results: what the environment told at the end of each episode, by name, float64 [episodes].
        units: of these results, by name.
    """

    name: str
    seen: bool
    world: dict[str, Any]
    returns: Float64s
    steps: int
    results: dict[str, Float64s]
    units: dict[str, str]


def episode_seeds(seed: int, episode: int, variant: int) -> EpisodeSeeds:
    """The seeds of a test episode: the same on every variant, whichever others are evaluated."""
    return EpisodeSeeds.named(seed, Purpose.TEST_EPISODE, 0, 0, episode, variant)


def played_seeds(rollout: Rollout, seed: int, episode: int, variant: int) -> list[EpisodeSeeds]:
    """The seeds that a test episode is played with: its own, but for weights that persist (``WeightSeeds``)."""
    return rollout.weights.put([episode_seeds(seed, episode, variant)], episode)


def rules_of(
    rollout: Rollout, h: npt.NDArray[np.float32], rules: str, seed: int, episode: int
) -> npt.NDArray[np.float32]:
    """The parameters that play a test episode: h, or with "random" rules those that no evolution has touched."""
    if rules == "evolved":
        return h
    drawn = EpisodeSeeds.named(seed, Purpose.RANDOM_RULES, 0, 0, episode)
    return rollout.policy.initial_parameters(drawn.policy)


def make_rollout(subject: Subject, state: RunState) -> Rollout:
    """Environments and policy of an evaluation.

    Raises:
        UsageError: if h was evolved for another network than this, or a wrapper keeps statistics of episodes before.
    """
    checked = is_checked(subject.config)
    found = differences(subject.config, subject.trained, ("rules", "rule", "hidden"))
    if found:
        raise UsageError(f"{'; '.join(found)}: h was evolved for another network")
    if checked:
        refuse_named(subject.config.env)
    rollout = Rollout(subject.config)
    try:
        _check_network(subject, state, rollout)
        for environment in rollout.environments.made() if checked else ():
            refuse_in(environment, subject.config.env.id)
        rollout.environments.refuse_useless_settings()
    except UsageError:
        rollout.close()
        raise
    rollout.use_statistics(state.observations)
    return rollout


def _check_network(subject: Subject, state: RunState, rollout: Rollout) -> None:
    """Refuse a policy that h was not evolved for."""
    layout = rollout.policy.layout
    trained = make_policy(subject.trained.policy, rollout.interface, subject.trained.format).layout
    if (dict(layout.shapes), layout.order) != (dict(trained.shapes), trained.order):
        changed = [key for key in subject.settings if key.startswith("policy.")]
        raise UsageError(
            f"{', '.join(changed)}: h was evolved for another network; this setting changes the meaning of its "
            f"coordinates ({trained.size} in the run, {layout.size} with the setting)"
        )
    if layout.size != state.h.size:
        env_id = subject.config.env.of_variant(subject.variants[0]).id
        raise UsageError(
            f"env.id = {env_id!r}: its policy has {layout.size} coordinates, the run's h has {state.h.size}: "
            "observations or actions have another size, or the policy's code has changed"
        )
    if getattr(subject.trained.policy.settings, "rules", 0):
        _check_sizes(subject, rollout.interface)


def _check_sizes(subject: Subject, interface: Interface) -> None:
    """Refuse an environment of another size for shared rules, of which h has as many in any network."""
    if not any(key.startswith("env.") for key in subject.settings):
        return
    with contextlib.closing(Rollout(subject.trained)) as trained:
        theirs = trained.interface
    if sizes(theirs) != sizes(interface):
        env_id = subject.config.env.of_variant(subject.variants[0]).id
        raise UsageError(
            f"env.id = {env_id!r}: has {interface.described()}, but h was evolved for another network, with "
            f"{theirs.described()}"
        )


def evaluate(
    comm: Communicator,
    subject: Subject,
    state: RunState,
    episodes: int,
    seed: int,
    rules: str = "evolved",
) -> list[VariantResult]:
    """Play test episodes on each variant with the center h; observation statistics are frozen.

    Args:
        comm: the ranks that share the episodes.
        subject: what to evaluate.
        state: of the run.
        episodes: how many on each variant.
        seed: of the test stream.
        rules: "evolved" (h), or "random": rules that are new in each episode and have not evolved.

    Returns:
        The same on every rank.

    Raises:
        JobFailedError: on all ranks, if any failed, or if they don't have the same state.
    """
    check_same(comm, state)
    count = len(subject.variants)
    with (
        Team(comm) as team,
        agreement(comm, "evaluating", evaluates=True),
        contextlib.closing(make_rollout(subject, state)) as rollout,
    ):
        environments = rollout.environments
        units = [environments.units(variant) for variant in range(count)]
        # return, steps and results of each episode, as bits: every slot has one writer, so sums are exact
        table = np.zeros((count, episodes, 2 + max(map(len, units))), np.uint64)
        floats = table.view(np.float64)
        reported = False
        for row in team.rows(0, count * episodes):
            episode, variant = divmod(row, count)
            own_rules = rules_of(rollout, state.h, rules, seed, episode)
            outcome = _outcome(rollout, own_rules, seed, episode, variant)
            if outcome.failure and not reported:
                reported = True
                warn(f"test episode {episode} failed: {outcome.failure}")
            info = {} if outcome.status is Status.NO_RESULT else environments.info
            told = _told(info, units[variant], subject.name(subject.variants[variant]))
            slot = floats[variant, episode]
            slot[0], slot[2 : 2 + len(told)] = outcome.returns[variant], told
            table[variant, episode, 1] = outcome.steps
    comm.sum(table.reshape(-1), "the exchange of test episodes")
    return [
        VariantResult(
            subject.name(variant),
            subject.seen(variant),
            subject.world(variant),
            floats[number, :, 0].copy(),
            int(table[number, :, 1].sum()),
            {name: floats[number, :, 2 + i].copy() for i, name in enumerate(units[number])},
            units[number],
        )
        for number, variant in enumerate(subject.variants)
    ]


def _outcome(
    rollout: Rollout, h: npt.NDArray[np.float32], seed: int, episode: int, variant: int
) -> Outcome:
    """What a test episode gave; no result if it has raised and ``env.on_failure`` says so, as in training.

    Raises:
        EsdError: naming the episode that has raised, otherwise.
    """
    try:
        return rollout.evaluate(h, played_seeds(rollout, seed, episode, variant))
    except OF_ONE_MEMBER as error:
        env = rollout.config.env
        if env.on_failure == WORST:
            return failed(error, env, rollout.environments)
        name = env.trained[variant].name
        where = f"test episode {episode}{f' on {name!r}' if name else ''}"
        way_out = 'to count such an episode as failed: --set env.on_failure="worst"'
        raise type(error)(f"{where}: {error}; {way_out}") from error.__cause__


def check_same(comm: Communicator, state: RunState) -> None:
    """End on all ranks if they have read different states: training may have saved one between two of them."""
    marks = gather(comm, int(state.sha256()[:16], 16), "comparing what is evaluated")
    if (marks != marks[0]).any():  # every rank comes to the same conclusion
        error = RunError(
            "the ranks read different states of the run: either it is still being trained, or the ranks do not "
            "share its folder; run the command again"
        )
        raise_if_any_failed(comm.rank, np.ones(comm.size, np.uint64), error)


def _told(info: dict[str, Any], units: dict[str, str], name: str) -> list[float]:
    """The results of an episode; NaN of one that failed before its end."""
    told = []
    for result in units:
        try:
            told.append(float(info[result]) if info else math.nan)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{name}: its metadata declares the result {result!r}, but info after the last step has no such "
                f"number ({type(error).__name__}: {error})"
            ) from error
    return told
