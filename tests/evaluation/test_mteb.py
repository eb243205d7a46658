# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A UniME folder in mteb, and files of MMEB's form as tasks of mteb: the numbers of our own runner."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mteb")

import mteb
from documented import ROOT, blocks
from mteb.cache import ResultCache
from mteb.types import PromptType

from evaluation.load import load_task
from evaluation.mteb_model import TaskRefused, UniMEWrapper, model_meta, read_batch
from evaluation.mteb_tasks import MMEBFile
from modeling_unime import UniMEModel, UniMEProcessor
from unime.data.example import Example

TOKEN = "<|image_1|>\n"


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory):
    """A UniME folder."""
    place = tmp_path_factory.mktemp("saved") / "tiny"
    UniMEModel.from_backbone(str(backbones["llava_next"])).save_pretrained(place)
    UniMEProcessor.from_backbone(str(backbones["llava_next"])).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def wrapper(folder):
    return UniMEWrapper(folder, device="cpu", batch_size=5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files: image to text, text to image, image and text to text, the last of raw rows."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(root / f"{number}.png")
    Image.open(root / "0.png").save(root / "copy.png")
    pictures = [f"{number}.png" for number in range(6)]
    words = ["a dog", "two cats", "a red car ", "nothing", "a dog", "the sea"]
    rows = {"i2t": [], "t2i": [], "it2t": []}
    for number in range(6):
        order = [number, *generator.permutation([other for other in range(6) if other != number])]
        texts, images = [words[index] for index in order], [pictures[index] for index in order]
        query = {"qry_inst": "Find its caption.", "qry_text": "", "qry_img_path": pictures[number]}
        rows["i2t"].append(query | {"tgt_text": texts, "tgt_img_path": [""] * 6})
        target = {"tgt_inst": "Represent it.", "tgt_text": [""] * 7, "tgt_img_path": [*images, "copy.png"]}
        rows["t2i"].append({"qry_text": f"Find it: {words[number]}\n", "qry_img_path": ""} | target)
        query = {"qry_text": f"{TOKEN}Answer: what is {number}?\n", "qry_img_path": pictures[number]}
        rows["it2t"].append(query | {"tgt_text": texts[: 3 + number // 2], "tgt_img_path": [""] * (3 + number // 2)})
    for name, content in rows.items():
        (root / f"eval_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return [root / f"eval_{name}.jsonl" for name in rows]


def test_numbers_of_our_runner(files, wrapper, tmp_path):
    tasks = [MMEBFile(path, name=path.stem) for path in files]
    assert [task.metadata.category for task in tasks] == ["i2t", "t2i", "it2t"]
    results = mteb.evaluate(wrapper, tasks, cache=ResultCache(tmp_path), show_progress_bar=False)
    for path, result in zip(files, results.task_results, strict=True):
        expected = load_task(path).evaluate(wrapper.encoder).metrics
        (scores,) = result.scores["test"]
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert scores["main_score"] == scores["precision@1"]
    written = {path.name for path in tmp_path.rglob("*.json")}
    assert written >= {"eval_i2t.json", "eval_t2i.json", "eval_it2t.json", "model_meta.json"}, "mteb's own layout"
    assert "torchvision" not in sys.modules


def test_the_vectors_are_those_of_the_raw_rows(files, wrapper):
    """What mteb's tables hand over comes to the same prompts, so that equal scores are no accident of a small set."""
    for path in files:
        task = MMEBFile(path)
        task.load_data()
        tables = task.dataset["default"]["test"]
        for kind, table, numbers in zip(
            (PromptType.query, PromptType.document),
            (tables["queries"], tables["corpus"]),
            task._contents(),
            strict=True,
        ):
            from mteb._create_dataloaders import create_dataloader

            batches = create_dataloader(table, task_metadata=task.metadata, prompt_type=kind, batch_size=4)
            vectors = wrapper.encode(
                batches, task_metadata=task.metadata, hf_split="test", hf_subset="default", prompt_type=kind
            )
            expected = wrapper.encoder.encode([task.rows.index.examples[number] for number in numbers])
            np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_loaded_by_its_meta_without_torchvision(files, folder):
    meta = model_meta(folder, device="cpu", batch_size=5)
    assert (
        meta.name == "local/tiny"
        and meta.revision == UniMEWrapper(folder, device="cpu", batch_size=5).mteb_model_meta.revision
    )
    assert meta.revision != model_meta(folder, device="cpu", max_length=99).revision
    assert meta.revision != model_meta(folder, device="cpu", instructions={"query": "Find:"}).revision
    results = mteb.evaluate(meta, MMEBFile(files[0]), cache=None, show_progress_bar=False)
    assert (
        results.task_results[0].get_score()
        == load_task(files[0]).evaluate(meta.load_model().encoder).metrics["precision@1"]
    )


def test_a_model_without_pictures_is_refused(files, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "dog": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    plain.save_pretrained(str(tmp_path / "words"))
    wrapped = UniMEWrapper(f"sentence-transformers:{tmp_path / 'words'}", device="cpu")
    assert wrapped.mteb_model_meta.modalities == ["text"]
    task = MMEBFile(files[2], name="it2t")  # mteb alone would leave the pictures out and go on
    for model in (plain, wrapped):
        with pytest.raises(TaskRefused, match="task it2t has inputs of kind image, but .* for text alone; give"):
            mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    metadata = SimpleNamespace(name="any", modalities=["text", "image"], prompt=None, type="Retrieval")
    with pytest.raises(TaskRefused, match="task any has inputs of kind image"):
        wrapped.encode([], task_metadata=metadata, hf_split="test", hf_subset="default")


def test_instructions(wrapper, folder):
    metadata = SimpleNamespace(name="Toy", type="Retrieval", prompt={"query": "Find:", "document": "Read:"})
    assert wrapper.instruction_for(metadata, PromptType.query) == "Find:"
    assert wrapper.instruction_for(metadata, PromptType.document) == "Read:"
    metadata.prompt = "Find:"
    assert wrapper.instruction_for(metadata, PromptType.query) == "Find:"
    assert wrapper.instruction_for(metadata, PromptType.document) is None
    own = UniMEWrapper(folder, device="cpu", instructions={"Toy-query": "Mine:", "document": "Theirs:"})
    assert own.instruction_for(metadata, PromptType.query) == "Mine:"
    assert own.instruction_for(metadata, PromptType.document) == "Theirs:"


@pytest.mark.parametrize(
    "names", [("text", "query", "instruction", "image"), ("image", "instruction", "query", "text")]
)
def test_parts_of_a_batch(names):
    picture = Image.new("RGB", (8, 8))
    columns = {"text": ["q how", "r "], "query": ["q", "r "], "instruction": ["how", ""], "image": [picture, None]}
    batch = {name: columns[name] for name in names}
    assert read_batch(batch, "task's") == [Example("q", picture, "how"), Example("r ", None, "task's")]


def test_documents_and_several_pictures():
    assert read_batch({"text": ["t b"], "body": ["b"], "title": ["t"]}, None) == [Example("t b")]
    assert read_batch({"text": ["b"], "body": ["b\n"]}, "") == [Example("b\n", None, "")]
    picture = Image.new("RGB", (8, 8))
    with pytest.raises(TaskRefused, match="Toy: an input has 2 pictures, and this wrapper reads one"):
        read_batch({"image": [[picture, picture]]}, None, "Toy")


def test_other_kinds_of_tasks(wrapper):
    """Pairs of an image and texts, which mteb hands over without saying which side they are."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature
    from mteb.abstasks.image.image_text_pair_classification import AbsTaskImageTextPairClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    red, blue = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))

    class Pairs(AbsTaskImageTextPairClassification):
        images_column_names, texts_column_names = "image", ["caption", "negative_caption"]
        metadata = TaskMetadata(
            name="Pairs",
            description="Two rows.",
            dataset={"path": "local", "revision": "1"},
            type="Compositionality",
            category="i2t",
            modalities=["image", "text"],
            eval_langs=["eng-Latn"],
            main_score="text_acc",
        )

        def load_data(self, **options):
            columns = {"image": [red, blue], "caption": ["red", "blue"], "negative_caption": ["green", "black"]}
            features = {name: Value("string") for name in self.texts_column_names} | {"image": ImageFeature()}
            self.dataset, self.data_loaded = {"test": Dataset.from_dict(columns, Features(features))}, True

    results = mteb.evaluate(wrapper, Pairs(), cache=None, show_progress_bar=False)
    image, right, wrong = (
        wrapper.encoder.encode(side)
        for side in (
            [Example(image=red), Example(image=blue)],
            [Example("red"), Example("blue")],
            [Example("green"), Example("black")],
        )
    )
    expected = ((image * right).sum(axis=1) > (image * wrong).sum(axis=1)).mean()
    assert results.task_results[0].get_score() == expected


def test_the_document_runs(files, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(folder)
    (tmp_path / "data").symlink_to(files[0].parent)
    (files[0].parent / "eval_GQA.jsonl").write_bytes(files[2].read_bytes())
    names = {}
    for code in blocks(ROOT / "docs" / "evaluation.md", "py"):
        exec(code, names)
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
