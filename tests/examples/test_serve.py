# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""examples/serve.py on the loopback address: the folder's vectors for clients together, a sentence for what is wrong."""

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from tiny_models import save_unime

from release.check import check
from release.endpoint import messages_of
from release.export import ExportArguments, export
from release.findings import check_inputs

uvicorn = pytest.importorskip("uvicorn", reason="needs .[serve]")


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory):
    root = tmp_path_factory.mktemp("serving")
    save_unime(backbones["llava_next"], root / "trained")
    return export(ExportArguments(str(root / "trained"), str(root / "tiny"), format="native", check=False))


@pytest.fixture(scope="module")
def url(folder):
    from examples.serve import make_app

    app = make_app(SentenceTransformer(str(folder), device="cpu"), "tiny")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def post(url: str, body: dict | bytes, path: str = "/v1/embeddings") -> tuple[int, dict]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urlopen(Request(url + path, content, {"Content-Type": "application/json"}), timeout=60) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def picture(content: bytes | str) -> dict:
    address = content if isinstance(content, str) else "data:image/png;base64," + base64.b64encode(content).decode()
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}]}


def png(image: Image.Image) -> bytes:
    image.save(stored := io.BytesIO(), "PNG")
    return stored.getvalue()


def test_check_passes_every_form(folder, url):
    findings = {item.name: item for item in check(folder, fresh_process=False, endpoint=url)}
    assert {name for name in findings if name.startswith("server")} == {
        *("server, messages", "server, input", "server, pooling")
    }
    assert all(item.sound for item in findings.values()), findings


def test_clients_at_a_time_get_their_own_vectors(folder, url):
    rows = check_inputs() * 3
    with ThreadPoolExecutor(8) as clients:
        answers = list(
            clients.map(lambda row: post(url, {"messages": messages_of(row)})[1]["data"][0]["embedding"], rows)
        )
    model = SentenceTransformer(str(folder), device="cpu")
    for (text, image, instruction), vector in zip(rows, answers, strict=True):
        row = image if text is None else text if image is None else {"text": text, "image": image}
        np.testing.assert_allclose(vector, model.encode([row], prompt=instruction)[0], atol=1e-5)


def test_texts_dimensions_and_paths_that_are_texts(folder, url, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    texts = ["a dog", str(tmp_path / "a.png"), "http://127.0.0.1:9/a.png", ""]
    status, answer = post(url, {"input": texts, "model": "tiny", "dimensions": 5})
    expected = SentenceTransformer(str(folder), device="cpu").encode(
        [{"text": text} for text in texts], convert_to_tensor=True
    )
    found = torch.tensor([entry["embedding"] for entry in answer["data"]])
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected[:, :5], dim=-1), rtol=0, atol=1e-5)
    assert (status, [entry["index"] for entry in answer["data"]]) == (200, [0, 1, 2, 3])


BOMB = png(Image.new("L", (8000, 8000)))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{nope", 422, "JSON decode error"),
        (b"[" * 100000, 400, "parsing the body"),
        ({}, 400, "give either input or messages"),
        ({"input": 3}, 422, "input"),
        ({"input": [], "model": "tiny"}, 413, "1 to 256 texts"),
        ({"input": ["x"] * 300}, 413, "1 to 256 texts"),
        ({"input": "x" * 300000}, 413, "262144 characters"),
        ({"input": "a", "model": "another"}, 404, "this server has the model tiny"),
        ({"input": "a", "dimensions": 0}, 422, "dimensions"),
        ({"input": "<image>"}, 400, "no images"),
        ({"messages": [{"role": "user", "content": []}]}, 400, "must hold a text or a picture"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "must hold a text or a picture"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 422, "messages.0.role"),
        (picture("http://127.0.0.1:9/a.png"), 400, "addresses and paths are not read"),
        (picture("file:///etc/passwd"), 400, "addresses and paths are not read"),
        (picture("/etc/passwd"), 400, "addresses and paths are not read"),
        (picture("data:image/png;base64,????"), 400, "cannot be decoded"),
        (picture(png(Image.new("RGB", (8, 8)))[:40]), 400, "cannot be decoded"),
        (picture(b"%!PS-Adobe-3.0 EPSF-3.0\n"), 400, "cannot be decoded"),
        (picture(BOMB), 413, "64000000 pixels"),
    ],
    ids=lambda value: None if isinstance(value, int | str) else str(value)[:30],
)
def test_what_is_wrong_is_said(url, body, status, words):
    found, answer = post(url, body)
    assert found == status and words in answer["detail"] and "\n" not in answer["detail"]


def test_a_bad_row_does_not_fail_others(url):
    bodies = [{"input": "<image>"}, {"input": "a dog"}] * 8
    with ThreadPoolExecutor(8) as clients:
        assert [status for status, _ in clients.map(lambda body: post(url, body), bodies)] == [400, 200] * 8


def test_under_load(folder, tmp_path):
    from benchmarks.serving import main

    main([str(folder), "--clients", "3", "--seconds", "0.5", "--output", str(tmp_path / "serving.json")])
    result = json.loads((tmp_path / "serving.json").read_text())
    assert result["requests"] > 3 and result["largest_difference_of_the_vectors"] < 1e-5
    assert str(folder) not in json.dumps(result) and set(result["latency_ms"]) == {"p50", "p95", "p99"}
