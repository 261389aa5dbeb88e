"""The images that a training loads."""

from aesop.data.loader import sample_numbers
from aesop.data.training_crops import HRCrops, TrainingCrops, image_number
from aesop.options.config import TrainConfig
from aesop.system.distributed import World


def training_images(config: TrainConfig) -> TrainingCrops | HRCrops:
    """The samples of `datasets.train`."""
    if config.degradation is not None:
        return HRCrops(config.datasets.train, config.degradation.crop_pad_size, config.manual_seed)
    return TrainingCrops(config.datasets.train, config.scale, config.manual_seed)


def image_names(images: TrainingCrops | HRCrops, batch_size: int, world: World, iteration: int) -> list[str]:
    """The names of the images that this process loads for an iteration."""
    (samples,) = sample_numbers(iteration, iteration, batch_size, world.rank, world.size)
    return [images.pairs[image_number(images.seed, k, len(images.pairs))].name for k in samples]
