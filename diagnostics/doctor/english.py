"""The texts of `python main.py doctor` in English.

A diagnosis has three sentences: the observation, its usual cause, and what to try. russian.py has
the same texts with the same figures.
Previous: settings.py.  Next: russian.py.
"""

LABELS = {
    "torch": "software",
    "processor": "processor",
    "device": "device",
    "bf16": "fast bf16",
    "compiler": "compiler",
    "threads": "threads / cores",
    "memory": "memory, free / all",
    "disk": "disk, free",
    "pages": "huge pages",
    "data": "data",
    "machine": "The machine",
    "run": "The run",
    "curve": "Step {step} of {max_steps}: training loss {train} nats per token, "
    "validation loss {validation}.",
    "floor": "{excess} above the entropy floor of this world.",
    "means": "usual cause",
    "try": "try",
    "note": "Good to know",
    "wrong": "Wrong",
    "healthy": "Nothing is wrong.",
    "n_wrong": "{n} wrong.",
}

WORDS: dict[str, str] = {}  # of facts and figures, as this language writes them

TEXTS = {
    "initial_loss": (
        "Before its first step the model's loss is {loss} nats per token; a uniform guess has "
        "ln V = {uniform}.",
        "The initial weights are too large, so that the model is sure of wrong tokens.",
        "GPT2Model.init_weights(), which draws them from N(0, 0.02).",
    ),
    "not_finite": (
        "In {n} steps, first in step {step}, the loss or the gradient is not a finite number.",
        "The learning rate {rate} is too high, or numbers overflow.",
        "--train.learning-rate {try}; if that does not help, --train.precision fp32.",
    ),
    "diverged": (
        "The training loss began at {first} nats per token and ended at {last}, above its start; "
        "its highest mean was {highest}.",
        "Training has diverged: with a learning rate of {rate} every step is too long.",
        "--train.learning-rate {try}, and a longer --train.warmup-steps.",
    ),
    "rate_too_high": (
        "The training loss began at {first} nats per token, oscillated between {lowest} and "
        "{highest}, and ended at {last}.",
        "The learning rate {rate} is too high: steps overshoot the minimum.",
        "--train.learning-rate {try}",
    ),
    "rate_too_low": (
        "The training loss began at {first} nats per token and ended at {last}.",
        "The learning rate {rate} is too low; or the text is random.",
        "--train.learning-rate {try}",
    ),
    "spikes": (
        "The loss of {n} batches was far above its neighbours', most in step {step}: {z} standard "
        "deviations.",
        "Unusual text (tables, other languages, garbage), or a learning rate near its limit.",
        "--train.skip-spikes 6, or look at the text of that step.",
    ),
    "gradients_vanish": (
        "The median gradient norm is {median}.",
        "No signal reaches the weights: they are too small or the model is saturated.",
        "fresh weights by GPT2Model.init_weights(), and --train.learning-rate 6e-4.",
    ),
    "gradients_explode": (
        "The largest gradient norm is {largest}, the median {median}.",
        "Single batches undo many steps; the learning rate {rate} is near its limit.",
        "--train.grad-clip 1 --train.learning-rate {try}",
    ),
    "always_clipped": (
        "Nearly every gradient norm exceeds --train.grad-clip {limit}; the median is {median}.",
        "Clipping does not catch outliers, it scales every step.",
        "--train.grad-clip {try}, or a larger --train.batch-size.",
    ),
    "overfitting": (
        "The validation loss was lowest in step {step}, {best} nats per token, and ended at "
        "{last}; the training loss is {train}.",
        "Overfitting: the model memorizes the training text.",
        "more text, or --train.max-steps {step}, or --model.dropout {dropout}; generate --best "
        "takes the best weights that were saved.",
    ),
    "validation_tiny": (
        "The validation split has {n} tokens.",
        "Its loss is mostly noise: with fewer than {enough} tokens it is known to 0.1 nats per "
        "token at best.",
        "--data.validation-share {share}, or more text.",
    ),
    "data_unreadable": (
        "The run's text cannot be read: {why}.",
        "The files have been moved, or the run comes from another machine.",
        "put them back; without them the size of the validation split is unknown.",
    ),
    "stopped_early": (
        "The run has stopped at step {step} of {max_steps}.",
        "It was interrupted.",
        "python main.py train --resume {run}",
    ),
    "still_falling": (
        "In the last fifth of the run the training loss still fell, from {before} to {last} nats "
        "per token.",
        "The run ended before the model has learned what it can.",
        "--train.max-steps {try}",
    ),
    "far_from_floor": (
        "The validation loss is {bits} bits per byte, {excess} above the entropy floor of {floor}.",
        "The run is too short or the model too small to follow the stories.",
        "--train.max-steps {try}",
    ),
    "no_bf16": (
        "This processor has no instructions for bf16 matmuls.",
        "Matmuls run in fp32, at a half to a quarter of the speed.",
        "nothing; training is correct, only slower.",
    ),
    "no_compiler": (
        "To compile the blocks, {missing} is missing.",
        "Models of 10 M parameters and more train slower.",
        "install it, such as apt install g++, or xcode-select --install on macOS.",
    ),
    "few_threads": (
        "torch uses {threads} threads on {cores} cores.",
        "OMP_NUM_THREADS is set, or hardware threads are counted as cores.",
        "OMP_NUM_THREADS={cores}",
    ),
    "gpu_unused": (
        "There is an NVIDIA driver, but torch {torch} sees no GPU.",
        "torch was installed for CPUs only.",
        "install torch for CUDA, as https://pytorch.org/get-started says.",
    ),
    "disk_full": (
        "The disk has {free} GB free.",
        "Checkpoints may not fit: GPT-2 124M needs about {least} GB each.",
        "free some space, or --out on another disk.",
    ),
    "memory_short": (
        "{free} GB of memory are free.",
        "Training needs more: torch and the default run want about {least} GB.",
        "end other programs, or --train.micro-batch 1.",
    ),
    "no_large_pages": (
        "Linux gives no memory in huge pages.",
        "Large models train 3 to 5% slower on a CPU.",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, as root.",
    ),
    "data_missing": (
        "The data cannot be read: {why}.",
        "A path is mistyped, or the files are elsewhere.",
        "--data.path with a text file, a folder, or tiny-world.",
    ),
}
