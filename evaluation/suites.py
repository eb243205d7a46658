# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Benchmarks as data: a suite is a YAML file that names data sets, their task, and where each lies.

Those of `evaluation/benchmarks/` go by name; one's own is a file of the same form:

    title: Our products
    form: mmeb                # mmeb, captions, sugarcrepe, sts or pages
    sets:
      shoes: {task: retrieval, file: shoes/eval.jsonl}
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

BENCHMARKS = Path(__file__).parent / "benchmarks"
SUITES = tuple(sorted(path.stem for path in BENCHMARKS.glob("*.yaml")))
ALL = "all"
MINI = "mmeb-mini"  # the small sets of the user's folder, see `evaluation.data_sets`
FORMS = {"mmeb": "precision@1", "captions": "recall@1", "sugarcrepe": "accuracy", "sts": "spearman", "pages": "ndcg@5"}
TABLES = ("queries", "corpus", "qrels")  # of a set of pages
SUFFIXES = ("jsonl", "jsonl.gz", "json", "csv", "csv.gz", "parquet")

_OF_SUITE = {"title", "form", "metric", "sets"}
_OF_SET = {
    *("task", "split", "query", "target", "candidates", "query_instruction", "target_instruction"),
    *("hub", "file", "images", "rows", "published_rows", "captions", "stray_image_token"),
    *("dataset_name", "dataset_split", "dataset_parser", "image_root", "eval_type"),
}


class SuiteError(ValueError):
    """A suite or one of its data sets cannot be used. The message names the file or the set, and what to do."""


@dataclass(frozen=True)
class Benchmark:
    """One data set of a suite, averaged with others of its `task` and `split`; `options` are the other fields of the file."""

    suite: str
    name: str
    form: str
    metric: str
    task: str
    split: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def result_name(self) -> str:
        """What its results are called; a set of no suite keeps its name."""
        return f"{self.suite}/{self.name}" if self.suite else self.name


@dataclass(frozen=True)
class Suite:
    """Data sets that are reported together; `folder` is where one's own suite lies."""

    name: str
    title: str
    benchmarks: tuple[Benchmark, ...]
    folder: Path | None = None


def is_suite(name: str) -> bool:
    """Whether a name is that of a suite, or of a YAML file with one."""
    return name in (*SUITES, MINI, ALL) or name.endswith((".yaml", ".yml"))


def load_suites(names: Sequence[str]) -> list[Suite]:
    """Read suites by name (`all`: every shipped one) or by the path of a YAML file; SuiteError names what cannot be read."""
    names = [name for given in names for name in (SUITES if given == ALL else (given,))]
    return [
        _read_suite(BENCHMARKS / f"{name}.yaml" if name in SUITES else Path(name)) for name in dict.fromkeys(names)
    ]


def _read_suite(path: Path) -> Suite:
    if not path.is_file():
        raise SuiteError(f"suite {str(path)!r} is neither a file nor one of {', '.join((*SUITES, MINI, ALL))}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("sets"), dict) or not content["sets"]:
        raise SuiteError(f"{path}: expected a mapping with 'form' and 'sets', each set a name with its fields")
    _check_fields(content.keys(), _OF_SUITE | _OF_SET, f"{path}")
    shared = {name: value for name, value in content.items() if name not in _OF_SUITE}
    benchmarks = []
    for name, own in content["sets"].items():
        if not isinstance(own, dict | None):
            raise SuiteError(f"{path}: set {name!r} must be a mapping of fields, got {own!r}")
        own = own or {}
        _check_fields(own.keys(), _OF_SET | {"form", "metric"}, f"{path}: set {name!r}")
        fields = {**shared, **own}
        form = fields.pop("form", content.get("form"))
        if form not in FORMS:
            raise SuiteError(f"{path}: set {name!r} needs a form out of {', '.join(FORMS)}, got {form!r}")
        metric = fields.pop("metric", content.get("metric", FORMS[form]))
        task, split = fields.pop("task", form), fields.pop("split", None)
        benchmarks.append(Benchmark(path.stem, str(name), form, metric, str(task), split, fields))
    folder = None if path.parent == BENCHMARKS else path.parent
    return Suite(path.stem, str(content.get("title", path.stem)), tuple(benchmarks), folder)


def _check_fields(given: Iterable[str], known: set[str], where: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SuiteError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")


def find_rows(benchmark: Benchmark, roots: Sequence[Path], own: bool = False) -> list[Path]:
    """Files with the rows of a data set in the first folder that has it; SuiteError says what was looked for.

    `NAME/test-*.parquet` is the layout of the Hub; `NAME.jsonl`, `eval_NAME.jsonl` and `NAME/test.jsonl` (or any other
    readable suffix) are what people keep; `file` of the suite names another place. Of pages, these are the tables `queries`,
    `corpus` and `qrels`, each a folder or a file; of `urban1k` the texts in `caption/`. With `own`, the folders hold nothing
    but this data set.
    """
    options = benchmark.options
    name = options.get("dataset_name", benchmark.name)
    name = benchmark.name if "/" in name else name
    folders = [name, *([options["hub"].rpartition("/")[2]] if "hub" in options else []), *([""] if own else [])]
    split = options.get("dataset_split", "test")
    if benchmark.form == "pages":
        folders += [options["image_root"]] if options.get("image_root") else []
        ways = [[_patterns_of_table(folder, table, split) for table in TABLES] for folder in folders]
        looked = " and ".join(f"{name}/{table}" for table in TABLES)
    else:
        ways = [[_patterns_of_rows(benchmark, name, folders, split)]]
        is_fixed = "file" in options or options.get("dataset_parser") == "urban1k"
        looked = ways[0][0][0] + ("" if is_fixed else f" or {name}.jsonl")
    for root in roots:
        for tables in ways:
            found = [_matching(root, patterns) for patterns in tables]
            if all(found):
                return [path for files in found for path in files]
    raise SuiteError(f"{benchmark.name}: no rows in {', '.join(map(str, roots))} ({looked})")


def _matching(root: Path, patterns: Sequence[str]) -> list[Path]:
    for pattern in patterns:
        if found := sorted(path for path in root.glob(pattern) if path.is_file()):
            return found
    return []


def _patterns_of_rows(benchmark: Benchmark, name: str, folders: Sequence[str], split: str) -> list[str]:
    options = benchmark.options
    if "file" in options:
        return [options["file"], *(f"{folder}/{options['file']}".strip("/") for folder in folders)]
    inside = [f"{split}-*.parquet", f"data/{split}-*.parquet"]
    inside += [f"{stem}.{suffix}" for stem in (split, "eval") for suffix in SUFFIXES]
    patterns = [f"{folder}/{pattern}".strip("/") for folder in folders for pattern in inside]
    if options.get("dataset_parser") == "urban1k":
        patterns = [f"{folder}/{deeper}caption/*.txt".strip("/") for folder in folders for deeper in ("", "*/")]
    return patterns + [f"{stem}.{suffix}" for stem in (name, f"eval_{name}") for suffix in SUFFIXES]


def _patterns_of_table(folder: str, table: str, split: str) -> list[str]:
    inside = [f"{table}/{split}-*.parquet", f"{table}/*.parquet", f"data/{table}-*.parquet", f"{table}-*.parquet"]
    inside += [f"{stem}.{suffix}" for stem in (table, f"{table}/{split}") for suffix in SUFFIXES]
    return [f"{folder}/{pattern}".strip("/") for pattern in inside]
