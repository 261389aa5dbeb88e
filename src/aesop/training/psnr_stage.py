"""The psnr stage: a generator trained with a pixel loss alone. Every later stage starts from it."""

from aesop.training.stage import Stage


class PSNRStage(Stage):
    """`Stage` with the loss `pixel_opt`."""
