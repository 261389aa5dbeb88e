"""The convolutional trunk of VGG16 and VGG19, with features before or after the ReLUs (ESRGAN, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.frozen import frozen

CONVS_PER_STAGE = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def layer_names(vgg_type: str) -> list[str]:
    """Return `conv1_1, relu1_1, conv1_2, relu1_2, pool1, ...` in the order of torchvision's `features`."""
    names = []
    for stage, count in enumerate(CONVS_PER_STAGE[vgg_type], 1):
        names += [f"{kind}{stage}_{k}" for k in range(1, count + 1) for kind in ("conv", "relu")] + [f"pool{stage}"]
    return names


class VGGFeatureExtractor(nn.Module):
    """RGB image (N, 3, H, W) in [0, 1] -> {layer name: features}; the weights are frozen.

    State-dict names are torchvision's (`features.N.weight`). Layers after the last one named are not built. `use_input_norm`
    normalises with ImageNet's mean and standard deviation, `range_norm` first maps an input in [-1, 1] to [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, layer_name_list: list[str], vgg_type: str = "vgg19", use_input_norm: bool = True, range_norm: bool = False
    ):
        super().__init__()
        if vgg_type not in CONVS_PER_STAGE:
            raise ValueError(f"vgg_type must be one of {sorted(CONVS_PER_STAGE)}, found {vgg_type!r}")
        names = layer_names(vgg_type)
        unknown = [name for name in layer_name_list if name not in names]
        if unknown or not layer_name_list:
            raise ValueError(f"{vgg_type} has no layer {', '.join(unknown) or '(none given)'}; it has {', '.join(names)}")
        self.names = names[: max(names.index(name) for name in layer_name_list) + 1]
        self.taps = set(layer_name_list)
        self.use_input_norm = use_input_norm
        self.range_norm = range_norm
        self.features = nn.ModuleList()
        width_in = 3
        for name in self.names:
            if name.startswith("conv"):
                width = WIDTHS[int(name[4]) - 1]
                self.features.append(nn.Conv2d(width_in, width, 3, 1, 1))
                width_in = width
            else:
                self.features.append(nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2, 2))
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1), persistent=False)
        frozen(self)

    def load_trunk(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's weights; those of deeper layers and of the classifier are ignored."""
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        if missing:
            raise ValueError(f"not a torchvision VGG file: {missing[0]} and {len(missing) - 1} other tensors are missing")
        self.load_state_dict({name: state[name].float() for name in own})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.range_norm:
            x = (x + 1) / 2
        if self.use_input_norm:
            x = (x - self.mean) / self.std
        taps = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = F.relu(x) if name.startswith("relu") else layer(x)
            if name in self.taps:
                taps[name] = x
        return taps
