# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Tiny random backbones, complete with tokenizer and image processor, made on the spot."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    Glm4vConfig,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
)
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from modeling_unime import Phi3VConfig, Phi3VImageProcessor, UniMEModel, UniMEProcessor

SPECIAL = ["<pad>", "<s>", "</s>"]


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}, "head_dim": 8}
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}


def make_tokenizer(extra: list[str], bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: one token per byte, so that any text has its own ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL + extra + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=extra,
        model_max_length=2048,
    )


def save_backbone(folder: Path, config, tokenizer, image_processor, dropout: float, seed: int) -> Path:
    torch.manual_seed(seed)
    config.text_config.attention_dropout = dropout
    try:
        model = AutoModelForImageTextToText.from_config(config)
    except ValueError:  # phi3_v has no class with a head
        model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases that are not trivial
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return folder


def make_llava_next(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """LLaVA-NeXT with a CLIP tower of 28-pixel tiles and a Mistral LLM 32 wide; anyres grid of up to 2 x 2 tiles."""
    tokenizer = make_tokenizer(["<image>"], bos=True)
    grid = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=MistralConfig(vocab_size=len(tokenizer), sliding_window=None, **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
    )
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid
    )
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def _qwen_tokens() -> tuple[PreTrainedTokenizerFast, dict[str, int]]:
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = make_tokenizer(marks, bos=False)
    ids = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return tokenizer, {name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()}


def make_qwen2_vl(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """Qwen2-VL, 32 wide."""
    tokenizer, ids = _qwen_tokens()
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        text_config={"vocab_size": len(tokenizer), **TEXT, "rope_parameters": MROPE["rope_parameters"]},
        **ids,
    )
    image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 12)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_phi3_v(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """Phi-3.5-vision, 32 wide, one crop an image (313 image tokens); long rope factors from 400 tokens on."""
    tokenizer = make_tokenizer(["<|user|>", "<|end|>", "<|assistant|>", "<|image|>"], bos=True)
    config = Phi3VConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 336,
            "patch_size": 14,
        },
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        original_max_position_embeddings=400,
        rope_scaling={"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0]},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    return save_backbone(folder, config, tokenizer, Phi3VImageProcessor(num_crops=1), dropout, seed)


def make_llava(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """LLaVA-1.5 with a CLIP tower of 28 pixels and a Llama LLM."""
    tokenizer = make_tokenizer(["<image>"], bos=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_llava_onevision(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """LLaVA-OneVision with a SigLIP tower of 28 pixels and a Qwen2 LLM; at most two views before it shrinks them."""
    tokenizer = make_tokenizer(["<|im_start|>", "<|im_end|>", "<image>", "<video>"], bos=False)
    grid = [[28, 56], [56, 28], [56, 56], [84, 84]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_2",
    )
    image_processor = LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=grid)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_qwen2_5_vl(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """Qwen2.5-VL with windows of 28 pixels in its first layer."""
    tokenizer, ids = _qwen_tokens()
    vision = {"depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
    config = Qwen2_5_VLConfig(
        vision_config={**vision, "window_size": 28, "fullatt_block_indexes": [1]},
        text_config={"vocab_size": len(tokenizer), **TEXT, **MROPE},
        **ids,
    )
    image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 12)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_qwen3_vl(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """Qwen3-VL with one deep-stack layer."""
    tokenizer, ids = _qwen_tokens()
    vision = {"depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
    config = Qwen3VLConfig(
        vision_config={**vision, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        text_config={"vocab_size": len(tokenizer), **TEXT, **MROPE},
        **ids,
    )
    image_processor = Qwen2VLImageProcessorPil(min_pixels=32 * 32, max_pixels=32 * 32 * 12, patch_size=16)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_glm4v(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """GLM-4.1V."""
    marks = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|begin_of_image|>", "<|image|>", "<|end_of_image|>"]
    marks += ["<|begin_of_video|>", "<|video|>", "<|end_of_video|>"]
    tokenizer = make_tokenizer(marks, bos=False)
    names = ("image_start", "image", "image_end", "video_start", "video_end")
    tokens = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in zip(names, tokens, strict=True)
    }
    vision = {"depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
    config = Glm4vConfig(
        vision_config={**vision, "image_size": 56},
        text_config={"vocab_size": len(tokenizer), **TEXT, **MROPE},
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        **ids,
    )
    image_processor = Glm4vImageProcessorPil(size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 24})
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_internvl(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """InternVL with views of 28 pixels, 4 tokens each."""
    tokenizer = make_tokenizer(["<|im_start|>", "<|im_end|>", "<img>", "<IMG_CONTEXT>", "</img>"], bos=False)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**TOWER),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    image_processor = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, max_patches=4)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_smolvlm(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """SmolVLM with views of 28 pixels, 4 tokens each."""
    marks = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"]
    tokenizer = make_tokenizer(marks, bos=False)
    config = SmolVLMConfig(
        vision_config=TOWER,
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    image_processor = SmolVLMImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


BACKBONES = {
    "glm4v": make_glm4v,
    "internvl": make_internvl,
    "llava": make_llava,
    "llava_next": make_llava_next,
    "llava_onevision": make_llava_onevision,
    "phi3_v": make_phi3_v,
    "qwen2_5_vl": make_qwen2_5_vl,
    "qwen2_vl": make_qwen2_vl,
    "qwen3_vl": make_qwen3_vl,
    "smolvlm": make_smolvlm,
}


def save_unime(backbone: Path | str, folder: Path | str) -> Path:
    """The UniME folder of a backbone: model and processor."""
    UniMEModel.from_backbone(backbone).save_pretrained(folder)
    UniMEProcessor.from_backbone(backbone).save_pretrained(folder)
    return Path(folder)


def make_clip(folder: Path, seed: int = 0) -> Path:
    """CLIP of 28 pixels and 77 tokens, 24 wide; start, end and padding token stand last in the vocabulary, as in CLIP's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: index for index, token in enumerate([*alphabet, "<s>", "</s>"])}
    inner = Tokenizer(models.BPE(vocab=ids, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=77
    )
    text = {
        "vocab_size": len(ids),
        "bos_token_id": ids["<s>"],
        "eos_token_id": ids["</s>"],
        "max_position_embeddings": 77,
    }
    text |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=24))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    CLIPProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


def make_siglip(folder: Path, seed: int = 0) -> Path:
    """SigLIP of 28 pixels and 64 tokens, 32 wide; texts end with `</s>`, which also pads, as in SigLIP's."""
    tokenizer = make_tokenizer([], bos=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    tokenizer.pad_token, tokenizer.model_max_length, tokenizer.padding_side = "</s>", 64, "right"
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 64, "projection_size": 32}
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=TOWER | {"hidden_size": 32}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(size={"height": 28, "width": 28}), tokenizer).save_pretrained(folder)
    return folder


def trainer_options(folder: Path, **more) -> dict:
    """Options of a short training on a CPU, written to `out` in a folder."""
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 5,
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }


def write_pairs(folder: Path, rows: int = 32) -> Path:
    """MMEB-train rows of every kind, with images, hard negatives and repeated positives; returns the file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index in range(rows):
        size = rng.integers(20, 90, size=2)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.png")
    labels = ["dog", "cat", "tree", "car"]
    lines = []
    for index in range(rows):
        image, label = f"images/{index}.png", labels[index % 4]
        row = {
            "qry": "",
            "qry_image_path": "",
            "pos_text": "",
            "pos_image_path": "",
            "neg_text": "",
            "neg_image_path": "",
        }
        if index % 3 == 0:
            row |= {"qry": "<|image_1|>\nIdentify the object\n", "qry_image_path": image, "pos_text": label}
            row["neg_text"] = labels[(index + 1) % 4] if index % 2 else ""
        elif index % 3 == 1:
            row |= {"qry": f"Find an image of number {index}", "pos_text": "<|image_1|>\nRepresent the given image\n"}
            row |= {"pos_image_path": image}
        else:
            row |= {
                "qry": f"Find the text {index}",
                "pos_text": f"text number {index}",
                "neg_text": f"no text {index}",
            }
        lines.append(json.dumps(row))
    file = folder / "train_pairs.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
