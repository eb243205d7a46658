# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""examples/serve.py under load: clients in threads send the inputs of `unime check`, one request after another.

    python -m benchmarks.serving FOLDER --clients 8 --seconds 60

Every vector is compared with that of sentence-transformers for the row alone. Clients and server share the machine.
"""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
import uvicorn
from sentence_transformers import SentenceTransformer

from benchmarks.measure import settings_of, show_and_write
from evaluation.report import environment
from examples.serve import make_app
from release.endpoint import messages_of
from release.findings import check_inputs
from unime.options import parse_dataclasses


@dataclass
class ServingArguments:
    """Options of the benchmark."""

    folder: str = field(metadata={"help": "Exported model folder, of either format."})
    clients: int = field(default=8, metadata={"help": "Clients at a time."})
    seconds: float = field(default=60.0, metadata={"help": "How long they send."})
    batch_size: int = field(default=32, metadata={"help": "Rows that go through the model together at most."})
    output: str = field(default="benchmarks/results/serving.json", metadata={"help": "Result file."})


def run_client(
    port: int, first: int, bodies: list[bytes], expected: np.ndarray, end: float
) -> tuple[list[float], float]:
    """Seconds of each request of a client until `end`, and the largest difference of a vector from the expected one."""
    connection, seconds, largest = http.client.HTTPConnection("127.0.0.1", port, timeout=120), [], 0.0
    number = first
    while (start := time.perf_counter()) < end:
        row = number % len(bodies)
        connection.request("POST", "/v1/embeddings", bodies[row], {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        seconds.append(time.perf_counter() - start)
        vector = answer["data"][0]["embedding"]
        largest = max(largest, float(np.abs(np.array(vector) - expected[row]).max()))
        number += 1
    return seconds, largest


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the result file."""
    (arguments,) = parse_dataclasses(
        (ServingArguments,), argv, positional=("folder",), prog="python -m benchmarks.serving", description=__doc__
    )
    model = SentenceTransformer(arguments.folder, trust_remote_code=True, device="cpu")
    rows = check_inputs()
    bodies = [json.dumps({"messages": messages_of(row)}).encode() for row in rows]
    alone = [
        model.encode(
            [image if text is None else text if image is None else {"text": text, "image": image}], prompt=prompt
        )
        for text, image, prompt in rows
    ]
    server = uvicorn.Server(
        uvicorn.Config(make_app(model, "model", arguments.batch_size), port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    end = time.perf_counter() + arguments.seconds
    with ThreadPoolExecutor(arguments.clients) as clients:
        work = [
            clients.submit(run_client, port, n, bodies, np.concatenate(alone), end) for n in range(arguments.clients)
        ]
        found = [one.result() for one in work]
    server.should_exit = True
    thread.join()
    seconds = np.array([value for values, _ in found for value in values])
    result = {
        "requests": len(seconds),
        "requests_per_second": len(seconds) / arguments.seconds,
        "latency_ms": {f"p{q}": 1000 * float(np.percentile(seconds, q)) for q in (50, 95, 99)},
        "largest_difference_of_the_vectors": max(largest for _, largest in found),
        "settings": settings_of(arguments),
        **environment(torch.device("cpu")),
    }
    show_and_write(
        result,
        ("requests", "requests_per_second", "latency_ms", "largest_difference_of_the_vectors"),
        arguments.output,
    )


if __name__ == "__main__":
    main()
