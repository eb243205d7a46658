# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""`UniMEIndex`: vectors of the files of folders, kept up to date, and the search over them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from evaluation.arguments import EncoderArguments
from evaluation.encoder import BaseEncoder
from evaluation.encoders import BASELINE_PREFIX, encoder_identity, find_model, make_encoder
from search import approximate
from search.catalog import Catalog, FileRow
from search.documents import KINDS, DocumentError, MissingReader, Part, Pictures, find_files, parts_of
from search.vector_file import VectorFile
from unime.data.example import Example
from unime.data.images import DEFAULT_MAX_PIXELS, check_max_pixels
from unime.options import CommandError, one_line
from unime.output_folder import only_writer

PIECE = 256  # contents that are encoded before they are kept: what a killed run loses
FAULTS = (ValueError, OSError)  # what a file may fail by: ImageError, EncodingError, a size the processor refuses, ...
WHAT_VECTORS_DEPEND_ON = ("model", "baseline", "max_length", "mixed", "prompts")  # of an encoder's identity


@dataclass(frozen=True)
class Hit:
    """One result: a picture, a piece of a text or a page of a PDF (`number`, from 0), with its cosine to the query."""

    path: str
    number: int
    kind: str
    score: float
    text: str | None = None
    copies: tuple[str, ...] = ()  # paths of equal content


@dataclass
class Changes:
    """What `UniMEIndex.add` found: counts of files, and why some were left out, by path."""

    new: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    encoded: int = 0  # contents, of which copies and moved files need none
    left_out: dict[str, str] = field(default_factory=dict)


class UniMEIndex:
    """An index of pictures, texts and PDF pages in a folder of its own.

    Example::

        from unime import UniMEIndex

        index = UniMEIndex("photos.index", model="my-model")
        index.add("photos")
        for hit in index.search("a red bicycle", k=3):
            print(hit.path, hit.score)

    Args:
        folder: Where the index is kept; made if need be.
        model: Folder or Hub name of a UniME model, or of any other that `unime evaluate` takes. An index that is there
            knows its own; given again, it must be the same, wherever it lies now.
        document_instruction: Instruction under which the files are embedded. Default: none, the summary prompts.
        max_image_pixels: Width times height above which a picture is left out.
        options: Further fields of `EncoderArguments`: `device`, `dtype`, `batch_size`, `trust_remote_code`, ...

    Raises:
        CommandError: There is no index and no model was given, or the model is another one.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | None = None,
        document_instruction: str | None = None,
        max_image_pixels: int = DEFAULT_MAX_PIXELS,
        **options: Any,
    ):
        self.folder = Path(folder)
        catalog = self.folder / "index.sqlite"
        if model is not None:
            find_model(model)  # before a folder is made for it
            self.folder.mkdir(parents=True, exist_ok=True)
        known = None
        if self.folder.is_dir() and (model is not None or catalog.is_file()):
            self.catalog = Catalog(catalog)
            known = self.catalog.get("encoder")
        if known is None and model is None:
            raise CommandError(f"there is no index in {folder}; make one with `unime index FOLDER --output {folder}`")
        if known is not None:
            options = {**{name: known[name] for name in ("max_length", "mixed", "prompts")}, **options}
            if document_instruction not in (None, known["document_instruction"]):
                raise CommandError(
                    f"{folder} was made with another document_instruction; choose another folder for it"
                )
            document_instruction = known["document_instruction"]
        self.arguments = EncoderArguments(model=model or known["model"], **options)
        self.document_instruction = document_instruction
        identity = encoder_identity(self.arguments)
        own = {name: identity[name] for name in WHAT_VECTORS_DEPEND_ON}
        if known is None:
            self.catalog.put(
                encoder={
                    **{name: getattr(self.arguments, name) for name in ("max_length", "mixed", "prompts")},
                    "model": self._place_of_model(),
                    "document_instruction": document_instruction,
                    "identity": own,
                }
            )
        elif known["identity"] != own:
            raise CommandError(
                f"{folder} was made with another model than {self.arguments.model}, or by other options of it; name that "
                "model, or make a new index in another folder"
            )
        check_max_pixels(max_image_pixels)
        self.pictures = Pictures(max_image_pixels)
        self._state: tuple[int, int] | None = None  # of the catalog, to which what is in memory belongs
        self._memory: dict[Any, Any] = {}

    def _place_of_model(self) -> str:
        """The model by a name that is right from any working directory."""
        name = self.arguments.model.removeprefix(BASELINE_PREFIX)
        prefix = self.arguments.model[: len(self.arguments.model) - len(name)]
        return prefix + (str(Path(name).resolve()) if Path(name).is_dir() else name)

    @cached_property
    def encoder(self) -> BaseEncoder:
        """The model, loaded when it is first needed."""
        return make_encoder(self.arguments)

    def add(self, folder: str | Path, progress: bool | None = None) -> Changes:
        """Bring what the index knows of a folder tree up to date: new, changed, moved and deleted files.

        Killed and started again, it goes on where it was. A file that cannot be read is left out and told, and tried again
        when it has changed.

        Args:
            folder: A folder; another one's files stay as they are.
            progress: Whether to show a bar. Default: on a terminal.
        """
        folder = Path(folder).resolve()
        if not folder.is_dir():
            raise CommandError(f"{folder} is no folder")
        with only_writer(self.folder, "output"):
            changes = Changes()
            files = list(find_files(folder, changes.left_out))
            known = self.catalog.files(str(folder))
            gone = known.keys() - {str(path) for path in files}
            old_digests = {known[path].digest for path in gone}
            waiting: list[tuple[FileRow, list[Part]]] = []
            for path in tqdm(files, desc="files", unit="file", disable=None if progress is None else not progress):
                try:
                    state = path.stat()
                    before = known.get(str(path))
                    if before and (before.size, before.changed) == (state.st_size, state.st_mtime_ns):
                        changes.unchanged += 1
                        continue
                    mark, parts = parts_of(path)
                except (
                    MissingReader,
                    FileNotFoundError,
                ) as error:  # no fault of the file: it is tried again next time
                    changes.left_out[str(path)] = str(error)
                    continue
                except (DocumentError, OSError) as error:
                    self.catalog.put_file(FileRow(str(path), state.st_size, state.st_mtime_ns, "", str(error)))
                    continue
                if before is None:
                    changes.moved += mark in old_digests
                    changes.new += mark not in old_digests
                else:
                    changes.changed += 1
                waiting.append((FileRow(str(path), state.st_size, state.st_mtime_ns, mark), parts))
                if sum(len(parts) for _, parts in waiting) >= PIECE:
                    self._take(waiting, changes)
            self._take(waiting, changes)
            self.catalog.remove(gone)
            changes.removed = len(gone) - changes.moved
            self._clean()
        changes.left_out |= {
            path: fault for path, fault in self.catalog.faults().items() if path in set(map(str, files))
        }
        return changes

    def remove(self, path: str | Path) -> int:
        """Forget a file, or all files of a folder; the files themselves stay. How many were known."""
        place = str(Path(path).resolve())
        with only_writer(self.folder, "output"):
            paths = [place] if self.catalog.slot_of(place, 0) is not None else []
            paths += self.catalog.files(place)
            self.catalog.remove(paths)
            self._clean()
        return len(paths)

    def search(self, query: Any, k: int = 10, kinds: Sequence[str] = KINDS) -> list[Hit]:
        """The k nearest of the index.

        Args:
            query: A text, a picture (PIL, path, bytes, array), or a dict of `text`, `image`, `instruction`. A string is a
                text.
            k: How many.
            kinds: Of "picture", "text" and "page", which may be found. A model that has not seen texts and pictures side by
                side tends to put texts nearer to texts.
        """
        return self.nearest(self.encode_query(query), k, kinds)

    def encode_query(self, query: Any) -> np.ndarray:
        """The unit vector (D,) of a query, as `search` takes it."""
        return self.encoder.encode([_example(query)], "query")[0]

    def vector(self, path: str | Path, number: int = 0) -> np.ndarray:
        """The unit vector (D,) of something in the index."""
        with self.catalog.transaction():
            slot = self.catalog.slot_of(str(Path(path).resolve()), number)
            if slot is None:
                raise CommandError(f"{path} is not in the index {self.folder}")
            return self._vectors().vectors[slot].copy()

    def similar(self, path: str | Path, number: int = 0, k: int = 10, kinds: Sequence[str] = KINDS) -> list[Hit]:
        """The k nearest to something in the index, itself and its copies left out."""
        place = str(Path(path).resolve())
        hits = self.nearest(self.vector(place, number), k + 1, kinds)
        return [hit for hit in hits if place not in (hit.path, *hit.copies) or hit.number != number][:k]

    def nearest(self, vector: np.ndarray, k: int = 10, kinds: Sequence[str] = KINDS) -> list[Hit]:
        """The k nearest to a unit vector (D,)."""
        if k < 1 or not set(kinds) <= set(KINDS) or not kinds:
            raise CommandError(f"k must be at least 1 and kinds some of {', '.join(KINDS)}, got {k} and {list(kinds)}")
        with self.catalog.transaction():  # all of one state, whatever is added meanwhile
            vectors, slots = self._vectors(), self._slots(tuple(kinds))
            index = self._approximate()
            if index is None:
                found, scores = vectors.search(vector, slots, k)
            else:
                likely = approximate.candidates(index, vector, k)
                found, scores = vectors.rescore(vector, np.intersect1d(likely, slots), k)
            return [self._hit(slot, score, kinds) for slot, score in zip(found.tolist(), scores.tolist(), strict=True)]

    def scores(self, vector: np.ndarray, kinds: Sequence[str] = KINDS, most: int = 20_000) -> np.ndarray:
        """Cosines of a unit vector (D,) with the index, of an even sample of `most` if it has more: for a histogram."""
        with self.catalog.transaction():
            slots = self._slots(tuple(kinds))
            slots = slots[:: -(-len(slots) // most) or 1]
            return self._vectors().rescore(vector, slots, len(slots))[1]

    def use_approximate(self, factory: str | None, dimensions: int | None = None) -> None:
        """Search by a faiss index from now on, its candidates compared anew on the whole vectors.

        Args:
            factory: Of faiss: `HNSW32` (a graph), `SQ8` (8-bit integers), `IVF1024,SQ8`, ...; None: exact search again.
            dimensions: How many of the vectors' first dimensions it holds, for models trained with `matryoshka_dims`.
                Default: all.
        """
        if factory is not None:
            approximate.check_factory(factory, dimensions, self.catalog.get("dimension"))
        with only_writer(self.folder, "output"):
            self.catalog.put(approximate=factory and {"factory": factory, "dimensions": dimensions}, built_for=None)
            self._build_approximate()

    def _take(self, waiting: list[tuple[FileRow, list[Part]]], changes: Changes) -> None:
        """Encode what has no vector yet of files that were read, and note the files."""
        parts = {part.key: part for _, parts in waiting for part in parts}
        missing = self.catalog.missing(parts)
        new = [part for key, part in parts.items() if key in missing]
        faults: dict[str, str] = {}
        for start in range(0, len(new), PIECE):
            changes.encoded += self._encode(new[start : start + PIECE], faults)
        for file, parts_of_file in waiting:
            broken = next((faults[part.key] for part in parts_of_file if part.key in faults), None)
            self.catalog.put_file(file._replace(fault=broken), () if broken else parts_of_file)
        waiting.clear()

    def _encode(self, parts: list[Part], faults: dict[str, str]) -> int:
        """Encode parts and keep their vectors; by key, why others cannot be. How many could."""
        examples = [part.example(self.document_instruction, self.pictures) for part in parts]
        try:
            vectors = self.encoder.encode(examples, "encoding")
        except FAULTS:  # of one of them: the others are encoded without it
            parts, vectors = self._encode_sound(parts, examples, faults)
        if parts:
            with self.catalog.transaction(write=True):
                self.catalog.put(dimension=vectors.shape[1])
                self._vectors().write(vectors)
                self.catalog.put_contents([part.key for part in parts])
        return len(parts)

    def _encode_sound(
        self, parts: list[Part], examples: list[Example], faults: dict[str, str]
    ) -> tuple[list[Part], np.ndarray]:
        """The parts that can be encoded and their vectors; by key, why others cannot be."""
        for part, example in zip(parts, examples, strict=True):
            try:
                example.open()  # whose words are clearer than those of a worker process
            except FAULTS as error:
                faults[part.key] = one_line(str(error))
        pairs = [pair for pair in zip(parts, examples, strict=True) if pair[0].key not in faults]
        try:
            vectors = list(self.encoder.encode([example for _, example in pairs], "encoding")) if pairs else []
        except FAULTS:  # of the processor or the model: one by one, to learn of which
            vectors = []
            for part, example in pairs:
                try:
                    vectors.append(self.encoder.encode([example], "encoding")[0])
                except FAULTS as error:
                    faults[part.key] = one_line(str(error))
        return [part for part, _ in pairs if part.key not in faults], np.array(vectors, np.float32)

    def _clean(self) -> None:
        """Forget vectors that no file has any more; a file of which they are most is written anew."""
        self.catalog.sweep()
        rows, used = self.catalog.next_slot(), self.catalog.count_contents()
        if rows > 2 * max(used, PIECE):
            with self.catalog.transaction(write=True):
                old = self._vectors()
                number = self.catalog.get("generation", 0) + 1
                kept = self.catalog.renumber()
                self.catalog.put(generation=number)
                new = VectorFile(self._vector_path(number), old.dimension, 0)
                new.path.unlink(missing_ok=True)  # of a run that was killed here
                for start in range(0, len(kept), PIECE):
                    new.rows = start
                    new.write(old.vectors[kept[start : start + PIECE]])
        for path in self.folder.glob("vectors-*.f32"):
            if path != self._vector_path(self.catalog.get("generation", 0)):
                path.unlink()
        self._build_approximate()

    def _build_approximate(self) -> None:
        """Write faiss's index anew, if one is wanted and vectors have come or gone since."""
        wanted = self.catalog.get("approximate")
        state = [self.catalog.next_slot(), self.catalog.count_contents()]
        if wanted and state[1] and self.catalog.get("built_for") != state:
            approximate.build(self.folder / "faiss.index", self._vectors().vectors, self._slots(KINDS), **wanted)
            self.catalog.put(built_for=state)

    def _remembered(self, name: Any, make: Callable[[], Any]) -> Any:
        """What is kept in memory until the catalog changes."""
        if self._state != self.catalog.version():
            self._state, self._memory = self.catalog.version(), {}
        if name not in self._memory:
            self._memory[name] = make()
        return self._memory[name]

    def _vector_path(self, generation: int) -> Path:
        return self.folder / f"vectors-{generation}.f32"

    def _vectors(self) -> VectorFile:
        get = self.catalog.get
        return self._remembered(
            "vectors",
            lambda: VectorFile(self._vector_path(get("generation", 0)), get("dimension", 1), self.catalog.next_slot()),
        )

    def _slots(self, kinds: tuple[str, ...]) -> np.ndarray:
        return self._remembered(kinds, lambda: self.catalog.slots(kinds))

    def _approximate(self) -> Any:
        """faiss's index; None where the search is exact, as it is, too, while new vectors are not in faiss's yet."""
        state = [self.catalog.next_slot(), self.catalog.count_contents()]
        if not self.catalog.get("approximate") or self.catalog.get("built_for") != state:
            return None
        return self._remembered("approximate", lambda: approximate.load(self.folder / "faiss.index"))

    def _hit(self, slot: int, score: float, kinds: Sequence[str]) -> Hit:
        (path, number, kind, text), *copies = self.catalog.parts(slot, kinds)
        return Hit(path, number, kind, round(score, 6), text, tuple(copy[0] for copy in copies))


def _example(query: Any) -> Example:
    """What a query is, as an example; refuses one that is empty."""
    values = query if isinstance(query, Mapping) else {"text" if isinstance(query, str) else "image": query}
    if unknown := sorted(set(values) - {"text", "image", "instruction"}):
        raise CommandError(f"a query has the key {unknown[0]!r}; it may have text, image and instruction")
    example = Example(values.get("text") or None, values.get("image"), values.get("instruction") or None)
    if example.is_empty:
        raise CommandError("the query is empty; give a text, a picture or both")
    return example
