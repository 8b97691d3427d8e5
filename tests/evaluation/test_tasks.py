"""LAMBADA and HellaSwag without the harness: reading, cleaning, scoring, and wrong files."""

import json
import math
from pathlib import Path

import pytest
import torch
from oracles.hugging_face import hugging_face_pair

from cfg_gpt2 import GPT2Config
from evaluation import hellaswag, lambada
from evaluation.continuations import (
    Likelihood,
    Request,
    encode_pairs,
    likelihoods,
    score_continuations,
)
from evaluation.items import Item, ScoredItem, encode_items, require_fit, standard_error
from evaluation.measure_task import TASKS
from tokenizer import Tokenizer, UnseenCharacter
from training.runtime import Runtime

CPU = Runtime(torch.device("cpu"), torch.float32)
SCENE = {
    "activity_label": "Sailing", "ctx_a": "[header] How to sail [title] Look for a boat.",
    "ctx_b": "then HE", "endings": ["goes  [step] on.", "sinks.", " flies.", "[x]"], "label": 1,
}  # fmt: skip


def written(tmp_path: Path, *rows: object) -> Path:
    file = tmp_path / "items.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


# Continuations ------------------------------------------------------------------------------


def test_log_probabilities_and_greedy_flags_equal_those_of_transformers() -> None:
    config = GPT2Config(
        vocab_size=30, context_length=12, n_layer=2, n_head=2, n_embd=16, dropout=0.0
    )
    ours, theirs = hugging_face_pair(config)
    dice = torch.manual_seed(1)
    sizes = [(1, 1), (5, 3), (11, 2), (20, 4), (3, 12), (1, 12), (7, 1), (2, 2)]
    requests = [
        Request(*(torch.randint(30, (n,), generator=dice).tolist() for n in pair)) for pair in sizes
    ]
    for i, request in enumerate(requests):  # every other one is the greedy continuation
        if i % 2 == 0:
            ids = list(request.context)
            for _ in request.continuation:
                with torch.no_grad():
                    ids.append(int(theirs(torch.tensor([ids[-12:]])).logits[0, -1].argmax()))
            requests[i] = Request(request.context, ids[len(request.context) :])
    for batch_size in (None, 1, 3):
        reported: list[int] = []
        results = score_continuations(ours, requests, CPU, 0, reported.append, batch_size)
        assert reported[-1] == len(requests)
        for (context, ids), (log_probability, greedy) in zip(requests, results, strict=True):
            row = (context + ids)[-13:]
            with torch.no_grad():
                logits = theirs(torch.tensor([row[:-1]])).logits[0, -len(ids) :]
            log_p = logits.log_softmax(-1)
            expected = sum(float(log_p[t, id]) for t, id in enumerate(ids))
            assert log_probability == pytest.approx(expected, abs=1e-4)  # up to 12 terms in fp32
            assert greedy == (logits.argmax(-1).tolist() == ids)
    assert {likelihood.greedy for likelihood in results} == {True, False}


def test_likelihoods_do_not_depend_on_how_many_logits_are_held_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = GPT2Config(vocab_size=30, context_length=12, n_layer=1, n_head=1, n_embd=8)
    ours, _ = hugging_face_pair(config)
    hidden_states = torch.randn(3, 5, 8, generator=torch.manual_seed(2))
    targets = torch.tensor([[1, 2, 3, -100, -100], [-100, 4, 5, 6, 7], [-100, -100, 8, -100, -100]])
    whole = likelihoods(ours, hidden_states, targets)
    monkeypatch.setattr("evaluation.continuations.MAX_LOGITS", 60)
    in_parts = likelihoods(ours, hidden_states, targets)
    expected = pytest.approx([p for p, _ in whole], rel=1e-6)
    assert [p for p, _ in in_parts] == expected
    assert [greedy for _, greedy in in_parts] == [greedy for _, greedy in whole]


def test_a_model_that_gives_nan_is_refused() -> None:
    config = GPT2Config(vocab_size=30, context_length=12, n_layer=1, n_head=1, n_embd=8)
    ours, _ = hugging_face_pair(config)
    with torch.no_grad():
        ours.get_parameter("final_norm.bias")[0] = math.nan
    with pytest.raises(ValueError, match="nan for probabilities"):
        score_continuations(ours, [Request([1], [2])], CPU, 0, lambda done: None)


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation() -> None:
    tokenizer = Tokenizer.train(["the cat sat\n on the mat "] * 20, 290)
    end = tokenizer.end_of_text
    pairs = [("the cat \n", " sat"), ("", " sat"), (" ", "sat"), ("the cat", " sat")]
    requests = encode_pairs(tokenizer, pairs)
    texts = [(tokenizer.decode(context), tokenizer.decode(ids)) for context, ids in requests]
    assert texts[0] == ("the cat", " \n sat") and texts[3] == ("the cat", " sat")
    assert requests[1].context == [end] and texts[1][1] == " sat"
    assert requests[2].context == [end] and texts[2][1] == " sat"


# LAMBADA ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "context", "word"),
    [
        ("a b c", "a b", " c"),
        ("word", "", " word"),
        ("a  b", "a ", " b"),
        ("a\nb", "", " a\nb"),
        ("a b ", "a b", " "),
    ],
)
def test_the_last_word_of_a_passage_follows_the_last_space(
    text: str, context: str, word: str
) -> None:
    item = lambada.parse_passage(3, lambada.Passage(text))
    assert item == Item(line=3, context=context, continuations=[word], answer=0)
    # the harness's template, in Python
    assert (context, word) == (" ".join(text.split(" ")[:-1]), " " + text.split(" ")[-1])


def scored_item(
    *scores: float, continuations: list[str], right: int = 0, greedy: bool = False
) -> ScoredItem:
    item = Item(line=1, context="", continuations=continuations, answer=right)
    return ScoredItem(item=item, likelihoods=[Likelihood(score, greedy) for score in scores])


def test_lambada_figures_equal_those_computed_by_hand() -> None:
    scored_items = [
        scored_item(math.log(p), continuations=[" x"], greedy=p > 0.4) for p in (0.5, 0.25, 0.125)
    ]
    figures = lambada.figures(scored_items)
    assert figures["items"] == 3
    assert figures["perplexity"] == pytest.approx(4.0)  # the geometric mean of 2, 4 and 8
    assert figures["acc"] == pytest.approx(1 / 3)
    # (2/3)^2 + 2 (1/3)^2 = 2/3 over n - 1 = 2, its root over the root of 3
    assert figures["acc_stderr"] == pytest.approx((1 / 3) ** 0.5 / 3**0.5)


def test_a_single_item_has_no_standard_error() -> None:
    assert standard_error([True]) is None


# HellaSwag ----------------------------------------------------------------------------------


def test_hellaswag_texts_lose_the_marks_of_wikihow(tmp_path: Path) -> None:
    [item] = TASKS["hellaswag"].read(written(tmp_path, SCENE), None)
    assert item.context == "Sailing:  How to sail. Look for a boat. Then he".replace("  ", " ")
    assert item.continuations == [" goes  on.", " sinks.", " flies.", " "]
    assert item.answer == 1


def test_hellaswag_choices_and_accuracies_equal_those_by_hand() -> None:
    continuations = [" 1234567890", " 12", " "]
    by_length = scored_item(
        -10.0, -4.0, -1.0, continuations=continuations
    )  # -1.0, -2.0, and nothing to divide by
    assert hellaswag.argmax_choice(by_length) == 2
    assert hellaswag.argmax_choice_by_length(by_length) == 0
    figures = hellaswag.figures(
        [by_length, scored_item(-3.0, -2.0, -9.0, continuations=continuations, right=1)]
    )
    assert figures["items"] == 2
    assert (figures["acc"], figures["acc_norm"]) == (0.5, 0.5)
    assert figures["acc_norm_stderr"] == pytest.approx(0.5)


def test_the_length_of_an_ending_is_counted_in_characters() -> None:
    scored = scored_item(-4.0, -3.9, continuations=[" éééé", " abcd"])
    assert hellaswag.argmax_choice_by_length(scored) == 1


def test_a_hellaswag_label_may_be_a_string(tmp_path: Path) -> None:
    [item] = TASKS["hellaswag"].read(written(tmp_path, SCENE | {"label": "2"}), None)
    assert item.answer == 2


# Files --------------------------------------------------------------------------------------

WRONG = {
    "no JSON": ("lambada", '{"text": "a b"', "line 2: Invalid JSON"),
    "no text": ("lambada", {"word": "a"}, "line 2: text: Field required"),
    "a number": ("lambada", {"text": 5}, "line 2: text: Input should be a valid string"),
    "a list": ("lambada", '["a b"]', "line 2: Input should be an object"),
    "an empty text": ("lambada", {"text": " "}, "line 2: text: is empty"),
    "no label": ("hellaswag", SCENE | {"label": ""}, "line 2: label: Input should be a valid int"),
    "a high label": ("hellaswag", SCENE | {"label": 4}, "label: 4 is none of the endings 0 to 3"),
    "a negative label": ("hellaswag", SCENE | {"label": -1}, "label: -1 is none of the endings"),
    "one ending": ("hellaswag", SCENE | {"endings": ["a"]}, "endings: there are 1; a choice needs"),
    "the other task": ("hellaswag", {"text": "a b"}, "line 2: activity_label: Field required"),
}


@pytest.mark.parametrize(("task", "row", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_named_by_its_number(
    task: str, row: object, words: str, tmp_path: Path
) -> None:
    first = {"lambada": {"text": "a b"}, "hellaswag": SCENE}[task]
    file = written(tmp_path, first, row)
    with pytest.raises(ValueError, match=r"items\.jsonl, line 2: ") as caught:
        TASKS[task].read(file, None)
    assert words in str(caught.value)
    assert len(TASKS[task].read(file, 1)) == 1  # what is behind the limit is not looked at


def test_a_line_that_is_not_utf8_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_bytes('{"text": "a b"}\n{"text": "мама мыла"}\n'.encode("cp1251"))
    with pytest.raises(ValueError, match="line 2: Invalid JSON"):
        TASKS["lambada"].read(file, None)


def test_a_byte_order_mark_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "a b"}\r\n\r\n{"text": "c d"}\r\n')
    assert [item.line for item in TASKS["lambada"].read(file, None)] == [1, 3]


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no items"):
        TASKS["lambada"].read(written(tmp_path, "", ""), None)
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl does not exist"):
        TASKS["lambada"].read(tmp_path / "no.jsonl", None)


def test_a_character_unknown_to_the_tokenizer_is_reported_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, {"text": "a b"}, {"text": "b é a"})
    tokenizer = Tokenizer.characters(["ab "])
    with pytest.raises(UnseenCharacter, match=r"'é' .* of what is read of .*, line 2, is not"):
        encode_items(TASKS["lambada"].read(file, None), tokenizer, file)


def test_a_continuation_that_the_context_cannot_hold_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"text": "a b"}, {"text": "a bbb"})
    items = TASKS["lambada"].read(file, None)
    requests = encode_items(items, Tokenizer.characters(["ab "]), file)
    require_fit(items, requests, 4, file)
    with pytest.raises(ValueError, match=r"line 2: a continuation has 4 tokens .* context 3;"):
        require_fit(items, requests, 3, file)
