# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from PIL import Image

from evaluation.encoder import EncodingError
from unime.data.example import Example

pytest.importorskip("sentence_transformers")


@pytest.fixture
def text_model(tmp_path):
    """A bag of random word vectors, saved as a SentenceTransformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "a", "dog", "cat", "find", "it"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    model.save_pretrained(str(tmp_path / "model"))
    return tmp_path / "model"


def test_text_model(text_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    from evaluation.baselines import SentenceTransformerEncoder

    encoder = SentenceTransformerEncoder.from_pretrained(text_model, device="cpu", batch_size=2)
    examples = [
        Example("a dog"),
        Example("<|image_1|>\ncat\n", None, ""),
        Example("a dog"),
        Example("it", None, "find"),
    ]
    embeddings = encoder.encode(examples)
    expected = SentenceTransformer(str(text_model), device="cpu").encode(["a dog", "cat", "a dog", "find it"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    with pytest.raises(EncodingError, match="toy: this baseline reads text, but the data set has image 'x.png'"):
        encoder.check([Example("a"), Example(None, "x.png")], "toy")


def test_mixed_batches_are_encoded_modality_by_modality(tmp_path, write_image):
    from evaluation.baselines import SentenceTransformerEncoder

    class Multimodal:
        modalities = ("text", "image", ("image", "text"))

        def eval(self):
            return self

        def supports(self, modality):
            return modality in self.modalities

        def encode(self, inputs, **options):
            assert len({isinstance(entry, Image.Image) for entry in inputs}) == 1
            return np.array([[self.number(entry), 1.0] for entry in inputs])

        def number(self, entry):
            if isinstance(entry, dict):
                return len(entry["text"]) + 100 * ("image" in entry)
            return 50 if isinstance(entry, Image.Image) else len(entry)

    path = str(tmp_path / write_image("x.png"))
    examples = [Example("ab"), Example("<|image_1|>\nabc", path, ""), Example("<|image_1|>", path), Example("a")]
    embeddings = SentenceTransformerEncoder(Multimodal()).encode(examples)
    assert embeddings[:, 0].tolist() == [2, 103, 50, 1]


def test_texts_that_look_like_pictures_stay_texts(backbones, tmp_path, write_image, monkeypatch):
    """Neither a file of the machine nor an address gets into the vector of a text, in baselines and teachers."""
    from evaluation.baselines import SentenceTransformerEncoder
    from modeling_unime import UniMEModel, UniMEProcessor
    from trainers.teachers.sentence_transformers_teacher import SentenceTransformersTeacher

    write_image("x.png")
    folder = tmp_path / "model"
    model, processor = (cls.from_backbone(backbones["qwen2_vl"]) for cls in (UniMEModel, UniMEProcessor))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    texts = [str(tmp_path / "x.png"), "https://example.org/a.png", "data:image/png;base64,AAAA"]
    right = model(**processor(text=texts)).embeddings.detach().numpy()
    encoder = SentenceTransformerEncoder.from_pretrained(folder, device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(encoder.encode([Example(text) for text in texts]), right, atol=1e-5)
    teacher = SentenceTransformersTeacher(folder, device="cpu")
    monkeypatch.setattr(teacher, "_load", lambda: encoder.model)
    np.testing.assert_allclose(teacher.encode(texts), right, atol=1e-5)
