"""Does pre-training on drawn scenes and generated statements pay on real ones? NLVR, three seeds with and without.

python benchmarks/nlvr.py FOLDER           FOLDER: the official files; an hour on one CPU core
python benchmarks/nlvr.py FOLDER --quick   a few steps of everything, to see that it runs

One model learns the built-in corpus of task=nlvr, at difficulty=normal and then hard; from it, and from new weights,
the official training sentences are learnt. What the steps are chosen by is held out of train; dev is scored once, at
the end of each run. Every run is kept in MLflow (MLFLOW_TRACKING_URI); one that was stopped goes on where it was.
--masked_words: before the drawn scenes, the masked words of the official training sentences are learnt.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import finetune, pretrain  # noqa: E402
from vlx import tracking  # noqa: E402
from vlx.config import FinetuneConfig, PretrainConfig, parse  # noqa: E402
from vlx.tokenization import WordPiece  # noqa: E402
from vlx.training import recipes  # noqa: E402

SEEDS = (0, 1, 2)
MODEL = ["--hidden_size=64", "--layers=3", "--intermediate_size=128", "--batch_size=32", "--checkpoint_every=500"]
MODEL += ["--warmup_steps=100", "--lr=5e-4"]
MASKED = ["--model=oscar", "--objectives=words", "--steps=2000", "--eval_every=250"]
STAGES = {  # what is in the boxes first, then all that is said; begun with these, it stayed at chance for 1,000 steps
    "plain": ["--difficulty=normal", "--corpus_size=10000", "--steps=2500", "--eval_every=500", "--schedule=constant"],
    "whole": ["--difficulty=hard", "--corpus_size=120000", "--steps=25000", "--eval_every=2500", "--log_every=100"],
}
REAL = ["--lr=3e-4", "--steps=2000", "--eval_every=100"]
QUICK = ["--steps=20", "--warmup_steps=5", "--eval_every=20"]
Options = TypeVar("Options", FinetuneConfig, PretrainConfig)


def run(name: str, main: Callable[[Options, tracking.Trial], float], cfg: Options) -> tuple[dict[str, float], Path]:
    """The last value of every metric of a run, and the folder of its model."""
    told = tracking.Trial("", name, {}, lambda *_: None, publishes=True)
    main(cfg, told)
    assert told.run is not None
    return told.metrics, told.run.folder / "model"


def train(name: str, words: list[str]) -> tuple[dict[str, float], Path]:
    return run(name, finetune.main, parse(FinetuneConfig, words))


def guess_words(words: list[str]) -> Path:
    """The model that has learnt to guess masked words."""
    started = time.monotonic()
    scores, weights = run("masked words of the training sentences", pretrain.main, parse(PretrainConfig, words))
    minutes, accuracy = (time.monotonic() - started) / 60, scores["test/words_accuracy"]
    print(f"masked words: {minutes:.1f} minutes, accuracy {accuracy:.3f} on what is held out of train", flush=True)
    return weights


def learn_drawn(stages: dict[str, list[str]], start: str) -> Path:
    """The model that has learnt one corpus after the other. start: the option of its vocabulary or of its weights."""
    for stage, words in stages.items():
        started = time.monotonic()
        scores, weights = train(f"drawn scenes, {stage} statements", [*words, start])
        minutes, start = (time.monotonic() - started) / 60, f"--weights={weights}"
        print(f"{stage} statements: {minutes:.1f} minutes, accuracy {scores['test/accuracy']:.3f}", flush=True)
    return weights


def vocabulary(ways: list[list[str]], folder: Path) -> Path:
    """Of the drawn and the official training sentences."""
    texts: list[str] = []
    for words in ways:
        texts += recipes.corpus_of(parse(FinetuneConfig, words)).examples("nlvr", "train")["text"]
    folder.mkdir(parents=True, exist_ok=True)
    WordPiece.train(texts, size=2_000).save(folder)
    return folder / "vocab.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the official files")
    parser.add_argument("--work_dir", type=Path, default=Path("outputs"))
    begun = parser.add_mutually_exclusive_group()
    begun.add_argument("--weights", help="a model that learnt the drawn corpus already")
    begun.add_argument("--masked_words", action="store_true", help="learn those of the official files first")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    shared = ["--task=nlvr", f"--work_dir={given.work_dir}", *MODEL]
    few = [QUICK, ["--corpus_size=400"]] if given.quick else [[], []]
    stages = {stage: [*shared, *words, *few[0], *few[1]] for stage, words in STAGES.items()}
    official = f"--source={given.source}"
    real = [*shared, *REAL, *few[0], official]
    vocab = f"--vocab={vocabulary([*stages.values(), real], given.work_dir / 'nlvr')}"
    weights = given.weights
    if not weights:
        masked = [*shared, *MASKED, *few[0], official, vocab]
        weights = learn_drawn(stages, f"--weights={guess_words(masked)}" if given.masked_words else vocab)
    for way, start in (("pre-trained", f"--weights={weights}"), ("from scratch", vocab)):
        started, found = time.monotonic(), []
        for seed in SEEDS:
            scores, _ = train(f"{way}, seed {seed}", [*real, start, f"--seed={seed}"])
            found.append(scores)
            numbers = f"dev accuracy {scores['test/accuracy']:.4f}  consistency {scores['test/consistency']:.4f}"
            print(f"{way:12s}  seed {seed}  {numbers}", flush=True)
        rows = {name: [scores[f"test/{name}"] for scores in found] for name in ("accuracy", "consistency")}
        means = (f"{name} {statistics.mean(row):.4f} ± {statistics.stdev(row):.4f}" for name, row in rows.items())
        minutes = (time.monotonic() - started) / 60
        print(f"{way:12s}  mean    dev {'  '.join(means)}  {minutes:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
