"""An assistant in llama.cpp: the ids of its template and its answers are those of our own."""

import ctypes
import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracles.chat_runs import TOKENIZERS, as_dicts, conversation, export, tuned_run

import main
from finetuning.chat_format import Dialogue, encode_dialogue, encode_prompt
from finetuning.exam import SPARE_TOKENS, Graded, longest_answer, take_exam
from finetuning.exam_task import built_in_items, spread
from gpt2 import GPT2Model
from tokenizer import END_OF_TEXT, Tokenizer

Ids = Callable[[Dialogue, bool], list[int]]  # of a dialogue that the assistant is to answer, or not


@contextmanager
def jinja(file: Path) -> Iterator[Ids]:
    """Gives the ids of llama.cpp's server, which renders the file's template by its own Jinja."""
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.warmup, parameters.verbosity = 48, False, -1
    parameters.prefill_assistant = False  # else it takes the end off the assistant's last message
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)

    def post(name: str, body: dict[str, object]) -> dict:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/{name}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def ids(dialogue: Dialogue, asks: bool) -> list[int]:
        body = {"messages": as_dicts(dialogue), "add_generation_prompt": asks}
        return post("tokenize", {"content": post("apply-template", body)["prompt"]})["tokens"]

    yield ids


@contextmanager
def zephyr(file: Path) -> Iterator[Ids]:
    """Gives the ids of llama.cpp's library, which tells the template by its marks, as Zephyr's."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(str(file), n_ctx=48, verbose=False, n_threads=1)
    template = model.metadata["tokenizer.chat_template"].encode()

    def ids(dialogue: Dialogue, asks: bool) -> list[int]:
        turns = [(one.role.encode(), one.content.encode()) for one in dialogue]
        messages = (llama_cpp.llama_chat_message * len(turns))(*turns)
        text = ctypes.create_string_buffer(10_000)
        n = llama_cpp.llama_chat_apply_template(
            template, messages, len(turns), asks, text, len(text)
        )
        return model.tokenize(text.raw[:n], add_bos=False, special=True)

    yield ids
    model.close()


@pytest.mark.parametrize("renderer", [jinja, zephyr])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_llama_cpp_gives_the_ids_of_our_own_encoder(
    name: str, renderer: Callable, tmp_path: Path
) -> None:
    tokenizer = TOKENIZERS[name]
    folder = export(tuned_run(tmp_path / "run", tokenizer), "--format", "gguf")
    draw, n, line_end = random.Random(3), 0, tokenizer.encode("\n")
    with renderer(folder / "model.gguf") as ids:
        while n < 200:
            dialogue = conversation(draw)
            text = "".join(message.content for message in dialogue)
            if END_OF_TEXT in text or "\x00" in text:
                continue  # llama.cpp takes typed ones for the token, and C ends a text at a zero
            asks = dialogue[-1].role == "user"
            whole = encode_dialogue(dialogue, tokenizer).tokens + line_end
            ours = encode_prompt(dialogue, tokenizer) if asks else whole
            assert ids(dialogue, asks) == ours
            n += 1


def answers_of_llama_cpp(file: Path, run_dir: Path, n: int) -> list[tuple[str, Graded]]:
    """Returns llama.cpp's greedy answers to n questions of the exam, each with our own."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model, tokenizer = GPT2Model.load(run_dir).eval(), Tokenizer.load(run_dir)
    graded = take_exam(model, tokenizer, spread(built_in_items("tiny-questions"), n))
    theirs = llama_cpp.Llama(
        str(file),
        n_ctx=model.config.context_length,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,  # of the cache, which has fp16 unless it is told
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    longest = max(longest_answer(one.item, tokenizer) for one in graded) + SPARE_TOKENS
    answers = []
    for one in graded:
        reply = theirs.create_chat_completion(
            as_dicts(one.item.prompt),
            temperature=0.0,
            repeat_penalty=1.0,
            max_tokens=longest,
        )["choices"][0]
        ended = reply["finish_reason"] == "stop"
        answers.append((reply["message"]["content"] + END_OF_TEXT * ended, one))
    return answers


@pytest.mark.slow
def test_llama_cpp_gives_the_answers_of_our_own_exam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.chdir(tmp_path)
    quick = "--train.max-steps 250 --train.batch-size 32 --train.eval-every 250"
    assert main.main(["train", "--data.stories", "20000", *quick.split(), "--out", "base"]) == 0
    flags = ["--examples", "8000", *quick.split(), "--out", "run"]
    assert main.main(["finetune", "base", *flags]) == 0
    folder = export(tmp_path / "run", "--format", "gguf")
    answers = answers_of_llama_cpp(folder / "model.gguf", tmp_path / "run", 220)
    ended = [(text, one) for text, one in answers if one.answer.ended]
    assert len(ended) >= 150
    n_equal = sum(text == one.answer.text + END_OF_TEXT for text, one in ended)
    # two tokens whose logits differ by fp32's rounding alone may change places
    assert n_equal >= len(ended) - 1
