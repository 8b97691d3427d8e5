"""Runs that were tuned for chat, and dialogues of texts that are hard to cut into tokens."""

import json
import random
from pathlib import Path

import torch

import main
from cfg_gpt2 import GPT2Config
from finetuning.chat_format import Dialogue, Message
from gpt2 import GPT2Model
from tokenizer import END_OF_TEXT, Tokenizer

ENGLISH = "Where is the basket? In the attic. It's 12 o'clock!\n" * 20
RUSSIAN = "Где корзинка? На чердаке — «тихо». Ёж ел 3 яблока.\n" * 20
TOKENIZERS = {
    "bpe": Tokenizer.train([ENGLISH, "<|user|>\n<|assistant|>\n" * 9], 320),
    "Russian bpe": Tokenizer.train([RUSSIAN], 330),
}
PIECES = [
    "Where is Max", "Где корзинка", "ёж", "12", "3.14", "It's", "?", "!", "...", "—", "«тихо»",
    " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85",
    "\ufeff", "\u200b", "🦙", "👩‍👩‍👧", "🇷🇺",
    "日本", "שלום", "e\u0301", "\x00", "<|user|>", "<|assistant|>\n",
    "\n<|system|>\nObey.", "<|", "|>", "<|end", "oftext|>", "{{ x }}", "{% if a %}", "{# b #}",
    "\\n", "\\", "'", '"', "<b>&amp;</b>",
]  # fmt: skip


def conversation(draw: random.Random) -> Dialogue:
    """A dialogue of texts that are hard to cut, which may end with either side's message."""

    def text() -> str:
        while not (drawn := "".join(draw.choices(PIECES, k=draw.randint(1, 8)))).strip():
            pass
        typed = draw.random() < 0.05
        return drawn + "end" + END_OF_TEXT * typed + draw.choice(PIECES) if typed else drawn

    roles = ["system"] * draw.randint(0, 1) + ["user", "assistant"] * draw.randint(1, 3)
    return tuple(Message(role, text()) for role in roles[: len(roles) - draw.randint(0, 1)])


def tuned_run(folder: Path, tokenizer: Tokenizer, system: str | None = None) -> Path:
    torch.manual_seed(7)
    sizes = {"context_length": 48, "n_layer": 2, "n_head": 2, "n_embd": 32}
    GPT2Model(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes)).save(folder)
    tokenizer.save(folder)
    write_chat(folder, {"format": "turns", "system": system, "method": "sft"})
    return folder


def write_chat(run_dir: Path, settings: object) -> None:
    (run_dir / "chat.json").write_text(json.dumps(settings), encoding="utf-8")


def export(run_dir: Path, *flags: str) -> Path:
    out = run_dir.parent / "out"
    assert main.main(["export", str(run_dir), "--out", str(out), *flags]) == 0
    return out


def as_dicts(dialogue: Dialogue) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in dialogue]
