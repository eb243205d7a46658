# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The data sets of a run: files as they are given, and those of suites, wherever they lie."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evaluation.arguments import EvaluationArguments
from evaluation.kinds import kind_of, parse_patterns
from evaluation.load import form_of
from evaluation.suites import MINI, Benchmark, Suite, SuiteError, find_rows, load_suites
from evaluation.tasks import MMEBTask
from unime.data.bad_rows import DataError
from unime.data.data_files import data_set_name, find_data_files
from unime.data.images import DEFAULT_ARCHIVE
from unime.data.rows import SUFFIXES


@dataclass(frozen=True)
class DataSet:
    """One data set of a run.

    Args:
        name: in results.
        files: with its rows.
        benchmark: what a suite says about it.
        places: folders and archives with its images; none: as `ImageStore.find` has it.
        fault: why its rows cannot be had.
    """

    name: str
    files: tuple[str, ...] = ()
    benchmark: Benchmark | None = None
    places: tuple[Path, ...] = ()
    fault: str | None = None


def find_data_sets(arguments: EvaluationArguments) -> list[DataSet]:
    """All data sets of a run: those of files that are named, and those of suites.

    Raises:
        SuiteError: A suite is not known, or its file cannot be read.
        FileNotFoundError: A place does not exist.
        DataError: Two data sets would share a name.
    """
    is_root = {place: Path(place).is_dir() or zipfile.is_zipfile(place) for place in arguments.data if arguments.suite}
    roots = [Path(place) for place in arguments.data if is_root.get(place)]
    files = [place for place in arguments.data if not is_root.get(place)]
    found = [DataSet(data_set_name(path), (path,)) for path in find_data_files(files)]
    suites = load_suites([name for name in arguments.suite if name != MINI])
    roots = [_unpack_rows(root, Path(arguments.output)) if root.is_file() else (root, ()) for root in roots]
    if MINI in arguments.suite:
        suite, others = _mini(roots, arguments.kinds)
        suites.append(suite)
        found += others
    image_root = arguments.image_root and Path(arguments.image_root)
    download = _downloader()
    for suite in suites:
        found += [_find(suite, benchmark, roots, image_root, download) for benchmark in suite.benchmarks]
    names = [data_set.name for data_set in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two data sets would be called {twice!r}; run them separately")
    return found


def _mini(roots: Sequence[tuple[Path, tuple]], kinds: Sequence[str]) -> tuple[Suite, list[DataSet]]:
    """The eval_* files of folders as a suite of the four kinds of tasks, and those of other forms by themselves."""
    if not roots:
        raise DataError(f"--suite {MINI} needs a folder with eval_* files as --data")
    benchmarks, others = [], []
    for path in find_data_files([str(root) for root, _ in roots]):
        name = data_set_name(path)
        if Path(path).name.startswith("eval_") and form_of(path) in (MMEBTask, None):
            kind = kind_of(name, parse_patterns(kinds))
            benchmarks.append(Benchmark(MINI, name, "mmeb", "precision@1", kind, None, {"file": path}))
        elif Path(path).name.startswith("eval_"):
            others.append(DataSet(name, (path,)))
    return Suite(MINI, "Small sets of the four task kinds", tuple(benchmarks)), others


def _find(
    suite: Suite,
    benchmark: Benchmark,
    roots: Sequence[tuple[Path, tuple[Path, ...]]],
    image_root: Path | None,
    download: Callable[[Benchmark], Path],
) -> DataSet:
    name = benchmark.result_name
    try:
        if suite.name == MINI:
            file = Path(benchmark.options["file"])
            places = _places([*([image_root] if image_root else []), file.parent])
            return DataSet(name, (str(file),), benchmark, places)
        own = not roots and suite.folder is None
        tops = [(download(benchmark), ())] if own else list(roots) or [(suite.folder, ())]
        repository = str(benchmark.options.get("hub") or benchmark.options.get("dataset_name") or "")
        inside = [suite.name, *([repository.rpartition("/")[2]] if "/" in repository else []), ""]
        candidates = [top / folder for top, _ in tops for folder in inside]
        files = find_rows(benchmark, [folder for folder in candidates if folder.is_dir()] or candidates[-1:], own)
    except (SuiteError, OSError, ValueError) as error:
        return DataSet(name, benchmark=benchmark, fault=str(error))
    top, archives = next((top, archives) for top, archives in tops if files[0].is_relative_to(top))
    home = next(folder for folder in candidates if files[0].is_relative_to(folder))
    deeper = benchmark.options.get("image_root")
    images = [image_root] if image_root else []
    images += [folder / deeper for folder in (*images, home, top) if deeper]
    images += [files[0].parent, home, top]
    return DataSet(name, tuple(map(str, files)), benchmark, _places(images, archives))


def _places(folders: Sequence[Path], archives: Sequence[Path] = ()) -> tuple[Path, ...]:
    """What is there of folders and of the archives in them."""
    places = [place for folder in folders for place in (folder, folder / DEFAULT_ARCHIVE) if place.exists()]
    return tuple(dict.fromkeys([*places, *archives]))


def _unpack_rows(archive: Path, output: Path) -> tuple[Path, tuple[Path, ...]]:
    """A folder with the files of rows that are in an archive; its images stay in it."""
    folder = output / "unpacked" / archive.stem
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            if member.filename.lower().endswith((*SUFFIXES, ".txt")) and not (folder / member.filename).is_file():
                content.extract(member, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder, (archive,)


def _downloader() -> Callable[[Benchmark], Path]:
    """Fetches the data set of the Hub that a benchmark names; each one once, and its failure is remembered, too."""

    @cache
    def fetch(repository: str, file: str | None) -> Path | OSError:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=file and [file]))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            return OSError(
                f"data set {repository!r} cannot be had from the Hub ({error}); give a copy of it as --data"
            )

    def download(benchmark: Benchmark) -> Path:
        repository = str(benchmark.options.get("hub") or benchmark.options.get("dataset_name", ""))
        if "/" not in repository:
            raise SuiteError(f"{benchmark.name} is not on the Hub; give a folder that has it as --data")
        found = fetch(repository, benchmark.options.get("file"))
        if isinstance(found, OSError):
            raise found
        return found

    return download
