"""Several results as one: what a table of several `results.json` is made from."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aesop.evaluation import protocol_text
from aesop.evaluation.results import MethodResults, Results, Values
from aesop.system.wording import first_few


def read_results(path: Path) -> Results:
    """Read `results.json`, or that of a folder. Raises ValueError that names the file and what is wrong with it."""
    if path.is_dir():
        path /= "results.json"
    if not path.exists():
        raise ValueError(f"{path} does not exist: `aesop measure ... -o FOLDER` and `aesop test` write FOLDER/results.json")
    try:
        return Results.from_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise ValueError(f"{path}: not a results.json of aesop measure or aesop test: {reason}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a results.json of aesop measure or aesop test: not a text file") from error


def combine(files: Mapping[str, Results]) -> tuple[Results, list[str]]:
    """One `Results` with the methods of all files, in their order, and warnings that name differing protocols.

    A method in several files contributes what is in any of them; values in several files must agree. The keys of `files`
    name them in messages. Raises ValueError if the scale or the direction of a metric differs.
    """
    (first_name, first), *others = files.items()
    _check_names(first_name, first)
    warnings = []
    methods = {method.name: method for method in first.methods}
    metrics, protocol = dict(first.metrics), first.protocol
    for name, results in others:
        _check_names(name, results)
        if results.scale != first.scale:
            raise ValueError(f"{first_name} is x{first.scale} and {name} is x{results.scale}: make a table for each")
        for key, metric in results.metrics.items():
            if metric.best != metrics.setdefault(key, metric).best:
                raise ValueError(f"{first_name} and {name} disagree on whether large or small values of {key} are better")
        for line in protocol_text.differences(protocol, results.protocol):
            warnings.append(f"protocols of {first_name} and {name} differ: {line}")
        protocol = _united(protocol, results.protocol)
        for method in results.methods:
            earlier = methods.get(method.name)
            methods[method.name] = method if earlier is None else _same_method(earlier, method, name)
    protocol = {**protocol, **_all_computed_by([results.protocol for results in files.values()])}
    missing = {f"{name}: {line}" if others else line: None for name, results in files.items() for line in results.missing}
    return Results(
        name=", ".join(dict.fromkeys(results.name for results in files.values())),
        scale=first.scale,
        metrics=metrics,
        methods=tuple(methods.values()),
        protocol=protocol,
        missing=tuple(missing),
    ), warnings


def join_seeds(results: Results, groups: Mapping[str, Sequence[str]]) -> Results:
    """The results with several trainings of a method as one: name -> the methods that are its trainings with other seeds.

    Raises ValueError for methods that are not there, that are in two groups, and for a name that another method has.
    """
    there = [method.name for method in results.methods]
    seed_of: dict[str, str] = {}
    for name, trainings in groups.items():
        members = [known_name(f"seeds of {name}:", training, there) for training in trainings]
        if len(set(members)) < 2:
            raise ValueError(f"seeds of {name}: name two trainings or more, found {', '.join(trainings)}")
        if name in there and name not in members:
            raise ValueError(f"seeds of {name}: another method is called {name}: give another name")
        for member in members:
            if seed_of.setdefault(member, name) != name:
                raise ValueError(f"seeds of {name}: {member} is a training of {seed_of[member]}, too")
    methods = [m.model_copy(update={"seed_of": seed_of[m.name]}) if m.name in seed_of else m for m in results.methods]
    return results.model_copy(update={"methods": tuple(methods)})


def select(results: Results, methods: Sequence[str], sets: Sequence[str], metrics: Sequence[str]) -> Results:
    """The named methods, test sets, and metrics, in this order; all of a kind where none is named.

    Several trainings of a method are named by what they have in common (`seed_of`). Raises ValueError for names that are not
    there.
    """
    groups = {name: [] for name in (method.seed_of or method.name for method in results.methods)}
    for method in results.methods:
        groups[method.seed_of or method.name].append(method)
    methods = _known("method", methods, groups)
    sets = _known("set", sets, dict.fromkeys(name for method in results.methods for name in method.values))
    metrics = _known("metric", metrics, results.metrics)

    def selected(values: Values) -> Values:
        return {
            name: {image: {key: row[key] for key in metrics if key in row} for image, row in values[name].items()}
            for name in sets
            if name in values
        }

    kept = [method for name in methods for method in groups[name]]
    parts = {part: results.protocol[part] for part in ("metrics", "sets") if part in results.protocol}
    chosen = {part: {key: record for key, record in parts[part].items() if key in {*metrics, *sets}} for part in parts}
    return results.model_copy(
        update={
            "metrics": {key: results.metrics[key] for key in metrics},
            "methods": tuple(method.model_copy(update={"values": selected(method.values)}) for method in kept),
            "protocol": {**results.protocol, **chosen},
        }
    )


def _united(a: Any, b: Any) -> Any:
    """Nested mappings with the entries of both; where they disagree, those of `a`."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return {key: _united(a[key], b[key]) if key in a and key in b else {**b, **a}[key] for key in {**a, **b}}
    return a


def _all_computed_by(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`versions` and `machine` of all protocols; where they differ, each with commas between them."""

    def joined(records: Iterable[Mapping[str, str]]) -> dict[str, str]:
        values: dict[str, dict[str, None]] = {}
        for record in records:
            for key, value in record.items():
                values.setdefault(key, {})[value] = None
        return {key: ", ".join(each) for key, each in values.items()}

    versions = joined(protocol.get("versions", {}) for protocol in protocols)
    machine = joined({"machine": protocol["machine"]} for protocol in protocols if "machine" in protocol)
    return ({"versions": versions} if versions else {}) | machine


def _check_names(file: str, results: Results) -> None:
    names = [method.name for method in results.methods]
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: two methods are called {next(name for name in names if names.count(name) > 1)!r}")


def _same_method(a: MethodResults, b: MethodResults, file: str) -> MethodResults:
    """One method from two files."""
    for field in ("sha256", "seed_of"):
        first, second = getattr(a, field), getattr(b, field)
        if first != second and None not in (first, second):
            raise ValueError(
                f"{file}: another {a.name!r} than in the files before ({field} {second}, not {first}): rename one"
            )
    for name, image, metric, value in _entries(b.values):
        other = a.values.get(name, {}).get(image, {}).get(metric, value)
        # Another machine changes the last digits, another network more.
        if not (math.isclose(value, other, rel_tol=1e-4, abs_tol=1e-5) or (math.isnan(value) and math.isnan(other))):
            raise ValueError(
                f"{file}: {a.name!r} has other values than in the files before, such as {metric} of {image} on {name}: "
                f"{value:g}, not {other:g}. Leave one file out, or rename one method"
            )
    return a.model_copy(
        update={
            "values": _united(a.values, b.values),
            **{field: getattr(a, field) or getattr(b, field) for field in ("source", "sha256", "seed_of", "cost")},
        }
    )


def _entries(values: Values) -> Iterator[tuple[str, str, str, float]]:
    for name, images in values.items():
        for image, row in images.items():
            for metric, value in row.items():
                yield name, image, metric, value


def _known(kind: str, wanted: Sequence[str], there: Iterable[str]) -> list[str]:
    there = list(there)
    return list(dict.fromkeys(known_name(f"--{kind}", name, there) for name in wanted)) or there


def known_name(option: str, name: str, there: Iterable[str]) -> str:
    """The name that is there, if upper and lower case need not agree; ValueError if there is none."""
    there = list(there)
    if name in there:
        return name
    alike = [other for other in there if other.casefold() == name.casefold()]
    if len(alike) != 1:
        raise ValueError(f"{option} {name}: there is none; there are {first_few(there, most=20, separator=', ')}")
    return alike[0]
