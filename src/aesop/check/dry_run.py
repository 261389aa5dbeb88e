"""What a training or test would read, build and write, looked at before it starts: `--dry-run`, a pipeline's beginning."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from aesop.archs import build_network
from aesop.data.find_pairs import Pair, Single
from aesop.data.measured_pairs import MeasuredPairs
from aesop.data.realworld import Degrader
from aesop.metrics.build import check_metrics, without_reference
from aesop.options.basicsr import is_placeholder
from aesop.options.config import Config
from aesop.options.datasets import PairedDataset
from aesop.system.device import pick_device
from aesop.training.checkpoint import final_model
from aesop.training.training_images import training_images
from aesop.weights.pretrained import find_file, has_pretrained


def preflight(config: Config, made: Collection[Path] = (), images: bool = True) -> tuple[list[str], list[str]]:
    """Lines that describe the run, and every fault found, without training or writing anything.

    Args:
        made: files that an earlier stage of a pipeline will have written by then.
        images: look at the data sets as well; `aesop doctor` does so itself, and closer.
    """
    assert config.train is not None
    assert config.datasets.train is not None
    lines, faults = _device_and_networks(config)
    if images:
        _look_at("train", config.datasets.train, lambda: training_images(config).pairs, config, lines, faults)
    if config.degradation is not None:
        try:
            Degrader(config, rank=0)
        except ValueError as error:
            faults.append(str(error))
    for section, data in (config.datasets.measured("val") if images else {}).items():
        _look_at_measured(section, data, config, lines, faults)
    lines.append("would read:")
    for option, file in starting_files(config).items():
        _look_at_file(option, file, lines, faults, made)
    for option, loss in config.train.losses().items():
        for name in loss.known_weights:
            there = "found" if has_pretrained(name) else "MISSING"
            lines.append(f"  train.{option}: {name} ({there})")
            if there == "MISSING":
                try:
                    find_file(name)
                except FileNotFoundError as error:
                    faults.append(f"train.{option}: {error}")
    if config.datasets.measured("val") and config.val.val_freq:
        faults += check_metrics(config.val.metrics, has_autoencoder=config.train.aesop_opt is not None)
    lines += ["would write:", f"  {config.run_folder}/", f"  {final_model(config)}"]
    return lines, faults


def preflight_test(config: Config, images: bool = True) -> tuple[list[str], list[str]]:
    """`preflight` for `aesop test`."""
    lines, faults = _device_and_networks(config)
    sections = config.datasets.measured("test") or config.datasets.measured("val")
    for section, data in (sections if images else {}).items():
        _look_at_measured(section, data, config, lines, faults)
    lines.append("would read:")
    _look_at_file("path.pretrain_network_g", config.path.pretrain_network_g or "(not given)", lines, faults)
    for file in _compared(config):
        _look_at_file("path.compare_with", file, lines, faults)
    alone = all(data.type == "SingleImageDataset" for data in sections.values())
    try:
        faults += check_metrics(
            without_reference(config.val.metrics) if alone else config.val.metrics, has_autoencoder=False
        )
    except ValueError as error:
        faults.append(str(error))
    lines += ["would write:", f"  {config.results_folder}/"]
    return lines, faults


def _device_and_networks(config: Config) -> tuple[list[str], list[str]]:
    lines, faults = [], []
    try:
        lines.append(f"device: {pick_device(config.device)}")
    except ValueError as error:
        faults.append(str(error))
    for name, options in (("network_g", config.network_g), ("network_d", config.network_d)):
        if options is not None:
            try:
                count = sum(p.numel() for p in build_network(options.model_dump()).parameters())
                lines.append(f"{name}: {options.type}, {count:,} parameters")
            except ValueError as error:
                faults.append(f"{name}: {error}")
    return lines, faults


def _look_at(
    section: str,
    data: PairedDataset,
    find: Callable[[], Sequence[Pair | Single]],
    config: Config,
    lines: list[str],
    faults: list[str],
) -> None:
    if missing := missing_roots(section, data):
        faults += missing
        return
    try:
        pairs = find()
    except ValueError as error:
        faults.append(str(error))
        return
    origin = f"LR by bicubic 1/{config.scale}"
    if isinstance(pairs[0], Single):
        origin = "inputs without HR"
    elif section == "train" and config.degradation:
        origin = "LR by random degradation"
    elif pairs[0].lq:
        origin = "LR files"
    lines.append(f"datasets.{section}: {len(pairs)} images, {origin}")


def _look_at_measured(section: str, data: PairedDataset, config: Config, lines: list[str], faults: list[str]) -> None:
    _look_at(section, data, lambda: MeasuredPairs(data, section, config.scale).pairs, config, lines, faults)


def missing_roots(section: str, data: PairedDataset) -> list[str]:
    """A sentence for each folder of a data set that is not there."""
    named = [(option, getattr(data, option) or []) for option in ("dataroot_gt", "dataroot_lq")]
    return [
        _missing(f"datasets.{section}.{option}", root)
        for option, roots in named
        for root in ([roots] if isinstance(roots, str) else roots)
        if not Path(root).expanduser().exists()
    ]


def _missing(option: str, path: str) -> str:
    return f"{option}: {path} {'has to be filled in' if is_placeholder(path) else 'does not exist'}"


def _look_at_file(option: str, file: str, lines: list[str], faults: list[str], made: Collection[Path] = ()) -> None:
    there = "found" if Path(file).expanduser().is_file() else "MISSING"
    if Path(file) in made:
        there = "made by a stage before"
    lines.append(f"  {option}: {file} ({there})")
    if there == "MISSING":
        faults.append(_missing(option, file))


def missing_inputs(config: Config, to_test: bool) -> list[str]:
    """Every folder and weight file that the options name and that is not there, placeholders of published files included."""
    files = list(starting_files(config).items()) if config.train and not to_test else []
    if to_test:
        files = [("path.pretrain_network_g", config.path.pretrain_network_g)]
        files += [("path.compare_with", file) for file in _compared(config)]
    sections = config.datasets.measured("val")
    if to_test:
        sections = config.datasets.measured("test") or sections
    elif config.datasets.train is not None:
        sections = {"train": config.datasets.train} | sections
    missing = [_missing(option, file) for option, file in files if file and not Path(file).expanduser().is_file()]
    return missing + [fault for section, data in sections.items() for fault in missing_roots(section, data)]


def _compared(config: Config) -> list[str]:
    given = config.path.compare_with or []
    return [given] if isinstance(given, str) else given


def refuse_missing_inputs(config: Config, source: object, to_test: bool = False) -> None:
    """Raise ValueError with all that `missing_inputs` finds, and how to go on."""
    if missing := missing_inputs(config, to_test):
        raise ValueError(
            f"{source} names what is not there; give it in the file, or as key=value behind it (datasets.NAME=null leaves a "
            "set out):\n  " + "\n  ".join(missing)
        )


def starting_files(config: Config) -> dict[str, str]:
    """The weight files a training starts from, by the option that names them."""
    assert config.train is not None
    aesop, percep = config.train.aesop_opt, config.train.perceptual_opt
    files = {
        "path.pretrain_network_g": config.path.pretrain_network_g,
        "path.pretrain_network_d": config.path.pretrain_network_d,
        "path.pretrain_network_decoder": config.path.pretrain_network_decoder,
        "train.aesop_opt.autoencoder_load": aesop.autoencoder_load.path if aesop and aesop.autoencoder_load else None,
        "train.perceptual_opt.vgg_path": percep.vgg_path if percep else None,
    }
    return {option: file for option, file in files.items() if file}
