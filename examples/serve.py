# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Serve an exported folder, of either format, in the form of OpenAI's API: FastAPI over sentence-transformers.

    python examples/serve.py FOLDER --port 8000

POST /v1/embeddings and /pooling take texts (`input`), or one conversation (`messages`: the system message is the
instruction, pictures are data: URLs). What arrives while the model is busy is then encoded together. Nothing that a client names is opened.
"""

import argparse
import asyncio
import base64
import contextlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from sentence_transformers import SentenceTransformer

from modeling_unime.pictures import FORMATS, read_picture

MAX_BYTES, MAX_PIXELS, MAX_ROWS, MAX_TEXT, MAX_WAITING = 2**25, 2**25, 256, 2**18, 1024


class Url(BaseModel):
    url: str


class Part(BaseModel):
    type: Literal["text", "image_url"]
    text: str = Field("", max_length=MAX_TEXT)
    image_url: Url | None = None

    def read(self) -> dict:
        """The part as sentence-transformers takes it; a picture's size is judged before it is decoded."""
        if self.type == "text":
            return {"type": "text", "text": self.text}
        url = self.image_url.url if self.image_url else ""
        if not url.startswith("data:image/"):
            raise HTTPException(400, "image_url must be a data:image/... URL; addresses and paths are not read")
        try:
            content = base64.b64decode(url.partition(",")[2], validate=True)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                pixels = image.width * image.height
            picture = read_picture(content) if pixels <= MAX_PIXELS else None
        except Exception as error:  # PIL raises nearly every type on damaged input
            raise HTTPException(400, f"a picture cannot be decoded; send one of {', '.join(FORMATS)}") from error
        if picture is None:
            raise HTTPException(413, f"a picture has {pixels} pixels; at most {MAX_PIXELS} are taken")
        return {"type": "image", "image": picture}


class Message(BaseModel):
    role: Literal["system", "user"]
    content: list[Part] | str = Field(max_length=MAX_TEXT)

    def read(self) -> dict:
        parts = [Part(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        return {"role": self.role, "content": [part.read() for part in parts]}


class Body(BaseModel):
    model: str | None = None
    input: list[str] | str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_ROWS)
    dimensions: int | None = Field(None, ge=1)

    def rows(self) -> list[list[dict]]:
        """A conversation for each text, or the one that is given. As a message, no text is taken for a path."""
        if (self.input is None) == (self.messages is None):
            raise HTTPException(400, "give either input or messages")
        texts = [self.input] if isinstance(self.input, str) else self.input
        if texts is not None and not 1 <= len(texts) <= MAX_ROWS or sum(map(len, texts or [])) > MAX_TEXT:
            raise HTTPException(413, f"input may be 1 to {MAX_ROWS} texts of {MAX_TEXT} characters together")
        if self.messages and not any(message.content for message in self.messages if message.role == "user"):
            raise HTTPException(400, "a message of the user's must hold a text or a picture")
        rows = [self.messages] if texts is None else [[Message(role="user", content=text)] for text in texts]
        return [[message.read() for message in row] for row in rows]


class Batches:
    """Rows of requests that arrive while others are computed go through the model together."""

    def __init__(self, model: SentenceTransformer, size: int):
        self.model, self.size = model, size
        self.queue: asyncio.Queue = asyncio.Queue()

    async def encode(self, rows: list, dimensions: int | None) -> list[list[float]]:
        """Vectors of unit length; a row that the model refuses is the client's fault."""
        if self.queue.qsize() + len(rows) > MAX_WAITING:
            raise HTTPException(503, "too many requests are waiting; try again later")
        pairs = [(row, asyncio.get_running_loop().create_future()) for row in rows]
        for pair in pairs:
            self.queue.put_nowait(pair)
        vectors = await asyncio.gather(*(future for _, future in pairs))
        for vector in vectors:
            if isinstance(vector, ValueError):
                raise HTTPException(400, " ".join(str(vector).split()))
            if isinstance(vector, Exception):
                raise vector
        cut = [vector[:dimensions] for vector in vectors]
        return [(vector / max(np.linalg.norm(vector), 1e-12)).tolist() for vector in cut]

    async def run(self) -> None:
        while True:
            batch = [await self.queue.get()]
            while len(batch) < self.size and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            found = await asyncio.to_thread(self._compute, [row for row, _ in batch])
            for (_, future), vector in zip(batch, found, strict=True):
                if not future.done():  # its client has gone
                    future.set_result(vector)

    def _compute(self, rows: list) -> list:
        try:
            return list(self.model.encode(rows, batch_size=len(rows)))
        except Exception as error:  # one row's fault is not the others'
            return [error] if len(rows) == 1 else [self._compute([row])[0] for row in rows]


def make_app(model: SentenceTransformer, name: str, batch_size: int = 32) -> FastAPI:
    """The application."""
    batches = Batches(model, batch_size)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI):
        task = asyncio.create_task(batches.run())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def limit_size(request: Request, call_next):
        length = request.headers.get("content-length", "")
        if request.method == "POST" and not (length.isdigit() and int(length) <= MAX_BYTES):
            return JSONResponse({"detail": f"a request must say its length, at most {MAX_BYTES} bytes"}, 413)
        return await call_next(request)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)

    @app.post("/pooling")
    @app.post("/v1/embeddings")
    async def embed(body: Body, request: Request) -> dict:
        if body.model not in (None, name):
            raise HTTPException(404, f"this server has the model {name}")
        kind, field = ("pooling", "data") if request.url.path == "/pooling" else ("embedding", "embedding")
        vectors = await batches.encode(body.rows(), body.dimensions)
        data = [{"object": kind, "index": index, field: vector} for index, vector in enumerate(vectors)]
        return {"object": "list", "model": name, "data": data}

    @app.get("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [{"id": name, "object": "model"}]}

    return app


def main() -> None:
    """Load the folder and serve it until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="exported model folder, of either format")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--trust_remote_code", action="store_true", help="for our own format: run the folder's code")
    arguments = parser.parse_args()
    model = SentenceTransformer(arguments.folder, trust_remote_code=arguments.trust_remote_code)
    uvicorn.run(make_app(model, Path(arguments.folder).resolve().name), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
