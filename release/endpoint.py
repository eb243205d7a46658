# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whether a server of a folder gives the folder's vectors, by /v1/embeddings and /pooling; and if not, why."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from release.findings import ROUNDED, SAME, Finding, Row

SECONDS = 120  # that a server may take for a request
UNIT = 1e-2  # by how much a length may differ from 1, in bfloat16


def messages_of(row: Row) -> list[dict]:
    """A row as chat messages: the instruction is the system's, a picture a data: URL."""
    text, image, instruction = row
    content = []
    if image is not None:
        image.save(stored := io.BytesIO(), "PNG")
        url = "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    content += [{"type": "text", "text": text}] if text is not None else []
    system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    return [*system, {"role": "user", "content": content}]


def _ask(address: str, body: dict | None = None) -> Any:
    """The answer to a GET, or to a POST of a body."""
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(address, content, {"Content-Type": "application/json"}), timeout=SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise OSError(f"{error.code}: {error.read(2000).decode(errors='replace').strip()}") from error


def _explain(vectors: torch.Tensor, expected: torch.Tensor, faults: dict, rows: list[Row], counts: list) -> list:
    """Verdict, smallest cosine and note; `counts` are (number of tokens that the server says, right number) of each row."""
    if vectors.shape != expected.shape:
        return [False, None, f"vectors have {vectors.shape[1]} dimensions instead of {expected.shape[1]}"]
    cosines = {
        name: torch.nn.functional.cosine_similarity(vectors, other.double(), dim=-1)
        for name, other in {"": expected, **faults}.items()
    }
    found = cosines.pop("")
    smallest, longest = found.min().item(), (vectors.norm(dim=-1) - 1).abs().max().item()
    pictures = torch.tensor([image is not None for _, image, _ in rows])
    wrong = [f"{told} instead of {right}" for told, right in counts if told not in (None, right)]
    note = "" if smallest >= SAME else "as by rounding to another precision"
    if longest > UNIT:
        note = f"vectors are not normalised: a length differs from 1 by {longest:.3g}"
    elif fault := [
        name for name, values in cosines.items() if smallest < SAME and values.min() > max(smallest, ROUNDED)
    ]:
        note = fault[0]
    elif smallest < ROUNDED and wrong:
        note = f"a row has {wrong[0]} tokens: another prompt, picture size or cutting"
    elif smallest < ROUNDED and pictures.any() and found[~pictures].min() >= ROUNDED:
        note = "texts are right, pictures are not: they have another size, or were changed on the way"
    elif smallest < ROUNDED:
        note = f"at least {ROUNDED:g} is needed: the server computes something else"
    else:
        return [True, smallest, note]
    return [False, smallest, note]


def check_endpoint(
    url: str, rows: list[Row], expected: torch.Tensor, faults: dict[str, torch.Tensor], tokens: list[int]
) -> Iterator[Finding]:
    """A finding for each form of request; right vectors, those of known faults by their names, and tokens are of the rows."""
    url = url.rstrip("/").removesuffix("/v1")
    texts = [number for number, (_, image, instruction) in enumerate(rows) if image is None and not instruction]
    every = list(range(len(rows)))
    forms = {"messages": (every, "/v1/embeddings"), "input": (texts, "/v1/embeddings"), "pooling": (every, "/pooling")}
    for form, (numbers, path) in forms.items():
        some = [rows[number] for number in numbers]
        try:
            model = _ask(f"{url}/v1/models")["data"][0]["id"]
            bodies = [{"input": row[0]} if form == "input" else {"messages": messages_of(row)} for row in some]
            answers = [_ask(url + path, {"model": model, **body}) for body in bodies]
            entries = [answer["data"][0] for answer in answers]
            read = [torch.tensor(entry.get("embedding", entry.get("data")), dtype=torch.float64) for entry in entries]
            vectors = torch.stack(
                [values[-1] if values.ndim > 1 else values for values in read]
            )  # one a token: the last
        except (OSError, ValueError, LookupError, TypeError) as error:
            absent = form == "pooling" and str(error).startswith("404")
            yield Finding(f"server, {form}", None if absent else False, note=f"{url}{path}: {error}")
            continue
        counts = [
            ((answer.get("usage") or {}).get("prompt_tokens"), tokens[n])
            for answer, n in zip(answers, numbers, strict=True)
        ]
        chosen = {fault: values[numbers] for fault, values in faults.items()}
        yield Finding(f"server, {form}", *_explain(vectors, expected[numbers], chosen, some, counts))
