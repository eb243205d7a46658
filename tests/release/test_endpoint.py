# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""`unime check --endpoint` passes a server of the folder's vectors, and says what others do instead."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tiny_models import save_unime

from modeling_unime import UniMEModel, UniMEProcessor
from release.check import CheckArguments, _known_faults, check
from release.endpoint import check_endpoint, messages_of
from release.findings import check_inputs

ROWS = check_inputs()
NUMBERS = {json.dumps(messages_of(row)): number for number, row in enumerate(ROWS)} | {
    json.dumps(row[0]): number for number, row in enumerate(ROWS) if row[0] and not row[2]
}


@contextlib.contextmanager
def serve(answers: dict[str, torch.Tensor], tokens: list[int] | None = None) -> Iterator[str]:
    """A server that gives each form of request ("messages", "input", "pooling") the rows of a tensor; others get 404."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

        def do_GET(self) -> None:
            self.answer({"data": [{"id": "me/tiny"}]} if self.path == "/v1/models" else None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            form = "pooling" if self.path == "/pooling" else "input" if "input" in body else "messages"
            if body["model"] != "me/tiny" or form not in answers:
                self.answer(None)
                return
            number = NUMBERS[json.dumps(body.get("messages", body.get("input")))]
            vector = answers[form][number].tolist()
            usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens[number]}}
            self.answer({"data": [{"data" if form == "pooling" else "embedding": vector}], **usage})

        def answer(self, content: dict | None) -> None:
            body = json.dumps(content or {"error": "not here"}).encode()
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory):
    return save_unime(backbones["llava_next"], tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def known(folder):
    """(right vectors, vectors of known faults, tokens)"""
    model, processor = UniMEModel.from_pretrained(folder).eval(), UniMEProcessor.from_pretrained(folder)
    texts, images, instructions = (list(column) for column in zip(*ROWS, strict=True))
    with torch.no_grad():
        right = model(**processor(text=texts, images=images, instruction=instructions)).embeddings
        return right, *_known_faults(model, processor, ROWS)


def found(
    known, answers: dict[str, torch.Tensor], tokens: list[int] | None = None
) -> dict[str, tuple[bool | None, str]]:
    with serve(answers, tokens) as url:
        return {
            item.name.removeprefix("server, "): (item.passed, item.note) for item in check_endpoint(url, ROWS, *known)
        }


def test_the_folders_vectors_pass(folder, known):
    right, _, tokens = known
    state = torch.stack([torch.randn(32), torch.zeros(32)])  # one vector for each token, as /pooling may give
    pooling = torch.stack([torch.cat([state, vector[None]]) for vector in right])
    with serve({"messages": right, "input": right, "pooling": pooling}, tokens) as url:
        findings = check(folder, fresh_process=False, endpoint=f"{url}/v1/")
        assert [item.passed for item in findings if item.name.startswith("server, ")] == [True] * 3
    near = torch.nn.functional.normalize(right + 0.003 * torch.randn_like(right), dim=-1)
    rounded = found(known, {"messages": near, "input": right})
    assert rounded["messages"] == (True, "as by rounding to another precision") and rounded["input"] == (True, "")
    assert rounded["pooling"][0] is None and "404" in rounded["pooling"][1]


def test_plain_strings_without_the_chat_template(known):
    """As vLLM serves them."""
    right, faults, _ = known
    bare, first, mean = faults.values()
    verdicts = found(known, {"messages": right, "input": bare})
    assert verdicts["messages"][0] and not verdicts["input"][0]
    assert "the chat template was skipped, as engines do with plain strings: send messages" in verdicts["input"][1]


@pytest.mark.parametrize(("number", "words"), [(1, "the first token was pooled"), (2, "all tokens were averaged")])
def test_other_pooling(known, number, words):
    vectors = torch.nn.functional.normalize(list(known[1].values())[number], dim=-1)
    verdict, note = found(known, {"messages": vectors})["messages"]
    assert not verdict and words in note and "1_Pooling/config.json" in note


def test_other_faults(known):
    right, _, tokens = known
    pictures = torch.tensor([image is not None for _, image, _ in ROWS])[:, None]
    for vectors, counts, words in (
        (3 * right, None, "vectors are not normalised: a length differs from 1 by 2"),
        (right[:, :8], None, "vectors have 8 dimensions instead of 32"),
        (torch.where(pictures, -right, right), None, "texts are right, pictures are not"),
        (-right, [7, *tokens[1:]], f"a row has 7 instead of {tokens[0]} tokens"),
        (-right, tokens, "at least 0.99 is needed: the server computes something else"),
    ):
        verdict, note = found(known, {"messages": vectors}, counts)["messages"]
        assert not verdict and words in note, note


def test_no_server(known):
    (first, *_) = check_endpoint("http://127.0.0.1:9", ROWS, *known)
    assert first.passed is False and "127.0.0.1:9" in first.note
    with pytest.raises(ValueError, match="endpoint is 'localhost:8000'; give an address such as"):
        CheckArguments("folder", endpoint="localhost:8000")
