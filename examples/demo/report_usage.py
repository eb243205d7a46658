# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Code that searches with the demo's model, written with a real row of its data so that it runs as it stands."""

import json
from html import escape
from pathlib import Path
from string import Template

from examples.demo.report_charts import cosine
from examples.demo.report_data import Demo
from examples.demo.report_gallery import picture
from unime.data.bad_rows import BadRows
from unime.data.images import DEFAULT_ARCHIVE, ImageStore
from unime.data.rows import read_rows

PICTURES = 3
SEARCH_FILE = "search.json"  # written by the demo's second process

SEARCH = Template("""\
import zipfile

import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained($model, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained($model, trust_remote_code=True)


def embed(text, images):
    # instruction="": the texts hold their instruction already, as the rows of MMEB do
    inputs = processor(text=text, images=images, instruction="", return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs).embeddings  # one unit vector per row


names = [
$names]
with zipfile.ZipFile("data/images.zip") as archive:
    pictures = [Image.open(archive.open(name)).convert("RGB") for name in names]

caption = $query
query = embed([caption], [None])
candidates = embed([$candidate] * len(pictures), pictures)
scores = query @ candidates.T  # cosine similarities; the first picture is the right one
print(scores)
""")

SENTENCES = Template("""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer($model, trust_remote_code=True)
sentences = [
    $first,
    $second,
]
vectors = model.encode(sentences)
print(model.similarity(vectors, vectors))
""")


def usage_snippets(data: Path, exported: str) -> list[str]:
    """A search with transformers, and text vectors with sentence-transformers, as code to be run in the demo folder."""
    row = next(read_rows(data / "eval_retrieval_t2i.jsonl", BadRows())).values
    pair = next(read_rows(data / "sts_eval.jsonl", BadRows())).values
    search = {"model": exported, "query": row["qry_text"], "candidate": row["tgt_text"][0]}
    sentences = {"model": exported, "first": pair["sentence1"], "second": pair["sentence2"]}
    names = "".join(f"    {_literal(name)},\n" for name in row["tgt_img_path"][:PICTURES])
    return [
        SEARCH.substitute({name: _literal(value) for name, value in search.items()}, names=names),
        SENTENCES.substitute({name: _literal(value) for name, value in sentences.items()}),
    ]


def _literal(text: str) -> str:
    """A string as Python code, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def usage_section(demo: Demo, exported: str) -> str:
    """The code with a few words, and what a process of its own found with it."""
    search, sentences = (f"<pre><code>{escape(code)}</code></pre>" for code in usage_snippets(demo.data, exported))
    return (
        f"<p>The folder <code>{escape(exported)}</code> is all that is needed: weights, processor and the model’s "
        "code. It loads where this project is not installed. Start the code in the folder of this report. First a "
        f"search for pictures by a caption (the first row of the evaluation file):</p>{search}"
        "<p>It prints the cosines of the caption with three pictures. The same model through sentence-transformers, "
        f"here for plain sentences:</p>{sentences}{_found_elsewhere(demo)}"
    )


def _found_elsewhere(demo: Demo) -> str:
    """What the demo's second process found, if it ran."""
    path = demo.folder / SEARCH_FILE
    if not path.is_file():
        return ""
    store = ImageStore(demo.data / DEFAULT_ARCHIVE)
    cards = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        hits = "".join(
            f"<li>{picture(store.open(hit['picture']), 'found picture')}<small>{cosine(hit['score'])}</small></li>"
            for hit in entry["found"]
        )
        cards.append(
            f'<article class="card"><div class="query"><p><small>query</small><br>{escape(entry["query"])}</p></div>'
            f'<ol class="hits pictures">{hits}</ol></article>'
        )
    return (
        "<p>A second process, in which this project could not be imported, has loaded the folder and searched. These "
        f'queries have no known answer; look for yourself:</p><div class="cards">{"".join(cards)}</div>'
    )
