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
    "curve": "Step {step} of {max_steps}: training loss {train}, validation loss {validation} "
    "{unit}.",
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
        "The training loss began at {first} {unit} and ended at {last}, above its start; "
        "its highest mean was {highest}.",
        "Training has diverged: with a learning rate of {rate} every step is too long.",
        "--train.learning-rate {try}, and a longer --train.warmup-steps.",
    ),
    "rate_too_high": (
        "The training loss began at {first} {unit}, oscillated between {lowest} and "
        "{highest}, and ended at {last}.",
        "The learning rate {rate} is too high: steps overshoot the minimum.",
        "--train.learning-rate {try}",
    ),
    "rate_too_low": (
        "The training loss began at {first} {unit} and ended at {last}.",
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
        "The validation loss was lowest in step {step}, {best} {unit}, and ended at "
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
        "{command}",
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
    "base_forgotten": (
        "The base's own text took {before} bits per byte before finetuning and takes {after} after "
        "it: {excess} more.",
        "What a model does not read while it learns to answer is forgotten; of what it learned, "
        "{replay} was that text.",
        "{try}",
    ),
    "base_moved": (
        "The weights of the base run {base} are not there.",
        "It was moved or deleted, or this run comes from another machine or folder.",
        "put it back, or call main.py where it was finetuned; LoRA needs it for --best, "
        "and --method reward to resume.",
    ),
    "base_changed": (
        "The weights of the base run {base} are not those that this run began with.",
        "That run was trained on, or another one took its place.",
        "put them back, or finetune again; --best of LoRA needs the same weights.",
    ),
    "left_out": (
        "{n} of {all} examples ({share}) were left out.",
        "With the last answer they are longer than the context of {context} tokens.",
        "shorter texts, or a base with a longer context.",
    ),
    "validation_jumps": (
        "The validation loss was {first} {unit} before the first step and {second} after step "
        "{step}.",
        "The learning rate {rate} is much too high for weights that are trained already.",
        "--train.learning-rate {try}, or leave it out: each method and size has its own.",
    ),
    "exam_not_taken": (
        "No exam of this run is recorded.",
        "The loss tells how likely the right answers are, not how many of them are given.",
        "{command}",
    ),
    "overfitting_examples": (
        "The validation loss was lowest in step {step}, {best} {unit}, and ended at {last}; the "
        "training loss is {train}.",
        "Overfitting: there are few examples, and the model memorizes them.",
        "more examples, or --train.max-steps {step}; {command} takes the best weights that were "
        "saved.",
    ),
    "lora_is_base": (
        "After step {step} the published weights are those of the base.",
        "B is zero, or was not merged: the learning rate is 0, or every step was skipped.",
        "leave --train.learning-rate out, and look for skipped steps in metrics.jsonl.",
    ),
    "lora_weak": (
        "The validation loss was {first} {unit} before the first step and is {last} at the end.",
        "LoRA has hardly changed the model: its learning rate {rate} is too low; it should be "
        "about ten times that of full finetuning.",
        "--train.learning-rate {try}, or leave it out.",
    ),
    "chosen_fall": (
        "At step {step} the chosen answers have lost {fall} nats per token since the start.",
        "DPO knows only the difference of two answers; both became unlikely, and the model forgets "
        "how to write either.",
        "--train.learning-rate {try}, or a higher --preference.beta or --preference.chosen-nll.",
    ),
    "margins_only": (
        "From step {step} on the margin grew from {margin} to {last_margin} nats, and the chosen "
        "answer was preferred in {accuracy} of the pairs, then in {last_accuracy}.",
        "The model becomes surer of the pairs that it has right and learns no others.",
        "--train.max-steps {step}, a higher --preference.beta, or more pairs.",
    ),
    "rewards_low": (
        "{share} of the answers earned the same as all others to their question; the mean reward "
        "is {reward}.",
        "The questions are too hard: there are few right answers that could become likelier.",
        "--method sft first, or easier questions.",
    ),
    "rewards_equal": (
        "{share} of the answers earned the same as all others to their question; the mean reward "
        "is {reward}.",
        "Where all answers to a question earn the same, nothing is learned.",
        "harder questions, a higher --reward.temperature, or more --reward.answers.",
    ),
    "reward_falls": (
        "The reward of the validation questions was {reward} in step {step}, and {last} at the "
        "end.",
        "The steps are too long, or there are too many of them.",
        "--train.max-steps {step}, or a lower --train.learning-rate; {command} takes the best "
        "weights that were saved.",
    ),
    "reward_stalls": (
        "The reward of the validation questions was {reward} in step {step}, and {last} at the "
        "end.",
        "The model has learned what its own answers to these questions can teach.",
        "more questions, a higher --reward.temperature, or --train.max-steps {step}.",
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
