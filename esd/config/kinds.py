"""What a setting such as ``es.optimizer`` may name: built in, from an installed package, or ``module:Name``.

One table per seam. A built-in one is a line here; a package of one's own offers others as entry points of the same
form. Nothing is imported before a name is looked up.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from esd.config.installed import installed_folders
from esd.config.plugins import import_failed, import_name, is_of_the_users_code, text_of
from esd.errors import UsageError, nearest, shortened


@dataclass(frozen=True)
class Kinds:
    """The names that one setting may have.

    Attributes:
        setting: the setting, for messages: ``policy.kind``.
        group: of entry points in which packages offer more.
        built_in: by name, where each is: ``module:NAME``.
    """

    setting: str
    group: str
    built_in: Mapping[str, str]

    @functools.cached_property
    def installed(self) -> dict[str, metadata.EntryPoint]:
        """What installed packages offer, by name; a built-in name can't be taken.

        The description of a package that lies in the working directory doesn't count: anybody may have put it there.
        """
        offered = metadata.entry_points(group=self.group)
        return {
            point.name: point
            for point in offered
            if point.name not in self.built_in and not _lies_in_the_working_directory(point)
        }

    def names(self) -> list[str]:
        """All names, the built-in ones first."""
        return [*self.built_in, *sorted(self.installed)]

    def find(self, name: str) -> Any:
        """What a name stands for.

        Raises:
            UsageError: if there is no such name, or it can't be imported.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in self.installed:
            try:
                return self.installed[name].load()
            except (ImportError, AttributeError) as error:
                raise UsageError(
                    f"{self.setting} = {name!r}: {self.installed[name].value} can't be imported "
                    f"({shortened(text_of(error), 300)})"
                ) from error
            except BaseException as error:
                if not is_of_the_users_code(error):
                    raise
                raise import_failed(self.setting, name, error) from error
        if ":" in name:
            return import_name(name, self.setting)
        hint = nearest(name[:200], self.names())
        raise UsageError(f"{self.setting} = {shortened(repr(name))}: {shortened(hint, 300)}")


def _lies_in_the_working_directory(point: metadata.EntryPoint) -> bool:
    """Whether a package was neither installed nor put on PYTHONPATH, but is only found from here."""
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    try:
        place = Path(str(point.dist.locate_file(""))).resolve() if point.dist is not None else None
        if place != Path.cwd().resolve() or str(place) in installed_folders():
            return False
        return not any(Path(path).is_absolute() and Path(path).resolve() == place for path in named)
    except OSError:
        return False


OBJECTIVES = Kinds(
    "objective.function",
    "esd.objectives",
    {
        "sphere": "esd.objectives.test_functions:sphere",
        "rosenbrock": "esd.objectives.test_functions:rosenbrock",
        "rastrigin": "esd.objectives.test_functions:rastrigin",
        "rotated_ellipsoid": "esd.objectives.test_functions:rotated_ellipsoid",
        "noisy_sphere": "esd.objectives.test_functions:noisy_sphere",
    },
)
ALGORITHMS = Kinds(
    "es.algorithm",
    "esd.algorithms",
    {
        "openai_es": "esd.evolution.openai_es:OPENAI_ES",
        "pgpe": "esd.evolution.pgpe:PGPE_KIND",
        "snes": "esd.evolution.snes:SNES_KIND",
        "cr_fm_nes": "esd.evolution.cr_fm_nes:CR_FM_NES",
    },
)
OPTIMIZERS = Kinds(
    "es.optimizer",
    "esd.optimizers",
    {
        "sgd": "esd.evolution.optimizers:SGD",
        "momentum": "esd.evolution.optimizers:Momentum",
        "adam": "esd.evolution.optimizers:Adam",
        "clipup": "esd.evolution.optimizers:ClipUp",
    },
)

# a package with TOML files, in place of a name: every file is an experiment
EXPERIMENTS = Kinds("experiment", "esd.experiments", {})
# what is not built in is a module that registers environments; ``esd_envs`` registers the built-in ones
ENVIRONMENTS = Kinds("env.id", "esd.environments", {})
POLICIES = Kinds(
    "policy.kind",
    "esd.policies",
    {
        "hebbian": "esd.policies.hebbian:HEBBIAN",
        "static": "esd.policies.static:STATIC",
        "reformer": "esd.policies.reformer:REFORMER",
        "gru": "esd.policies.gru:GRU",
    },
)
