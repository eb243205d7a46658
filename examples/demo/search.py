# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Search pictures, or texts, by text with an exported folder and sentence-transformers alone; this package is kept out.

    python examples/demo/search.py FOLDER PICTURES.zip "a caption" ...

Prints one JSON object per query: the query and its best pictures with scores.
"""

import argparse
import io
import json
import sys
import zipfile
from pathlib import Path

# A user of the folder never installs this project. Importing it is made to fail, to prove that nothing needs it.
for package in ("modeling_unime", "trainers", "evaluation"):
    sys.modules[package] = None

from PIL import Image  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

QUERY_INSTRUCTION = "Find me an everyday image that matches the given caption:"
PICTURE_INSTRUCTION = "Represent the given image."


def main() -> None:
    """Encode the pictures and the queries, and rank."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="exported model folder")
    parser.add_argument("pictures", help="zip archive with pictures, or .txt file with a text in each line")
    parser.add_argument("queries", nargs="+", help="texts to search with")
    parser.add_argument("--limit", type=int, default=100, help="pictures to search among (default: the first 100)")
    parser.add_argument("--top", type=int, default=3, help="pictures to print for each query (default: 3)")
    arguments = parser.parse_args()
    model = SentenceTransformer(arguments.folder, trust_remote_code=True, device="cpu")
    if arguments.pictures.endswith(".txt"):
        names = Path(arguments.pictures).read_text(encoding="utf-8").splitlines()[: arguments.limit]
        documents = model.encode(names, convert_to_tensor=True)
        queries = model.encode(arguments.queries, convert_to_tensor=True)
    else:
        with zipfile.ZipFile(arguments.pictures) as archive:
            names = [name for name in sorted(archive.namelist()) if not name.endswith("/")][: arguments.limit]
            pictures = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
        documents = model.encode(pictures, prompt=PICTURE_INSTRUCTION, convert_to_tensor=True)
        queries = model.encode(arguments.queries, prompt=QUERY_INSTRUCTION, convert_to_tensor=True)
    for query, scores in zip(arguments.queries, model.similarity(queries, documents), strict=True):
        best = scores.topk(min(arguments.top, len(names)))
        found = [
            {"picture": names[i], "score": round(s, 4)}
            for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        print(json.dumps({"query": query, "found": found}))


if __name__ == "__main__":
    main()
