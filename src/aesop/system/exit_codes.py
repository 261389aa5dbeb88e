"""The exit codes of `aesop`, each with its meaning. docs/reference/exit-codes.md shows them as a table."""

from enum import IntEnum


class ExitCode(IntEnum):
    """A number with its `meaning`, a sentence for users."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    DONE = 0, "The command did what it was asked for."
    FAILED = (
        1,
        "A mistake in options or files, named in one line; or the command reached its end, but some inputs failed, values "
        "are missing, or `aesop doctor` found faults.",
    )
    USAGE = 2, "The command line has an unknown verb or option, lacks an argument, or gives a value of another type."
    INTERRUPTED = (
        130,
        "Ctrl-C. A training has finished its step and saved its state: `--resume` (a pipeline: the same command) "
        "continues it.",
    )
    STOPPED_BY_CLUSTER = (
        138,
        "A training received SIGUSR1, which SLURM sends before the time limit, and saved its state (Linux; 128 + the "
        "number of the signal).",
    )
    TERMINATED = 143, "A training received SIGTERM, which pre-emption sends, and saved its state."


def markdown_table() -> str:
    """All codes as a Markdown table, for the documentation."""
    return "\n".join(["| code | meaning |", "| --- | --- |", *(f"| {code.value} | {code.meaning} |" for code in ExitCode)])
