"""The autoencoder stage: L1(AE(HR), HR), and optionally losses of the bottleneck and of the predicted scale of errors."""

from collections.abc import Mapping

from torch import Tensor

from aesop.archs.autoencoder import AutoEncoder
from aesop.training.stage import Scalars, Stage, StepImages


class AutoEncoderStage(Stage):
    """Trains an auto-encoder (published `AEModel`, `ProbabilisticAEModel`).

    It makes the images `sr` (AE(HR)), `bottleneck`, `sigma` (half the predicted scale) and `residual` (|AE(HR) - HR|).
    """

    net_g: AutoEncoder
    wants_sharpened = False  # it reproduces its input, so that `l1_gt_usm` has no effect

    def update_networks(self, batch: Mapping[str, Tensor], iteration: int) -> Scalars:
        # A frozen decoder gets no gradients, and the optimizer ignores parameters without one.
        self.net_g.decoder.requires_grad_(self.options.freeze_decoder < iteration)
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        return super().update_networks(batch, iteration)

    def make_image(self, name: str, images: StepImages) -> Tensor:
        if name == "residual":
            return (images["sr"].detach() - images["gt"]).abs()
        with_sigma = {"return_sigma": True} if "sigmabranch_opt" in self.terms else {}
        outputs = self.run(self.net_g, images["gt"], return_bottleneck=True, **with_sigma)
        for made, output in zip(("sr", "bottleneck", "sigma"), outputs, strict=False):
            images.output(made, output)
        return images[name]
