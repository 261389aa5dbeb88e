"""Option files of the published code, of BasicSR, LDL and Real-ESRGAN, brought to this project's layout.

The options and their names are the same; some stand in other places there, some mean nothing here, and `model_type` names a
class of that code.
"""

import re
from collections.abc import Mapping
from typing import Any

from aesop.options.degradation import DegradationOptions

Raw = dict[str, Any]
# Published options that mean nothing here: accepted, and said so in one line each. `*` stands for any name.
WITHOUT_MEANING = {
    "num_gpu": "the processes started by torchrun decide",
    "dist_params": "the processes started by torchrun decide",
    "find_unused_parameters": "only gradients that are there are averaged",
    "high_order_degradation": "both rounds always run; second_blur_prob, resize_prob2 ... say what the second does",
    "datasets.train.prefetch_mode": "batches are always prefetched",
    "datasets.train.num_prefetch_queue": "batches are always prefetched",
    "datasets.train.dataset_enlarge_ratio": "there are no epochs to lengthen: sample k is drawn from (seed, k)",
    "datasets.train.use_shuffle": "samples are always drawn in a shuffled order",
    "datasets.train.pin_memory": "memory is pinned whenever the device gains from it",
    "datasets.val.metrics": "val.metrics says what is measured",
    "network_g.enc_opt.placeholder": "it never had a meaning",
    "val.pbar": "progress is always shown",
    "val.metrics.*.better": "every metric knows which direction is better",
    "val.metrics.*.num_thread": "PyTorch decides",
    "train.aesop_opt.autoencoder_arch": "the architecture is found from the weight file",
}
# Published model classes -> our stage, and what else the class decides where the file says nothing.
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
    "AesopRealESRGANArtifactsDisModel": ("adversarial", _PLAIN_GAN | _SHARPENED),
}
# RRDBNet under its former names, with its former options.
_FORMER_RRDBNETS = ("RRDBNet_LEGACY", "RRDB_BSRGANNet")
_FORMER_OPTIONS = {
    "in_nc": "num_in_ch",
    "out_nc": "num_out_ch",
    "nf": "num_feat",
    "nb": "num_block",
    "gc": "num_grow_ch",
    "sf": "scale",
}


def from_published(raw: Mapping[str, Any]) -> tuple[Raw, list[str]]:
    """Raw options in either layout -> in this project's, and a line on each that has no meaning here.

    Raises:
        ValueError: for a `model_type` that has no counterpart.
    """
    raw = _copied(raw)
    notes = [
        f"{place} has no meaning here: {why}" for dotted, why in WITHOUT_MEANING.items() for place in _take_out(raw, dotted)
    ]
    notes += _without_meaning_to_spandrel(raw)
    if isinstance(raw.get("network_g"), dict):
        raw["network_g"] = _current_rrdbnet(raw["network_g"])
    if isinstance(discriminator := raw.get("network_d"), dict) and discriminator.get("type") == "VGGStyleDiscriminator":
        discriminator["type"] += str(discriminator.pop("input_size", 128))
    train = raw.get("train")
    if isinstance(train, dict):
        _move(train, "prob_aesop_opt", train, "aesop_opt")
        _move(train, "ldl_opt", train, "artifacts_opt")
        _move(raw, "gt_usm", train, "l1_gt_usm")
        for name in _SHARPENED:
            _move(raw, name, train, name)
    if "model_type" in raw:
        _apply_model_type(raw, raw.pop("model_type"))
    _gather_degradation(raw)
    return raw, notes


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _section(raw: Any, *names: str) -> Any:
    for name in names:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _take_out(raw: Any, dotted: str) -> list[str]:
    """Remove an option wherever it stands; the places it stood."""
    name, _, rest = dotted.partition(".")
    if not isinstance(raw, dict) or (name != "*" and name not in raw):
        return []
    if not rest:
        del raw[name]
        return [name]
    return [f"{child}.{place}" for child in (list(raw) if name == "*" else [name]) for place in _take_out(raw[child], rest)]


def _move(source: Raw, name: str, target: Raw, new_name: str) -> None:
    """What the target says itself stays."""
    if name in source:
        target.setdefault(new_name, source.pop(name))


def _without_meaning_to_spandrel(raw: Raw) -> list[str]:
    network = raw.get("network_g")
    if not isinstance(network, dict) or network.get("type") != "DRCT":
        return []
    from aesop.archs.spandrel_nets import WITHOUT_MEANING as NO_EFFECT

    named = [name for name in NO_EFFECT["DRCT"] if name in network]
    for name in named:
        del network[name]
    return [f"network_g.{name} has no meaning: DRCT's class takes it and does nothing with it" for name in named]


def _current_rrdbnet(network: Raw) -> Raw:
    if network.get("type") not in _FORMER_RRDBNETS:
        return network
    network = {_FORMER_OPTIONS.get(name, name): value for name, value in network.items()} | {"type": "RRDBNet"}
    if network.get("scale") == 2:
        network.setdefault("unshuffle", False)
    return network


def _apply_model_type(raw: Raw, model_type: Any) -> None:
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise ValueError(f"model_type: {model_type!r} is not supported; known: {', '.join(MODEL_TYPES)}")
    stage, decided = MODEL_TYPES[model_type]
    raw.setdefault("stage", stage)
    if isinstance(raw.get("train"), dict):
        raw["train"].setdefault("ema_warmup", False)
    for dotted, value in decided.items():
        *parents, option = dotted.split(".")
        section = _section(raw, "train", *parents)
        if isinstance(section, dict):
            section.setdefault(option, value)


def _gather_degradation(raw: Raw) -> None:
    """Real-ESRGAN's options, partly at the top and partly below datasets.train -> the section `degradation`."""
    crops = _section(raw, "datasets", "train")
    if not isinstance(crops, dict):
        return
    _move(crops, "use_hflip", crops, "use_flip")
    _move(crops, "meta_info_file", crops, "meta_info")
    if "gt_size" in raw:
        size = raw.pop("gt_size")
        if crops.setdefault("gt_size", size) != size:
            raise ValueError(f"gt_size: {size} at the top, {crops['gt_size']} in datasets.train; give one of them")
    places = [place for place in (raw, crops) if any(name in place for name in DegradationOptions.model_fields)]
    if places or crops.get("type") == "RealESRGANDataset":
        section = raw.setdefault("degradation", {})
        if isinstance(section, dict):
            for place in places:
                for name in [name for name in place if name in DegradationOptions.model_fields]:
                    _move(place, name, section, name)


def former_place(location: list[str]) -> list[list[str]]:
    """Where else in a file an option may stand: for line numbers."""
    if location[:1] == ["degradation"] and len(location) > 1:
        return [location[1:], ["datasets", "train", *location[1:]]]
    former = {
        "train.l1_gt_usm": [["l1_gt_usm"], ["gt_usm"]],
        "train.percep_gt_usm": [["percep_gt_usm"]],
        "train.gan_gt_usm": [["gan_gt_usm"]],
        "train.aesop_opt": [["train", "prob_aesop_opt"]],
        "train.artifacts_opt": [["train", "ldl_opt"]],
        "datasets.train.use_flip": [["datasets", "train", "use_hflip"]],
        "datasets.train.meta_info": [["datasets", "train", "meta_info_file"]],
    }
    return former.get(".".join(location), [])


def is_placeholder(path: str) -> bool:
    """Whether a path is one that published files leave to the user: YOUR_HR_PATH."""
    return re.fullmatch(r"<?YOUR[ _].*", path) is not None
