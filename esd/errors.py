"""The error family: what is wrong, what was expected, and what to do about it."""

from __future__ import annotations

import sys

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED_EARLY = 75
LONGEST_MESSAGE = 1_000  # characters
LONGEST_VALUE = 100
UPDATE = "it was written by a newer version of esd: update esd (pip install -U esd-mpi)"


class EsdError(Exception):
    """Base class of the errors that esd raises. Commands print the message without a traceback.

    A message is one line of at most 1,000 characters.
    """

    exit_code = EXIT_FAILED

    def __init__(self, text: str = "") -> None:
        """Say what is wrong, what was expected, and what to do."""
        super().__init__(one_line(text))


def warn(text: str) -> None:
    """Print what is worth knowing but ends nothing on stderr, whichever rank this is."""
    print(f"esd: {printable(text)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text without line breaks and control characters, which would change a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def one_line(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Printable text of at most so many characters; the middle gives way to "…"."""
    text = printable(text)
    if len(text) <= most:
        return text
    end = most // 3  # what to do stands at the end
    return f"{text[: most - end - 1]}…{text[-end:]}"


def shown(value: object) -> str:
    """A value as it stands in a message: text in quotes; at most 100 characters."""
    if isinstance(value, str):
        return repr(value) if len(value) <= LONGEST_VALUE else one_line(repr(value), LONGEST_VALUE)
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a whole number of {int(value.bit_length() * 0.30103) + 1} digits"
    try:
        return one_line(str(value), LONGEST_VALUE)
    except (
        ValueError,
        RecursionError,
    ):  # a list of numbers that are too long to be printed, or of lists of lists
        return f"a {type(value).__name__} too long to show"


class UsageError(EsdError):
    """An argument or a setting is wrong. Nothing on disk was changed."""

    exit_code = EXIT_USAGE


class UntrustedError(UsageError):
    """A run's settings name code, or files, that nobody has said to trust; nothing of it was imported or opened."""


# optional packages: as they are imported, as people call them, and the extra of esd-mpi that installs them
EXTRAS = {
    "mujoco": ("MuJoCo", "mujoco"),
    "Box2D": ("Box2D", "box2d"),
    "pygame": ("pygame", "box2d"),
    "torch": ("PyTorch", "torch"),
    "popgym": ("popgym", "popgym"),
    "onnx": ("onnx", "onnx"),
    "scipy": ("SciPy", "mat"),
    "PIL": ("Pillow", "video"),
    "imageio_ffmpeg": ("imageio-ffmpeg", "video"),
    "tensorboard": ("TensorBoard", "tensorboard"),
    "wandb": ("Weights & Biases", "wandb"),
    "mlflow": ("MLflow", "mlflow"),
    "plotly": ("Plotly", "report"),
}


class MissingPackageError(UsageError):
    """A setting needs an optional package that is not installed.

    Attributes:
        extra: of esd-mpi, which installs it.
    """

    def __init__(self, setting: str, module: str) -> None:
        """Say which setting needs which package.

        Args:
            setting: as the user wrote it, such as "env.id = 'Ant-v5'".
            module: a name of ``EXTRAS``.
        """
        name, self.extra = EXTRAS[module]
        super().__init__(
            f"{setting}: needs {name}; install it with pip install 'esd-mpi[{self.extra}]'"
        )


def missing_module(error: BaseException | None) -> str | None:
    """The optional package whose absence an error comes from, as it is imported; None for any other error."""
    seen: set[int] = set()  # an exception that is raised twice may come from itself
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # by its whole name: "torch.other" is only looked for in a torch that is there
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            return error.name
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


class RunError(EsdError):
    """A run that can't continue, for example because a rank was lost, too many members failed or a disk is full."""


class FinalError(RunError):
    """A run that can't go on, and would come to the same end if it were started again."""


class NotWritableError(RunError):
    """The file system did not take what was to be written; it may do so later.

    Attributes:
        reason: what can't be written, and why.
    """

    def __init__(self, reason: str, advice: str) -> None:
        """Say what can't be written, why, and what to do."""
        self.reason = reason
        super().__init__(f"{reason}; {advice}")


class StoppedEarlyError(RunError):
    """A run that stops before its end, and goes on when the same command is started again."""

    exit_code = EXIT_STOPPED_EARLY


def nearest(word: str, known: list[str]) -> str:
    """A hint naming the nearest known word, “did you mean 'gru'?”, or all of them if none is near: “known: …”.

    If commas are part of them, all are in quotes.
    """
    words = sorted(known)
    if any("," in word for word in words):
        words = [repr(word) for word in words]
    return closest(word, known).removeprefix(", ") or f"known: {', '.join(words)}"


def closest(word: str, known: list[str]) -> str:
    """A hint naming the nearest known word, “, did you mean 'reach.toml'?”; empty if none is near."""
    import difflib

    close = difflib.get_close_matches(word[:LONGEST_VALUE], known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """Part of a message: ``one_line`` of so many characters."""
    return one_line(text[:100_000], most)
