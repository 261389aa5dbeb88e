"""The images that a training loads."""

from aesop.data.training_crops import HRCrops, TrainingCrops
from aesop.options.config import TrainConfig


def training_images(config: TrainConfig) -> TrainingCrops | HRCrops:
    """The samples of `datasets.train`."""
    if config.degradation is not None:
        return HRCrops(config.datasets.train, config.degradation.crop_pad_size, config.manual_seed)
    return TrainingCrops(config.datasets.train, config.scale, config.manual_seed)
