# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One-line faults that the tests must notice.

    python tests/mutants.py [--list] [--only WORD ...]

Each fault is put into a copy of the tree, and only the tests named beside it run there: they must pass without the fault and
fail with it. Printed is what survives, and what cannot be tried because the code or the tests have moved. Not part of
`make test`: it takes some minutes. A fault that once went unnoticed gets a test and a line here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("modeling_unime", "unime", "trainers", "evaluation", "release", "examples", "benchmarks", "tests", "docs")
COPIED_FILES = ("pyproject.toml", "setup.py", "README.md", "model_card.md", "Makefile", "constraints.txt")
PASSED, FAILED = 0, 1  # exit codes of pytest; any other says that the tests did not run


class Mutant(NamedTuple):
    """A fault.

    Args:
        what: what is wrong with it, in words.
        file: the file that is changed.
        old: text that stands in the file exactly once.
        new: what takes its place.
        tests: files or tests of which at least one must fail; names are relative to `tests`.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _of(file: str, *tests: str):
    """Makes the faults of one file, all to be noticed by the same tests unless they name their own."""
    return lambda what, old, new, *own: Mutant(what, file, old, new, own or tests)


blocks = _of("trainers/losses/blocks.py", "trainers/losses/test_blocks.py")
hard = _of("trainers/losses/hard_negative_info_nce.py", "trainers/losses/test_hard_negative_info_nce.py")
info_nce = _of("trainers/losses/info_nce.py", "trainers/losses/test_info_nce.py")
distillation = _of("trainers/losses/similarity_distillation.py", "trainers/losses/test_similarity_distillation.py")
soft_label = _of("trainers/losses/soft_label.py", "trainers/losses/test_soft_label.py")
unit_rows = _of("trainers/losses/unit_rows.py", "trainers/losses/test_unit_rows.py")
gathered = _of("trainers/losses/gathered_cosines.py", "trainers/losses/test_gathered_cosines.py")
cache = _of("trainers/gradient_cache.py", "trainers/test_gradient_cache.py")
trainer = _of("trainers/embedding_trainer.py", "trainers/test_training.py")
callbacks = _of("trainers/callbacks.py", "trainers/test_training.py")
chunks = _of("trainers/chunks.py", "trainers/test_chunks.py")
sampler = _of("trainers/batch_sampler.py", "trainers/test_batch_sampler.py")
lora = _of("trainers/lora.py", "trainers/test_lora.py")
vision = _of("trainers/frozen_vision.py", "trainers/test_frozen_vision.py")
mmeb = _of("trainers/data/mmeb.py", "trainers/data/test_mmeb.py")
mmeb_rows = _of("unime/data/forms.py", "unime/data/test_mmeb_rows.py")
mixing = _of("trainers/data/mixing.py", "trainers/data/test_mixing.py")
texts = _of("trainers/data/texts.py", "trainers/data/test_texts.py")
judged = _of("unime/data/forms.py", "unime/data/test_judged_rows.py")
example = _of("unime/data/example.py", "trainers/test_pair_collator.py")
collator = _of("trainers/collators.py", "trainers/test_pair_collator.py")
resumption = _of("trainers/run.py", "trainers/test_training.py")
prompts = _of("modeling_unime/prompts.py", "modeling_unime/test_processing.py")
selection = _of("trainers/mining/selection.py", "trainers/mining/test_selection.py")
search = _of("trainers/mining/search.py", "trainers/mining/test_search.py")
mined = "trainers/mining/test_mine_negatives.py"
similarities = _of("evaluation/similarities.py", "evaluation/test_similarities.py")
ranking = _of("evaluation/metrics/ranking.py", "evaluation/test_metrics.py")
recall = _of("evaluation/metrics/recall_at_k/recall_at_k.py", "evaluation/test_metrics.py")
ndcg = _of("evaluation/metrics/ndcg_at_k/ndcg_at_k.py", "evaluation/test_metrics.py")
mrr = _of("evaluation/metrics/mrr/mrr.py", "evaluation/test_metrics.py")
mmeb_task = _of("evaluation/tasks.py", "evaluation/test_mmeb_task.py")
captions = _of("evaluation/tasks.py", "evaluation/test_captions.py")
kinds = _of("evaluation/kinds.py", "evaluation/test_sugarcrepe.py")
content = _of("unime/data/example.py", "unime/data/test_content.py")
pixels = _of("unime/data/content.py", "unime/data/test_content.py")
averages = _of("evaluation/averages.py", "evaluation/test_report.py", "evaluation/test_suite_runs.py")
model = _of("modeling_unime/modeling_unime.py", "modeling_unime/test_modeling.py")
processor = _of("modeling_unime/processing_unime.py", "modeling_unime/test_processing.py")
store = _of("unime/data/images.py", "unime/data/test_images.py")
nv_embed = _of("trainers/teachers/nv_embed_model.py", "trainers/teachers/test_nv_embed.py")

MUTANTS = (
    # Losses
    blocks("a tie is accurate", "(positive > hardest)", "(positive >= hardest)"),
    blocks("copies of the positive are negatives", "(1) != group_ids[columns]", "(1) == group_ids[columns]"),
    blocks("a known copy stays a negative", "others &= ~duplicates", "others &= duplicates"),
    blocks("a mean over what was not chosen too", "mask.sum().clamp(min=1)", "len(mask)"),
    blocks(
        "effective negatives not squared",
        "weights.sum(dim=1).square()",
        "weights.sum(dim=1)",
        "trainers/losses/test_hard_negative_info_nce.py",
    ),
    hard("the filter is not strict", "similarities > positive[own]", "similarities >= positive[own]"),
    hard(
        "the margin is subtracted",
        "unsqueeze(1) + self.false_negative_margin",
        "unsqueeze(1) - self.false_negative_margin",
    ),
    hard("dropped candidates come back", "masked_fill_(~others | dropped", "masked_fill_(~others"),
    hard("one repetition too many", "(slot < k % distinct)", "(slot <= k % distinct)"),
    hard("a slot that holds nothing counts", "(slot < num_kept)", "(slot <= num_kept)"),
    hard("cosines times temperature", "cosines / self.temperature", "cosines * self.temperature"),
    hard("one negative too few", "min(self.num_hard_negatives, len(", "min(self.num_hard_negatives - 1, len("),
    hard("filtered share of all candidates", "/ num_others.sum()", "/ (num_others + 1).sum()"),
    info_nce("cosines times temperature", "-torch.inf) / self.temp", "-torch.inf) * self.temp"),
    info_nce("the positive masked out", "scatter(1, own, False)", "scatter(1, own, True)"),
    distillation("directions exchanged", '== "teacher_to_student":', '== "student_to_teacher":'),
    distillation("the diagonal stays", "if self.include_self else others", "if not self.include_self else others"),
    distillation(
        "the teacher's own temperature ignored", "/ self.teacher_temperature, present", "/ self.temperature, present"
    ),
    distillation(
        "half of the symmetric loss", "row_kl(log_student, log_teacher)) / 2", "row_kl(log_teacher, log_student)) / 2"
    ),
    soft_label(
        "one direction only",
        "row_kl(log_p, log_q) + row_kl(log_q, log_p)",
        "row_kl(log_p, log_q) + row_kl(log_p, log_q)",
    ),
    soft_label(
        "absent candidates take part",
        "present = own >= 0",
        "present = own >= -1",
    ),
    unit_rows("a zero row is divided by nothing", "norms == 0, torch.inf", "norms == 0, 1e-12"),
    unit_rows(
        "the gradient along the row stays",
        "(gradient - (gradient * unit).sum",
        "(gradient - 0 * (gradient * unit).sum",
    ),
    gathered("gradients of the wrong queries", "choices // chosen.shape[1]", "choices % len(queries)"),
    # Gradient cache, chunks, shares, order of the rows
    cache("other dropout in the second pass", "with state.replay(), contextlib", "with contextlib"),
    cache("ranks exchange after the first chunk", "index == len(chunks) - 1", "index == 0"),
    cache("a filler has a gradient", "part = 0 if filler", "part = 1 if filler"),
    cache("a filler uses up random numbers", "replay() if filler", "replay() if not filler"),
    chunks("a chunk one token too small", "inputs * longest <= self.tokens", "inputs * longest < self.tokens"),
    chunks("padding not counted", "inputs * longest <=", "longest <="),
    chunks("every rank embeds all", "items[self.rank :: self.world_size]", "items"),
    chunks("rows in another order", '"global_order": torch.argsort(gathered)', '"global_order": gathered'),
    sampler("every epoch in one order", "default_rng((self.seed, self.epoch))", "default_rng((self.seed, 0))"),
    sampler(
        "blocks of sources stand in order", "generator.permutation(np.concatenate(blocks))", "np.concatenate(blocks)"
    ),
    # Trainers
    trainer(
        "the loss not divided by the accumulation steps",
        "(world_size() / self.current_gradient_accumulation_steps)",
        "world_size()",
        "trainers/test_training.py::test_the_gradient_of_accumulated_batches_is_their_mean",
    ),
    trainer(
        "the logged loss not divided",
        "return loss / self.current_gradient_accumulation_steps",
        "return loss",
        "trainers/test_training.py::test_the_logged_loss_of_accumulated_batches_is_their_mean",
    ),
    resumption(
        "a checkpoint of any number of ranks",
        "if ranks != world_size():",
        "if not ranks:",
        "trainers/test_training.py::test_a_checkpoint_of_two_processes_is_not_continued_by_one",
    ),
    callbacks(
        "no epoch is told",
        "listener.set_epoch(int(state.epoch))",
        "pass",
        "trainers/test_training.py::test_resumption_in_the_middle_of_an_epoch",
    ),
    example(
        "the same path in two folders is one picture",
        "default=None, repr=False)",
        "default=None, repr=False, compare=False)",
    ),
    collator(
        "all rows logged under the first source",
        "[pair.source for pair in pairs]",
        "[pairs[0].source for pair in pairs]",
    ),
    lora("alpha is the rank", "or 2 * args.lora_rank", "or args.lora_rank"),
    lora("no dropout", "lora_dropout=args.lora_dropout", "lora_dropout=0.0"),
    lora("LoRA on the vision tower too", 'name.startswith(root + ".")', 'name.startswith("model.")'),
    vision("the frozen tower trains", "module.eval()", "module.train()"),
    vision("features kept for ever", "self._kept.clear()", "pass"),
    # Data
    mmeb("all rows counted to the first source", "n=number: n,", "n=number: 0,"),
    content("white space tells contents apart", '(self.text or "").strip()', '(self.text or "")'),
    mmeb_rows("a lone image token is a text", 'bool(text and text.replace(IMAGE_TOKEN, "").strip())', "bool(text)"),
    mmeb_rows(
        "an empty negative is one", "for example in examples if not example.is_empty))", "for example in examples))"
    ),
    mixing("the same part in every epoch", "(epoch * rest + np.arange(rest))", "np.arange(rest)"),
    mixing("rounded down", "math.floor(weight * rows + 0.5)", "math.floor(weight * rows)"),
    texts("white space stays", "texts.append(text.strip())", "texts.append(text)"),
    judged("a score above 1", "if not 0 <= value <= 1:", "if not 0 <= value:"),
    mmeb("the source's instruction lost", "if instruction and query", "if not instruction and query"),
    # Mining
    selection("the judge's margin left out", " - options.judge_margin", "", mined),
    selection("the first rank left out", ": options.range_min]", ": options.range_min + 1]", mined),
    selection("one round only", "for offset in range(min(step, count))", "for offset in range(1)"),
    search("what is at the limit is left out", "fits = values <= limits", "fits = values < limits"),
    search("exclusions of other blocks", "columns - first] = -torch.inf", "columns - columns] = -torch.inf"),
    Mutant(
        "the margin is subtracted in mining",
        "trainers/mining/neighbours.py",
        "positives - np.float32(options.absolute",
        "positives + np.float32(options.absolute",
        (mined,),
    ),
    Mutant(
        "the share of No",
        "trainers/mining/judge.py",
        "softmax(dim=-1)[:, 0]",
        "softmax(dim=-1)[:, 1]",
        ("trainers/mining/test_judge.py",),
    ),
    # Evaluation
    ranking("a tie is right", "(scores[~is_right] >= best_first", "(scores[~is_right] > best_first"),
    ranking("several right ones share a place", "np.arange(1, len(best_first) + 1)", "1"),
    mmeb_task("copies of the right one are wrong", "candidates == candidates[0]", "candidates[:1] == candidates[0]"),
    recall("recall excludes its cutoff", "row[0] <= k", "row[0] < k"),
    mrr("the worst right one counts", "1 / row[0]", "1 / row[-1]"),
    ndcg(
        "all right ones are worth the same",
        "if gains is None else gains",
        "if gains is None else [worth * 0 + 1 for worth in gains]",
    ),
    similarities("the product of one norm", "self.norms[distinct] * self.norms[query]", "self.norms[distinct]"),
    similarities("NaN passes", "np.isfinite(embeddings).all", "np.isfinite(embeddings).any"),
    captions("only an image's first caption is right", "self.items, row, own", "self.items, row, own[:1]"),
    kinds("a group lacks a subset", '"add": ("add_obj", "add_att")', '"add": ("add_obj",)'),
    content(
        "an instruction does not count",
        "if with_instruction and self.instruction is not None:",
        "if False:",
    ),
    pixels("pictures are known by their size", "pixels.update(picture.tobytes())", "pixels.update(b'')"),
    averages("worst instead of mean", "float(np.mean(means))", "float(np.min(means))"),
    # Model and processor
    model(
        "pooled by the number of tokens",
        "(positions * attention_mask.ne(0)).argmax(dim=1)",
        "attention_mask.sum(1) - 1",
    ),
    model("not of unit length", "embeddings=normalise(pooled)", "embeddings=pooled.float()"),
    model("normalised in half precision", "torch.promote_types(vectors.dtype, torch.float32)", "vectors.dtype"),
    model("missing weights are fine", 'sorted(info["missing_keys"])', "[]"),
    model("no attention to what follows", "module.config.is_causal = False", "module.config.is_causal = True"),
    prompts("a text cut inside the image", "not in protected", "not in ()"),
    prompts("the end of MMEB's form lost", 'f"{head} {text}\\n"', 'f"{head} {text}"'),
    processor("right padding", 'padding_side="left"', 'padding_side="right"'),
    store("a path out of the root", 'or clean.split("/")[0] == ".."', ""),
    store("huge pictures are opened", "if width * height > self.max_pixels", "if width * height < 0"),
    nv_embed("instruction tokens are pooled", "attention_mask.ne(0) & pool_mask.ne(0)", "attention_mask.ne(0)"),
)


def copy_tree(target: Path) -> None:
    """Copy what the tests need; what may have been built beside it stays behind."""
    target.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED_FILES:
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target / name)


def is_there(tree: Path, test: str) -> bool:
    """Whether the file of a test exists."""
    return (tree / "tests" / test.partition("::")[0]).is_file()


def run_tests(tree: Path, tests: Sequence[str]) -> int:
    """Exit code of pytest on some tests of a tree; it stops at the first failure."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "tests")))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}  # two versions of a file may have the same size and second
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/{test}" for test in tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode


def try_mutant(tree: Path, mutant: Mutant) -> str | None:
    """Put a fault into a tree, test, and take it out again; a sentence if it was not noticed."""
    place = tree / mutant.file
    before = place.read_text(encoding="utf-8") if place.is_file() else ""
    if (count := before.count(mutant.old)) != 1:
        return f"cannot be tried: {mutant.old!r} occurs {count} times"
    if absent := [test for test in mutant.tests if not is_there(tree, test)]:
        return f"cannot be tried: tests/{absent[0]} is not there"
    place.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code = run_tests(tree, mutant.tests)
    finally:
        place.write_text(before, encoding="utf-8")
    if code == PASSED:
        return f"survives {', '.join(mutant.tests)}"
    return None if code == FAILED else f"cannot be tried: pytest ended with {code} on {', '.join(mutant.tests)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Try the faults; 1 if one was not noticed or could not be tried, else 0."""
    parser = argparse.ArgumentParser(prog="python tests/mutants.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the faults and try none")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="those with a word in file or description"
    )
    options = parser.parse_args(argv)
    chosen = [mutant for mutant in MUTANTS if any(word in f"{mutant.file} {mutant.what}" for word in options.only)]
    if options.list:
        print(*(f"{mutant.file}: {mutant.what}" for mutant in chosen), sep="\n")
        return 0
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        copy_tree(tree)
        if (ROOT.parent / "shared").is_dir():  # where the tests look for reference data
            Path(folder, "shared").symlink_to(ROOT.parent / "shared")
        tests = {test for mutant in chosen for test in mutant.tests if is_there(tree, test)}
        if run_tests(tree, sorted(tests)) != PASSED:
            print("the tests of these faults do not pass without them")
            return 1
        for mutant in chosen:
            fault = try_mutant(tree, mutant)
            faults += fault is not None
            print(f"{mutant.file}: {mutant.what}: {fault or 'noticed'}", flush=True)
    print(f"{len(chosen) - faults} of {len(chosen)} faults are noticed")
    return int(faults > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main())
