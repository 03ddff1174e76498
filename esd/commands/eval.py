"""``esd eval``."""

from __future__ import annotations

import enum
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands import completion
from esd.commands.output import be_patient
from esd.commands.running import Trusted, Verbose, on_ranks

if TYPE_CHECKING:
    from esd.evaluation.stored import Conditions
    from esd.mpi.comm import Communicator
    from esd.run.folder import RunFolder


class WhichCheckpoint(enum.StrEnum):
    """Which h of a run."""

    LAST = "last"
    BEST = "best"


class Rules(enum.StrEnum):
    """Whose rules play."""

    EVOLVED = "evolved"
    RANDOM = "random"


def _check_seed(seed: int) -> int:
    """As a range of typer, which would print all 20 digits in the help text."""
    if not 0 <= seed < 2**64:
        raise typer.BadParameter(f"{seed} is not in the range 0 to 2⁶⁴ − 1.")
    return seed


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="The run's folder, or a file written by esd export.",
            autocompletion=completion.runs,
        ),
    ],
    env: Annotated[
        str | None,
        typer.Option(
            help="Evaluate in another environment with the same observation and action sizes.",
            metavar="ID",
            show_default=False,
            autocompletion=completion.environments,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Evaluate only this variant, or the variants that match a pattern. Can be repeated.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting of env or policy in the evaluation, such as --set env.kwargs.gravity=5.",
            metavar="KEY=VALUE",
            show_default=False,
            autocompletion=completion.settings_of_episodes,
        ),
    ] = None,
    rules: Annotated[
        Rules,
        typer.Option(
            help="Learning rules to use: the evolved rules of the run, or as a baseline random rules in each "
            "episode."
        ),
    ] = Rules.EVOLVED,
    episodes: Annotated[
        int, typer.Option(help="Number of test episodes on each variant.", min=1)
    ] = 100,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the test episodes, 0 to 2⁶⁴ − 1.", metavar="SEED", callback=_check_seed
        ),
    ] = 0,
    checkpoint: Annotated[
        WhichCheckpoint,
        typer.Option(help="Evaluate the best checkpoint or the last one."),
    ] = WhichCheckpoint.BEST,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Record the first test episode on the first variant: observations, actions, activities and weights.",
            metavar="FILE.safetensors",
            show_default=False,
        ),
    ] = None,
    trace_every: Annotated[
        int | None,
        typer.Option(help="Record the weights of --trace every N steps.", min=1, show_default="1"),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            help="Film the first test episode on the first variant, with its return, its step and the variant's name.",
            metavar="FILE.mp4|.gif",
            show_default=False,
        ),
    ] = None,
    video_seconds: Annotated[
        float | None,
        typer.Option(
            help="Maximum length of --video in seconds.", min=0.1, max=3600.0, show_default="30.0"
        ),
    ] = None,
    trust: Trusted = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Evaluate a run on test episodes that were not used for training or for selecting the best checkpoint.

    Every variant is evaluated on the same test episodes: the variants used for training (seen) and those excluded from
    it (unseen). The 95 % interval of a mean covers the noise between the episodes of this run. It does not cover the
    spread over training runs; esd compare does. The result is also written to the run's folder, under evaluations/.
    """
    from esd.commands.console import print_error
    from esd.errors import UsageError
    from esd.evaluation import trace as traces
    from esd.evaluation import video as videos
    from esd.evaluation.of_run import evaluate_and_store, load
    from esd.evaluation.test_episodes import choose
    from esd.mpi.comm import agreement
    from esd.report.traces import is_trace
    from esd.run.files import absolute
    from esd.training.process_state import kept_process_state
    from esd.training.trusted import trusted_run

    def body(comm: Communicator) -> int:
        be_patient(results=True)
        for option, value, other, file in (
            ("--trace-every", trace_every, "--trace", trace),
            ("--video-seconds", video_seconds, "--video", video),
        ):
            if value is not None and file is None:
                raise UsageError(f"{option} {value}: has no effect without {other} FILE; add it")
        own = [*(settings or []), *([f"env.id={env}"] if env is not None else [])]
        folder = trusted_run(comm, run, trust, own)
        with agreement(comm, "reading the run"):
            trace_file = None if trace is None else absolute(trace)  # an environment may move us
            if trace is not None and (trace.is_dir() or not trace.parent.is_dir()):
                raise UsageError(f"--trace {trace}: expected a file in a folder that exists")
            if (
                trace_file is not None
                and os.path.lexists(trace_file)
                and not is_trace(trace_file, follow=True)
            ):
                raise UsageError(f"--trace {trace}: exists and is not a trace; use another file")
            if trace is not None and trace.suffix != ".safetensors":
                raise UsageError(f"--trace {trace}: expected a file name that ends in .safetensors")
            video_file = None if video is None else absolute(video)
            if video_file is not None:
                videos.check(video_file)
            warn = print_error if comm.rank == 0 else lambda text: None
            config, state, which = load(folder, str(checkpoint), warn)
            if config.objective.named and (trace or video or rules is Rules.RANDOM):
                option = f"--trace {trace}" if trace else f"--video {video}"
                option = option if trace or video else f"--rules {rules}"
                raise UsageError(
                    f"{option}: {run} is the run of an objective, which has no policy; leave this "
                    "option out"
                )
            subject = choose(config, env, settings or [], variant or [])
        with agreement(comm, "recording an episode"):
            if comm.rank == 0 and trace_file is not None:
                with kept_process_state():
                    arrays, words = traces.record(subject, state, seed, rules, trace_every or 1)
                traces.save(trace_file, arrays, {"run": str(folder.path), **words})
        shown: list[videos.Filmed] = []
        with agreement(comm, "filming an episode"):
            if comm.rank == 0 and video_file is not None:
                with kept_process_state():
                    shown.append(
                        videos.record(
                            subject, state, seed, video_file, video_seconds or 30.0, str(rules),
                            {
                                "run": folder.place.name, "checkpoint": which, "generation": state.generation,
                                "settings": ", ".join(f"{k} = {v}" for k, v in subject.settings.items()),
                            },
                        )
                    )  # fmt: skip

        def report(found: dict[str, Any], conditions: Conditions) -> None:
            objective = subject.config.objective.named
            described = conditions.described(objective)
            if objective:
                _report_values(found, described, as_json)
            else:
                _report(found, described, trace, as_json)
                if shown and not as_json:
                    print(f"{video}: {shown[0].described()}")
                if not as_json:
                    files = {"trace": (trace, trace_file), "video": (video, video_file)}
                    _tell_what_a_report_embeds(run, folder, files)

        evaluate_and_store(comm, folder, subject, state, which, episodes, seed, str(rules), report)
        return 0

    on_ranks(body, as_json)


def _tell_what_a_report_embeds(
    run: Path, folder: RunFolder, files: dict[str, tuple[Path | None, Path | None]]
) -> None:
    """Say how a report gets files outside of the run's folder; each as the user wrote it and from the root on."""
    outside = {
        option: str(given)
        for option, (given, file) in files.items()
        if file is not None and file.parent.resolve() != folder.place.resolve()
    }
    if outside:
        options = shlex.join(word for o, given in outside.items() for word in (f"--{o}", given))
        print(
            f"esd report embeds only {' and '.join(f'{each}s' for each in outside)} in the run's folder by itself. To "
            f"embed this one: esd report {shlex.quote(str(run))} {options}"
        )


def _report_values(found: dict[str, Any], conditions: str, as_json: bool) -> None:
    """Print an evaluation of an objective."""
    from esd.commands.console import print_json, print_table
    from esd.evaluation.stored import summary

    if as_json:
        print_json(summary(found))
        return
    print(f"{found['run']}, generation {found['generation']}, {found['env']}: {conditions}")
    noisy = found["episodes"] > 1
    head = ["value", "mean", "std", "95 % interval of the mean"]
    rows = [head if noisy else head[:2]]
    for value in found["variants"]:
        row = [
            value["name"],
            _shown(value["mean"], ".6g"),
            _shown(value["std"], ".3g"),
            _interval(value["interval_95"], ".6g"),
        ]
        rows.append(row if noisy else row[:2])
    print_table(rows, right=range(1, len(rows[0])))
    for name, values in found.get("parameters", {}).items():
        text = str(values)
        print(
            f"{name} = {text if len(text) <= 200 else f'{text[:199]}… (--json prints all of them)'}"
        )
    if noisy:
        print(
            "standard deviations and intervals show the evaluation noise of this run, not the spread over training "
            "runs"
        )


def _shown(number: float | None, digits: str = ".2f") -> str:
    """A number, or a dash for what can't be known."""
    return "–" if number is None else f"{number:{digits}}"


def _interval(interval: tuple[float, float] | None, digits: str = ".2f") -> str:
    return "–" if interval is None else f"{interval[0]:{digits}} to {interval[1]:{digits}}"


def _report(found: dict[str, Any], conditions: str, trace: Path | None, as_json: bool) -> None:
    """Tell an evaluation."""
    from esd.commands.console import print_json, print_table
    from esd.evaluation.stored import summary

    if as_json:
        print_json(summary(found))
        return
    print(f"{found['run']}, generation {found['generation']}, {found['env']}: {conditions}")
    names = list(
        dict.fromkeys(
            f"{name} [{result['unit']}]"
            for variant in found["variants"]
            for name, result in variant["results"].items()
        )
    )
    rows = [["variant", "", "mean", "std", "95 % interval of the mean", *names]]
    for variant in found["variants"]:
        results = {
            f"{name} [{result['unit']}]": _shown(result["mean"])
            + (f" ± {_shown(result['std'])}" if result["std"] is not None else "")
            for name, result in variant["results"].items()
        }
        rows.append(
            [
                variant["name"],
                "seen" if variant["seen"] else "unseen",
                _shown(variant["mean"]),
                _shown(variant["std"]),
                _interval(variant["interval_95"]),
                *(results.get(name, "–") for name in names),
            ]
        )
    if len(found["variants"]) > 1:
        own = [_shown(found["mean"]), _shown(found["std"]), _interval(found["interval_95"])]
        rows.append(["mean of the above", "", *own, *("" for _ in names)])
    print_table(rows, right=range(2, len(rows[0])))
    if found["episodes"] == 1:
        print("1 episode gives no standard deviation and no interval; use more --episodes")
    else:
        print(
            "standard deviations and intervals show the episode noise of this run, not the spread over training "
            "runs"
        )
    failed = [variant["name"] for variant in found["variants"] if variant["mean"] is None]
    if failed:
        print(f"no mean on {', '.join(failed)}: at least one of its episodes has no finite return")
    if trace is not None:
        print(f"recorded the first episode on {found['variants'][0]['name']} in {trace}")
