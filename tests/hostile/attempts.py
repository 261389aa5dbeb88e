"""What is tried on each mutation, in the current folder: `accepted`, `refused` with a clean message, or an exception.

A clean message is one of our errors, names the file, and reaches the terminal without a traceback.
"""

import warnings
from functools import cache
from pathlib import Path

import mutations
import numpy as np
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from aesop.cli import app
from aesop.commands.upscale import upscale_files
from aesop.data.find_pairs import Pair
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile
from aesop.options.config import CommonConfig, TrainConfig
from aesop.options.error_messages import ConfigError
from aesop.options.read import load_config
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network
from aesop.weights.read import read_state_dict

LARGEST_UPSCALED = 100_000  # pixels


def command(*words: object, codes: tuple[int, ...] = (0, 1)) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    assert result.exit_code in codes, result.exit_code
    assert "Traceback" not in result.output
    return result.output


def named(error: Exception, name: str) -> str:
    assert name in str(error), f"does not name {name}: {error}"
    assert len(str(error)) < 50_000
    return "refused"


def option_file(seed: int, number: int) -> str:
    _, content = mutations.option_file(seed, number)
    file = Path("options.yml")
    file.write_bytes(content)
    try:
        config, _ = load_config(file)
    except ConfigError as error:
        if number % 4 == 0:
            text = command("train", file, "--dry-run", codes=(1,))
            assert file.name in text, text
        return named(error, file.name)
    below_its_roots(config)
    assert config.to_yaml()
    more = {
        10: ("train" if isinstance(config, TrainConfig) else "test", "--dry-run"),
        30: ("pipeline", "--dry-run"),
        90: ("doctor", "--no-run"),
    }
    if number % 100 in more:  # with what they build and look at
        verb, option = more[number % 100]
        command(verb, file, option)
    return "accepted"


def below_its_roots(config: CommonConfig) -> None:
    """Nothing is written outside the folders that `experiments_root` and `results_root` name."""
    sections = {**config.datasets.measured("val"), **config.datasets.measured("test")}
    for root, folder in (
        (config.path.experiments_root, config.run_folder),
        (config.path.results_root, config.results_folder),
    ):
        places = [folder, *(folder / "images" / name / f"x_{config.val.suffix}.png" for name in sections)]
        for place in places:
            assert place.resolve().is_relative_to(Path(root).expanduser().resolve()), place
        assert folder.resolve() != Path(root).expanduser().resolve()


@cache
def generator_file() -> Path:
    file = Path("generator.safetensors")
    save_file(mutations.weights(), file)
    return file


def image(seed: int, number: int) -> str:
    _, name, content = mutations.image(seed, number)
    file = Path(name)
    file.write_bytes(content)
    try:
        size = ImageFile.at(file).size()
    except ImageError as error:
        named(error, name)
        size = None
    try:
        array, alpha = ImageFile.at(file).read_with_alpha()
    except ImageError as error:
        outcome = named(error, name)
    else:
        outcome = "accepted"
        assert array.ndim == 3
        assert array.shape[2] == 3
        assert array.dtype in (np.uint8, np.uint16)
        assert alpha is None or alpha.shape == array.shape[:2]
        assert size == array.shape[1::-1], (size, array.shape)
        if array[..., 0].size > LARGEST_UPSCALED:
            return outcome
    try:
        Pair(ImageFile.at(file), None, "x").read(4)
        fault = None
    except ImageError as error:
        named(error, name)
        fault = str(error)
    assert (fault is None) == (outcome == "accepted") or "too small" in str(fault), fault
    (result,) = upscale_files([file], Path("results"), generator_file(), device="cpu", overwrite=True)
    if outcome == "accepted":
        assert result.error is None, result.error
    if result.error is None:  # upscaling reads more kinds of files than training
        result.target.unlink()
    else:
        named(ImageError(result.error), name)
    file.unlink()
    return outcome


def weight_file(seed: int, number: int) -> str:
    _, name, content = mutations.weight_file(seed, number)
    file = Path(name)
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            state, metadata = read_state_dict(file)
            assert all(isinstance(value, Tensor) for value in state.values())
            assert all(isinstance(value, str) for value in metadata.values())
        except WeightsError as error:
            named(error, name)
        if number % 10 == 0:
            command("convert", file, "converted.safetensors")
        try:
            load_network(file)
        except WeightsError as error:
            return named(error, name)
    return "accepted"


ATTEMPTS = {"option_file": option_file, "image": image, "weight_file": weight_file}
