# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The second process of `release.check`: a user who has the folder but not this package. Started as a file."""

import sys
from pathlib import Path

BLOCKED = ("modeling_unime", "unime", "trainers", "evaluation", "release", "examples")


def main(folder: str, scratch: str) -> None:
    """Read `inputs.pt` in `scratch`, write `vectors.pt` there: vectors by the name of the way to them."""
    sys.modules.update(dict.fromkeys(BLOCKED))  # with None in its place a module cannot be imported
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoProcessor

    inputs = torch.load(Path(scratch, "inputs.pt"), weights_only=False)
    texts, images, instructions = (list(column) for column in zip(*inputs, strict=True))
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        auto = model(**processor(text=texts, images=images, instruction=instructions)).embeddings
    options = {"trust_remote_code": True, "device": "cpu", "model_kwargs": {"dtype": torch.float32}}
    sentence = SentenceTransformer(folder, **options)
    rows = []
    for text, image, instruction in inputs:
        given = {name: value for name, value in (("text", text), ("image", image)) if value is not None}
        item = given if len(given) == 2 else next(iter(given.values()))
        rows.append(sentence.encode([item], prompt=instruction, convert_to_tensor=True).cpu())
    vectors = {
        "AutoModel without this package": auto,
        "sentence-transformers without this package": torch.cat(rows),
    }
    torch.save(vectors, Path(scratch, "vectors.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
