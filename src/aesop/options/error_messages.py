"""What is wrong with an option file: every fault with its line, its option and the nearest valid name."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from aesop.archs import SpandrelNetOptions
from aesop.options.basicsr import former_places
from aesop.options.config import TrainConfig
from aesop.options.datasets import Datasets, PairedDataset

# Option, as the names from the top of the file down to it -> its line in the file.
Lines = Mapping[tuple[str, ...], int]


class ConfigError(ValueError):
    """An option file with faults. The message lists all of them."""

    def __init__(self, message: str, faults: Sequence[str] = ()):
        count = f": {len(faults)} fault{'s' if len(faults) > 1 else ''}\n  " if faults else ""
        faults = [fault if len(fault) <= 2000 else f"{fault[:2000]} ..." for fault in faults]
        super().__init__(message + count + "\n  ".join(faults))
        self.faults = faults


def describe(error: ValidationError, raw: Mapping[str, Any], lines: Lines, root: type[BaseModel] = TrainConfig) -> list[str]:
    """Describe pydantic's errors on raw options of the class `root`, each in one line of text."""
    found: dict[tuple[str, ...], Any] = {}
    for entry in error.errors():  # a value that fits no type of a union has one for each type; the first suffices
        found.setdefault(_option_of(entry, raw), entry)
    return with_lines([fault for option, entry in found.items() for fault in _describe_one(entry, option, root)], lines)


def with_lines(faults: Sequence[str], lines: Lines) -> list[str]:
    """Prefix each fault, which begins with its option, with the line of the option or else of its innermost section."""
    found = []
    for fault in faults:
        option = tuple(fault.partition(":")[0].split("."))
        places = [option, *former_places(option), *(option[:depth] for depth in range(len(option) - 1, 0, -1))]
        line = next((lines[place] for place in places if place in lines), None)
        found.append(f"line {line}: {fault}" if line else fault)
    return found


def shown(value: Any) -> str:
    """A value as it stands in a message, cut to 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _option_of(entry: Any, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The option that an error is about: pydantic's location without the types of unions in it."""
    option: list[str] = []
    node: Any = raw
    for position, part in enumerate(entry["loc"], 1):
        if isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif isinstance(node, Mapping) and str(part) in (names := {str(name): name for name in node}):
            node = node[names[str(part)]]
        elif entry["type"] != "missing" or position < len(entry["loc"]):
            continue  # the type that pydantic tried of a union
        option.append(str(part))
    return (*option, "type") if entry["type"] == "union_tag_invalid" else tuple(option)


def _describe_one(entry: Any, option: tuple[str, ...], root: type[BaseModel]) -> Iterator[str]:
    kind, given, where = entry["type"], entry["input"], ".".join(option)
    if kind == "value_error":
        yield from (f"{where}: {fault}" if where else fault for fault in str(entry["ctx"]["error"]).splitlines())
    elif kind == "missing":
        yield f"{where}: missing" + ("; give at least datasets.train.dataroot_gt" if option[0] == "datasets" else "")
    elif kind == "extra_forbidden":
        known = list(_classes_at(entry["loc"][:-1], root)[0].model_fields)
        near = difflib.get_close_matches(option[-1], known, 1)
        yield f"{where}: unknown option; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    elif kind in ("union_tag_invalid", "literal_error"):
        value = given.get("type") if isinstance(given, Mapping) else given
        expected = str(entry["ctx"].get("expected_tags") or entry["ctx"].get("expected"))
        names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(value, names, 1) if isinstance(value, str) else []
        yield f"{where}: {shown(value)} is none of {expected}" + (f"; did you mean {near[0]}?" if near else "")
    elif kind == "union_tag_not_found" and isinstance(given, Mapping):
        types = [get_args(options.model_fields["type"].annotation) for options in _classes_at(entry["loc"], root)]
        names = [name for known in types for name in known or ("spandrel's (SwinIR, DRCT ...)",)]
        yield f"{where}.type: missing; known: {', '.join(names)}"
    elif kind in ("union_tag_not_found", "model_type", "model_attributes_type", "dict_type"):
        yield f"{where}: must hold options (`key: value` lines), found {shown(given)}"
    else:
        yield f"{where}: {entry['msg'][0].lower()}{entry['msg'][1:]}, found {shown(given)}"


def _classes_at(location: Sequence[int | str], root: type[BaseModel]) -> list[type[BaseModel]]:
    """The options classes that may stand at pydantic's location of an error, which names the type taken from a union."""
    classes: list[type[BaseModel]] = [root]
    for part in location:
        if fields := [options.model_fields[str(part)] for options in classes if part in options.model_fields]:
            classes = [options for field in fields for options in _classes_in(field.annotation)]
        elif any(issubclass(options, Datasets) for options in classes):
            classes = [PairedDataset]
        elif len(classes) > 1:  # a union
            tagged = [options for options in classes if part in get_args(options.model_fields["type"].annotation)]
            classes = tagged or [SpandrelNetOptions]
    return classes


def _classes_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [options for argument in get_args(annotation) for options in _classes_in(argument)]
