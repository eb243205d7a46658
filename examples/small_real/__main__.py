# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A small real multimodal LLM through both stages, offline, on a CPU: build, train, evaluate, export, search.

    python -m examples.small_real --data data/*/train_*.jsonl data/*/eval_*.jsonl --output demo_real
    python -m examples.small_real --output demo_real   # stage 1 alone, on texts that it renders

Started again after it was stopped, it continues. It ends with the path of the exported folder.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.arguments import EvaluationArguments
from evaluation.plain_text import plain_text
from evaluation.report import make_table, to_json
from evaluation.run import evaluate
from evaluation.table import read_runs
from examples.demo.__main__ import QUERIES, RECIPES, SEARCH, Clock
from examples.demo.scenes import write_dataset
from examples.small_real import backbone
from examples.small_real.parts import multiplies_in_bf16
from examples.tiny.conversations import read_rows
from modeling_unime import UniMEModel, UniMEProcessor
from release.export import ExportArguments, export
from trainers import train_stage1, train_stage2
from unime.data.images import ImageStore
from unime.files import write_atomically
from unime.options import parse_dataclasses, run_command

LABELS = {"base": "base (no training)", "stage1": "stage 1", "unime": "stage 1 + 2 (UniME)"}
TEXT_COLUMNS = ("qry", "pos_text", "neg_text")  # of MMEB's training rows
SEARCHED = 100  # pictures, or texts where there is no data


@dataclass
class RealDemoArguments:
    """Options of the demo."""

    data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "JSON Lines in MMEB's form. Those whose name begins with train are trained on, the others are evaluated. "
            "Default: none; then stage 1 alone, on texts that the demo renders."
        },
    )
    output: str = field(default="demo_real_output", metadata={"help": "Folder for everything the demo makes."})
    num_layers: int = field(default=8, metadata={"help": "Layers of the LLM that are kept, of 30."})
    max_rows: int = field(default=100, metadata={"help": "Rows of each evaluation file, the first; 0: all."})
    recipe: str = field(
        default=str(RECIPES / "small-real"), metadata={"help": "Folder with stage1.yaml, stage2.yaml."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of projector, alignment and training."})


def write_texts(files: Sequence[Path], output: Path) -> None:
    """All distinct texts of training files, one a row."""
    texts = {plain_text(row.get(column)): None for file in files for row in read_rows(file) for column in TEXT_COLUMNS}
    write_atomically(output, "".join(json.dumps({"text": text}) + "\n" for text in texts if text))


def save_base(folder: Path, output: Path) -> None:
    """The backbone as a UniME model, before any training."""
    UniMEModel.from_backbone(str(folder), trust_remote_code=True).save_pretrained(output)
    UniMEProcessor.from_backbone(str(folder), trust_remote_code=True).save_pretrained(output)


def pack_searched(files: Sequence[Path], output: Path) -> list[str]:
    """Put pictures of evaluation rows into a zip, and return some texts to search them with."""
    queries, pictures = {}, {}
    for file in files:
        store = ImageStore.find(str(file), None)
        for row in read_rows(file):
            image, target = row.get("qry_img_path"), row.get("tgt_text")
            if image and isinstance(target, list) and plain_text(target[0]) and len(pictures) < SEARCHED:
                pictures[f"{file.parent.name}/{image}"] = (store, image)
                queries[plain_text(target[0])] = None
    with zipfile.ZipFile(output, "w") as archive:
        for name, (store, image) in pictures.items():
            with archive.open(f"{name}.png", "w") as entry:
                store.open(image).convert("RGB").save(entry, "PNG")
    return list(queries)[:3]


def search(exported: Path, documents: Path, queries: Sequence[str]) -> list[dict]:
    """Search in a second process, from another folder, where this package cannot be imported."""
    command = [sys.executable, str(SEARCH), str(exported.resolve()), str(documents.resolve()), *queries]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", cwd=exported)
    return [json.loads(line) for line in result.stdout.splitlines()]


def run(arguments: RealDemoArguments) -> Path:
    """All steps; returns the exported folder."""
    output = Path(arguments.output)
    models, results, recipe = output / "models", output / "results", Path(arguments.recipe)
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock(output / "timings.json")
    given = [Path(name) for name in arguments.data]
    train = [path for path in given if path.name.startswith("train")]
    held_out = [path for path in given if path not in train]
    common = ["--seed", str(arguments.seed), "--bf16", str(multiplies_in_bf16()), "--disable_tqdm", "False"]
    texts, documents, queries = str(output / "texts.jsonl"), output / "pictures.zip", list(QUERIES)
    if given and not (train and held_out):
        raise ValueError("data: give files to train on, whose names begin with train, and files to evaluate")
    if given:
        write_texts(train, Path(texts))
        texts += "::text"
        queries = pack_searched(held_out, documents)
    else:
        clock.step("render texts", lambda: write_dataset(output / "scenes", "full", arguments.seed))
        texts, documents = str(output / "scenes" / "texts_train.jsonl"), output / "sentences.txt"
        sentences = [row["sentence1"] for row in read_rows(output / "scenes" / "sts_eval.jsonl")]
        write_atomically(documents, "\n".join(sentences[:SEARCHED]))
        held_out = [output / "scenes" / "sts_eval.jsonl"]

    pairs = [str(path) for path in train]
    settings = backbone.SmallRealArguments(
        str(output / "backbone"), pairs, num_layers=arguments.num_layers, seed=arguments.seed
    )
    clock.step("build the backbone", lambda: backbone.build(settings))
    clock.step("take it as it is (base)", lambda: save_base(output / "backbone", models / "base"))
    stage1 = [str(recipe / "stage1.yaml"), "--model", str(models / "base"), "--texts", texts]
    clock.step("stage 1", lambda: train_stage1.main([*stage1, "--output_dir", str(models / "stage1"), *common]))
    names = ["base", "stage1"]
    if train:
        names.append("unime")
        stage2 = [str(recipe / "stage2.yaml"), "--model", str(models / "stage1"), "--data", *pairs]
        clock.step("stage 2", lambda: train_stage2.main([*stage2, "--output_dir", str(models / "unime"), *common]))
    for name in names:
        options = EvaluationArguments(
            model=str(models / name),
            data=[str(path) for path in held_out],
            output=str(results / name),
            limit=arguments.max_rows or None,
            trust_remote_code=True,
        )
        clock.step(f"evaluate {name}", lambda options=options: evaluate(options))

    columns = [f"{LABELS[name]}={results / name / 'results.json'}" for name in names]
    write_atomically(output / "table.md", make_table(read_runs(columns)))
    exported = output / "unime-small-real"
    export_arguments = ExportArguments(
        model=str(models / names[-1]),
        output=str(exported),
        license="apache-2.0",
        results=columns,
        trust_remote_code=True,
        limits="Small: the first layers of SmolLM2-135M-Instruct and EfficientNet-Lite0, both Apache-2.0, as is the "
        "teacher all-MiniLM-L6-v2. The training data has licences of its own.",
    )
    shutil.rmtree(exported, ignore_errors=True)  # of an earlier run
    clock.step("export the Hub folder", lambda: export(export_arguments))
    found = []
    clock.step("search in a fresh process", lambda: found.extend(search(exported, documents, queries)))
    write_atomically(output / "search.json", to_json(found))
    print((output / "table.md").read_text(encoding="utf-8"))
    for entry in found:
        print(f"{entry['query']}: {', '.join(hit['picture'] for hit in entry['found'])}")
    return exported


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo; the last line printed is the exported folder."""
    (arguments,) = parse_dataclasses(
        (RealDemoArguments,), argv, prog="python -m examples.small_real", description=__doc__.partition("\n")[0]
    )
    print(run(arguments))


if __name__ == "__main__":
    run_command(main)
