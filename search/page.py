# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A page to search an index with, in the browser: `unime serve-page INDEX`, two models side by side with `--compare`.

Pictures reach the browser as thumbnails that are made of what the index holds; no path that a browser names is read.
"""

import html
import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from search.documents import KINDS, Part
from search.index import Hit, UniMEIndex
from unime.options import CommandError, check_at_least, one_line, parse_dataclasses, run_command

THUMBNAIL = 320  # pixels of a side
BINS = 40


@dataclass
class PageArguments:
    """Which index to show, and where. Every option is described in its `help`."""

    index: str = field(metadata={"help": "Folder of the index."})
    _: KW_ONLY
    compare: str | None = field(
        default=None, metadata={"help": "A second index, of another model, whose results are shown beside."}
    )
    host: str = field(
        default="127.0.0.1",
        metadata={
            "help": "Address to listen at; 0.0.0.0 lets everybody on the network search, and see what is found."
        },
    )
    port: int = field(default=7860, metadata={"help": "Port to listen at."})
    device: str = field(default="auto", metadata={"help": "'auto', 'cpu', 'cuda', 'cuda:1', ..."})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "Type of the weights; 'auto' is bfloat16 on CUDA and float32 elsewhere."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the Python files in the model folder if its type is not a known one."}
    )

    def __post_init__(self) -> None:
        check_at_least(self, port=1)


def thumbnail(index: UniMEIndex, hit: Hit) -> Image.Image:
    """A small picture of a result; of a text, or of a file that is gone, a card with words."""
    if hit.kind == "text":
        return _card(hit.text or "")
    part = Part(hit.path, hit.number, hit.kind, "")
    try:
        example = part.example(None, index.pictures)
        picture = example.open()
    except ValueError as error:  # it has changed since
        return _card(f"cannot be opened any more: {one_line(str(error))}")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture


def _card(text: str) -> Image.Image:
    words, lines = text.split(), [""]
    for word in words:
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < 44 else [lines[-1], word[:44]]
    card = Image.new("RGB", (THUMBNAIL, THUMBNAIL * 3 // 4), "#f4f1ea")
    ImageDraw.Draw(card).multiline_text((14, 12), "\n".join(lines[:15]), fill="#222222", spacing=5)
    return card


def caption(hit: Hit) -> str:
    """What stands below a result."""
    place = {"picture": "", "page": f", page {hit.number + 1}", "text": f", piece {hit.number + 1}"}[hit.kind]
    copies = f" (+{len(hit.copies)})" if hit.copies else ""
    return f"{hit.score:.3f} {Path(hit.path).name}{place}{copies}"


def make_page(indexes: dict[str, UniMEIndex]) -> Any:
    """The page as gradio's `Blocks`, ready for `launch`.

    Args:
        indexes: One index or two, by the title of its column.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would ask the internet
    try:
        import gradio as gr
        import pandas
    except ImportError as error:
        raise CommandError('the page needs the package gradio: pip install "unime[search]"') from error

    def guarded(work: Any) -> Any:
        """What the user can put right appears as a message in the page."""

        def run(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except (ValueError, OSError, CommandError) as error:
                raise gr.Error(html.escape(one_line(str(error))), print_exception=False) from error

        return run

    def show(index: UniMEIndex, vector: np.ndarray, hits: list[Hit], kinds: list[str]) -> list[Any]:
        counts, edges = np.histogram(index.scores(vector, kinds), bins=BINS)
        bars = pandas.DataFrame({"cosine": (edges[:-1] + edges[1:]) / 2, "files": counts})
        shown = [(thumbnail(index, hit), caption(hit)) for hit in hits]
        return [gr.Gallery(shown, selected_index=None), hits, None, bars]

    def search(text: str, image: str | None, instruction: str, kinds: list[str], k: float) -> list[Any]:
        query = {"text": text, "image": image, "instruction": instruction}
        outputs: list[Any] = []
        for index in indexes.values():
            vector = index.encode_query(query)
            outputs += show(index, vector, index.nearest(vector, int(k), kinds), kinds)
        return outputs

    def more_like(name: str) -> Any:
        def run(hits: list[Hit], selected: int | None, kinds: list[str], k: float) -> list[Any]:
            if not hits or selected is None:
                raise CommandError("choose a result first, then ask for more like it")
            hit, index = hits[selected], indexes[name]
            return show(
                index, index.vector(hit.path, hit.number), index.similar(hit.path, hit.number, int(k), kinds), kinds
            )

        return run

    def choose(event: gr.SelectData) -> int:
        return event.index

    with gr.Blocks(title="UniME search", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown("# Search")
        with gr.Row():
            with gr.Column(scale=3):
                text = gr.Textbox(label="Text", placeholder="what to look for; Enter searches", autofocus=True)
                instruction = gr.Textbox(
                    label="Instruction (optional)",
                    placeholder="Find me an everyday image that matches the given caption:",
                )
                with gr.Row():
                    kinds = gr.CheckboxGroup(list(KINDS), value=list(KINDS), label="What may be found")
                    count = gr.Slider(1, 60, value=12, step=1, label="Results")
                button = gr.Button("Search", variant="primary")
            with gr.Column(scale=1, min_width=200):
                image = gr.Image(label="Picture (optional)", type="filepath", height=240)
        columns: list[Any] = []
        with gr.Row():
            for name in indexes:
                with gr.Column(min_width=300):
                    gallery = gr.Gallery(
                        label=name,
                        columns=4,
                        height="auto",
                        object_fit="contain",
                        allow_preview=False,
                        interactive=False,
                    )
                    hits, selected = gr.State([]), gr.State(None)
                    more = gr.Button("More like the chosen one")
                    bars = gr.BarPlot(x="cosine", y="files", title="Cosines of all with the query", height=180)
                    outputs = [gallery, hits, selected, bars]
                    columns += outputs
                    gallery.select(choose, None, selected, show_progress="hidden", api_visibility="private")
                    more.click(
                        guarded(more_like(name)), [hits, selected, kinds, count], outputs, api_visibility="private"
                    )
        inputs = [text, image, instruction, kinds, count]
        gr.on(
            [text.submit, instruction.submit, button.click],
            guarded(search),
            inputs,
            columns,
            api_visibility="private",
        )
    return page


def launch(page: Any, host: str, port: int, **options: Any) -> Any:
    """Start the page's server; further options of gradio's `launch`."""
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # gradio's own come from the internet
    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        footer_links=[],
        theme=gr.themes.Default(**fonts),
        ssr_mode=False,
        max_file_size="64mb",
        **options,
    )


def main(argv: list[str] | None = None, prog: str = "python -m search.page") -> None:
    """Entry point of the command line."""
    (arguments,) = parse_dataclasses(
        [PageArguments], argv, positional=("index",), prog=prog, description="A page to search an index with."
    )
    options = {name: getattr(arguments, name) for name in ("device", "dtype", "trust_remote_code")}
    places = [arguments.index, *([arguments.compare] if arguments.compare else [])]
    indexes = {place: UniMEIndex(place, **options) for place in places}
    page = make_page(indexes)
    for index in indexes.values():
        index.encode_query(
            "warm up"
        )  # faults of the model are told here, and the first search is as quick as the next
    launch(page, arguments.host, arguments.port)


if __name__ == "__main__":
    run_command(main)
