"""Run the training step of the published code from a checkout, to compare it with ours.

The checkout is a separate program and is executed as such; no part of it is included in this project. Modules that it
imports but does not need for a step (metrics, profilers) are replaced by stand-ins if they are not installed.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import MagicMock, patch

import torch
import yaml
from torch import Tensor, nn

TRAINING_FILES = {
    "aesop": "options/train/AESOP/train_Synthetic_AESOP_RRDB.yml",
    "autoencoder": "options/train/AutoEncoder/train_Synthetic_AE_RRDB_LRrecon1.yml",
    "swinir": "options/train/AESOP/train_Synthetic_AESOP_SwinIR.yml",
    "realworld": "options/train/AESOP/train_RealWorld_AESOP.yml",
}
UNNEEDED = (
    "einops", "lmdb", "matplotlib", "ptflops", "pyiqa", "requests", "scipy", "skimage", "thop", "timm", "tqdm",
    "torchvision.transforms.functional_tensor",
)  # fmt: skip


class StandIns:
    """Import stand-ins for the modules in `UNNEEDED` that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        wanted = any(name == module or name.startswith(f"{module}.") for module in UNNEEDED)
        return ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: ModuleSpec) -> MagicMock:
        needed = {}
        if spec.name == "timm.models.layers":  # SwinIR needs these three; the cost of stochastic depth is negligible
            needed = {"to_2tuple": lambda n: (n, n), "DropPath": nn.Identity, "trunc_normal_": nn.init.trunc_normal_}
        return MagicMock(name=spec.name, __path__=[], **needed)

    def exec_module(self, module: MagicMock) -> None:
        pass


class PublishedCode:
    """Build the model of a published training file with random weights; `step` calls its `optimize_parameters`.

    Raises:
        FileNotFoundError: If the folder is not a checkout of the published code.
    """

    def __init__(self, checkout: Path, which: str, device: torch.device):
        file = checkout / TRAINING_FILES[which]
        if not file.is_file():
            raise FileNotFoundError(f"{checkout} is not a checkout of the published code: {TRAINING_FILES[which]} not found")
        if str(checkout) not in sys.path:
            sys.path.insert(0, str(checkout))
            sys.meta_path.append(StandIns())
        archs, models = importlib.import_module("basicsr.archs"), importlib.import_module("basicsr.models")
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
        options |= {"is_train": True, "dist": False, "num_gpu": int(device.type == "cuda"), "path": {}, "val": {}}
        with TemporaryDirectory() as folder, patch("torchvision.models.vgg.vgg19", without_weights()):
            aesop = options["train"].get("aesop_opt")
            if aesop:
                weights = Path(folder) / "autoencoder.pth"
                key = aesop["autoencoder_load"]["key"]
                torch.save({key: archs.build_network(aesop["autoencoder_arch"]).state_dict()}, weights)
                aesop["autoencoder_load"]["path"] = str(weights)
            # The constructor of the real-world model builds its degradation on a GPU; the step does not need it.
            name = options["model_type"]
            model_class = importlib.import_module("basicsr.utils.registry").MODEL_REGISTRY.get(name)
            self.model = model_class.__new__(model_class)
            if which == "realworld":
                models.srgan_model.SRGANModel.__init__(self.model, options)
                self.model.cri_aesop = importlib.import_module("basicsr.losses").build_loss(aesop).to(self.model.device)
            else:
                self.model.__init__(options)

    def step(self, lq: Tensor, gt: Tensor) -> dict[str, float]:
        """Run one step and return the losses as numbers."""
        self.model.lq, self.model.gt, self.model.gt_usm = lq, gt, gt
        self.model.optimize_parameters(1)
        return self.model.get_current_log()


def without_weights() -> Any:
    from torchvision.models import vgg

    build = vgg.vgg19
    return lambda pretrained=False: build(weights=None)
