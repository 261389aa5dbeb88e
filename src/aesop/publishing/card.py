"""A folder to publish a model: the weight file with its description, a Markdown card, OpenModelDB's entry, and pictures."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from aesop.archs import image_channels
from aesop.conversion.portable import ROUNDING, difference_in_spandrel
from aesop.images.write import write_image
from aesop.inference.hub import HUB_PREFIX, is_repository
from aesop.inference.models import find_model
from aesop.publishing.entry import entry_of, model_id
from aesop.publishing.figures import measured_table
from aesop.publishing.markdown_card import markdown_card
from aesop.publishing.model import Model
from aesop.publishing.openmodeldb import TAGS
from aesop.publishing.samples import SamplePair, make_samples
from aesop.system.files import replacing_folder, sha256_of
from aesop.system.wording import readable
from aesop.weights.description import Description

CARD, IMAGES, FINDER = "README.md", "images", ".DS_Store"
NOTHING = Description()


def write_card(
    model: str | Path | None,
    folder: Path | None = None,
    given: Description = NOTHING,
    *,
    urls: Sequence[str] = (),
    results: Sequence[Path] = (),
    samples: Sequence[Path] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Write the folder, by default `<scale>x-<title>_card`, and return it. The model's own file stays as it is.

    Args:
        model: weight file or name, as `find_model` takes it.
        given: what the file does not say of the model, or what is to be changed; empty fields are the file's.
        urls: where people will find the weight file; `hf:owner/name` stands for its address on the Hugging Face hub.
        results: files results.json with values of this weight file.
        samples: photographs to enlarge; default: those that come with aesop.

    Raises:
        ValueError: something that a card needs is not known or not allowed; the message names the option.
    """
    file = find_model(model)
    described = Model.find(file, given)
    about, scale = described.about, described.info.scale
    _check(about, urls)
    figures = measured_table(results, sha256_of(file), about.title) if results else ""
    name = model_id(about.title, scale)
    folder = folder or Path(f"{name}_card")
    _check_folder(folder, overwrite)
    on_hub = next((url for url in urls if url.startswith(HUB_PREFIX)), "")
    with replacing_folder(folder) as temporary:
        weights = temporary / f"{name}.safetensors"
        described.save(weights)
        pairs = [_write_pair(pair, temporary) for pair in make_samples(weights, samples, device)]
        images = [(_on_hub(on_hub, pair["bicubic"]), _on_hub(on_hub, pair["model"])) for pair in pairs if on_hub]
        entry = entry_of(described, weights, [_on_hub(url, weights.name) for url in urls], images)
        (temporary / f"{name}.json").write_text(entry.to_json(), encoding="utf-8")
        text = markdown_card(
            about,
            described.training,
            facts=_facts(described, weights),
            figures=figures,
            samples=pairs,
            credits={pair["name"]: pair["credit"] for pair in pairs if pair["credit"]},
            weights=weights.name,
            source=on_hub or weights.name,
            in_spandrel=_runs_in_spandrel(described, weights),
            channels=image_channels(described.info.options),
            scale=scale,
        )
        (temporary / CARD).write_text(text, encoding="utf-8")
    return folder


def _check(about: Description, urls: Sequence[str]) -> None:
    """ValueError that names the options of all that is not known, or of what is not allowed."""
    needed = {
        "--author NAME": about.author,
        "--description TEXT": about.description,
        f"--tag TAG, at least one of {', '.join(TAGS)}": set(about.tags) & set(TAGS),
        f"--url URL, where the weights will be ({HUB_PREFIX}owner/name for the Hugging Face hub)": urls,
    }
    if missing := [option for option, value in needed.items() if not value]:
        raise ValueError("the weight file does not say all that a card needs; also give\n  " + "\n  ".join(missing))
    for url in urls:
        if not re.match(r"https?://\S+$", url) and not (
            url.startswith(HUB_PREFIX) and is_repository(url[len(HUB_PREFIX) :])
        ):
            raise ValueError(f"--url {url}: give an address (https://...) or {HUB_PREFIX}owner/name")
    try:
        date.fromisoformat(about.date)
    except ValueError:
        raise ValueError(f"--date {about.date}: write it as YYYY-MM-DD") from None


def _check_folder(folder: Path, overwrite: bool) -> None:
    """What is not a card is never replaced."""
    if not folder.exists():
        return
    if not overwrite:
        raise ValueError(f"{folder} exists: give another folder with -o, or --overwrite")
    if not is_card(folder):
        raise ValueError(f"{folder} is not only a card, so it is not replaced: give another folder with -o")


def is_card(folder: Path) -> bool:
    """Whether a folder contains a card and nothing else, but for what macOS leaves in folders that one looks at."""
    if not (folder / CARD).is_file():
        return False
    names = (CARD, IMAGES, FINDER)
    return all(path.name in names or path.suffix in (".json", ".safetensors") for path in folder.iterdir())


def _write_pair(pair: SamplePair, folder: Path) -> dict[str, str]:
    files = {side: f"{IMAGES}/{pair.file}_{side}.webp" for side in ("bicubic", "model")}
    write_image(folder / files["bicubic"], pair.bicubic)
    write_image(folder / files["model"], pair.model)
    return {"name": pair.name, "credit": pair.credit, **files}


def _on_hub(url: str, file: str) -> str:
    """The address of a file of the card in the repository `hf:owner/name`; another address is that of the file itself."""
    return f"https://huggingface.co/{url[len(HUB_PREFIX) :]}/resolve/main/{file}" if url.startswith(HUB_PREFIX) else url


def _facts(model: Model, weights: Path) -> dict[str, str]:
    colours = {(1, 1): "gray", (3, 3): "RGB"}
    return {
        "architecture": model.info.arch,
        "scale": f"x{model.info.scale}",
        "parameters": f"{sum(parameter.numel() for parameter in model.net.parameters()) / 1e6:.2f} million",
        "images": colours[image_channels(model.info.options)],  # as the samples could be made
        "file": f"`{weights.name}`, {readable(weights.stat().st_size)}",
        "author": model.about.author,
        "licence": model.about.license or "none given: all rights reserved",
        "date": model.about.date,
    }


def _runs_in_spandrel(model: Model, weights: Path) -> bool:
    """Whether spandrel alone loads the file and makes the same image."""
    try:
        return difference_in_spandrel(model.net, weights, model.info.options) <= ROUNDING
    except Exception:  # noqa: BLE001 - spandrel and its networks raise anything
        return False
