"""The stage that an option file describes."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from aesop.archs import build_network
from aesop.archs.autoencoder import NARROWEST_IN_COLOUR, AutoEncoder
from aesop.archs.spandrel_nets import random_when_recomputed
from aesop.losses import build_losses
from aesop.options.config import PathOptions, TrainConfig
from aesop.system.distributed import World
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.stage import Stage
from aesop.weights.errors import WeightsError, option_context
from aesop.weights.load import load_into, mostly_fits
from aesop.weights.read import read_state_dict

log = logging.getLogger("aesop")
STAGES: dict[str, Callable[..., Stage]] = {"psnr": Stage, "autoencoder": AutoEncoderStage, "adversarial": AdversarialStage}


def build_stage(config: TrainConfig, world: World, resuming: bool = False) -> Stage:
    """Initialise the networks from the seed, then load the weights that the option file starts from.

    `resuming`: a state will fill in all weights, and the files need not exist any more.
    """
    start_from = partial(_start_from, PathOptions() if resuming else config.path)
    torch.manual_seed(config.manual_seed)
    net_g = build_network(config.network_g.model_dump())
    if isinstance(net_g, AutoEncoder):
        start_from("decoder", net_g.decoder)
        if net_g.colour_channels < 3:
            log.warning(
                f"network_g: this encoder has only {net_g.colour_channels} channels for 3 colours and loses one; set "
                f"network_g.enc_opt.num_feat to at least {NARROWEST_IN_COLOUR}"
            )
    if world.device.type == "cuda" and (names := random_when_recomputed(net_g)):
        log.warning(
            f"network_g: with {' and '.join(names)}, every block that is recomputed waits for the GPU; set "
            f"{', '.join(f'network_g.{name}=0' for name in names)}, or turn recomputation off (more memory)"
        )
    start_from("g", net_g)
    networks = [net_g]
    if config.stage == "adversarial" and config.network_d is not None:
        networks.append(build_network(config.network_d.model_dump()))
        start_from("d", networks[-1])
    losses = build_losses(config.train, config.scale, world)
    kind = STAGES[config.stage] if len(networks) > 1 or config.stage != "adversarial" else Stage
    return kind(config.train, *networks, world=world, precision=config.precision, losses=losses)


def _start_from(path: PathOptions, which: str, net: nn.Module) -> None:
    file = getattr(path, f"pretrain_network_{which}")
    if file:
        with option_context(f"path.pretrain_network_{which}"):
            state, _ = read_state_dict(file, getattr(path, f"param_key_{which}"))
            strict = getattr(path, f"strict_load_{which}")
            try:
                load_into(net, state, file, strict)
            except WeightsError as error:
                if not strict or not mostly_fits(net, state):
                    raise
                hint = f"To load only the tensors that fit, set path.strict_load_{which}: false"
                raise WeightsError(f"{error} {hint}") from error
