"""Does training on the synthetic corpus help on real statements? NLVR, three seeds with and without.

python benchmarks/nlvr.py FOLDER           FOLDER: the official files; an hour on one CPU core
python benchmarks/nlvr.py FOLDER --quick   a few steps of each run, as a check that all works

A model is trained on the built-in corpus of task=nlvr, at difficulty=normal and then hard. The official training
sentences are then learned from its weights, and from new weights. A part of train is held out to choose the best step;
dev is scored once, at the end of each run. Every run is in MLflow (MLFLOW_TRACKING_URI); a run that was stopped
continues.
--mlm: before the synthetic corpus, masked language modeling on the official training sentences.
"""

import argparse
import time
from pathlib import Path

from runs import finetune, mean_and_deviation, pretrain, tracked

from vlx import tracking
from vlx.config import FinetuneConfig, PretrainConfig, parse
from vlx.recipes.corpus import open_corpus
from vlx.tokenization import WordPiece

SEEDS = (0, 1, 2)
MODEL = ["--hidden_size=64", "--layers=3", "--intermediate_size=128", "--batch_size=32", "--checkpoint_every=500"]
MODEL += ["--warmup_steps=100", "--lr=5e-4"]
MLM = ["--model=oscar", "--objectives=mlm", "--steps=2000", "--eval_every=250"]
STAGES = {  # simple statements first: with all kinds from the start, accuracy stays at the baseline for 1,000 steps
    "simple": ["--difficulty=normal", "--corpus_size=10000", "--steps=2500", "--eval_every=500", "--schedule=constant"],
    "all": ["--difficulty=hard", "--corpus_size=120000", "--steps=25000", "--eval_every=2500", "--log_every=100"],
}
REAL = ["--lr=3e-4", "--steps=2000", "--eval_every=100"]
QUICK = ["--steps=20", "--warmup_steps=5", "--eval_every=20"]
QUICK_CORPUS = ["--corpus_size=400"]


def model_folder(trial: tracking.Trial) -> Path:
    if trial.run is None:
        raise RuntimeError(f"{trial.name}: the entry point opened no run.")
    return trial.run.folder / "model"


def pretrain_mlm(options: list[str]) -> Path:
    """Train with masked language modeling and return the folder of the model."""
    started = time.monotonic()
    cfg = parse(PretrainConfig, options)
    trial = tracked(pretrain.main, cfg, name="masked language modeling on the training sentences")
    minutes = (time.monotonic() - started) / 60
    accuracy = trial.metrics["test/mlm_accuracy"]
    print(f"mlm: {minutes:.1f} minutes, accuracy {accuracy:.3f} on the held-out part of train", flush=True)
    return model_folder(trial)


def train_synthetic(stages: dict[str, list[str]], start: str) -> Path:
    """Train on one corpus after the other and return the folder of the model. start: the option of its vocabulary or
    of its weights."""
    weights = Path()
    for stage, options in stages.items():
        started = time.monotonic()
        cfg = parse(FinetuneConfig, [*options, start])
        trial = tracked(finetune.main, cfg, name=f"synthetic corpus, {stage} statements")
        weights = model_folder(trial)
        start = f"--weights={weights}"
        minutes = (time.monotonic() - started) / 60
        print(f"{stage} statements: {minutes:.1f} minutes, accuracy {trial.metrics['test/accuracy']:.3f}", flush=True)
    return weights


def vocabulary(runs: list[list[str]], folder: Path) -> Path:
    """Train a vocabulary on the training sentences of several runs, given by their options, and return its file."""
    texts: list[str] = []
    for options in runs:
        texts += open_corpus(parse(FinetuneConfig, options)).examples("nlvr", "train")["text"]
    folder.mkdir(parents=True, exist_ok=True)
    WordPiece.train(texts, size=2_000).save(folder)
    return folder / "vocab.txt"


def compare(starts: dict[str, str], options: list[str]) -> None:
    """Print the dev scores of every start and seed. starts: the option that each start adds."""
    for title, start in starts.items():
        started = time.monotonic()
        scores: dict[str, list[float]] = {"accuracy": [], "consistency": []}
        for seed in SEEDS:
            cfg = parse(FinetuneConfig, [*options, start, f"--seed={seed}"])
            metrics = tracked(finetune.main, cfg, name=f"{title}, seed {seed}").metrics
            for name, values in scores.items():
                values.append(metrics[f"test/{name}"])
            line = "  ".join(f"{name} {values[-1]:.4f}" for name, values in scores.items())
            print(f"{title:12s}  seed {seed}  dev {line}", flush=True)
        means = "  ".join(f"{name} {mean_and_deviation(values)}" for name, values in scores.items())
        minutes = (time.monotonic() - started) / 60
        print(f"{title:12s}  mean    dev {means}  {minutes:.1f} minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the official files")
    parser.add_argument("--work_dir", type=Path, default=Path("outputs"))
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", help="a model that was trained on the synthetic corpus before")
    start.add_argument("--mlm", action="store_true", help="masked language modeling on the official sentences first")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    shared = ["--task=nlvr", f"--work_dir={args.work_dir}", *MODEL]
    quick = QUICK if args.quick else []
    quick_corpus = QUICK_CORPUS if args.quick else []
    stages = {stage: [*shared, *options, *quick, *quick_corpus] for stage, options in STAGES.items()}
    source = f"--source={args.source}"
    real = [*shared, *REAL, *quick, source]
    vocab = f"--vocab={vocabulary([*stages.values(), real], args.work_dir / 'nlvr')}"
    weights = args.weights
    if not weights:
        mlm_options = [*shared, *MLM, *quick, source, vocab]
        weights = train_synthetic(stages, f"--weights={pretrain_mlm(mlm_options)}" if args.mlm else vocab)
    compare({"pre-trained": f"--weights={weights}", "from scratch": vocab}, real)


if __name__ == "__main__":
    main()
