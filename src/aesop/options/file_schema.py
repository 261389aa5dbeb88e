"""The JSON schema of option files, with which editors complete and check them: see `aesop schema`."""

import copy
from typing import Any

from aesop.archs import ARCHS
from aesop.options.config import STAGES, OptionFile


def file_schema() -> dict[str, Any]:
    """A schema of files for one stage or test, and of pipeline files, whose stages have the options of a file without
    those that are given outside."""
    schema = OptionFile.model_json_schema()
    options = copy.deepcopy(schema["properties"])
    for option in ("name", "stage"):  # the pipeline chooses them
        del options[option]
    weights = {"type": "string", "description": "Weight file that replaces the training of this stage."}
    schema["$defs"]["PipelineStage"] = {
        "type": "object",
        "description": "Options of one stage, merged over those outside.",
        "properties": {"weights": weights, **options},
        "additionalProperties": False,
    }
    # Our own networks have their own options.
    schema["$defs"]["SpandrelNetOptions"]["properties"]["type"]["not"] = {"enum": sorted(ARCHS)}
    schema["properties"] |= {
        "$schema": {"type": "string", "description": "Address of this schema, for editors. It has no effect."},
        "stages": {
            "type": "object",
            "description": "A pipeline: the options of its stages.",
            "properties": {stage: {"$ref": "#/$defs/PipelineStage"} for stage in STAGES},
            "required": list(STAGES),
            "additionalProperties": False,
        },
    }
    # In a pipeline, what is required may be given outside its stages or within.
    of_train = {"required": schema["$defs"]["TrainOptions"].pop("required")}
    alone = {"required": schema.pop("required"), "properties": {"train": of_train}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema} | {
        "if": {"required": ["stages"]},
        "then": {},
        "else": alone,
    }
