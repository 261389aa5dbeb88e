"""Every option that changes what a step computes, on tiny networks, and a step of each case on any device."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from aesop.archs import build_network
from aesop.losses import build_losses
from aesop.losses.perceptual import PerceptualLoss
from aesop.options.training import TrainOptions
from aesop.system.distributed import World
from aesop.training.acceleration import accelerate
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.stage import Stage

Net = dict[str, Any]
RRDB: Net = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}
AUTOENCODER: Net = {"type": "AutoEncoder_RRDBNet", "enc_opt": {"num_feat": 48}, "dec_opt": RRDB}
PROBABILISTIC = AUTOENCODER | {"type": "ProbabilisticAutoEncoder_RRDBNet"}
UNET: Net = {"type": "UNetDiscriminatorSN", "num_feat": 8}
VGG_STYLE: Net = {"type": "VGGStyleDiscriminator128", "num_feat": 4}
TRANSFORMER: Net = {
    "upscale": 4, "img_size": 8, "window_size": 4, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 2], "mlp_ratio": 2,
    "upsampler": "pixelshuffle", "resi_connection": "1conv",
}  # fmt: skip
SWINIR: Net = TRANSFORMER | {"type": "SwinIR"}
DRCT: Net = TRANSFORMER | {"type": "DRCT", "gc": 4}
LAYERS = {"conv1_2": 0.1, "conv2_2": 1.0}
CHECKPOINT = {"use_checkpoint": True}


@dataclass
class Case:
    """A stage's networks and options, and the side of its HR crops."""

    train: dict[str, Any]
    network_g: Net = field(default_factory=lambda: RRDB)
    network_d: Net | None = None
    autoencoder: Net = field(default_factory=lambda: AUTOENCODER)
    side: int = 32
    batch: int = 2

    def stage(self, device: torch.device, precision: str) -> Stage:
        train = TrainOptions.model_validate({"total_iter": 1000, **self.train})
        net_g, world = build_network(self.network_g), World(device=device)
        if self.network_d is None:
            kind = AutoEncoderStage if "dec_opt" in self.network_g else Stage
            return kind(train, net_g, world, precision)
        ready = {}
        if train.aesop_opt is not None:
            ready["aesop_opt"] = train.aesop_opt.around(build_network(self.autoencoder))
        if train.perceptual_opt is not None:
            ready["perceptual_opt"] = PerceptualLoss(**train.perceptual_opt.model_dump())
        losses = build_losses(train, world=world, ready=ready)
        return AdversarialStage(train, net_g, build_network(self.network_d), world, precision, losses)

    def build(self, way: str, device: torch.device) -> Callable[[int], object]:
        """A step of the iteration given, on images made here, with the options in `way`, joined by +."""
        precision, *switches = way.split("+")
        stage = self.stage(device, precision)
        step = accelerate(stage, **{switch: True for switch in switches})
        lq = torch.rand(self.batch, 3, self.side // 4, self.side // 4, device=device)
        gt = torch.rand(self.batch, 3, self.side, self.side, device=device)

        def run(iteration: int) -> object:
            stage.set_learning_rate(iteration)
            return step(lq, gt, iteration)

        return run


def psnr(network_g: Net = RRDB, **train: Any) -> Case:
    return Case({"pixel_opt": {}, **train}, network_g)


def autoencoder(network_g: Net = AUTOENCODER, **train: Any) -> Case:
    return Case({"pixel_opt": {}, **train}, network_g)


def adversarial(network_g: Net = RRDB, network_d: Net = UNET, encoder: Net = AUTOENCODER, **train: Any) -> Case:
    losses = {"aesop_opt": {}, "artifacts_opt": {}, "perceptual_opt": {"layer_weights": LAYERS}, "gan_opt": {}}
    return Case(losses | train, network_g, network_d, encoder, 128 if network_d is VGG_STYLE else 32)


SHARPENED = {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": True, "aesop_gt_usm": True}
KL = "ProbabilisticAutoEncoderReverseKLDivergenceLoss"
STYLE = {"layer_weights": LAYERS, "style_weight": 1.0, "criterion": "fro"}
CASES = {
    "psnr": psnr(),
    "psnr, checkpointing": psnr(RRDB | CHECKPOINT, pixel_opt={"type": "CharbonnierLoss"}),
    "psnr, accumulate, AdamW": psnr(accumulate=2, optim_g={"type": "AdamW", "weight_decay": 0.01}),
    "psnr, Adan": psnr(optim_g={"type": "Adan", "weight_decay": 0.01, "clip_norm": 1.0}),
    "psnr, schedule-free": psnr(optim_g={"type": "AdamWScheduleFree", "weight_decay": 0.01}),
    "psnr, no average": psnr(ema_decay=0),
    "psnr, MSRResNet": psnr({"type": "MSRResNet", "num_feat": 8, "num_block": 1}),
    "psnr, SPSRNet": psnr({"type": "SPSRNet", "nf": 8, "nb": 21}, pixel_opt={"type": "LRL1Loss"}),
    "autoencoder": autoencoder(pixel_at_LR_opt={}),
    "autoencoder, frozen decoder": autoencoder(pixel_at_LR_opt={}, freeze_decoder=100),
    "autoencoder, sigma": autoencoder(PROBABILISTIC, pixel_at_LR_opt={}, sigmabranch_opt={}),
    "autoencoder, bicubic": autoencoder({"type": "BicubicDown_RRDBNet", "dec_opt": RRDB}, pixel_at_LR_opt={}),
    "adversarial": adversarial(),
    "adversarial, VGG style": adversarial(network_d=VGG_STYLE),
    "adversarial, published passes": adversarial(network_d=VGG_STYLE, net_d_published_passes=True),
    "adversarial, schedule-free, Adan": adversarial(optim_g={"type": "AdamWScheduleFree"}, optim_d={"type": "Adan"}),
    "adversarial, D alone": adversarial(net_d_init_iters=100),
    "adversarial, pixel": adversarial(aesop_opt=None, pixel_opt={}),
    "adversarial, clamp": adversarial(aesop_opt={"range_guard": "clamp"}),
    "adversarial, normalize": adversarial(aesop_opt={"range_guard": "normalize"}),
    "adversarial, loss map": adversarial(aesop_opt={"as_loss_map": True}),
    "adversarial, bottleneck": adversarial(aesop_opt={"type": "AutoEncoderBottleneckLoss"}),
    "adversarial, KL": adversarial(encoder=PROBABILISTIC, aesop_opt={"type": KL, "criterion": "reverse"}),
    "adversarial, style": adversarial(perceptual_opt=STYLE),
    "adversarial, sharpened": adversarial(pixel_opt={}, **SHARPENED),
    "adversarial, accumulate": adversarial(accumulate=2),
    "adversarial, not relativistic": adversarial(gan_opt={"relativistic": False}),
    **{
        f"adversarial, {name}": adversarial(gan_opt={"gan_type": name})
        for name in ("lsgan", "wgan", "wgan_softplus", "hinge")
    },
    "adversarial, checkpointing": adversarial(RRDB | CHECKPOINT),
    "adversarial, SwinIR": adversarial(SWINIR),
    "adversarial, SwinIR, other size": adversarial(SWINIR | {"img_size": 16}),
    "adversarial, SwinIR, checkpointing": adversarial(SWINIR | CHECKPOINT | {"drop_path_rate": 0.0}),
    "adversarial, DRCT": adversarial(DRCT),
    "adversarial, DRCT, checkpointing": adversarial(DRCT | CHECKPOINT | {"drop_path_rate": 0.0}),
}
WAYS = ("fp32", "bf16+channels_last")  # bf16 alone computes what both together compute
