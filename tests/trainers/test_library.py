# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The trainers as a library: the ordinary Hugging Face call, on data in memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftModel
from PIL import Image
from safetensors.torch import load_file
from tiny_models import trainer_options as options

from modeling_unime import UniMEModel, UniMEProcessor
from trainers import DistillationConfig, DistillationTrainer, HardNegativeConfig, HardNegativeTrainer

WORDS = "red green blue dog cat tree runs sleeps under over".split()


def make_picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8))


def make_rows(count: int = 12) -> list[dict]:
    return [
        {
            "query": {"text": None, "image": make_picture(i), "instruction": "Name it."},
            "positive": f"a {WORDS[i % 10]} {i}",
            "negatives": [f"no {WORDS[i % 10]}"],
            "source": "even" if i % 2 == 0 else "odd",
        }
        for i in range(count)
    ]


def test_ordinary_call(backbones, tmp_path):
    dataset = Dataset.from_list(make_rows())
    trainer = HardNegativeTrainer(
        model=str(backbones["llava_next"]),
        args=HardNegativeConfig(**options(tmp_path, num_hard_negatives=2)),
        train_dataset=dataset,
        eval_dataset=dataset,
        peft_config=LoraConfig(r=4),
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert set(after) >= {"eval_loss", "eval_accuracy@1", "eval_mrr", "eval_even/mrr", "eval_odd/accuracy@1"}
    assert after["eval_loss"] < before["eval_loss"]
    assert not any("vision" in name for name, weight in trainer.model.named_parameters() if weight.requires_grad)
    trainer.save_model()
    assert not list((tmp_path / "out").glob("adapter_*"))
    weights, source = load_file(tmp_path / "out/model.safetensors"), UniMEModel.from_backbone(backbones["llava_next"])
    for name, weight in source.state_dict().items():
        assert torch.equal(weights[name], weight) == ("proj" not in name or "language_model" not in name), name
    assert (tmp_path / "out/modeling_unime.py").is_file()
    model = UniMEModel.from_pretrained(tmp_path / "out")
    inputs = UniMEProcessor.from_pretrained(tmp_path / "out")(text=["a dog"])
    trainer.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).embeddings, trainer.model(**inputs).embeddings, atol=1e-6, rtol=0)


def test_model_object_is_finished_without_reading_it_again(backbones, tmp_path):
    model = UniMEModel.from_backbone(backbones["qwen2_vl"])
    source = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match="processing_class is needed beside a model object"):
        HardNegativeTrainer(model=model, train_dataset=Dataset.from_list(make_rows()))
    for lora_rank in (0, 4):
        trainer = HardNegativeTrainer(
            model=UniMEModel.from_backbone(backbones["qwen2_vl"]),
            args=HardNegativeConfig(**options(tmp_path, lora_rank=lora_rank)),
            train_dataset=make_rows(),
            processing_class=UniMEProcessor.from_backbone(backbones["qwen2_vl"]),
        )
        trainer.train()
        trainer.save_model(str(tmp_path / "finished"))
        weights = load_file(tmp_path / "finished/model.safetensors")
        assert weights.keys() == source.keys()
        changed = {name for name, weight in source.items() if not torch.equal(weights[name], weight)}
        assert changed and all("language_model" in name for name in changed)


def test_model_init_gives_every_training_a_fresh_model(backbones, tmp_path):
    trainer = HardNegativeTrainer(
        model_init=lambda: UniMEModel.from_backbone(backbones["llava_next"]),
        args=HardNegativeConfig(**options(tmp_path, gradient_cache_chunk_size=3, num_hard_negatives=2)),
        train_dataset=make_rows(),
        processing_class=UniMEProcessor.from_backbone(backbones["llava_next"]),
    )

    def train() -> list[float]:
        trainer.train()
        assert isinstance(trainer.model, PeftModel) and trainer.vision.modules[0] in list(trainer.model.modules())
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    first, again = train(), train()
    assert first == again and len(first) == 4
    trainer.args.temperature = 0.5  # as a trial of a search sets it
    assert train()[0] != first[0]
    trainer.save_model()
    assert not torch.equal(
        load_file(tmp_path / "out/model.safetensors")["model.language_model.layers.0.self_attn.q_proj.weight"],
        UniMEModel.from_backbone(backbones["llava_next"]).language_model.layers[0].self_attn.q_proj.weight,
    )


def test_rows_are_checked_before_the_weights_are_loaded(backbones, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.embedding_trainer.prepare_model", lambda *a: pytest.fail("too late"))
    model = str(backbones["llava_next"])
    bad = [{"query": "a", "positive": "b"}] * 4 + [{"query": "a", "positive": ""}]
    with pytest.raises(ValueError, match="train_dataset row 5: the positive has neither"):
        HardNegativeTrainer(model, HardNegativeConfig(**options(tmp_path)), train_dataset=bad)
    with pytest.raises(ValueError, match="a batch takes 4 rows, and there are 3"):
        HardNegativeTrainer(model, HardNegativeConfig(**options(tmp_path)), train_dataset=make_rows(3))
    with pytest.raises(ValueError, match="train_dataset row 2"):
        config = DistillationConfig(**options(tmp_path))
        DistillationTrainer(model, config, train_dataset=[{"text": "a"}, {"text": ""}], teacher="absent")


@pytest.mark.parametrize("loss_type", ["info_nce", "soft_label"])
def test_an_option_that_the_loss_ignores_is_refused(loss_type, tmp_path):
    for name, value in (("false_negative_margin", 0.2), ("short_rows", "mask"), ("num_hard_negatives", 3)):
        more = options(tmp_path, loss_type=loss_type, **{name: value})
        if (loss_type, name) == ("soft_label", "num_hard_negatives"):
            assert HardNegativeConfig(**more).num_hard_negatives == 3
            continue
        with pytest.raises(ValueError, match=f"{name} has no effect with loss_type {loss_type}: leave it out"):
            HardNegativeConfig(**more)


def test_without_options(backbones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = HardNegativeTrainer(model=str(backbones["llava_next"]), train_dataset=make_rows(8))
    assert isinstance(trainer.args, HardNegativeConfig)


def test_best_model_and_early_stop_resume(backbones, tmp_path):
    rows = make_rows()
    config = HardNegativeConfig(
        **options(
            tmp_path,
            eval_strategy="steps",
            eval_steps=2,
            save_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_mrr",
            greater_is_better=True,
        )
    )
    data = DatasetDict(train=Dataset.from_list(rows), other=Dataset.from_list(rows[:6]))
    trainer = HardNegativeTrainer(
        model=str(backbones["llava_next"]), args=config, train_dataset=data, eval_dataset=data, compute_metrics=count
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert [entry["step"] for entry in entries] == [2, 4]
    assert entries[0]["eval_rows"] == 18
    best = max(entries, key=lambda entry: entry["eval_mrr"])
    assert trainer.state.best_metric == best["eval_mrr"]
    assert trainer.evaluate()["eval_mrr"] == pytest.approx(best["eval_mrr"])


def count(prediction) -> dict:
    queries, positives = prediction.predictions
    assert queries.shape == positives.shape
    return {"rows": len(queries)}


@pytest.mark.parametrize("teacher", ["column", "object"])
def test_distillation(teacher, backbones, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    dataset = Dataset.from_list([{"text": f"text {i}", "vector": vectors[i].tolist()} for i in range(16)])

    class Encoder:
        def encode(self, texts):
            return vectors[[int(text.split()[1]) for text in texts]]

    trainer = DistillationTrainer(
        model=str(backbones["llava_next"]),
        args=DistillationConfig(**options(tmp_path, per_device_train_batch_size=8, max_steps=40)),
        train_dataset=dataset,
        eval_dataset=dataset,
        teacher="vector" if teacher == "column" else Encoder(),
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"] and 0 < after["eval_mrr"] <= 1
    trainer.save_model()
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "unime"


# What a person writes: both stages on data in memory, the best model kept, saved, pushed, and loaded by its name.
SCRIPT = """
import sys
import numpy as np, torch
from datasets import Dataset, Image as ImageColumn
from PIL import Image
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor
from trainers import DistillationConfig, DistillationTrainer, HardNegativeConfig, HardNegativeTrainer

backbone, out = sys.argv[1:]
pictures = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)) for i in range(16)]
options = dict(max_steps=4, per_device_train_batch_size=8, learning_rate=1e-2, use_cpu=True, report_to="none")
texts = Dataset.from_list([{"text": f"text {i}", "vector": np.random.default_rng(i).normal(size=6)} for i in range(16)])
first = DistillationTrainer(
    model=backbone, args=DistillationConfig(out + "/1", **options), train_dataset=texts, teacher="vector"
)
first.train()
first.save_model()
pairs = Dataset.from_dict({"query": pictures, "positive": [f"picture {i}" for i in range(16)]})
pairs = pairs.cast_column("query", ImageColumn()).train_test_split(8, seed=0)
args = HardNegativeConfig(
    out + "/2", eval_strategy="steps", eval_steps=2, save_steps=2, load_best_model_at_end=True,
    metric_for_best_model="mrr", hub_model_id="me/library", num_hard_negatives=3, **options,
)
second = HardNegativeTrainer(
    model=out + "/1", args=args, train_dataset=pairs["train"], eval_dataset=pairs["test"], peft_config=LoraConfig(r=4)
)
second.train()
print(second.evaluate())
second.save_model()
second.push_to_hub()
model = AutoModel.from_pretrained("me/library", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("me/library", trust_remote_code=True)
with torch.no_grad():
    vectors = model(**processor(text=["a dog", None], images=[None, pictures[0]])).embeddings.numpy()
sentence = SentenceTransformer("me/library", trust_remote_code=True, device="cpu").encode(["a dog", pictures[0]])
assert np.abs(sentence - vectors).max() < 1e-5
second.model.eval()
with torch.no_grad():
    trained = second.model(**second.processing_class(text=["a dog", None], images=[None, pictures[0]])).embeddings
assert np.abs(trained.numpy() - vectors).max() < 1e-5
"""


def test_from_data_in_memory_to_a_name_on_the_hub(stub_hub, backbones, tmp_path, repository):
    environment = {**os.environ, **stub_hub.environment(tmp_path / "home"), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", SCRIPT, str(backbones["llava_next"]), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-4000:]
    files = stub_hub.files("me/library")
    assert {"config.json", "model.safetensors", "modeling_unime.py", "modules.json", "README.md"} <= files.keys()
    assert not [name for name in files if "checkpoint" in name or name.startswith(("adapter", "training_"))]


@pytest.mark.parametrize(
    "data, error, words",
    [
        ([{"query": "a", "positive": ""}], "BadRowError", "train_dataset row 1: the positive has neither a text nor"),
        ([{"query": {"txt": "a"}, "positive": "b"}], "BadRowError", "column 'query' has the key 'txt'"),
        ([{"query": "a"}], "SourceError", "no column 'positive'"),
        ([{"query": "a", "positive": "b", "negative": "c"}], "SourceError", "'negative' looks like 'negatives'"),
        ([{"query": {"image": b"no picture"}, "positive": "b"}], "BadRowError", "train_dataset row 1: a picture"),
        ([], "ValueError", "train_dataset has no rows"),
        (Dataset.from_list([{"query": "a", "positive": "b"}]).to_iterable_dataset(), "TypeError", "iterable data set"),
        ("file.jsonl", "TypeError", "train_dataset is of type str"),
    ],
)
def test_data_that_cannot_be_used_are_named(data, error, words, backbones, tmp_path):
    with pytest.raises((ValueError, TypeError)) as found:
        HardNegativeTrainer(str(backbones["llava_next"]), HardNegativeConfig(**options(tmp_path)), train_dataset=data)
    assert type(found.value).__name__ == error and words in str(found.value)


def test_every_way_of_giving_a_picture(backbones, tmp_path):
    """The same picture by path, bytes, array and object is one content; MMEB's columns take them too."""
    picture = make_picture(0)
    picture.save(tmp_path / "0.png")
    forms = [picture, str(tmp_path / "0.png"), (tmp_path / "0.png").read_bytes(), np.asarray(picture)]
    rows = [{"query": f"find it {i}", "positive": {"image": form}} for i, form in enumerate(forms)]
    dataset = HardNegativeTrainer(
        str(backbones["llava_next"]), HardNegativeConfig(**options(tmp_path)), train_dataset=rows
    ).train_dataset
    assert len(set(dataset.groups.tolist())) == 1
    mmeb = [{"qry": "<|image_1|>\nName it.\n", "qry_image_path": form, "pos_text": "thing"} for form in forms]
    trainer = HardNegativeTrainer(
        str(backbones["llava_next"]), HardNegativeConfig(**options(tmp_path)), train_dataset=mmeb
    )
    assert len(set(trainer.train_dataset.table["query_group"].to_pylist())) == 1
    assert np.array_equal(np.asarray(trainer.train_dataset[3].query.open()), np.asarray(picture))
