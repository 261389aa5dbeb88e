"""A model as its file, its run folder, and its author describe it."""

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from aesop.publishing.training import RECIPE_KEY, Training, find_recipe, training_facts
from aesop.weights.description import Description, modelspec, read_description
from aesop.weights.errors import WeightsError
from aesop.weights.load import LoadedInfo, fit, load_generator
from aesop.weights.read import State, read_state_dict
from aesop.weights.save import save_weights


@dataclass(frozen=True, eq=False)
class Model:
    about: Description
    net: nn.Module
    info: LoadedInfo
    state: State
    """The file's tensors, in its precision, with our names."""
    recipe: dict[str, Any]
    training: Training

    @classmethod
    def find(cls, file: Path, given: Description) -> "Model":
        """The model of a weight file; what is given beats what the file says. Without a date the model is today's."""
        net, info = load_generator(file)
        recorded = read_description(info.metadata)
        about = replace(recorded, **{field.name: value for field in fields(given) if (value := getattr(given, field.name))})
        date = about.date[:10] or datetime.now(UTC).date().isoformat()
        about = replace(about, title=about.title or file.stem, date=date)
        try:
            recipe = find_recipe(info.metadata, file)
            training = training_facts(recipe, info.metadata)
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{file}: the options of its training cannot be read: {error}") from error
        return cls(about, net, info, fit(net, read_state_dict(file)[0], str(file)), recipe, training)

    def save(self, path: Path) -> None:
        """Write the weights to publish: with the description, and without the paths that the options of a training hold."""
        kept = {name: value for name, value in self.info.metadata.items() if name != "config"}
        network = {"network": json.dumps(self.info.options)}
        recipe = {RECIPE_KEY: json.dumps(self.recipe)} if self.recipe else {}
        save_weights(path, self.state, {**kept, **modelspec(self.about, self.info.options), **network, **recipe})
