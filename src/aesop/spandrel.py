"""`import aesop.spandrel`: from then on, spandrel loads the networks of this package in the same Python process.

These are RRDBNets that spandrel itself cannot read or misreads (another growth than 32, x3), MSRResNet, EDSR and SPSRNet.
What spandrel reads rightly by itself stays with spandrel's own architectures.

spandrel passes on a file's tensors only, so what leaves no trace in them has its default: an EDSR's res_scale, img_range and
rgb_mean. An RRDBNet with one enlargement and BasicSR's names is taken for x3; an x2 one without unshuffle needs BSRGAN's
names, which `aesop convert --portable` writes.
"""

from typing import Any

import spandrel
import torch
from torch import nn

from aesop.archs import NetworkOptions, State, build_network, image_channels
from aesop.archs.generators import GENERATORS
from aesop.conversion.portable import portability
from aesop.weights.tensor_names import own_names


class OwnArchitecture(spandrel.Architecture[nn.Module]):
    """A generator of this package as spandrel wants it."""

    def __init__(self, network: type[NetworkOptions]) -> None:
        (name,) = network.type_names()
        super().__init__(id=f"aesop.{name}", name=name, detect=lambda state: self._options(state) is not None)
        self.network = network

    def load(self, state_dict: State) -> spandrel.ImageModelDescriptor[nn.Module]:
        options = self._options(state_dict)
        if options is None:
            raise spandrel.UnsupportedModelError(f"these are not the tensors of a {self.name}")
        net: Any = build_network(options)
        taken, made = image_channels(options)
        return spandrel.ImageModelDescriptor(
            net,
            own_names(state_dict),
            architecture=self,
            purpose="Restoration" if net.scale == 1 else "SR",
            tags=[f"{name} {value}" for name, value in options.items() if name in _TAGS],
            supports_half=self.name != "EDSR",  # it computes with images times 255, and float16 ends at 65504
            supports_bfloat16=True,
            scale=net.scale,
            input_channels=taken,
            output_channels=made,
            size_requirements=spandrel.SizeRequirements(multiple_of=net.size_multiple),
        )

    def _options(self, state: State) -> dict[str, Any] | None:
        """The options of the network that the tensors belong to, all of them; None for others, and if spandrel reads it."""
        try:
            options = self.network.recognise(state)
            if portability(options).loads == "as it is":
                return None
            with torch.device("meta"):
                expected = build_network(options).state_dict()
        except (LookupError, ArithmeticError, ValueError):
            return None
        given = own_names(state)
        fits = expected.keys() == given.keys() and all(value.shape == given[name].shape for name, value in expected.items())
        return options if fits else None


_TAGS = ("num_feat", "num_block", "num_grow_ch", "nf", "nb")
# spandrel takes every file with the names of an RRDBNet for its own, and fails. Others it passes over.
spandrel.MAIN_REGISTRY.add(
    *(
        spandrel.ArchSupport.from_architecture(OwnArchitecture(network), before=(spandrel.ArchId("ESRGAN"),))
        for network in GENERATORS
    ),
    ignore_duplicates=True,
)
