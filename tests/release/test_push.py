# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""`unime push` against a Hub on the loopback address: what goes there, what does not, and what breaks on the way."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from stub_hub import TOKEN
from tiny_models import save_unime

from modeling_unime import UniMEModel
from release import push as command
from release.convert import ConvertArguments, convert
from release.export import ExportArguments, export
from unime.hub import files_to_upload

ROOT = Path(__file__).resolve().parents[2]
STRANGERS = ("optimizer.pt", "train.log", "token", ".env", "checkpoint-4/model.safetensors", "helper.py", "events.out")
# Both formats by their names, in a process that has neither this package nor, for one of them, remote code.
LOADS = """
import sys, torch
sys.modules.update(dict.fromkeys(("modeling_unime", "unime", "trainers", "evaluation", "release")))
from sentence_transformers import SentenceTransformer
vectors = {}
for name, own in (("me/own", True), ("me/native", False)):
    for revision in ("main", "v1"):
        model = SentenceTransformer(name, trust_remote_code=own, revision=revision, device="cpu")
        vectors[name, revision] = model.encode(["a dog"], convert_to_tensor=True)
first, *others = vectors.values()
assert len(vectors) == 4
for other in others:
    torch.testing.assert_close(other, first, rtol=0, atol=1e-5)
print("the same vectors")
"""


@pytest.fixture(scope="module")
def exported(backbones, tmp_path_factory) -> dict[str, Path]:
    """Both formats of one model, each beside what must not be uploaded; the weights in shards."""
    root = tmp_path_factory.mktemp("exported")
    trained = save_unime(backbones["llava_next"], root / "trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unime.hub_folder.SHARD_SIZE", "60KB")
        patch.setattr("release.native.SHARD_SIZE", "60KB")
        for name in ("unime", "native"):
            export(ExportArguments(str(trained), str(root / name), repository=f"me/{name}", format=name, check=False))
            for stranger in STRANGERS:
                (root / name / stranger).parent.mkdir(exist_ok=True)
                (root / name / stranger).write_text("secret", encoding="utf-8")
    return {name: root / name for name in ("unime", "native")}


def run(hub, home: Path, *arguments: str, token: str | None = TOKEN, script: tuple[str, ...] = ("-m", "release.push")):
    environment = {**os.environ, **hub.environment(home, token=token), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [sys.executable, *script, *map(str, arguments)], env=environment, cwd=ROOT, capture_output=True, text=True
    )


def test_both_formats_are_pushed_and_load_by_name(exported, stub_hub, tmp_path):
    """Checked, listed, private, on a branch, read back; nothing that lies beside the model goes along."""
    for name, folder in (("me/own", exported["unime"]), ("me/native", exported["native"])):
        for options in ((), ("--revision", "v1", "--check", "false")):
            fast = ("--verify", "false") if options else ()
            shown = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("helper.py"))
            done = run(stub_hub, tmp_path / "home", shown, name, *options, *fast)
            shutil.rmtree(shown)
            assert done.returncode == 0, done.stderr[-3000:]
            lines = done.stdout.splitlines()
            assert lines[-1] == f"{stub_hub.endpoint}/{name}" + ("/tree/v1" if options else "")
            assert f"{name} is private" in lines and "not uploaded" in done.stdout
            assert TOKEN not in done.stdout + done.stderr
        files = stub_hub.files(name)
        assert files == stub_hub.files(name, "v1")
        assert not [path for path in files if path in STRANGERS or b"secret" == files[path]]
        assert (
            files.keys() == {path: 1 for path in files_to_upload(folder)}.keys()
            and "model.safetensors.index.json" in files
        )
    done = run(stub_hub, tmp_path / "home", script=("-c", LOADS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "the same vectors"
    done = run(
        stub_hub, tmp_path / "other-home", "me/native", tmp_path / "out", token=None, script=("-m", "release.convert")
    )
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "neither a folder nor can it be had from the Hub" in said


ROUND_TRIP = """
import sys, numpy
from huggingface_hub import HfApi
from sentence_transformers import SentenceTransformer
from release.convert import ConvertArguments, convert
from release.push import PushArguments, push

first, second, adapter, output = sys.argv[1:]
shas = []
for folder in (first, second):
    push(PushArguments(folder, "me/pinned", check=False, verify=False))
    shas.append(HfApi().model_info("me/pinned").sha)
vectors = [SentenceTransformer("me/pinned", revision=name, device="cpu").encode(["a dog"]) for name in (*shas, "main")]
assert numpy.array_equal(vectors[1], vectors[2]) and abs(vectors[0] - vectors[1]).max() > 1e-3, "not pinned"
expected = [SentenceTransformer(folder, device="cpu").encode(["a dog"]) for folder in (first, second)]
assert numpy.array_equal(vectors[:2], expected)
push(PushArguments(adapter, "me/adapter", adapter=True, base_model="me/pinned"))
convert(ConvertArguments("me/adapter", output))
"""


def test_revisions_are_pinned_and_an_adapter_finds_its_base(exported, stub_hub, tmp_path):
    """Two commits of a branch, each by its hash; an adapter by name, merged into the base that its config names."""
    folders = [
        shutil.copytree(exported["native"], tmp_path / name, ignore=shutil.ignore_patterns(*STRANGERS))
        for name in "ab"
    ]
    template = folders[0] / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("in one word", "in two words"), encoding="utf-8")
    adapted = get_peft_model(
        UniMEModel.from_backbone(str(folders[1])),
        LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False),
    )
    adapted.save_pretrained(tmp_path / "adapter")
    places = (*folders, tmp_path / "adapter", tmp_path / "merged")
    done = run(stub_hub, tmp_path / "home", *places, script=("-c", ROUND_TRIP))
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} == stub_hub.files("me/adapter").keys()
    expected = adapted.merge_and_unload().state_dict()
    for name, value in UniMEModel.from_pretrained(tmp_path / "merged").state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_a_broken_upload_is_resumed(exported, stub_hub, tmp_path):
    stub_hub.refused_objects = 1
    arguments = (exported["native"], "me/native", "--check", "false")
    done = run(stub_hub, tmp_path / "home", *arguments)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "give the same command again to resume the upload" in said and "403" in said
    assert stub_hub.files("me/native") == {}
    kept, sent = set(stub_hub.objects), len(stub_hub.requests)
    stub_hub.cuts = 1
    done = run(stub_hub, tmp_path / "home", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    again = {path.rpartition("/")[2] for method, path in stub_hub.requests[sent:] if method == "PUT"}
    assert again and not again & kept, "the Hub was sent what it had"
    assert stub_hub.files("me/native")["README.md"] == (exported["native"] / "README.md").read_bytes()


def test_a_pull_request(exported, stub_hub, tmp_path):
    done = run(stub_hub, tmp_path / "home", exported["native"], "me/native", "--check", "false", "--create_pr", "true")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].endswith("/me/native/discussions/1")
    assert stub_hub.files("me/native") == {} and "config.json" in stub_hub.files("me/native", "refs/pr/1")


@pytest.mark.parametrize(
    ("token", "words"), [(None, "there is no token"), ("hf_wrong", "check the token and the name")]
)
def test_a_token_is_asked_for_in_a_sentence(exported, stub_hub, tmp_path, token, words):
    done = run(stub_hub, tmp_path / "home", exported["native"], "me/native", "--check", "false", token=token)
    said = done.stderr.strip().splitlines()
    assert done.returncode and words in said[-1] and "Traceback" not in done.stderr
    assert stub_hub.repositories == {}


def dry_run(model: Path, output: Path, **options) -> list[str]:
    command.push(command.PushArguments(str(model), "me/tiny", dry_run=str(output), **options))
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["unime", "native"])
def test_a_dry_run_copies_what_would_be_uploaded(exported, tmp_path, name, capsys):
    found = dry_run(exported[name], tmp_path / "out", check=False)
    assert found == files_to_upload(exported[name]) and not set(found) & set(STRANGERS)
    assert all((tmp_path / "out" / path).read_bytes() == (exported[name] / path).read_bytes() for path in found)
    said = capsys.readouterr().out
    assert f"{len(found)} files" in said and "not uploaded: .env, checkpoint-4" in said


def test_a_folder_that_must_not_be_released_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported["native"], tmp_path / "model")
    file = folder / "1_Pooling/config.json"
    file.write_text(file.read_text().replace("lasttoken", "cls_token"))
    with pytest.raises(ValueError, match="must not be released: .*pooling"):
        dry_run(folder, tmp_path / "out")
    for content, words in (("hf_" + "a" * 30, "holds a token"), ("/home/me/model", "holds a path of this machine")):
        (folder / "README.md").write_text(content)
        with pytest.raises(ValueError, match=f"README.md {words}"):
            dry_run(folder, tmp_path / f"out {words}", check=False)
    (folder / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match="no model card"):
        dry_run(folder, tmp_path / "out without", check=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repository": "./out"}, "a name on the Hub"),
        ({"repository": "tiny"}, "a name on the Hub"),
        ({"create_pr": True, "revision": "v1"}, "leave revision out"),
        ({"base_model": "me/base", "license": "mit"}, "base_model, license: only for the card of an adapter"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    with pytest.raises(ValueError, match=words):
        command.PushArguments(**{"model": "folder", "repository": "me/tiny", **options})


def test_an_adapter_goes_with_the_public_name_of_its_base(backbones, tmp_path):
    base = save_unime(backbones["llava_next"], tmp_path / "base")
    model = UniMEModel.from_pretrained(base)
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "optimizer.pt").write_text("secret")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base)}))
    with pytest.raises(ValueError, match="is a LoRA adapter alone; set --adapter"):
        dry_run(tmp_path / "adapter", tmp_path / "out1")
    with pytest.raises(ValueError, match="give its Hub name by --base_model"):
        dry_run(tmp_path / "adapter", tmp_path / "out2", adapter=True)
    found = dry_run(tmp_path / "adapter", tmp_path / "out3", adapter=True, base_model="me/base")
    assert found == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    card = (tmp_path / "out3" / "README.md").read_text()
    assert "base_model: me/base\n" in card and "base_model_relation: adapter" in card
    assert str(tmp_path) not in card + (tmp_path / "out3" / "adapter_config.json").read_text()
    merged = convert(ConvertArguments(str(tmp_path / "out3"), str(tmp_path / "merged"), base=str(base)))
    expected = adapted.merge_and_unload().state_dict()
    for name, value in UniMEModel.from_pretrained(merged).state_dict().items():
        torch.testing.assert_close(value, expected[name])
