"""Option files of the published AESOP code, of BasicSR, LDL and Real-ESRGAN, translated to this project's layout."""

import copy
from collections.abc import Mapping
from typing import Any

from aesop.archs.spandrel_nets import WITHOUT_MEANING
from aesop.options.degradation import DegradationOptions

Raw = dict[str, Any]
# Published options that are ignored here, and why. `*` stands for any name.
IGNORED = {
    "num_gpu": "torchrun sets the number of processes",
    "dist_params": "torchrun sets up the processes",
    "find_unused_parameters": "parameters without a gradient are never averaged",
    "high_order_degradation": "a data set of type RealESRGANDataset is degraded, one with LR files never is",
    "datasets.train.prefetch_mode": "batches are always prefetched",
    "datasets.train.num_prefetch_queue": "batches are always prefetched",
    "datasets.train.dataset_enlarge_ratio": "training has no epochs: sample k is drawn from (seed, k)",
    "datasets.train.use_shuffle": "samples are always shuffled",
    "datasets.train.pin_memory": "memory is pinned wherever the device benefits",
    "datasets.val.metrics": "val.metrics sets the metrics of all data sets",
    "network_g.enc_opt.placeholder": "the published code ignores it as well",
    "val.pbar": "a validation that takes longer than 30 seconds shows at which image it is",
    "val.metrics.*.better": "each metric knows its direction",
    "val.metrics.*.num_thread": "PyTorch sets the number of threads",
    "train.aesop_opt.autoencoder_arch": "the architecture is recognised from the weight file",
}
# Published model classes -> (stage, options that the class sets unless the file does).
_PLAIN_GAN = {"gan_opt.relativistic": False}
_SHARPENED = {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": True}
MODEL_TYPES: dict[str, tuple[str, dict[str, bool]]] = {
    "SRModel": ("psnr", {}),
    "SwinIRModel": ("psnr", {}),
    "AEModel": ("autoencoder", {}),
    "ProbabilisticAEModel": ("autoencoder", {}),
    "SRGANModel": ("adversarial", _PLAIN_GAN),
    "ESRGANModel": ("adversarial", {}),
    "ESRGANArtifactsDisModel": ("adversarial", {}),
    "AesopESRGANArtifactsDisModel": ("adversarial", {}),
    "ProbabilisticAesopESRGANArtifactsDisModel": ("adversarial", {}),
    "RealESRNetModel": ("psnr", {"l1_gt_usm": True}),
    "RealESRGANModel": ("adversarial", _PLAIN_GAN | _SHARPENED),
    "RealESRGANArtifactsDisModel": ("adversarial", _PLAIN_GAN | _SHARPENED),
    "AesopRealESRGANArtifactsDisModel": ("adversarial", _PLAIN_GAN | _SHARPENED),
}
# Published data set classes -> ours.
_DATASET_TYPES = {"RealESRGANPairedDataset": "PairedImageDataset"}
# RRDBNet's former option names.
_OF_RRDBNET = dict(in_nc="num_in_ch", out_nc="num_out_ch", nf="num_feat", nb="num_block", gc="num_grow_ch", sf="scale")
# Options that other projects put elsewhere: there -> here.
_FORMER_PLACES = {
    "train.prob_aesop_opt": "train.aesop_opt",
    "train.ldl_opt": "train.artifacts_opt",
    "gt_usm": "train.l1_gt_usm",
    "l1_gt_usm": "train.l1_gt_usm",
    "percep_gt_usm": "train.percep_gt_usm",
    "gan_gt_usm": "train.gan_gt_usm",
    "datasets.train.use_hflip": "datasets.train.use_flip",
    "datasets.train.meta_info_file": "datasets.train.meta_info",
}


def from_published(raw: Mapping[str, Any]) -> tuple[Raw, list[str]]:
    """Raw options in either layout -> (in this project's layout, a note on each option that is ignored)."""
    raw = copy.deepcopy(dict(raw))
    generator, discriminator = raw.get("network_g"), raw.get("network_d")
    ignored = dict(IGNORED)
    if isinstance(generator, dict) and generator.get("type") == "DRCT":
        ignored |= {f"network_g.{name}": "DRCT accepts it without effect" for name in WITHOUT_MEANING["DRCT"]}
    notes = [f"{option} is ignored: {why}" for pattern, why in ignored.items() for option in _remove(raw, pattern)]
    if isinstance(generator, dict) and generator.get("type") in ("RRDBNet_LEGACY", "RRDB_BSRGANNet"):
        network = raw["network_g"] = {_OF_RRDBNET.get(name, name): value for name, value in generator.items()}
        network["type"] = "RRDBNet"
        if network.get("scale") == 2:
            network.setdefault("unshuffle", False)
    if isinstance(discriminator, dict) and discriminator.get("type") == "VGGStyleDiscriminator":
        discriminator["type"] += str(discriminator.pop("input_size", 128))
    for place, option in _FORMER_PLACES.items():
        source, target = _section_of(raw, place), _section_of(raw, option)
        if source is not None and target is not None and (former := place.split(".")[-1]) in source:
            target.setdefault(option.split(".")[-1], source.pop(former))
    if "model_type" in raw:
        model_type = raw.pop("model_type")
        if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
            raise ValueError(f"model_type: {model_type!r} is not supported; known: {', '.join(MODEL_TYPES)}")
        stage, options = MODEL_TYPES[model_type]
        raw.setdefault("stage", stage)
        for option, value in {**options, "ema_warmup": False}.items():
            if (section := _section_of(raw, f"train.{option}")) is not None:
                section.setdefault(option.split(".")[-1], value)
    datasets = raw.get("datasets")
    for section in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(section, dict) and isinstance(section.get("type"), str):
            section["type"] = _DATASET_TYPES.get(section["type"], section["type"])
    _gather_degradation(raw)
    return raw, notes


def _section_of(raw: Any, option: str) -> Raw | None:
    for name in option.split(".")[:-1]:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else None


def _remove(raw: Any, pattern: str) -> list[str]:
    """Remove the options that match a pattern; returns their names."""
    name, _, rest = pattern.partition(".")
    if not isinstance(raw, dict) or (name != "*" and name not in raw):
        return []
    if not rest:
        del raw[name]
        return [name]
    return [f"{child}.{option}" for child in (list(raw) if name == "*" else [name]) for option in _remove(raw[child], rest)]


def _gather_degradation(raw: Raw) -> None:
    """Real-ESRGAN's options, some at the top and some below datasets.train -> the section `degradation`."""
    crops = _section_of(raw, "datasets.train.*")
    if crops is None:
        return
    if "gt_size" in raw:
        size = raw.pop("gt_size")
        if crops.setdefault("gt_size", size) != size:
            raise ValueError(f"gt_size: {size} at the top, {crops['gt_size']} in datasets.train; give one of them")
    found = [(place, name) for place in (raw, crops) for name in DegradationOptions.model_fields if name in place]
    if found or crops.get("type") == "RealESRGANDataset":
        section = raw.setdefault("degradation", {})
        for place, name in found if isinstance(section, dict) else []:
            section.setdefault(name, place.pop(name))


def former_places(option: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Where else a published file may have an option, for line numbers."""
    if option[:1] == ("degradation",) and len(option) > 1:
        return [option[1:], ("datasets", "train", *option[1:])]
    return [tuple(there.split(".")) for there, here in _FORMER_PLACES.items() if here == ".".join(option)]
