# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The data sets of a run: files as they are given, and those of suites, wherever they lie."""

import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from evaluation.arguments import EvaluationArguments
from evaluation.kinds import kind_of, parse_patterns
from evaluation.load import form_of
from evaluation.suites import MINI, Benchmark, Suite, SuiteError, find_rows, load_suites
from evaluation.tasks import MMEBTask
from unime.data.bad_rows import DataError
from unime.data.data_files import data_set_name, find_data_files
from unime.data.images import DEFAULT_ARCHIVE


@dataclass(frozen=True)
class DataSet:
    """One data set of a run, what a suite says about it, and where its images are; none: as `ImageStore.find` has it."""

    name: str
    files: tuple[str, ...] = ()
    benchmark: Benchmark | None = None
    places: tuple[Path, ...] = ()
    fault: str | None = None  # why its rows cannot be had


def find_data_sets(arguments: EvaluationArguments) -> list[DataSet]:
    """All data sets of a run; SuiteError, FileNotFoundError and DataError name what cannot be read, and names that clash."""
    is_root = {place: Path(place).is_dir() or zipfile.is_zipfile(place) for place in arguments.data if arguments.suite}
    roots = [Path(place) for place in arguments.data if is_root.get(place)]
    files = [place for place in arguments.data if not is_root.get(place)]
    found = [DataSet(data_set_name(path), (path,)) for path in find_data_files(files)]
    suites = load_suites([name for name in arguments.suite if name != MINI])
    unpack = partial(_unpacked, folder=Path(arguments.output, "unpacked"))
    roots = [unpack(root) if root.is_file() else root for root in roots]
    if MINI in arguments.suite:
        suite, others = _mini(roots, arguments.kinds)
        suites.append(suite)
        found += others
    image_root = arguments.image_root and Path(arguments.image_root)
    find = _Finder(image_root, unpack, cache(_fetch))
    for suite in suites:
        found += [find(suite, benchmark, roots) for benchmark in suite.benchmarks]
    names = [data_set.name for data_set in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two data sets would be called {twice!r}; run them separately")
    return found


def _mini(roots: Sequence[Path], kinds: Sequence[str]) -> tuple[Suite, list[DataSet]]:
    """The eval_* files of folders as a suite of the four kinds of tasks, and those of other forms by themselves."""
    if not roots:
        raise DataError(f"--suite {MINI} needs a folder with eval_* files as --data")
    benchmarks, others = [], []
    for path in find_data_files(list(map(str, roots))):
        name = data_set_name(path)
        if Path(path).name.startswith("eval_") and form_of(path) in (MMEBTask, None):
            kind = kind_of(name, parse_patterns(kinds))
            benchmarks.append(Benchmark(MINI, name, "mmeb", "precision@1", kind, None, {"file": path}))
        elif Path(path).name.startswith("eval_"):
            others.append(DataSet(name, (path,)))
    return Suite(MINI, "Small sets of the four task kinds", tuple(benchmarks)), others


@dataclass(frozen=True)
class _Finder:
    """Finds the rows and the images of a suite's data set: in folders, in archives of its name in them, or on the Hub."""

    image_root: Path | None
    unpack: Callable[[Path], Path]
    fetch: Callable[[str, str | None], Path | OSError]

    def __call__(self, suite: Suite, benchmark: Benchmark, roots: Sequence[Path]) -> DataSet:
        try:
            if not roots and suite.folder is None and suite.name != MINI:
                return self._find(suite, benchmark, [self._download(benchmark)], own=True)
            try:
                return self._find(suite, benchmark, list(roots) or [suite.folder])
            except SuiteError:  # one's own suite may name data sets of the Hub, too
                if roots or "hub" not in benchmark.options:
                    raise
                return self._find(suite, benchmark, [self._download(benchmark)], own=True)
        except (SuiteError, DataError, OSError) as error:
            return DataSet(benchmark.result_name, benchmark=benchmark, fault=str(error))

    def _find(self, suite: Suite, benchmark: Benchmark, tops: list[Path], own: bool = False) -> DataSet:
        images = [self.image_root] if self.image_root else []
        if suite.name == MINI:
            file = Path(benchmark.options["file"])
            return DataSet(benchmark.result_name, (str(file),), benchmark, _places([*images, file.parent]))
        repository = str(benchmark.options.get("hub") or benchmark.options.get("dataset_name") or "")
        repository = repository.rpartition("/")[2] if "/" in repository else ""
        candidates = [top / folder for top in tops for folder in filter(None, (suite.name, repository))] + tops
        candidates = [folder for folder in candidates if folder.is_dir()] or candidates[-1:]
        try:
            files = find_rows(benchmark, candidates, own)
        except SuiteError:
            stems = {benchmark.name.lower(), repository.lower()}
            archives = [path for top in candidates for path in sorted(top.glob("*.zip")) if path.stem.lower() in stems]
            if not archives:
                raise
            return self._find(suite, benchmark, list(map(self.unpack, archives)))
        home = next(folder for folder in candidates if files[0].is_relative_to(folder))
        top = next(top for top in tops if files[0].is_relative_to(top))
        if deeper := benchmark.options.get("image_root"):
            images += [folder / deeper for folder in (*images, home, top)]
        return DataSet(
            benchmark.result_name, tuple(map(str, files)), benchmark, _places([*images, files[0].parent, home, top])
        )

    def _download(self, benchmark: Benchmark) -> Path:
        repository = str(benchmark.options.get("hub") or benchmark.options.get("dataset_name", ""))
        if "/" not in repository:
            raise SuiteError(f"{benchmark.name} is not on the Hub; give a folder that has it as --data")
        found = self.fetch(repository, benchmark.options.get("file"))
        if isinstance(found, OSError):
            raise found
        return found


def _places(folders: Sequence[Path]) -> tuple[Path, ...]:
    """What is there of folders and of the archives of images in them."""
    places = [place for folder in folders for place in (folder, folder / DEFAULT_ARCHIVE) if place.exists()]
    return tuple(dict.fromkeys(places))


def _unpacked(archive: Path, folder: Path) -> Path:
    """The content of an archive, unpacked once as long as it does not change."""
    state = archive.stat()
    place = folder / f"{state.st_mtime_ns:x}-{state.st_size:x}" / archive.stem
    if not place.is_dir():
        unfinished = place.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            with zipfile.ZipFile(archive) as content:
                if (size := sum(info.file_size for info in content.infolist())) > shutil.disk_usage(folder).free:
                    raise DataError(
                        f"{archive}: its {size} bytes do not fit on the disk of {folder}; unpack it elsewhere"
                    )
                content.extractall(unfinished)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{archive}: cannot be unpacked ({error})") from error
        unfinished.rename(place)
    return place


def _fetch(repository: str, file: str | None) -> Path | OSError:
    """A data set of the Hub, or why it cannot be had, which a run asks once."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=file and [file]))
    except (HFValidationError, OSError) as error:  # those of the network are OSErrors
        return OSError(f"data set {repository!r} cannot be had from the Hub ({error}); give a copy of it as --data")
