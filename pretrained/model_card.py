"""The model card: a README.md with the sizes of a model, its measurements and how to load it.

Previous: gguf.py.  Next: export_settings.py.
"""

from contextlib import suppress
from pathlib import Path

from cfg_gpt2 import RunConfig
from training.progress import METRICS_FILE, parse_metrics
from training.units import units_of

METRIC_LABELS = {  # key of metrics.jsonl -> its label in the card
    "val_loss": "validation loss, {loss}",
    "val_bits_per_byte": "validation, bits per byte",
    "floor_bits_per_byte": "floor of the text, bits per byte",
    "tokens": "tokens learned from",
    "step": "optimizer steps",
}


def model_card(
    name: str,
    run: RunConfig,
    run_dir: Path,
    n_parameters: int,
    step: int | None = None,
    chat_end: str | None = None,
) -> str:
    """Returns the text of README.md. The Hugging Face hub reads the lines between ---.

    step: that the weights are from; None: the last one.
    chat_end: the token that closes each turn of a chat; None: the run was not tuned for chat.
    """
    sizes = run.model
    measured = last_metrics(run_dir / METRICS_FILE, step)
    when = "at the end of training" if step is None else f"after step {step}"
    unit = units_of(run_dir).loss
    rows = [
        f"| {METRIC_LABELS[key].format(loss=unit)} | {value:,.6g} |"
        for key, value in measured.items()
    ]
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
            *(["- conversational"] if chat_end else []),
            "---",
            "",
            f"# {name}",
            "",
            f"A GPT-2 with {n_parameters:,} parameters: {sizes.n_layer} blocks, "
            f"{sizes.n_head} heads, {sizes.n_embd} wide, context {sizes.context_length}, "
            f"{sizes.vocab_size:,} tokens.",
            "",
            f"Training text: {data}.",
            *(["", f"| measured {when} | |", "| --- | --- |", *rows] if rows else []),
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained(".")',
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            "```",
            *(chat_lines(chat_end) if chat_end else []),
            "",
        ]
    )


def chat_lines(end: str) -> list[str]:
    """Returns how to ask a model that was tuned for chat, and what to keep out of a question."""
    return [
        "",
        "It was tuned to answer, in the chat template that the tokenizer carries:",
        "",
        "```python",
        'messages = [{"role": "user", "content": "..."}]',
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True,',
        "    sanitize_control_tokens=True,",
        ")",
        "answer = model.generate(**inputs, max_new_tokens=100)[0, inputs.input_ids.size(1) :]",
        "print(tokenizer.decode(answer, skip_special_tokens=True))",
        "```",
        "",
        f"A typed `{end}` is mere letters by the last of these arguments, which transformers has "
        "from 5.23 on. Other programs end the turn there: take it out of what users type.",
    ]


def last_metrics(file: Path, step: int | None = None) -> dict[str, float]:
    """Returns the latest value of each labelled metric in a metrics.jsonl; {} without a file.

    step: after which the lines do not count.
    """
    if not file.is_file():
        return {}
    metrics: dict[str, float] = {}
    for line in file.read_bytes().splitlines():
        with suppress(ValueError):  # an interrupted run may leave a part of a line
            values = parse_metrics(line, str(file))
            if step is None or values["step"] <= step:
                metrics |= values
    return {key: metrics[key] for key in METRIC_LABELS if key in metrics}
