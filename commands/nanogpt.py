"""nanoGPT's flags: what does the same here, for whoever types them from memory.

Each text continues "--batch-size is ...". Flags that have the same last word here, such as
--n-layer, need no line: tyro suggests --model.n-layer.
Previous: flags.py.  Next: train_settings.py.
"""

_NOT_NEEDED_LOG = (
    "not needed: metrics.jsonl in the run's directory has a line for each step, and "
    "--train.tensorboard writes the same for TensorBoard"
)
_TRAIN = {  # of train.py
    "always-save-checkpoint": "not needed: a run is saved at each evaluation, "
    "--train.keep-checkpoints says how many of them are kept",
    "backend": "not needed: --train.device and --train.strategy decide",
    "batch-size": "--train.batch-size here, which counts the windows of a whole optimizer step; "
    "--train.micro-batch counts those of a forward pass",
    "block-size": "--model.context-length here",
    "compile": "--train.compile here, on or off",
    "dataset": "--data.path here, a text file or a folder",
    "decay-lr": "--train.final-learning-rate here; equal to --train.learning-rate nothing falls",
    "dtype": "--train.precision here, fp32 or bf16",
    "eval-interval": "--train.eval-every here",
    "eval-iters": "not needed: each evaluation reads the whole validation split, which "
    "--data.validation-share sets",
    "eval-only": "a command here: main.py evaluate RUN",
    "gradient-accumulation-steps": "--train.micro-batch here, the windows of a forward pass; "
    "--train.batch-size counts those of a whole optimizer step",
    "learning-rate": "--train.learning-rate here; the lowest is --train.final-learning-rate",
    "log-interval": _NOT_NEEDED_LOG,
    "lr-decay-iters": "not needed: the learning rate is the lowest at --train.max-steps",
    "max-iters": "--train.max-steps here",
    "max-new-tokens": "a flag of main.py generate RUN",
    "min-lr": "--train.final-learning-rate here",
    "num-samples": "--samples of main.py generate RUN",
    "out-dir": "--out here",
    "start": "--prompt of main.py generate RUN",
    "wandb-log": _NOT_NEEDED_LOG,
    "wandb-project": _NOT_NEEDED_LOG,
    "wandb-run-name": _NOT_NEEDED_LOG,
    "warmup-iters": "--train.warmup-steps here",
}
_RUN = "not needed: the run is named first, as in main.py generate runs/tiny"
_SAMPLE = {  # of sample.py
    "device": "not needed: a GPU is taken where there is one",
    "dtype": "--precision here",
    "init-from": f"{_RUN}; main.py import gpt2 makes one of GPT-2's weights",
    "num-samples": "--samples here",
    "out-dir": _RUN,
    "start": "--prompt TEXT here, or --prompt-file FILE",
}
HINTS = {"train": _TRAIN, "plan": _TRAIN, "generate": _SAMPLE}


def hint_for_init_from(value: str) -> str | None:
    """Returns what takes the place of a value that nanoGPT's --init_from takes."""
    if value.startswith("gpt2"):
        return f"make one by main.py import {value} --out runs/{value}"
    return {
        "scratch": "leave it out to begin from random weights",
        "resume": "go on with a run by --resume RUN",
    }.get(value)


def hint_for(command: str, flag: str) -> str | None:
    """Returns what takes the place of a flag that a command lacks, where it is one of nanoGPT's.

    Args:
        command: the name of the command, such as train.
        flag: the flag as it was typed, such as --max_iters=2000 or --train.max-iters.
    """
    name = flag.partition("=")[0].removeprefix("--").rpartition(".")[2].replace("_", "-")
    text = HINTS.get(command, {}).get(name)
    return f"{flag.partition('=')[0]} is {text}" if text else None
