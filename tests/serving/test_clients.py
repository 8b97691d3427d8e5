"""Programs that people use, against a server: the openai client, LangChain, llm and lm-eval.

They are not installed with the tests. CLIENTS names a Python that has openai, langchain-openai and
llm; LM_EVAL one that has lm-eval[api] 0.4.13 beside all that `evaluate --harness` needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracles.served_run import write_run

import main

pytestmark = pytest.mark.slow
ROOT = Path(main.__file__).parent
CLIENTS = os.environ.get("CLIENTS", sys.executable)
LM_EVAL = os.environ.get("LM_EVAL", sys.executable)
ENVIRONMENT = {
    **os.environ, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
}  # fmt: skip


def require_package(python: str, package: str) -> None:
    """Skips a test where a Python does not have a package."""
    has = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
    if subprocess.run([python, "-c", has]).returncode:
        pytest.skip(f"{python} has no {package}; name one that has it as CLIENTS or LM_EVAL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    write_run(folder / "small", chat=False)
    write_run(folder / "assistant", chat=True, seed=2)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The address of `main.py serve` with both runs."""
    line = [sys.executable, str(ROOT / "main.py"), "serve", "assistant", "small", "--port", "0"]
    process = subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    assert process.wait(20) == 143


def answer_of(script: str, url: str, python: str = CLIENTS) -> dict:
    """The JSON that a script prints last; URL is the server's address in it."""
    done = subprocess.run(
        [python, "-c", f"URL = '{url}'\n{script}"],
        capture_output=True, text=True, timeout=300, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


OPENAI = """
import json, openai
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none")
asked = dict(model="small", prompt="The cat", max_tokens=12, seed=3, temperature=0.8)
whole = client.completions.create(**asked, n=2, logprobs=2, echo=True)
streamed = dict(stream=True, stream_options={"include_usage": True})
parts = list(client.completions.create(**asked, **streamed))
own = client.completions.create(**asked, extra_body={"top_k": 3, "min_p": 0.1})
messages = [{"role": "user", "content": "Where?"}]
talk = dict(model="assistant", messages=messages, seed=1, max_tokens=9)
said = client.chat.completions.create(**talk, logprobs=True, top_logprobs=2)
told = list(client.chat.completions.create(**talk, stream=True))
stopped = client.completions.create(**{**asked, "stop": whole.choices[0].text[8:10]})
errors = []
for fields in ({"top_p": 7}, {"model": "none"}, {"prompt": "cat " * 99}):
    try:
        client.completions.create(**{**asked, **fields})
    except openai.APIStatusError as error:
        errors.append([type(error).__name__, error.param, error.code, bool(error.request_id)])
raw = client.completions.with_raw_response.create(**asked, extra_body={"top_a": 1})
print(json.dumps({
    "models": [model.id for model in client.models.list()],
    "model": client.models.retrieve("small").id,
    "texts": [choice.text for choice in whole.choices],
    "logprobs": whole.choices[0].logprobs.token_logprobs,
    "usage": whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens,
    "streamed": "".join(p.choices[0].text for p in parts if p.choices),
    "streamed_usage": parts[-1].usage.completion_tokens,
    "own": own.choices[0].text,
    "said": said.choices[0].message.content,
    "top": len(said.choices[0].logprobs.content[0].top_logprobs),
    "told": "".join(p.choices[0].delta.content or "" for p in told),
    "stopped": stopped.choices[0].text,
    "errors": errors,
    "headers": [raw.headers["x-ignored-fields"], raw.headers["x-seed"]],
}))
"""


def test_the_openai_client(url: str) -> None:
    require_package(CLIENTS, "openai")
    found = answer_of(OPENAI, url)
    assert found["models"] == ["assistant", "small"] and found["model"] == "small"
    assert found["texts"][0] == "The cat" + found["streamed"] != found["texts"][1]
    assert found["logprobs"][0] is None and found["usage"]
    assert 0 < found["streamed_usage"] <= 12
    assert found["said"] == found["told"] and found["top"] == 2
    assert found["texts"][0].startswith("The cat" + found["stopped"])
    assert found["errors"] == [
        ["BadRequestError", "top_p", None, True],
        ["NotFoundError", "model", "model_not_found", True],
        ["BadRequestError", "prompt", "context_length_exceeded", True],
    ]
    assert found["headers"] == ["top_a", "3"]


LANGCHAIN = """
import json
from langchain_openai import ChatOpenAI, OpenAI
asked = dict(base_url=f"{URL}/v1", api_key="none", max_tokens=9, seed=1, max_retries=0)
chat = ChatOpenAI(model="assistant", stream_usage=True, **asked)
said = chat.invoke("Where?")
parts = list(chat.stream("Where?"))
text = OpenAI(model="small", **asked)
print(json.dumps({
    "said": said.content, "told": "".join(part.content for part in parts),
    "usage": parts[-1].usage_metadata or parts[-2].usage_metadata,
    "text": text.invoke("The cat"), "streamed": "".join(text.stream("The cat")),
}))
"""


def test_langchain(url: str) -> None:
    require_package(CLIENTS, "langchain_openai")
    found = answer_of(LANGCHAIN, url)
    assert found["said"] == found["told"] and found["usage"]["output_tokens"] > 0
    assert found["text"] == found["streamed"]


def test_llm(url: str, tmp_path: Path) -> None:
    """simonw/llm reads models from a file of its own, chat models and completion models."""
    require_package(CLIENTS, "llm")
    models = [
        {"model_id": "mine", "model_name": "assistant", "api_base": f"{url}/v1"},
        {"model_id": "plain", "model_name": "small", "api_base": f"{url}/v1", "completion": True},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models), encoding="utf-8")
    environment = {**ENVIRONMENT, "LLM_USER_PATH": str(tmp_path)}
    for name in ("mine", "plain"):
        for more in ([], ["--no-stream"]):
            line = [CLIENTS, "-m", "llm", "-m", name, "-o", "max_tokens", "9", "-o", "seed", "1"]
            done = subprocess.run(
                [*line, *more, "Where is the cat?"],
                capture_output=True, text=True, env=environment, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip()


TASK = """
task: cats
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: 0
metric_list: [{metric: acc}]
"""
HARNESS = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
found = simple_evaluate(
    model="local-completions",
    model_args=dict(model="small", base_url=f"{URL}/v1/completions", tokenizer_backend="remote",
                    max_length=64, num_concurrent=CONCURRENT, tokenized_requests=TOKENIZED),
    tasks=["cats"], batch_size=SIZE, log_samples=True, bootstrap_iters=0,
    task_manager=TaskManager(include_path=FOLDER),
)
samples = sorted(found["samples"]["cats"], key=lambda sample: sample["doc_id"])
print(json.dumps({
    "acc": found["results"]["cats"]["acc,none"],
    "likelihoods": [[float(r[0][0]) for r in s["resps"]] for s in samples],
    "greedy": [[r[0][1] for r in s["resps"]] for s in samples],
}))
"""
OURS = """
import json, sys
from pathlib import Path
sys.path.insert(0, ROOT)
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from rich.console import Console
from evaluation.harness import Adapter
from evaluation.session import Run
from run_directory.open_run import open_run
import torch
from training.runtime import Runtime
folder = Path(FOLDER) / "small"
model, tokenizer = open_run(folder)
run = Run(folder=folder, model=model, tokenizer=tokenizer)
adapter = Adapter(run, Runtime(torch.device("cpu"), torch.float32), Console(quiet=True))
found = simple_evaluate(model=adapter, tasks=["cats"], log_samples=True, bootstrap_iters=0,
                        task_manager=TaskManager(include_path=FOLDER))
samples = sorted(found["samples"]["cats"], key=lambda sample: sample["doc_id"])
print(json.dumps({
    "acc": found["results"]["cats"]["acc,none"],
    "likelihoods": [[float(r[0][0]) for r in s["resps"]] for s in samples],
    "greedy": [[bool(r[0][1]) for r in s["resps"]] for s in samples],
}))
"""


@pytest.fixture(scope="module")
def task(folder: Path) -> Path:
    """A folder with a task of lm-eval whose questions lie in a file."""
    rows = [
        {"question": f"{who} {n} sat on the", "choices": [" mat.", " log, and slept", " кошка"]}
        for n in range(8)
        for who in ("The cat", "Где корзинка? Hello", "🦙")
    ]
    file = folder / "cats.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "cats.yaml").write_text(TASK.replace("FILE", str(file)), encoding="utf-8")
    return folder


def test_lm_eval_finds_what_the_harness_finds_here(url: str, task: Path) -> None:
    require_package(LM_EVAL, "lm_eval")
    here = f"FOLDER = {str(task)!r}\nROOT = {str(ROOT)!r}\n"
    ours = answer_of(here + OURS, url, LM_EVAL)
    assert len({value for row in ours["likelihoods"] for value in row}) > 60
    for size, concurrent, tokenized in [(1, 1, True), (8, 8, True), (1, 8, False)]:
        how = f"SIZE, CONCURRENT, TOKENIZED = {size}, {concurrent}, {tokenized}\n"
        theirs = answer_of(here + how + HARNESS, url, LM_EVAL)
        for row, expected in zip(theirs["likelihoods"], ours["likelihoods"], strict=True):
            assert row == pytest.approx(expected, abs=1e-4)
        assert theirs["greedy"] == ours["greedy"] and theirs["acc"] == ours["acc"]
