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
    own = not Path(folder, "unime.json").exists()  # the other format needs no remote code
    model = AutoModel.from_pretrained(folder, trust_remote_code=own, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=own)

    def last_state(text, image, instruction):
        content = [{"type": "image", "image": image}] if image is not None else []
        content += [{"type": "text", "text": text}] if text is not None else []
        system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
        messages = [*system, {"role": "user", "content": content}]
        batch = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        return torch.nn.functional.normalize(model(**batch).last_hidden_state[:, -1].float(), dim=-1)

    with torch.no_grad():
        if own:
            auto = model(**processor(text=texts, images=images, instruction=instructions)).embeddings
        else:
            auto = torch.cat([last_state(*row) for row in inputs])
    options = {"trust_remote_code": own, "device": "cpu", "model_kwargs": {"dtype": torch.float32}}
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
