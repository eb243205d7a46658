# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.encoder import Encoder, EncodingError, pick_device, pick_dtype
from unime.data.example import Example
from unime.data.images import ImageError, ImageStore

TEXTS = [Example("b"), Example("a"), Example("b"), Example("b", instruction=""), Example("b"), Example("a")]


def test_equal_examples_are_encoded_once(make_encoder):
    encoder = make_encoder(batch_size=2)
    embeddings = encoder.encode(TEXTS)
    assert len(encoder.processor.calls) == 3
    assert embeddings.shape == (6, 16) and embeddings.dtype == np.float32
    assert (embeddings[[0, 2, 4]] == embeddings[0]).all() and (embeddings[1] == embeddings[5]).all()
    assert not (embeddings[0] == embeddings[3]).any()


def test_order_and_batches_do_not_matter(make_encoder, tmp_path, write_image):
    write_image("x.png", "red"), write_image("y.png", "blue")
    store = ImageStore(tmp_path)
    examples = [
        Example("a long text", None, ""),
        Example("short"),
        Example(None, "x.png", None, store),
        Example("t", "y.png", "do", store),
        Example("z"),
        Example("t", "x.png", "do", store),
    ]
    one_by_one = np.concatenate([make_encoder().encode([example]) for example in examples])
    for batch_size in (1, 4, 32):
        np.testing.assert_array_equal(make_encoder(batch_size=batch_size).encode(examples), one_by_one)
    encoder = make_encoder()
    encoder.encode(examples)
    has_image = [call[1] is not None for call in encoder.processor.calls]
    assert has_image == sorted(has_image, reverse=True)  # images together, first


def test_worker_processes_read_the_same_archive(make_encoder, tmp_path, write_image):
    for number in range(12):
        write_image(f"{number}.png", f"#{number:02x}00ff")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number in range(12):
            archive.write(tmp_path / f"{number}.png", f"{number}.png")
    store = ImageStore(tmp_path / "images.zip")
    examples = [Example("t", f"{number}.png", None, store) for number in range(12)]
    expected = make_encoder(batch_size=3).encode(examples)
    encoder = make_encoder(batch_size=3, num_workers=2)
    np.testing.assert_array_equal(encoder.encode(examples), expected)
    assert encoder.processor.calls == []  # it really ran elsewhere
    with pytest.raises(ImageError, match="99.png"):
        encoder.encode([*examples, Example("t", "99.png", None, store)])


@pytest.mark.parametrize("value, fault", [(float("nan"), "NaN"), (0.0, "zero")])
def test_unusable_embeddings_name_the_example(make_encoder, value, fault):
    def spoil(embeddings):
        return torch.where(torch.arange(len(embeddings))[:, None] == 1, value, embeddings)

    with pytest.raises(EncodingError, match=f"toy: the embedding of text 'bb' is .*{fault}"):
        make_encoder(spoil).encode([Example("a"), Example("bb"), Example("ccc")], description="toy")


def test_a_picture_may_be_held(make_encoder, tmp_path, write_image):
    path = str(tmp_path / write_image("x.png", "red"))
    held = Image.open(path)
    ways = [Example("t", "x.png", None, ImageStore(tmp_path)), Example("t", path), Example("t", held)]
    encoder = make_encoder()
    vectors = encoder.encode([*ways, Example("t", held), Example("t", np.asarray(held))])
    assert (vectors == vectors[0]).all() and len(encoder.processor.calls) == 4, "the same picture is taken once"


def test_what_cannot_be_encoded_is_refused(make_encoder):
    with pytest.raises(EncodingError, match="nothing to encode"):
        make_encoder().encode([])
    with pytest.raises(EncodingError, match="example 1 has neither"):
        make_encoder().encode([Example("a"), Example(instruction="do")])
    with pytest.raises(ImageError, match="no picture file 'x.png'"):
        make_encoder().encode([Example("a", "x.png")])
    with pytest.raises(ValueError, match="batch_size"):
        make_encoder(batch_size=0)


def test_one_instruction_is_passed_as_it_is_and_several_as_a_list(make_encoder):
    seen = []

    class Recorder:
        def __call__(self, text, images, instruction, return_tensors, max_length):
            seen.append((instruction, max_length))
            return {"features": torch.ones(len(text), 16)}

    encoder = make_encoder(max_length=77)
    encoder.processor = Recorder()
    encoder.encode([Example("a", None, ""), Example("b", None, "")])
    encoder.encode([Example("bb", None, "do"), Example("a")])
    assert seen == [("", 77), (["do", None], 77)]


def test_devices_and_types():
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("float16", torch.device("cpu")) is torch.float16
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(EncodingError, match="abacus"):
        pick_device("abacus")


@pytest.fixture(scope="module", params=["llava_next", "qwen2_vl"])
def tiny_model(request, tmp_path_factory):
    from tiny_models import BACKBONES, save_unime

    folder = tmp_path_factory.mktemp(request.param)
    backbone = BACKBONES[request.param](folder / "backbone")
    save_unime(backbone, folder / "model")
    return folder / "model"


def test_a_saved_model_is_loaded_and_gives_what_it_gives_directly(tiny_model, tmp_path, write_image):
    from modeling_unime import UniMEModel, UniMEProcessor

    write_image("x.png", "red")
    store = ImageStore(tmp_path)
    examples = [
        Example("a dog"),
        Example(None, "x.png", None, store),
        Example("<|image_1|>\nFind it.\n", "x.png", "", store),
        Example("a label", None, ""),
        Example("what is it?", "x.png", "Answer the question:", store),
    ]
    encoder = Encoder.from_pretrained(tiny_model, device="cpu", batch_size=2)
    embeddings = encoder.encode(examples)
    model = UniMEModel.from_pretrained(tiny_model).eval()
    processor = UniMEProcessor.from_pretrained(tiny_model)
    for example, embedding in zip(examples, embeddings, strict=True):
        inputs = processor(
            text=[example.text], images=[example.open()], instruction=example.instruction, return_tensors="pt"
        )
        with torch.no_grad():
            expected = model(**inputs).embeddings[0].numpy()
        np.testing.assert_allclose(embedding, expected, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_multimodal_llm_is_evaluated_without_its_head(backbones, tmp_path, write_image):

    write_image("x.png", "red")
    from tiny_models import save_unime

    save_unime(backbones["llava_next"], tmp_path / "converted")
    examples = [Example("a dog"), Example(None, "x.png", None, ImageStore(tmp_path))]
    vectors = [
        Encoder.from_pretrained(folder, device="cpu").encode(examples)
        for folder in (backbones["llava_next"], tmp_path / "converted")
    ]
    np.testing.assert_array_equal(*vectors)
