# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of `python -m evaluation.run`, and those of every command that encodes with a finished model."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from evaluation.kinds import parse_patterns
from evaluation.suites import MINI, SUITES
from unime.data.row_arguments import RowArguments
from unime.options import check_at_least


@dataclass
class EncoderArguments:
    """The model that encodes, and how. Every option is described in its `help`."""

    model: str = field(
        metadata={
            "help": "Folder of a saved model (or its name on the Hub); a multimodal LLM of a supported family is taken "
            "without its head, and CLIP or SigLIP as a baseline. 'sentence-transformers:FOLDER' evaluates any SentenceTransformer "
            "instead, as another."
        }
    )
    _: KW_ONLY
    batch_size: int = field(default=32, metadata={"help": "Examples per forward pass."})
    device: str = field(
        default="auto", metadata={"help": "'auto' (an accelerator if there is one), 'cpu', 'cuda', 'cuda:1', ..."}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "Type of the weights; 'auto' is bfloat16 on CUDA and float32 elsewhere."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Token limit passed to the processor. Default: the processor's own."}
    )
    mixed: Literal["joint", "sum"] = field(
        default="joint",
        metadata={
            "help": "An example with text and image: 'joint' embeds them together; 'sum' adds the embeddings of both, as "
            "the paper does after stage 1."
        },
    )
    prompts: Literal["unime", "e5v", "vlm2vec"] = field(
        default="unime",
        metadata={
            "help": "Prompts of a multimodal LLM: 'unime' are those of its processor; 'e5v' and 'vlm2vec' those that these two "
            "are evaluated with. A model in UniME's format keeps its own."
        },
    )
    num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that prepare batches ahead of the model. Default: 4 on an accelerator, none on a CPU."
        },
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the Python files in the model folder if its model type, or that of a part of it, is not a known one."
        },
    )

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=1, max_length=1, num_workers=0)


@dataclass
class EvaluationArguments(EncoderArguments, RowArguments):
    """What to evaluate, on what, and where the results go. Every option is described in its `help`."""

    data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Data files (.jsonl, .jsonl.gz, .json, .csv, .parquet) and folders. Of a folder, all eval_* "
            "files, SugarCrepe's seven files and test-*.parquet are taken, at any depth. With --suite, folders and zip "
            "archives are where the suite's data sets are looked for (default: the Hub), and files are scored besides."
        },
    )
    output: str = field(
        default="",
        metadata={"help": "Folder for results.json, results.md and results/ with one file per data set. Required."},
    )
    suite: list[str] = field(
        default_factory=list,
        metadata={
            "help": f"Benchmarks: {', '.join(SUITES)}, all; {MINI} is all eval_* files of the data folders by their "
            "kind; FILE.yaml is one of your own."
        },
    )
    compare: list[str] = field(
        default_factory=list,
        metadata={
            "help": "'published' puts what papers print beside the figures of suites; a results.json of another run gives "
            "paired differences with their intervals."
        },
    )
    dimensions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Score the vectors cut to so many first components, too (Matryoshka): 64,128. Default: the "
            "matryoshka_dimensions that the model's config names."
        },
    )
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "Folder of vectors, which several runs may share: they are found by all that they depend on, and only "
            "those that are missing are computed. Default: 'vectors' in the output folder."
        },
    )
    batch_size: int = field(
        default=256, kw_only=True, metadata={"help": "Examples per forward pass, at most; see batch_tokens."}
    )
    batch_tokens: int = field(
        default=16384,
        metadata={
            "help": "Tokens per forward pass, padding and images' included, at most, as estimated from the lengths of texts "
            "and the sizes of images: short texts go in large batches, long ones and images in small ones."
        },
    )
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )
    limit: int | None = field(
        default=None,
        metadata={
            "help": "Use only the first so many rows of each file, for a trial: rows are often sorted by class, so "
            "that the score of a part says little about the whole."
        },
    )
    kinds: list[str] = field(
        default_factory=list,
        metadata={
            "help": "GLOB=KIND pairs that set the kind (classification, vqa, retrieval, grounding) of data sets by "
            "name. Otherwise the names of MMEB's sets and *class*, *vqa*, *grounding* decide; the rest is retrieval."
        },
    )

    def __post_init__(self) -> None:
        EncoderArguments.__post_init__(self)
        RowArguments.__post_init__(self)
        if not self.output:
            raise ValueError("the following arguments are required: --output")
        try:
            self.dimensions = [int(number) for entry in self.dimensions for number in str(entry).split(",") if number]
        except ValueError:
            raise ValueError(f"dimensions must be whole numbers, such as 64,128, got {self.dimensions}") from None
        if min(self.dimensions, default=1) < 1:
            raise ValueError(f"dimensions must be at least 1, got {min(self.dimensions)}")
        check_at_least(self, limit=1, batch_tokens=1, expected_world_size=0)
        parse_patterns(self.kinds)
