"""Loss weights that would bring a run's gradients to the shares they have in the published recipe."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from aesop.diagnosis.run_record import RunRecord

ANCHORS = ("aesop", "pix", "percep")
"""The loss whose weight stays: the first of these in the run."""


@cache
def recipes() -> dict[str, Any]:
    """Each loss's share of the gradient in the generator's weights under the published weights, and where it was measured.

    benchmarks/recipe_balance.py measures them with a perceptual loss.
    """
    return json.loads((resources.files("aesop") / "assets" / "recipe_balance.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Weighed:
    """A loss of a run: its weight and share now, the share in the recipe, and the weight that brings it there."""

    loss: str
    option: str
    weight: float
    share: float
    recipe_share: float | None
    new_weight: float | None


@dataclass(frozen=True)
class Balance:
    recipe: str
    anchor: str
    losses: list[Weighed]


def recipe_of(run: RunRecord) -> str:
    """The published recipe that a run is compared with: `realworld` for a plain GAN or random degradation."""
    gan = run.config.train.gan_opt
    plain = gan is not None and not gan.relativistic
    return "realworld" if run.config.degradation is not None or plain else "synthetic"


def balance(run: RunRecord) -> Balance:
    """Compare a run with its recipe.

    Raises:
        ValueError: the run has no readings yet, or fewer than two losses that the recipe has.
    """
    shares = run.shares()
    if not shares:
        raise ValueError(
            f"{run.folder} has no readings of gradients in its second half: continue it with --resume and "
            "logger.readings_freq=100"
        )
    recipe = recipe_of(run)
    if recipe not in recipes():
        raise ValueError(
            f"{run.folder}: the {recipe} recipe's balance has not been measured; benchmarks/recipe_balance.py does"
        )
    of_recipe: Mapping[str, float] = recipes()[recipe]["shares"]
    # A pixel loss stands where the AESOP loss stands in the recipe.
    stand_in = {"pix": "aesop"} if "aesop" not in shares else {}
    wanted = {loss: of_recipe[name] for loss in shares if (name := stand_in.get(loss, loss)) in of_recipe}
    wanted = {loss: share for loss, share in wanted.items() if shares[loss] > 0 and run.weight_of(loss) > 0}
    if len(wanted) < 2:
        known = ", ".join(of_recipe)
        raise ValueError(f"{run.folder}: fewer than two of this run's losses are in the published {recipe} recipe ({known})")
    anchor = next((loss for loss in ANCHORS if loss in wanted), next(iter(wanted)))
    total = sum(wanted.values())
    losses = []
    for loss, share in shares.items():
        new = None
        if loss in wanted:
            factor = (wanted[loss] / wanted[anchor]) / (share / shares[anchor])
            new = run.weight_of(loss) * factor
        recipe_share = wanted[loss] / total if loss in wanted else None
        losses.append(Weighed(loss, run.option_of(loss), run.weight_of(loss), share, recipe_share, new))
    return Balance(recipe, anchor, losses)


def described(found: Balance) -> list[str]:
    """A line for each loss, then the options to paste."""
    lines = [
        f"Shares of the gradient in the generator's weights, now and in the published {found.recipe} recipe "
        f"(measured on {recipes()[found.recipe]['measured_on']}):"
    ]
    for each in found.losses:
        recipe = "not in the recipe" if each.recipe_share is None else f"recipe {each.recipe_share:.2%}"
        new = "keep" if each.new_weight is None or each.loss == found.anchor else f"-> {each.new_weight:.2g}"
        lines.append(f"  {each.loss}: {each.share:.2%}, {recipe}; {each.option} {each.weight:.3g} {new}")
    lines += ["", *yaml.safe_dump(_nested(found), sort_keys=False).splitlines(), ""]
    changed = [f"{each.option}={each.new_weight:.2g}" for each in found.losses if _changes(each, found)]
    lines.append("on the command line: " + " ".join(changed) if changed else "Nothing to change.")
    return lines


def _changes(each: Weighed, found: Balance) -> bool:
    return each.new_weight is not None and each.loss != found.anchor


def _nested(found: Balance) -> dict[str, Any]:
    train: dict[str, Any] = {}
    for each in found.losses:
        if each.new_weight is not None:
            _, section, name = each.option.split(".")
            weight = each.weight if each.loss == found.anchor else each.new_weight
            train[section] = {name: float(f"{weight:.2g}")}
    return {"train": train}
