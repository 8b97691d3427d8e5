"""The best weights of a run of LoRA: its base, with the adapter of a checkpoint merged in.

A checkpoint of such a run holds A and B alone. training/best_checkpoint.py knows this file by name
only, as main.py knows the commands.
Previous: chat_json.py.  Next: chat.py.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cfg_gpt2 import require
from finetuning.chat_json import read_chat_settings
from finetuning.lora import merge
from run_directory.config_file import read_config
from run_directory.files import sha256
from run_directory.paths import require_file
from run_directory.weights import WEIGHTS_FILE, read_weights


def merged_with_base(run_dir: Path, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a plain model: the base's, with a checkpoint's A and B merged in.

    Raises FileNotFoundError where the base is gone, ValueError where it has changed.
    """
    advice = "leave out --best for the newest weights"
    config = read_config(run_dir)
    origin, lora = config.init_from, config.init_from and read_chat_settings(run_dir).lora
    if origin is None or lora is None:
        raise ValueError(
            f"--best: a checkpoint of {run_dir} holds a part of the weights only; {advice}"
        )
    file = Path(origin.run) / WEIGHTS_FILE
    require_file(file, f"put it back, or {advice}", f"--best: the base of {run_dir},")
    require(
        sha256(file) == origin.weights_sha256,
        f"--best: {file} has changed since {run_dir} began from it; {advice}",
    )
    return merge(read_weights(file), adapter, lora)
