"""A small run of random weights that can be served, with the chat template or without it."""

from pathlib import Path

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig
from finetuning.chat_json import ChatSettings, write_chat_settings
from oracles.random_model import random_model
from run_directory.config_file import write_config
from tokenizer import Tokenizer

TEXT = "The cat sat on the mat. Где корзинка? На чердаке. Hello, world! 🦙\n" * 20
TOKENIZER = Tokenizer.train([TEXT, "<|user|>\n<|assistant|>\n" * 9], 320)
SIZES = GPT2Config(
    vocab_size=TOKENIZER.vocab_size, context_length=64, n_layer=2, n_head=2, n_embd=32
)


def write_run(folder: Path, *, chat: bool, seed: int = 1) -> Path:
    """Writes a run directory with a model whose texts differ from seed to seed."""
    folder.mkdir(parents=True)
    data = DataConfig(path=("letters.txt",))
    write_config(folder, RunConfig(model=SIZES, data=data))
    random_model(SIZES, std=0.1, seed=seed).save(folder)
    TOKENIZER.save(folder)
    if chat:
        settings = ChatSettings(method="sft", base="run", data=("verse.txt",), base_sha256="")
        write_chat_settings(folder, settings)
    return folder
