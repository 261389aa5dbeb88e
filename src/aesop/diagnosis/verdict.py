"""A run's verdict: the causes that were found, the likeliest first, or that nothing is wrong, or that it is too early."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aesop.diagnosis.causes import CAUSES, Finding
from aesop.diagnosis.run_record import RunRecord
from aesop.system.wording import within_a_sentence

Status = Literal["found", "healthy", "too early", "no readings"]
EARLIEST = 50
"""Iterations before which nothing but images and auto-encoders is judged."""


@dataclass(frozen=True)
class Verdict:
    """What was found in a run. `findings` are sorted, the likeliest cause first."""

    run: str
    stage: str
    iteration: int
    total: int
    status: Status
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def headline(self) -> str:
        if self.status == "found":
            return self.findings[0].title
        if self.status == "healthy":
            return "Healthy so far" if self.iteration < self.total else "Healthy"
        return "Too early to say" if self.status == "too early" else "Too little to say"

    def lines(self) -> list[str]:
        """The verdict in words."""
        lines = [f"{self.run}, stage {self.stage}, iteration {self.iteration} of {self.total}: {self.headline}"]
        for number, finding in enumerate(self.findings, 1):
            lines += [f"{number}. {finding.title} ({finding.past})"]
            lines += [f"   {finding.evidence}", f"   Change: {finding.change}"]
        if len(self.findings) > 1:
            lines.append("The first may be the cause of the others: change it alone, and diagnose again.")
        return lines + [f"note: {note}" for note in self.notes]

    def short(self) -> list[str]:
        """The last lines of a training."""
        if self.status != "found":
            return [f"diagnosis: {within_a_sentence(self.headline)}"]
        first, *others = self.findings
        more = f" (also: {', '.join(within_a_sentence(each.title) for each in others)})" if others else ""
        return [f"diagnosis: {within_a_sentence(first.title)}{more}. {first.evidence}", f"  change: {first.change}"]

    def to_json(self) -> dict[str, Any]:
        return {"headline": self.headline, **asdict(self)}


def diagnose(run: RunRecord) -> Verdict:
    """Judge a run by its readings. It reads no images and no weights."""
    config, total = run.config, run.config.train.total_iter
    count = sum(k > config.train.net_d_init_iters for k in run.reading_iterations)
    settled = run.iteration >= min(EARLIEST, total) and run.iteration > config.train.warmup_iter
    read_first, every = len(run["psnr"][0]) > 0, config.logger.readings_freq
    is_young = not read_first and run.iteration < every
    findings, waiting = [], []
    for cause in CAUSES:
        at_once = cause.readings <= 1 and read_first
        if not (at_once or (count >= cause.readings and settled) or run.rollbacks):
            waiting.append(cause)
        elif (finding := cause.find(run)) is not None:
            findings.append((cause.rank, -finding.excess, finding))
    found = [finding for *_, finding in sorted(findings, key=lambda each: each[:2])]
    notes = [*run.notes, *_unseen(run)]
    if found:
        status: Status = "found"
    elif not read_first and not is_young:
        status = "no readings"
    else:
        status = "too early" if waiting else "healthy"
    if is_young:
        notes.append(f"the first reading is taken at iteration {every} (logger.readings_freq)")
    elif read_first and waiting:
        every = max(every, 1)
        first = max(EARLIEST, config.train.net_d_init_iters + 2 * every, config.train.warmup_iter + 1)
        notes.append(f"most causes can be judged after iteration {min(total, -(-first // every) * every)}")
    return Verdict(run.folder.name, config.stage, run.iteration, total, status, found, notes)


def _unseen(run: RunRecord) -> list[str]:
    """What the run's files do not show."""
    config = run.config
    if not run.values:
        return ["scalars.jsonl has no values: the run has not begun, or its log is lost"]
    if not len(run["psnr"][0]):
        if run.iteration < config.logger.readings_freq:
            return []
        return [
            "the run has no readings (it is older than they are, or logger.readings_freq was 0): only skipped steps and "
            "rollbacks can be judged. Continue it with --resume and logger.readings_freq=100"
        ]
    notes = []
    if config.stage != "autoencoder" and not len(run["se"][0]):
        notes.append("without an auto-encoder the error is not split: name one in path.autoencoder_for_readings")
    if len(run["ae/lr_equal"][0]) and not len(run["ae/lr_fit"][0]):
        notes.append("crops are too small to tell another LR kernel from no LR image: use a larger datasets.train.gt_size")
    if config.train.gan_opt is not None and config.train.gan_opt.gan_type == "wgan":
        notes.append("the loss of a wgan discriminator has no scale: whether it wins or is blind is not judged")
    return notes
