"""What can be wrong with a training: one function for each cause, with its threshold, evidence, and what to change.

A cause is measured as an excess: how many times past its threshold a run is; from 1 on it is found. Causes of a lower rank
explain those of a higher one: wrong pairs make everything else look wrong as well.

Thresholds are ratios to what the reading would be without the fault, or known limits of the field; each one says which.
They were set on the calibration runs of benchmarks/diagnosis_plants.py and judged on others (docs/evidence/diagnosis.md).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from aesop.archs.autoencoder import NARROWEST_IN_COLOUR, AutoEncoderOptions
from aesop.diagnosis.run_record import Points, RunRecord

# Losses that compare SR and HR pixel by pixel, and so ask for the mean of what is plausible, a blurred image.
DISTANCES = ("pix", "aesop")


@dataclass(frozen=True)
class Finding:
    """A cause that was found in a run."""

    cause: str
    title: str
    excess: float
    """How many times past its threshold the run is."""
    evidence: str
    change: str

    @property
    def past(self) -> str:
        """The excess in words."""
        return "far past its threshold" if self.excess > 100 else f"{self.excess:.1f} times past its threshold"


@dataclass(frozen=True)
class Measured:
    """What a cause's function returns: its excess, and what to say where it is at least 1."""

    excess: float
    evidence: str
    change: str


@dataclass(frozen=True)
class Cause:
    name: str
    title: str
    rank: int
    """Causes of a lower rank explain those of a higher one."""
    readings: int
    """After so many readings, besides the first, it can be told."""
    measure: Callable[[RunRecord], Measured | None]
    """None: it does not apply, or there is nothing to tell it by."""

    def find(self, run: RunRecord) -> Finding | None:
        measured = self.measure(run)
        if measured is None or not measured.excess >= 1:
            return None
        return Finding(self.name, self.title, measured.excess, measured.evidence, measured.change)


def certain_mean(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of at least 3 readings, its standard error, and how far it is beyond chance: from 1 on it is certain.

    Certain means outside of an interval of 95 %, with 2 + 4 / (n - 1) in place of Student's quantile.
    """
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, error, ratio(abs(mean), (2 + 4 / (len(values) - 1)) * error)


def ratio(a: float, b: float) -> float:
    """a / b for values that are not negative; infinite where b is 0."""
    return a / b if b > 0 else math.inf if a > 0 else 0.0


# Images and auto-encoders: what the training is given.

# A random crop of a right pair falls below a correlation of 0.5 in about 1 of 100 cases.
WRONG_PAIRS = 0.08


def swapped_pairs(run: RunRecord) -> Measured | None:
    _, shares = run["wrong_pairs"]
    if not len(shares):
        return None
    share = float(shares.mean())
    return Measured(
        share / WRONG_PAIRS,
        f"{share:.0%} of the LR images that were read do not show the picture of their HR image.",
        "Check all pairs with `aesop doctor CONFIG.yml`; pair files by name (datasets.train.filename_tmpl), or leave "
        "datasets.train.dataroot_lq out, so that LR is made from HR.",
    )


def _autoencoder(run: RunRecord, reading: str) -> float:
    """A reading of the auto-encoder: of the AESOP loss over the whole run, of one in training when it has settled."""
    return run.late(reading) if run.config.stage == "autoencoder" else run.typical(reading)


def _retrain(run: RunRecord, how: str, in_pipeline: str = "set this for stages.autoencoder") -> str:
    if run.config.stage == "autoencoder":
        return how
    return (
        f"{how} In a pipeline, {in_pipeline} under a new name; otherwise name the new file in "
        "train.aesop_opt.autoencoder_load.path."
    )


# An auto-encoder that was trained to reproduce HR keeps more than nine tenths of every colour; half is lost for good.
COLOUR_KEPT = 0.5


def autoencoder_loses_colour(run: RunRecord) -> Measured | None:
    kept, found = _autoencoder(run, "ae/colour"), _bottleneck(run)
    if math.isnan(kept) or (found is not None and found[1] < FILTERED):  # an image that is no LR image has lost everything
        return None
    return Measured(
        ratio(COLOUR_KEPT, kept) if kept < COLOUR_KEPT else 0.0,
        f"Of one colour, the auto-encoder keeps {kept:.0%} (100 % in a good one): the loss does not see that colour.",
        _retrain(
            run,
            "Train the auto-encoder longer."
            if _is_wide(run)
            else "Train an auto-encoder whose network_g.enc_opt.num_feat is at least 48 at scale 4, so that its encoder has "
            "3 channels or more; if it is, train it longer.",
        ),
    )


def _is_wide(run: RunRecord) -> bool:
    """Whether the encoder of this auto-encoder stage is known to have a channel for each colour."""
    network = run.config.network_g
    if not isinstance(network, AutoEncoderOptions):
        return False
    return (network.enc_opt.num_feat or getattr(network.dec_opt, "num_feat", 0)) >= NARROWEST_IN_COLOUR


# Shares of variance. The bottleneck of a trained auto-encoder and the LR image differ by 1 to 2 % of its variance. What a
# filter explains of the difference is another kernel; an unrelated image cannot be made from the LR image by a filter.
EQUAL, FILTERED, EXPLAINED = 0.95, 0.9, 2.0
# Smooth pictures differ little under another kernel, so the filter itself is looked at: how far it shifts, in LR pixels, and
# how much it narrows, as variance. Trained auto-encoders: 0.05 and 0.15; LR blurred by 1.6 HR pixels before bicubic: 0.46.
SHIFTED, SHARPER = 0.25, 0.4


def _bottleneck(run: RunRecord) -> tuple[float, float] | None:
    """How equal bottleneck and LR image are, and after the best filter."""
    equal, fit = _autoencoder(run, "ae/lr_equal"), _autoencoder(run, "ae/lr_fit")
    if math.isnan(equal):
        return None
    return equal, equal if math.isnan(fit) else fit


def bottleneck_is_no_lr_image(run: RunRecord) -> Measured | None:
    if (found := _bottleneck(run)) is None or found[0] >= EQUAL:
        return None
    equal, fit = found
    return Measured(
        (1 - fit) / (1 - FILTERED),
        f"Bottleneck and LR image differ by {1 - equal:.0%} of the LR image's variance, and the best filter of it leaves "
        f"{1 - fit:.0%} of the bottleneck unexplained (1 % in a good auto-encoder).",
        _retrain(
            run,
            "Train the auto-encoder longer, with train.pixel_at_LR_opt and a trained PSNR network as its decoder.",
            "raise stages.autoencoder.train.total_iter",
        ),
    )


def autoencoder_of_another_kernel(run: RunRecord) -> Measured | None:
    if (found := _bottleneck(run)) is None or found[1] < FILTERED:
        return None
    equal, fit = found
    shift, width = _autoencoder(run, "ae/lr_shift"), _autoencoder(run, "ae/lr_width")
    differs = min((1 - equal) / (1 - EQUAL), ratio(1 - equal, EXPLAINED * (1 - fit)))
    filters = [each for each in (shift / SHIFTED, -width / SHARPER) if not math.isnan(each)]
    how = "sharper" if width < 0 else "more blurred"
    how = f"shifted by {shift:.2f} LR pixels" if filters and filters[0] >= 1 else how
    return Measured(
        max(differs, *filters),
        f"The auto-encoder's bottleneck is an LR image, but {how}: it differs from this training's LR image by "
        f"{1 - equal:.1%} of its variance, and a filter of variance {width:+.2f} LR pixels² leaves {1 - fit:.1%}.",
        _retrain(
            run,
            "Train the auto-encoder on LR images made in the same way as this training's: with the same "
            "datasets.train.dataroot_lq, or none.",
        ),
    )


# How fast weights move.

# A step that moves weights by 1e-3 of their size is usual; 1e-2 is fast, and needs 3 times as much to be dangerous.
FAST, SLOW = 3e-2, 3e-5
# In dB: below the best readings before, and below bicubic enlargement.
FELL_BACK, WORSE_THAN_BICUBIC = 3.0, -1.0


def _lost(run: RunRecord, reading: str) -> float:
    """How far the second half of a run lies below its best third, in dB, as medians, so that lucky crops are no best."""
    _, values = run[reading]
    if len(values) < 6:
        return 0.0
    third = len(values) // 3
    return float(max(median(values[k : k + third]) for k in range(len(values) - third + 1)) - run.late(reading))


def learning_rate_too_high(run: RunRecord) -> Measured | None:
    moved = run.typical("update/g")
    lr = run.config.train.optim_g.lr
    change = f"Divide train.optim_g.lr (now {lr:g}) by 3 to 10, or set train.warmup_iter or train.optim_g.clip_norm."
    if run.skipped > max(3, run.iteration / 100) or run.rollbacks:
        said = f"{run.skipped} steps were skipped because of NaN or infinity, and the run rolled back {run.rollbacks} times."
        return Measured(max(1.5, 1.0 + run.rollbacks), said, change)
    if math.isnan(moved):
        return None
    # What is lost on flat crops shows in the gain alone, and on crops full of detail in PSNR alone.
    lost = min(_lost(run, "gain"), _lost(run, "psnr"))
    # A GAN gives up a few dB by its nature.
    fell = FELL_BACK if run.config.stage != "adversarial" else 2 * FELL_BACK
    said = f"A step moves the generator's weights by {moved:.1%} of their size (0.1 % is usual)"
    said += f", and its images are {lost:.1f} dB worse than its best." if lost > 1 else "."
    # Fast weights alone may be a small network's at its start: quality must suffer as well.
    bad = run.late("gain") < WORSE_THAN_BICUBIC or lost > fell
    return Measured(max(moved / FAST if bad else 0.0, min(lost / fell, 3 * moved / FAST)), said, change)


def learning_rate_too_low(run: RunRecord) -> Measured | None:
    values = run["update/g"][1]
    values = values[values > 0]
    if not len(values):
        return None
    moved = float(max(values[: max(1, len(values) // 2)].max(), values[len(values) // 2 :].max()))
    lr = run.config.train.optim_g.lr
    return Measured(
        ratio(SLOW, moved),
        f"A step moves the generator's weights by at most {moved:.1e} of their size (1e-3 is usual).",
        f"Raise train.optim_g.lr (now {lr:g}); 1e-4 is published, and 1e-3 suits small networks from scratch.",
    )


# Part of the initial weights that is left in the average at the end: enough to see, and nearly all.
INITIAL_LEFT, NOTHING_BUT_INITIAL = 0.1, 0.9
# In dB, and as a ratio of detail: how far the average's images may lie behind.
BEHIND, OTHER_DETAIL = 1.0, 1.25


def average_too_slow(run: RunRecord) -> Measured | None:
    train = run.config.train
    if train.ema_decay == 0 or not len(run["ema/psnr"][0]):
        return None
    behind = run.late("psnr") - run.late("ema/psnr")
    detail, of_average = run.late("detail"), run.late("ema/detail")
    other = max(ratio(detail, of_average), ratio(of_average, detail)) if of_average > 0 else 1.0
    left = 0.0 if train.ema_warmup else train.ema_decay**train.total_iter
    visible = max(behind / BEHIND, math.log(other) / math.log(OTHER_DETAIL))
    if left >= INITIAL_LEFT:
        excess = max(visible, left / NOTHING_BUT_INITIAL)
    else:  # an average that lags early in a long training is as it should be
        excess = behind / (2 * BEHIND) if run.iteration >= train.total_iter / 2 else 0.0
    window = 1 / (1 - train.ema_decay)
    return Measured(
        excess,
        f"The averaged generator, which is the one saved, lies behind: PSNR {behind:+.1f} dB, detail {of_average:.2f} "
        f"instead of {detail:.2f}. It averages over {window:.0f} iterations of {train.total_iter}"
        + (f", and {left:.0%} of it will still be the initial weights at the end." if left > 0.01 else "."),
        f"Lower train.ema_decay to {max(0.9, 1 - 20 / train.total_iter):.4g}, or set train.ema_warmup: true.",
    )


# The discriminator. Its loss is read relative to that of one that cannot tell the images apart.
WON_LOSS, WON_ACCURACY = 0.1, 0.97
BLIND_LOSS, BLIND_ACCURACY = 0.97, 0.6
# Iterations after which a discriminator that moves at a usual rate would see something; before, it is only young.
HAD_ITS_TIME = 500


def discriminator_wins(run: RunRecord) -> Measured | None:
    loss, accuracy = run.late("d/loss"), run.late("d/accuracy")
    if math.isnan(loss) or accuracy < WON_ACCURACY:
        return None
    return Measured(
        ratio(WON_LOSS, max(loss, 1e-6)),
        f"The discriminator tells {accuracy:.0%} of real and generated apart, with {loss:.2%} of the loss of guessing "
        f"(gap of the logits {run.late('d/gap'):.1f}): it has nothing left to learn, and says the same of every image.",
        f"Lower train.optim_d.lr (now {run.config.train.optim_d.lr:g}), set train.net_d_iters: 1, or take a smaller "
        "network_d.num_feat or UNetDiscriminatorSN.",
    )


def discriminator_blind(run: RunRecord) -> Measured | None:
    loss, accuracy = run.late("d/loss"), run.late("d/accuracy")
    if math.isnan(loss):
        return None
    moved = run.typical("update/d")
    lr = run.config.train.optim_d.lr
    stands_still = moved < SLOW
    slow = f" A step moves its weights by {moved:.1e} of their size (1e-3 is usual)." if stands_still else ""
    told_apart = accuracy >= BLIND_ACCURACY or loss < BLIND_LOSS
    if (told_apart or run.iteration < HAD_ITS_TIME) and not (stands_still and loss > 0.5):
        return None
    return Measured(
        max(loss / BLIND_LOSS, SLOW / moved if stands_still else 0.0),
        f"The discriminator tells {accuracy:.0%} of real and generated apart (50 % is guessing), and its loss is {loss:.0%} "
        f"of that of guessing.{slow}",
        f"Raise train.optim_d.lr (now {lr:g}), to that of the generator, or network_d.num_feat; check that the generator's "
        "images differ from HR at all.",
    )


# Balance of losses: shares of the sum of the gradients' norms in the generator's weights.
# With published weights, the GAN term of compact networks has 2.7 % beside an AESOP loss alone, with a perceptual loss 0.3 %
# in the real-world recipe and 0.02 % in the synthetic one (assets/recipe_balance.json); 20 times less decides nothing.
DROWNED, DROWNING = 1e-5, 0.9
# What the GAN term asks for also depends on how much its discriminator can tell so far. With a weight so many times away
# from the published one, less extreme shares are enough.
FAR_FROM_PUBLISHED, SMALL_SHARE, LARGE_SHARE = 20, 1e-2, 0.2
# Cosines between terms: single readings scatter by 0.3, and means of healthy runs lie between -0.1 and 0.3.
OPPOSED, HAS_A_SAY = -0.15, 0.15
# Collapse to blur: the share of pixel distances from which on they decide alone (99 % with published weights on compact
# networks without a perceptual loss), and detail relative to HR's.
ONLY_DISTANCES, BLURRED = 0.999, 0.8


def _published_weights(run: RunRecord) -> float:
    """How many published weights the GAN term has: of 5e-3, and for a plain GAN up to 0.1, the real-world recipe's."""
    gan = run.config.train.gan_opt
    if gan is None:
        return 1.0
    low, high = 5e-3, 5e-3 if gan.relativistic else 0.1
    return gan.loss_weight / low if gan.loss_weight < low else max(1.0, gan.loss_weight / high)


def gan_drowned(run: RunRecord) -> Measured | None:
    shares = run.shares()
    share = shares.get("gan")
    times = _published_weights(run)
    if share is None or (times > 1 / FAR_FROM_PUBLISHED and _distances(shares) > ONLY_DISTANCES):
        return None  # not its own weight is to blame
    weight = run.weight_of("gan")
    return Measured(
        max(ratio(DROWNED, share), min(ratio(1 / FAR_FROM_PUBLISHED, times), SMALL_SHARE / max(share, 1e-12))),
        f"The GAN term has {share:.1e} of the gradient in the generator's weights (1e-2 is usual): it decides nothing.",
        f"Raise train.gan_opt.loss_weight (now {weight:g}; published: 5e-3, real-world 0.1); "
        "`aesop diagnose RUN --weights` computes one.",
    )


def _distances(shares: Mapping[str, float]) -> float:
    """The share of the losses that compare pixels."""
    return sum(share for name, share in shares.items() if name in DISTANCES)


def gan_drowns_the_others(run: RunRecord) -> Measured | None:
    shares = run.shares()
    if "gan" not in shares or len(shares) < 2:
        return None
    others = 1 - shares["gan"]
    return Measured(
        max(ratio(1 - DROWNING, others), min(_published_weights(run) / FAR_FROM_PUBLISHED, shares["gan"] / LARGE_SHARE)),
        f"The GAN term has {shares['gan']:.1%} of the gradient in the generator's weights"
        + (": the other losses decide nothing." if others < 1 - DROWNING else ", and a weight far above the published."),
        f"Lower train.gan_opt.loss_weight (now {run.weight_of('gan'):g}; published: 5e-3, real-world 0.1); "
        "`aesop diagnose RUN --weights` computes one.",
    )


def losses_against_each_other(run: RunRecord) -> Measured | None:
    shares, worst = run.shares(), None
    for pair in [name for name in run.values if name.startswith("read/weights_cos/")]:
        a, _, b = pair.removeprefix("read/weights_cos/").partition("+")
        if min(shares.get(a, 0), shares.get(b, 0)) >= HAS_A_SAY:
            values = run.settled(pair.removeprefix("read/"))
            if len(values) >= 3:
                cosine, _, certain = certain_mean(values)
                worst = min(worst or (math.inf, 0.0, "", ""), (cosine, certain, a, b))
    if worst is None:
        return None
    cosine, certain, a, b = worst
    return Measured(
        min(max(0.0, cosine / OPPOSED), certain),
        f"The gradients of {a} ({shares[a]:.0%} of the sum of norms) and {b} ({shares[b]:.0%}) in the generator's weights "
        f"have a cosine of {cosine:.2f}: what one asks for, the other takes back.",
        f"Let one of them decide: lower {run.option_of(a)} (now {run.weight_of(a):g}) or {run.option_of(b)} (now "
        f"{run.weight_of(b):g}), and check that both compare with the same HR (the *_gt_usm options).",
    )


# What is seen in the images.

# Five of 255 levels: the LR image gives the mean colour of a crop to less than one.
DRIFT = 5 / 255
# A network that learns from scratch begins with wrong colours: they must not have come down to this part.
REMAINED = 0.6
# At the frequencies of a grid, errors have 0.5 to 1 times the energy that they have beside them.
CHECKERED = 1.5


def colour_drift(run: RunRecord) -> Measured | None:
    channels = [run[f"colour/{letter}"] for letter in "rgb"]
    late = [run.settled(f"colour/{letter}") for letter in "rgb"]
    if min(map(len, late)) < 3:
        return None
    means, errors, certain = zip(*map(certain_mean, late), strict=True)
    drifts = [min(abs(mean) / DRIFT, beyond) for mean, beyond in zip(means, certain, strict=True)]
    before, after = (_off(channels, *span) for span in ((0, run.iteration / 4), (run.since, math.inf)))
    return Measured(
        min(max(drifts), ratio(after, REMAINED * before)),
        f"Mean colours are off by {_levels(means)} of 255 levels (red, green, blue; standard errors {_levels(errors)}), "
        f"and single images by {255 * after:.0f} ({255 * before:.0f} in the first quarter of the run).",
        "Keep a loss that sees colour: raise train.pixel_opt.loss_weight or train.aesop_opt.loss_weight against the GAN and "
        "MS-SSIM terms, lower train.optim_g.lr, and check the colours of datasets.train.dataroot_lq.",
    )


def _off(channels: Sequence[Points], first: float, last: float) -> float:
    """How far colours are off in the readings between two iterations, whatever the direction: a root mean square."""
    chosen = [values[(at >= first) & (at <= last)] for at, values in channels]
    return math.sqrt(sum(float((values**2).mean()) for values in chosen if len(values)) / 3)


def _levels(values: Sequence[float]) -> str:
    return ", ".join(f"{255 * value:+.0f}" for value in values)


def checkerboard(run: RunRecord) -> Measured | None:
    contrast = run.late("checkerboard")
    if math.isnan(contrast):
        return None
    scale = run.config.scale
    return Measured(
        contrast / CHECKERED,
        f"SR's error has {contrast:.1f} times as much energy in patterns that repeat every {scale} pixels as at the "
        "frequencies beside them (1 without a pattern): a checkerboard.",
        "Use a network that enlarges by nearest neighbour and convolutions (RRDBNet; SwinIR with upsampler: nearest+conv), "
        "train longer, or lower train.optim_g.lr and the GAN term.",
    )


def collapse_to_blur(run: RunRecord) -> Measured | None:
    shares, detail = run.shares(), run.late("detail")
    if "gan" not in shares or len(shares) < 2 or _published_weights(run) <= 1 / FAR_FROM_PUBLISHED or not detail < BLURRED:
        return None
    blurring = {name: share for name, share in shares.items() if name in DISTANCES}
    if not blurring:
        return None
    largest = max(blurring, key=lambda name: blurring[name])
    return Measured(
        ratio(1 - ONLY_DISTANCES, 1 - _distances(shares)),
        f"SR has {detail:.0%} of HR's fine detail, and {largest} has {blurring[largest]:.2%} of the gradient in the "
        "generator's weights: a distance of pixels alone is smallest for a blurred image.",
        f"Lower {run.option_of(largest)} (now {run.weight_of(largest):g}; published: aesop_opt 1, or pixel_opt 1e-2 beside "
        "a GAN); `aesop diagnose RUN --weights` computes it.",
    )


CAUSES = (
    Cause("swapped_pairs", "LR and HR files are swapped", 0, 1, swapped_pairs),
    Cause("learning_rate_high", "The learning rate is too high", 0, 2, learning_rate_too_high),
    Cause("learning_rate_low", "The learning rate is too low", 0, 2, learning_rate_too_low),
    Cause("autoencoder_colour", "The auto-encoder loses a colour", 1, 1, autoencoder_loses_colour),
    Cause("autoencoder_bottleneck", "The auto-encoder's bottleneck is not the LR image", 1, 1, bottleneck_is_no_lr_image),
    Cause("autoencoder_kernel", "The auto-encoder is of another LR kernel", 1, 1, autoencoder_of_another_kernel),
    Cause("average_too_slow", "The average (EMA) is too slow", 1, 2, average_too_slow),
    Cause("discriminator_blind", "The discriminator is blind", 1, 2, discriminator_blind),
    Cause("discriminator_wins", "The discriminator wins", 1, 2, discriminator_wins),
    Cause("gan_drowned", "The GAN term is drowned", 1, 2, gan_drowned),
    Cause("gan_drowning", "The GAN term drowns the others", 1, 2, gan_drowns_the_others),
    Cause("blur", "Collapse to blur", 1, 2, collapse_to_blur),
    Cause("losses_opposed", "Losses are against each other", 2, 2, losses_against_each_other),
    Cause("colour_drift", "Colours drift", 2, 2, colour_drift),
    Cause("checkerboard", "Checkerboard", 2, 2, checkerboard),
)
