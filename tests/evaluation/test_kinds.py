# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import pytest

from evaluation.kinds import kind_of, mmeb_set, parse_patterns


@pytest.mark.parametrize(
    "name, kind",
    [
        ("grocery/i2t_class", "classification"),
        ("tabmwp/vqa", "vqa"),
        ("coco_tiny/grounding", "grounding"),
        ("coco_tiny/i2t_caption", "retrieval"),
        ("ImageNet-A/test", "classification"),
        ("mmeb/imagenet-a", "classification"),
        ("GQA/test", "vqa"),
        ("MSCOCO/test", "grounding"),
        ("MSCOCO_t2i/test", "retrieval"),
        ("Visual7W-Pointing/test", "grounding"),
        ("MSCOCO/captions", "retrieval"),
    ],
)
def test_default_kinds(name, kind):
    assert kind_of(name) == kind


def test_patterns_come_first():
    patterns = parse_patterns(["GROCERY/*=vqa", "*=grounding"])
    assert kind_of("grocery/i2t_class", patterns) == "vqa"
    assert kind_of("GQA/test", patterns) == "grounding"
    for wrong in ("grocery", "grocery=animals", "=vqa"):
        with pytest.raises(ValueError, match="GLOB=KIND"):
            parse_patterns([wrong])


def test_splits():
    assert mmeb_set("GQA/test") == ("vqa", "out-of-distribution")
    assert mmeb_set("x/okvqa") is None
    assert mmeb_set("x/OK-VQA") == ("vqa", "in-distribution")
