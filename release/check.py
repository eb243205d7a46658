# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whether a saved model gives the same embeddings on every way it is used.

    python -m release.check FOLDER

Runs a fixed set of texts, images and both through the model: alone and in a batch, padded left and right, with eager and
sdpa attention, in float32 and bfloat16, through AutoModel and sentence-transformers in a process without this package;
compares the weights with the digest written beside them and the folder's code with this package's. Code that differs is
not run unless --trust_remote_code is given. Prints the smallest cosine of each comparison and a verdict that names what
was not checked, and exits with 1 when something is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError

from evaluation.encoder import pick_device
from evaluation.report import markdown_table, to_json
from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.saved_folder import DIGEST_BYTES, DIGEST_FILE, digest_weight, read_digest
from release.endpoint import check_endpoint
from release.findings import ROUNDED, SAME, Finding, check_inputs
from release.native import (
    NATIVE_FORMS,
    POOLING_FILE,
    TEMPLATE_FILE,
    is_native,
    native_faults,
    read_native_processor,
)
from release.remote_code import bare_environment, code_digest, foreign_code
from unime.files import write_atomically
from unime.hub_folder import adapters_beside
from unime.model_files import read_weights
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable

NEEDED_NATIVE = (TEMPLATE_FILE, POOLING_FILE, "sentence_bert_config.json")  # besides
NEEDED = ("config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json", "modules.json")
WITHOUT_PACKAGE = ("AutoModel without this package", "sentence-transformers without this package")
FRESH = Path(__file__).with_name("check_fresh_process.py")


@dataclass
class CheckArguments:
    """What to check."""

    model: str = field(metadata={"help": "Folder of a saved UniME model, of either format."})
    output: str | None = field(default=None, metadata={"help": "JSON file to write the findings to. Default: none."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, ...; auto takes a GPU if there is one."})
    fresh_process: bool = field(
        default=True,
        metadata={"help": "Also load the folder in a process without this package, by its own remote code."},
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the folder's code even where it is not this package's own, which a model whose vision tower or LLM "
            "brings its own code needs; read it first."
        },
    )
    against: str | None = field(
        default=None, metadata={"help": "A second folder, of either format, that must give the same vectors."}
    )
    endpoint: str | None = field(
        default=None,
        metadata={
            "help": "Address of a server of the folder, such as http://localhost:8000, that must give them, too."
        },
    )

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint is {self.endpoint!r}; give an address such as http://localhost:8000")


def smallest_cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """Smallest cosine of vectors (N, D) with their counterparts."""
    return torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=-1).min().item()


def _listed(names: list[str], separator: str = ", ") -> str:
    """The first five, and how many more."""
    return separator.join(names[:5]) + (f"{separator}and {len(names) - 5} more" if len(names) > 5 else "")


def _compare(name: str, reference: torch.Tensor, compute: Callable[[], torch.Tensor], limit: float) -> Finding:
    """A finding on two ways to the same vectors; an error on the way is one too."""
    try:
        cosine = smallest_cosine(reference, compute())
    except Exception as error:  # whatever goes wrong there is what the user must learn
        return Finding(name, False, note=f"{type(error).__name__}: {error}")
    note = "" if cosine >= limit else f"at least {limit:g} is needed: this way computes something else"
    return Finding(name, cosine >= limit, cosine, note)


def check_weights(folder: Path) -> Finding:
    """Whether the weights are those that were saved."""
    name, expected = "weights and their digest", read_digest(folder)
    if expected is None:
        return Finding(name, None, note=f"no {DIGEST_FILE}: a weight that was changed after saving would not be seen")
    if any(len(value) != 2 * DIGEST_BYTES for value in expected.values()):
        note = f"{DIGEST_FILE} of an earlier version, which left values out; save the model anew to have one"
        return Finding(name, None, note=note)
    try:
        found = {key: digest_weight(tensor) for key, tensor in read_weights(folder)}
    except (OSError, SafetensorError) as error:
        return Finding(name, False, note=f"a .safetensors file cannot be read: {error}")
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    note = f"changed since they were saved: {_listed(wrong)}; copy the folder again, or save the model anew"
    return Finding(name, not wrong, note=note if wrong else "")


def check_adapters(folder: Path) -> Finding:
    """Whether the weights are the only ones: an adapter beside them would be added to them by AutoModel, silently."""
    note = adapters_beside(folder)
    return Finding("no adapter beside the weights", not note, note=note)


def check_code(folder: Path, trusted: bool) -> Finding:
    """Whether the folder's code is this package's own."""
    foreign, digest = foreign_code(folder), f"its digest is {code_digest(folder)}"
    if not foreign:
        return Finding("code", True, note=f"this package's own; {digest}")
    note = f"it is not this package's: {_listed(foreign, '; ')}; {digest}"
    if trusted:
        return Finding("code", None, note=f"run as --trust_remote_code asks, but {note}")
    return Finding("code", False, note=f"not run, for {note}; read it and give --trust_remote_code true, or save anew")


@torch.no_grad()
def check(
    folder: str | Path,
    device: str = "auto",
    fresh_process: bool = True,
    trust_remote_code: bool = False,
    against: str | Path | None = None,
    endpoint: str | None = None,
) -> list[Finding]:
    """All comparisons, as `CheckArguments` has them; what one fault makes idle is left out, and none may be False."""
    folder, native = Path(folder), is_native(folder)
    missing = [name for name in NEEDED + (NEEDED_NATIVE if native else ()) if not (folder / name).is_file()]
    if missing:
        note = f"missing: {', '.join(missing)}; save model and processor into the same folder"
        return [Finding("files", False, note=note)]
    findings = [Finding("files", True), check_adapters(folder)]
    if not findings[-1].sound:
        return findings
    code = check_code(folder, trust_remote_code)
    findings += [check_weights(folder), code]

    def reload(folder: Path = folder, **options) -> UniMEModel:
        model = UniMEModel.from_backbone(str(folder), trust_remote_code=trust_remote_code, **options)
        return model.to(pick_device(device)).eval()

    try:
        processor = _read_processor(folder)
        model = reload(dtype=torch.float32)
        other = folder if against is None else Path(against)
        other_processor = _read_processor(other)
        side = processor.tokenizer.padding_side
        note = f"tokenizer_config.json pads on the {side}; programs that take the last position need left"
        faults = native_faults(folder) if native else {"padding side": "" if side == "left" else note}
    except Exception as error:
        return [*findings, Finding("loading", False, note=f"{type(error).__name__}: {error}")]
    findings += [Finding(name, not note, note=note) for name, note in faults.items()]

    inputs = check_inputs()

    def embed(model: UniMEModel, rows: list = inputs, processor=processor, **options) -> torch.Tensor:
        texts, images, instructions = (list(column) for column in zip(*rows, strict=True))
        batch = processor(text=texts, images=images, instruction=instructions, **options)
        return model(**batch.to(model.device)).embeddings.cpu()

    try:
        reference = embed(model, padding_side="left")
    except Exception as error:
        return [*findings, Finding("embedding", False, note=f"{type(error).__name__}: {error}")]
    findings.append(_check_distinct(reference))
    ways = {
        "left and right padding": lambda: embed(model, padding_side="right"),
        "batch and one by one": lambda: torch.cat([embed(model, [row]) for row in inputs]),
        "sdpa and eager attention": lambda: embed(reload(dtype=torch.float32, attn_implementation="eager")),
    }
    if against is not None:
        ways[f"the same as {against}"] = lambda: embed(reload(other, dtype=torch.float32), processor=other_processor)
    findings += [_compare(name, reference, compute, SAME) for name, compute in ways.items()]
    findings.append(_compare("float32 and bfloat16", reference, lambda: embed(reload(dtype=torch.bfloat16)), ROUNDED))
    if endpoint:
        findings += check_endpoint(endpoint, inputs, reference, *_known_faults(model, processor, inputs))
    reason = "" if code.sound else "the folder's code was not run"
    if find_spec("sentence_transformers") is None:
        reason = reason or "sentence-transformers is not installed"
    lacking = [name for name in NATIVE_FORMS[model.config.family].needed_packages if find_spec(name) is None]
    if native and lacking:
        reason = f"the library's processor of this family needs {' and '.join(lacking)}"
    if not fresh_process:
        reason = "--fresh_process is false"
    if reason:
        return [*findings, *(Finding(name, None, note=reason) for name in WITHOUT_PACKAGE)]
    return findings + _check_fresh_process(folder, inputs, reference)


def _known_faults(
    model: UniMEModel, processor: UniMEProcessor, rows: list
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Vectors of servers that do what is often done wrong, by what that is, and how many tokens each row has."""
    texts, images, instructions = (list(column) for column in zip(*rows, strict=True))
    batch = processor(text=texts, images=images, instruction=instructions).to(model.device)
    states: list[torch.Tensor] = []
    hook = model.model.register_forward_hook(lambda module, given, output: states.append(output.last_hidden_state))
    model(**batch)
    hook.remove()
    bare = model(**processor(text=texts, images=images, instruction=" ").to(model.device)).embeddings
    mask = batch["attention_mask"][..., None]
    vectors = {
        "the chat template was skipped, as engines do with plain strings: send messages": bare,
        "the first token was pooled, not the last: see 1_Pooling/config.json": states[0][
            range(len(rows)), mask[..., 0].argmax(1)
        ],
        "all tokens were averaged, not the last taken: see 1_Pooling/config.json": (states[0] * mask).sum(1)
        / mask.sum(1),
    }
    return {fault: values.cpu() for fault, values in vectors.items()}, mask.sum((1, 2)).tolist()


def _read_processor(folder: Path) -> UniMEProcessor:
    """Our own processor of a folder of either format."""
    return (
        read_native_processor(folder)
        if is_native(folder)
        else UniMEProcessor.from_pretrained(folder, trust_remote_code=False)
    )


def _check_distinct(embeddings: torch.Tensor) -> Finding:
    """Whether different inputs have different vectors."""
    name = "different inputs differ"
    if not embeddings.isfinite().all():
        return Finding(name, False, note="there are NaNs")
    distinct = (embeddings @ embeddings.T).fill_diagonal_(-1).max().item() < 1 - 1e-9
    note = "" if distinct else "two different inputs have the same embedding: the model has collapsed"
    return Finding(name, distinct, note=note)


def _check_fresh_process(folder: Path, inputs: list, reference: torch.Tensor) -> list[Finding]:
    """What a user gets, by AutoModel and by sentence-transformers, where this package cannot be imported."""
    with tempfile.TemporaryDirectory() as scratch:
        torch.save(inputs, Path(scratch, "inputs.pt"))
        result = subprocess.run(
            [sys.executable, "-P", str(FRESH), str(folder.resolve()), scratch],
            cwd=scratch,
            env=bare_environment(scratch),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if result.returncode:
            said = result.stderr.strip().splitlines()
            return [Finding(WITHOUT_PACKAGE[0], False, note=said[-1] if said else "it was killed")]
        vectors = torch.load(Path(scratch, "vectors.pt"))
    return [_compare(name, reference, lambda name=name: vectors[name], SAME) for name in WITHOUT_PACKAGE]


def findings_table(findings: list[Finding]) -> str:
    """The findings in Markdown."""
    words = {True: "passed", False: "FAILED", None: "not checked"}
    rows = [
        [item.name, "" if item.cosine is None else f"{item.cosine:.7f}", words[item.passed], item.note]
        for item in findings
    ]
    return markdown_table(["check", "smallest cosine", "verdict", "note"], rows)


def verdict(findings: list[Finding]) -> str:
    """One line: what failed, or that all passed, and what was not checked."""
    failed = [item.name for item in findings if not item.sound]
    left_out = [f"{item.name} ({item.note})" for item in findings if item.passed is None]
    said = f"FAILED ({', '.join(failed)})" if failed else "passed" if not left_out else "passed in what was checked"
    return said + (f"; NOT checked: {'; '.join(left_out)}" if left_out else "")


def main(argv: Sequence[str] | None = None, prog: str = "python -m release.check") -> None:
    """Check, print the table, and exit with 1 when the model is not sound."""
    (arguments,) = parse_dataclasses(
        (CheckArguments,),
        argv,
        positional=("model",),
        prog=prog,
        description=__doc__.partition("\n")[0],
    )
    if arguments.output:
        check_writable(Path(arguments.output).parent, "folder of output,")
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder")
    options = ("device", "fresh_process", "trust_remote_code", "against", "endpoint")
    findings = check(arguments.model, **{name: getattr(arguments, name) for name in options})
    print(findings_table(findings))
    print(f"{arguments.model}: {verdict(findings)}")
    if arguments.output:
        write_atomically(arguments.output, to_json([asdict(item) for item in findings]))
        print(arguments.output)
    if not all(item.sound for item in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
