# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every public class and function begins its docstring with an example, and the example runs.

The form: a line that says what it is, then at most eight lines of code under "Example::".

    \"\"\"Contrastive training on pairs.

    Example::

        trainer = HardNegativeTrainer(model="my-model", train_dataset=dataset)
        trainer.train()

    What else there is to say.
    \"\"\"

An example imports what it shows, as its reader must. It is given, without saying where they come from:

- `model`, `processor`: a loaded UniME model on the CPU and its processor; `folder`: where they are saved;
- `image`: a picture, which also lies beside it as "dog.jpg" and "photos/dog.jpg";
- `dataset`: a `datasets.Dataset` of sixteen rows with the columns `query` (a picture), `positive` and `negatives`;
  `texts`: one of sixteen rows with the columns `text` and `vector`.

It runs in a folder in which the published models' names are tiny random ones (`NAMES`), so that nothing is downloaded.
"""

import importlib
import inspect
import textwrap

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import make_clip, save_unime
from tiny_teachers import make_nv_embed

from modeling_unime import UniMEModel, UniMEProcessor

MODULES = (
    "unime",
    "trainers",
    "trainers.losses",
    "trainers.losses.sentence_transformers",
    "trainers.teachers",
    "modeling_unime",
)
# The name in an example, and the tiny model that has it here.
NAMES = {
    "my-backbone": "llava_next",
    "llava-hf/llava-v1.6-mistral-7b-hf": "llava_next",
    "microsoft/Phi-3.5-vision-instruct": "phi3_v",
    "Qwen/Qwen2-VL-2B-Instruct": "qwen2_vl",
    "openai/clip-vit-large-patch14-336": "clip",
    "nvidia/NV-Embed-v2": "nv_embed",
    "my-model": "unime",
    "my-stage1": "unime",
}


def public() -> dict[str, object]:
    """Classes and functions that users import, each under one name."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for entry in module.__all__:
            thing = getattr(module, entry)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{thing.__module__.partition('.')[0]}: {entry}"] = thing
    return found


PUBLIC = public()


def example(thing: object) -> str | None:
    """The code that the docstring begins with, None if it does not."""
    lines = inspect.cleandoc(thing.__doc__ or "").splitlines()
    if lines[1:4] != ["", "Example::", ""]:
        return None
    end = next((place for place, line in enumerate(lines) if place > 3 and line and line[0] != " "), len(lines))
    return textwrap.dedent("\n".join(lines[4:end])).strip()


@pytest.fixture(scope="module")
def models(backbones, tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    save_unime(backbones["llava_next"], root / "unime")
    return {
        **backbones,
        "unime": root / "unime",
        "clip": make_clip(root / "clip"),
        "nv_embed": make_nv_embed(root / "nv"),
    }


@pytest.fixture
def given(models, pictures, tmp_path, monkeypatch):
    """The folder in which an example runs, and the names that it may use."""
    monkeypatch.chdir(tmp_path)
    for name, kind in NAMES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(models[kind])
    (tmp_path / "photos").mkdir()
    for name in ("dog.jpg", "photos/dog.jpg"):
        pictures[0].save(tmp_path / name)
    texts = [f"a dog that runs {number} miles" for number in range(16)]
    vectors = np.random.default_rng(0).normal(size=(16, 4)).tolist()
    pairs = {"query": (pictures * 6)[:16], "positive": texts, "negatives": [["a cat"]] * 16}
    return {
        "model": UniMEModel.from_pretrained(models["unime"]),
        "processor": UniMEProcessor.from_pretrained(models["unime"]),
        "folder": str(models["unime"]),
        "image": pictures[0],
        "dataset": Dataset.from_dict(pairs),
        "texts": Dataset.from_dict({"text": texts, "vector": vectors}),
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_begins_with_an_example_that_runs(name, given):
    code = example(PUBLIC[name])
    assert code, f"the docstring of {name} does not begin with a summary and 'Example::'"
    assert len(code.splitlines()) <= 8, f"the example of {name} is longer than eight lines"
    exec(compile(code, f"example of {name}", "exec"), given)


def test_only_an_example_in_its_place_counts():
    def late():
        """Summary.

        Other words.

        Example::

            1 / 0
        """

    def first():
        """Summary.

        Example::

            value = [
                1,
            ]

        Other words.
        """

    assert example(late) is None and example(len) is None
    assert example(first) == "value = [\n    1,\n]"
