"""FinetuneCommand: the settings of `finetune`, made from its flags before torch is imported.

Previous: exam.py.  Next: methods.py.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig, require, require_range
from commands.flags import parse_flags, value_of
from commands.prompts import utf8_text
from finetuning.chat_json import Method, read_chat_settings
from finetuning.lora_settings import LoraConfig, require_adamw
from finetuning.preference_settings import PreferenceConfig
from finetuning.reward_settings import RewardConfig
from run_directory.chat_template import CHAT_FILE
from run_directory.config_file import read_config
from run_directory.paths import user_path

SMALL = 10_000_000  # parameters of the blocks, below which a model takes larger steps

SMALL_TRAINING = TrainConfig(  # of a model that one has trained oneself
    batch_size=32,
    optimizer="muon",
    learning_rate=4e-3,
    final_learning_rate=4e-5,
    warmup_steps=50,
    weight_decay=0.0,
    beta2=0.98,
    eval_every=300,
)
LARGE_TRAINING = replace(  # of GPT-2's weights
    SMALL_TRAINING,
    batch_size=16,
    optimizer="adamw",
    learning_rate=5e-5,
    final_learning_rate=5e-7,
)
SMALL_PREFERENCES = replace(  # pairs pull hard: at 1e-4 a model refuses where it knew the answer
    LARGE_TRAINING, batch_size=32, learning_rate=3e-6, final_learning_rate=3e-8, eval_every=50
)
SMALL_REWARDS = replace(
    SMALL_PREFERENCES,
    batch_size=64,
    learning_rate=1e-4,
    final_learning_rate=1e-6,
    warmup_steps=5,
    eval_every=20,
)
LARGE_PREFERENCES = replace(
    SMALL_PREFERENCES, batch_size=16, learning_rate=1e-6, final_learning_rate=1e-8
)
LARGE_REWARDS = replace(SMALL_REWARDS, learning_rate=1e-5, final_learning_rate=1e-7)
# Dialogues, pairs or questions: two rows of 1,000 tokens take 9 GB with GPT-2's 124M weights
AT_A_TIME: dict[Method, int] = {"sft": 2, "lora": 2, "dpo": 1, "reward": 1}
LORA_RATES = {  # about ten times as high, by whether a model is small
    True: {"optimizer": "adamw", "learning_rate": 1e-2, "final_learning_rate": 1e-4},
    False: {"learning_rate": 5e-4, "final_learning_rate": 5e-6},
}


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand:
    """Teach a trained model to answer, from labelled dialogues."""

    run: tyro.conf.Positional[Path | None] = None  # the run to begin from, such as runs/tiny-world
    data: tuple[str, ...] = ("tiny-questions",)
    """tiny-questions or tiny-questions-ru (built in), or files of dialogues: JSON or JSON lines as
    OpenAI, ShareGPT or Alpaca have them."""
    method: Method = "sft"
    """sft learns the answers with all weights, lora with small matrices beside them, dpo from
    pairs of a better and a worse answer, reward from answers of its own that are checked."""
    out: Path | None = None  # the new run's directory; None: runs/ and RUN's name with -chat
    resume: Path | None = None  # a run of `finetune` to continue, exactly where it stopped
    show: int | None = None  # print so many dialogues, with what is learned of them, and end
    epochs: float = 1.0  # times through the dialogues, where --train.max-steps is not given
    examples: int | None = None
    """dialogues of a built-in task, or pairs, or questions; None: 34,000, or 5,000, or 8,000"""
    replay: float | None = None
    """share of the learned tokens that come from the text RUN was trained on, so that it forgets
    less; None: 0.1 where that text is at hand."""
    system: str | None = None  # a system message before every dialogue that has none
    leave_out_long: bool = False  # leave out dialogues that do not fit the context, however many
    dropout: float = 0.0  # while it learns; GPT-2's own 0.1 doubles the memory of long dialogues
    lora: LoraConfig = field(default_factory=LoraConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    train: TrainConfig = field(default_factory=lambda: LARGE_TRAINING)
    steps_given: Annotated[bool, tyro.conf.Suppress] = False  # whether --train.max-steps was typed

    def __post_init__(self) -> None:
        require(
            self.run is not None or self.resume is not None,
            "finetune needs a run to begin from; name one, such as runs/tiny-world",
        )
        require(
            self.run is None or self.resume is None,
            f"{self.run} and --resume exclude each other; choose one",
        )
        require(
            self.out is None or self.resume is None,
            "--out and --resume exclude each other; choose one",
        )
        require(len(self.data) > 0, "--data is empty; name a file of dialogues, or tiny-questions")
        require_range("--epochs", self.epochs, 0.001, 1e6, "; try 1")
        if self.examples is not None:
            require_range("--examples", self.examples, 2, 10**7, "; try 40000")
        if self.replay is not None:
            require_range("--replay", self.replay, 0, 0.9, "; try 0.1")
            require(
                self.replay == 0 or self.method in ("sft", "lora"),
                f"--replay {self.replay} is for --method sft and lora; leave it out with --method "
                f"{self.method}",
            )
        require_range("--dropout", self.dropout, 0, 0.9, "; try 0.1")
        require(
            self.dropout == 0 or self.method in ("sft", "lora"),
            f"--dropout {self.dropout} is for --method sft and lora; --method {self.method} "
            "compares with, or learns from, what the whole model gave",
        )
        if self.method == "lora":
            require_adamw(self.train.optimizer)
        for flags, method, is_default in (
            ("--lora", "lora", self.lora == LoraConfig()),
            ("--preference", "dpo", self.preference == PreferenceConfig()),
            ("--reward", "reward", self.reward == RewardConfig()),
        ):
            require(
                is_default or self.method == method,
                f"{flags}.* is for --method {method}, and this is --method {self.method}",
            )
        self.require_fit_for_reward()
        require(
            self.system is None or self.system.strip() != "",
            "--system is empty; give it a text, or leave it out",
        )
        require(self.show is None or self.show >= 1, f"--show {self.show} must be 1 or more; try 3")

    def require_fit_for_reward(self) -> None:
        """Raises ValueError where the method reward cannot train in the way that is asked for."""
        if self.method != "reward":
            return
        require(
            self.train.strategy != "fsdp",
            "--method reward draws answers from whole weights, and --train.strategy fsdp shards "
            "them; take ddp",
        )
        require(
            self.train.micro_batch != "auto",
            "--train.micro-batch auto cannot know how many answers will teach something; with "
            "--method reward give a number of questions",
        )


def read_finetune_command(arguments: list[str]) -> FinetuneCommand:
    """Flags over the settings of --resume, or over those that suit the size of RUN.

    Raises ValueError where flags are wrong, FileNotFoundError where a run is missing.
    """
    resumed = value_of("--resume", arguments)
    if resumed:
        return resumed_command(user_path(resumed, "--resume"), arguments)
    command = parse_flags(FinetuneCommand, "finetune", arguments)
    assert command.run
    training = training_for(read_config(command.run).model, command.method)
    default = FinetuneCommand(run=command.run, train=training)
    command = parse_flags(FinetuneCommand, "finetune", arguments, default)
    given = value_of("--train.max-steps", arguments) is not None
    system = utf8_text(command.system, "--system") if command.system else None
    return replace(command, steps_given=given, system=system)


def training_for(model: GPT2Config, method: Method) -> TrainConfig:
    """Returns the training that suits a model of a size, and a method."""
    small = is_small(model)
    if method == "dpo":
        return SMALL_PREFERENCES if small else LARGE_PREFERENCES
    if method == "reward":
        return SMALL_REWARDS if small else LARGE_REWARDS
    training = SMALL_TRAINING if small else LARGE_TRAINING
    return replace(training, **LORA_RATES[small]) if method == "lora" else training


def is_small(model: GPT2Config) -> bool:
    """Returns whether a model is of the size that one trains oneself."""
    return 12 * model.n_layer * model.n_embd**2 < SMALL


def fit_to_cpu(command: FinetuneCommand, model: GPT2Config) -> FinetuneCommand:
    """Returns a command that computes few rows of a large model at a time, unless it says how many.

    A GPU says that its memory is short, and smaller parts are taken then; of a CPU's memory the
    system says nothing before it ends the process.
    """
    if is_small(model) or command.train.micro_batch is not None:
        return command
    size = min(AT_A_TIME[command.method], command.train.batch_size)
    return replace(command, train=replace(command.train, micro_batch=size))


def resumed_command(run_dir: Path, arguments: list[str]) -> FinetuneCommand:
    """Returns the settings of a run of `finetune`, of which only --train.* may change.

    The data may lie elsewhere: that they are the same is seen from their tokens.
    """
    base: RunConfig = read_config(run_dir)
    chat = read_chat_settings(run_dir)
    method = chat.method
    if base.init_from is None or method == "import":
        raise ValueError(
            f"{run_dir} has a {CHAT_FILE} and no run that it began from; finetune it anew"
        )
    default = FinetuneCommand(
        resume=run_dir,
        data=chat.data,
        method=method,
        replay=chat.replay,
        system=chat.system,
        examples=chat.examples,
        leave_out_long=chat.leave_out_long,
        dropout=base.model.dropout,
        lora=chat.lora or LoraConfig(),
        preference=chat.preference or PreferenceConfig(),
        reward=chat.reward or RewardConfig(),
        train=base.train,
        steps_given=True,
    )
    command = parse_flags(FinetuneCommand, "finetune", arguments, default)
    unchanged = replace(command, train=base.train, data=chat.data) == default
    require(
        unchanged,
        f"--resume {run_dir} keeps its method and data; change --train.* only, and --data for "
        "files that have moved",
    )
    return command
