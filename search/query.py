# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Search an index: `unime search "a red bicycle" --index INDEX`, also `--image FILE`, or both."""

import json
from dataclasses import asdict

from search.arguments import SearchArguments
from search.index import UniMEIndex
from unime.options import parse_dataclasses, run_command

SNIPPET = 100  # characters of a text that are shown


def main(argv: list[str] | None = None, prog: str = "python -m search.query") -> None:
    """Entry point of the command line."""
    (arguments,) = parse_dataclasses(
        [SearchArguments], argv, positional=("text",), prog=prog, description="Search an index."
    )
    names = ("model", "device", "dtype", "trust_remote_code")
    index = UniMEIndex(arguments.index, **{name: getattr(arguments, name) for name in names})
    query = {name: getattr(arguments, name) for name in ("text", "image", "instruction")}
    for hit in index.search(query, arguments.top, arguments.kinds):
        if arguments.json:
            print(json.dumps(asdict(hit), ensure_ascii=False))
            continue
        place = {"picture": "", "page": f" page {hit.number + 1}", "text": f" piece {hit.number + 1}"}[hit.kind]
        text = "" if hit.text is None else f": {' '.join(hit.text.split())[:SNIPPET]}"
        copies = f" (and {len(hit.copies)} of equal content)" if hit.copies else ""
        print(f"{hit.score:.4f}  {hit.path}{place}{text}{copies}")


if __name__ == "__main__":
    run_command(main)
