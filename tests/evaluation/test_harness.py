"""Task scores against those of lm-evaluation-harness, item by item.

The harness runs twice: with its own Hugging Face model, and with a run through the adapter.
"""

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import transformers
from oracles.hugging_face import hugging_face_pair

import main
from cfg_gpt2 import GPT2Config
from evaluation.continuations import score_continuations
from evaluation.items import ScoredItem, encode_items, group_by_item
from evaluation.measure_task import TASKS
from evaluation.result import Figures
from evaluation.session import Run
from tokenizer import Tokenizer
from training.progress import new_console
from training.runtime import Runtime

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]

harness = pytest.importorskip(
    "lm_eval", reason='lm-eval is not installed; pip install -e ".[eval]"'
)
CPU = Runtime(torch.device("cpu"), torch.float32)
WORDS = [
    "the", "old", "green", "boat", "drum", "went", "sang", "to", "a", "river", "and", "Anton's",
    "mother", "[1]", "é", "it.", "was",
]  # fmt: skip
N_ITEMS = 48
CONTEXT = 48  # short enough that some items have to be cut
TOLERANCE = 1e-5  # relative, of sums of up to 40 terms in fp32, whose rounding is 1e-7 each


class Pair:
    """Our model and Hugging Face's with equal random weights, one tokenizer, one folder."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.train([" ".join(WORDS) + ". She went. " * 9] * 9, 300)
        self.config = GPT2Config(
            vocab_size=self.tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=2,
            n_embd=32, dropout=0.0,
        )  # fmt: skip
        self.ours, self.theirs = hugging_face_pair(self.config)
        with torch.no_grad():  # far from uniform, so that choices are clear
            for model in (self.ours, self.theirs):
                for name, weights in model.named_parameters():
                    if weights.dim() == 2:
                        weights.mul_(9 if ".0." in name or ".1." in name else 3)
        self.folder = folder
        self.ours.save(folder)
        self.tokenizer.save(folder)

    def hugging_face_tokenizer(self) -> transformers.PreTrainedTokenizerFast:
        end = "<|endoftext|>"
        return transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(self.folder / "tokenizer.json"), bos_token=end, eos_token=end,
            unk_token=end, model_max_length=CONTEXT,
        )  # fmt: skip

    def greedy_word(self, context: str) -> str | None:
        """Returns the word that greedy decoding gives, where it gives one within 4 tokens."""
        ids = self.tokenizer.encode(context)[-CONTEXT:]
        text = ""
        for _ in range(4):
            row = torch.tensor([ids[-CONTEXT:]])
            ids.append(int(self.ours(row)[0, -1].argmax()))
            text = self.tokenizer.decode(ids)[len(context) :]
            if text.startswith(" ") and len(text) > 1 and " " not in text[1:]:
                return text[1:]
        return None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


def sentence(dice: random.Random, n_words: int) -> str:
    return " ".join(dice.choices(WORDS, k=n_words))


@pytest.fixture(scope="module")
def lambada_file(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages of 1 to 60 words, of which every other one ends with the greedy word."""
    dice, rows = random.Random(5), []
    for number in range(N_ITEMS):
        context = sentence(dice, dice.randint(1, 60)) if number else ""
        word = pair.greedy_word(context) if context and number % 2 else None
        while context and number % 2 and word is None:
            context = sentence(dice, dice.randint(1, 60))
            word = pair.greedy_word(context)
        rows.append({"text": (context + " " + (word or dice.choice(WORDS))).strip()})
    rows[4]["text"] += " "  # the last word is empty
    rows[6]["text"] = rows[6]["text"].replace(" ", "\n ", 1)
    file = tmp_path_factory.mktemp("lambada") / "lambada.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def hellaswag_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with WikiHow's marks, empty second halves, endings of unequal lengths."""
    dice, rows = random.Random(6), []
    for number in range(N_ITEMS):
        endings = [sentence(dice, dice.randint(1, 14)) for _ in range(4)]
        if number % 3 == 0:
            endings = [
                f"{ending} [substeps] {sentence(dice, 3)}.  Then it was." for ending in endings
            ]
        rows.append({
            "activity_label": dice.choice(["Sailing", "How to sail"]),
            "ctx_a": dice.choice(["[header] ", ""]) + sentence(dice, dice.randint(1, 30))
            + dice.choice([".", " [title] Go", " [step] the"]),
            "ctx_b": dice.choice(["", "she Went", "ANTON"]),
            "endings": endings,
            "label": dice.choice(["{}", 0])
        })  # fmt: skip
        rows[-1]["label"] = number % 4
    file = tmp_path_factory.mktemp("hellaswag") / "hellaswag.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_task(folder: Path, name: str, file: Path) -> str:
    """Writes a copy of one of the harness's tasks that reads a file, and returns its name."""
    tasks = Path(harness.__file__).parent / "tasks"
    [source] = tasks.glob(f"*/{name}.yaml")
    split = {"lambada_openai": "test_split", "hellaswag": "validation_split"}[name]
    settings = {
        "include": str(source), "task": f"local_{name}", "dataset_path": "json",
        "dataset_name": None, "training_split": None, split: "items",
        "dataset_kwargs": {"data_files": {"items": str(file)}},
    }  # fmt: skip
    text = json.dumps(settings)  # which is YAML too
    (folder / f"local_{name}.yaml").write_text(text, encoding="utf-8")
    return f"local_{name}"


def model_for_harness(pair: Pair, kind: str) -> "TemplateLM":
    """Returns the harness's view of Hugging Face's model, or of ours through the adapter."""
    if kind == "hugging face":
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

        tokenizer = pair.hugging_face_tokenizer()
        return HFLM(pretrained=pair.theirs, tokenizer=tokenizer, max_length=CONTEXT, batch_size=7)
    from evaluation.harness import Adapter

    run = Run(folder=pair.folder, model=pair.ours, tokenizer=pair.tokenizer)
    return Adapter(run, CPU, new_console())


def their_scores(
    model: "TemplateLM", name: str, file: Path, folder: Path
) -> tuple[dict[str, float], list[dict]]:
    """Returns the harness's figures, and its record of each item."""
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    task = write_task(folder, name, file)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = harness.simple_evaluate(model, tasks=[task], task_manager=manager, bootstrap_iters=9)
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return results["results"][task], samples


def our_scores(pair: Pair, name: str, file: Path) -> tuple[Figures, list[ScoredItem]]:
    task = TASKS[name]
    items = task.read(file, None)
    requests = encode_items(items, pair.tokenizer, file)
    end = pair.tokenizer.end_of_text
    likelihoods = score_continuations(
        pair.ours, requests, CPU, end, lambda done: None, batch_size=5
    )
    answers = group_by_item(items, likelihoods)
    return task.figures(answers), answers


@pytest.mark.parametrize("kind", ["hugging face", "adapter"])
def test_lambada_scores_equal_those_of_the_harness_for_every_item(
    kind: str, pair: Pair, lambada_file: Path, tmp_path: Path
) -> None:
    theirs, samples = their_scores(
        model_for_harness(pair, kind), "lambada_openai", lambada_file, tmp_path
    )
    ours, answers = our_scores(pair, "lambada", lambada_file)
    assert len(samples) == len(answers) == N_ITEMS
    for sample, answer in zip(samples, answers, strict=True):
        [(log_probability, greedy)] = sample["filtered_resps"]
        [own] = answer.likelihoods
        assert own.log_probability == pytest.approx(log_probability, rel=TOLERANCE)
        assert own.greedy == greedy
    assert ours["acc"] is not None and 0.1 < ours["acc"] < 0.9  # else agreement would say little
    assert ours["acc"] == theirs["acc,none"]
    assert ours["acc_stderr"] == pytest.approx(theirs["acc_stderr,none"])
    assert ours["perplexity"] == pytest.approx(theirs["perplexity,none"], rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["hugging face", "adapter"])
def test_hellaswag_scores_equal_those_of_the_harness_for_every_item(
    kind: str, pair: Pair, hellaswag_file: Path, tmp_path: Path
) -> None:
    theirs, samples = their_scores(
        model_for_harness(pair, kind), "hellaswag", hellaswag_file, tmp_path
    )
    ours, answers = our_scores(pair, "hellaswag", hellaswag_file)
    assert len(samples) == len(answers) == N_ITEMS
    for sample, answer in zip(samples, answers, strict=True):
        theirs_of_item = [log_probability for log_probability, _ in sample["filtered_resps"]]
        assert answer.log_probabilities == pytest.approx(theirs_of_item, rel=TOLERANCE)
        context, ending = sample["arguments"][0]
        assert (answer.item.context, answer.item.continuations[0]) == (context, ending)
    assert ours["acc"] != ours["acc_norm"]  # else one of them would be untested
    for name in ("acc", "acc_norm"):
        assert ours[name] == theirs[f"{name},none"]
        assert ours[f"{name}_stderr"] == pytest.approx(theirs[f"{name}_stderr,none"])


def test_rolling_log_likelihoods_of_the_adapter_equal_those_of_the_harness(pair: Pair) -> None:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    dice = random.Random(7)
    texts = [sentence(dice, n) for n in (1, 30, 50, 200)]
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    theirs = model_for_harness(pair, "hugging face").loglikelihood_rolling(requests)
    ours = model_for_harness(pair, "adapter").loglikelihood_rolling(requests)
    assert ours == pytest.approx(theirs, rel=1e-5)  # sums of up to 400 terms


def test_the_adapter_generates_the_same_texts_as_the_harness(pair: Pair) -> None:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    dice = random.Random(8)
    settings = {"until": ["s", "."], "max_gen_toks": 12, "do_sample": False}
    prompts = [sentence(dice, dice.randint(1, 60)) for _ in range(12)]
    requests = [
        Instance("generate_until", {}, (prompt, dict(settings)), i)
        for i, prompt in enumerate(prompts)
    ]
    kinds = ("hugging face", "adapter")
    both = [model_for_harness(pair, kind).generate_until(requests) for kind in kinds]
    # bytes of an unfinished character at the end become one U+FFFD here and several there
    theirs, ours = ([text.rstrip("\ufffd") for text in texts] for texts in both)
    assert ours == theirs
    assert len(set(theirs)) > 3 and len(set(map(len, theirs))) > 2


def test_a_generation_setting_that_the_adapter_lacks_is_refused(pair: Pair) -> None:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    settings = {"until": [], "num_beams": 4}
    with pytest.raises(ValueError, match="asks for num_beams"):
        model_for_harness(pair, "adapter").generate_until(
            [Instance("generate_until", {}, ("a", settings), 0)]
        )


def test_evaluate_runs_a_task_of_the_harness(
    pair: Pair, hellaswag_file: Path, tmp_path: Path
) -> None:
    task = write_task(tmp_path, "hellaswag", hellaswag_file)
    flags = ["--harness", task, "--harness-path", str(tmp_path), "--limit", "9"]
    assert main.main(["evaluate", str(pair.folder), *flags]) == 0
    assert main.main(["evaluate", str(pair.folder), "--harness", "no_such_task"]) == 2
    written = pair.folder / "evaluation" / f"harness-{task}.json"
    figures = json.loads(written.read_text(encoding="utf-8"))["figures"]
    flags = ["--task", "hellaswag", str(hellaswag_file), "--limit", "9"]
    assert main.main(["evaluate", str(pair.folder), *flags]) == 0
    written = pair.folder / "evaluation" / "hellaswag.json"
    own = json.loads(written.read_text(encoding="utf-8"))["figures"]
    for name in ("acc", "acc_norm", "acc_norm_stderr"):
        assert figures[f"{task}/{name}"] == pytest.approx(own[name])
