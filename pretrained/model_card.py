"""The model card: a README.md that says what the model is, how well it does, how to load it.

Previous: gguf.py.  Next: export_command.py.
"""

import json
from pathlib import Path

from cfg_gpt2 import RunConfig
from training.progress import METRICS_FILE

FIGURES = {  # of metrics.jsonl, in the words of a reader
    "val_loss": "validation loss, nats a token",
    "val_bits_per_byte": "validation, bits per byte",
    "floor_bits_per_byte": "floor of the text, bits per byte",
    "tokens": "tokens learned from",
    "step": "optimizer steps",
}


def model_card(name: str, run: RunConfig, run_dir: Path, n_parameters: int) -> str:
    """The text of README.md. The lines between --- are read by the Hugging Face hub."""
    sizes = run.model
    measured = last_figures(run_dir / METRICS_FILE)
    rows = [f"| {FIGURES[key]} | {value:,.6g} |" for key, value in measured.items()]
    data = (
        f"`{', '.join(run.data.path)}`" if measured else "see the model that it was imported from"
    )
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags:",
            "- gpt2",
            "---",
            "",
            f"# {name}",
            "",
            f"A GPT-2 with {n_parameters:,} parameters: {sizes.n_layer} blocks, "
            f"{sizes.n_head} heads, {sizes.n_embd} wide, context {sizes.context_length}, "
            f"{sizes.vocab_size:,} tokens.",
            "",
            f"Training text: {data}.",
            *(
                ["", "| measured at the end of training | |", "| --- | --- |", *rows]
                if rows
                else []
            ),
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained(".")',
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            "```",
            "",
        ]
    )


def last_figures(file: Path) -> dict[str, float]:
    """The latest value of each figure in metrics.jsonl; nothing where there is no such file."""
    if not file.is_file():
        return {}
    found: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found |= json.loads(line)
        except ValueError:  # a run that was cut off may end within a line
            continue
    return {key: found[key] for key in FIGURES if key in found}
