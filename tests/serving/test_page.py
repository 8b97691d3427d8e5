"""The files of the page, its strings in both languages, and what it asks for beside the API."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.world_run import STEPS, new_world_run
from starlette.testclient import TestClient

from data.tiny_world.stories import LANGUAGES, read_story, stories
from decoding.engine import complete
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from serving.app import make_app
from serving.run_page import MAX_POINTS
from serving.runs import ServedRun, open_runs
from serving.security import Access
from serving.settings import ServeCommand
from training.progress import MetricsLog
from training.snapshots import load_snapshot
from visualization.page import html_of

PAGE = Path(__file__).resolve().parents[2] / "serving" / "page"
XRAY = Path(__file__).resolve().parents[2] / "visualization" / "page"
MODULES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
STRINGS = {
    name: json.loads((PAGE / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "ru")
}
MARK = re.compile(r"\{(\w+)\}")
PLURALS = {"en": {"one", "other"}, "ru": {"one", "few", "many", "other"}}  # of Unicode's CLDR


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ServedRun:
    folder = new_world_run(tmp_path_factory.mktemp("runs") / "world")
    return open_runs(ServeCommand(run=(folder,)))["world"]


@pytest.fixture(scope="module")
def page(run: ServedRun) -> Iterator[TestClient]:
    runs = {"world": run}
    with TestClient(make_app(runs, Access()), base_url="http://127.0.0.1:8000") as client:
        yield client


def asked(page: TestClient, path: str, status: int = 200, **body: object) -> object:
    """Returns the JSON of an answer; with a body the request is a POST."""
    answer = page.post(path, json=body) if body else page.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_every_file_that_the_page_names_is_served_under_its_policy(page: TestClient) -> None:
    waiting, seen = ["/"], dict[str, str]()
    while waiting:
        address = waiting.pop()
        answer = page.get(address)
        assert answer.status_code == 200, address
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        seen[address] = answer.text
        named = re.findall(r'(?:href|src)="(/[^"]+)"', answer.text) if address == "/" else []
        if address.endswith(".js"):
            assert "javascript" in answer.headers["content-type"]
            folder = address.rpartition("/")[0]
            named = [f"{folder}/{name}" for name in re.findall(r'from "\./([^"]+)"', answer.text)]
        waiting += [name for name in named if name not in seen]
    assert {f"/page/{name}" for name in MODULES} <= seen.keys()
    assert "/page/xray/app.js" in seen and "/page/xray/style.css" in seen
    for name in STRINGS:
        assert page.get(f"/page/{name}.json").status_code == 200
        assert page.get(f"/page/xray/{name}.json").status_code == 200


@pytest.mark.parametrize("path", ["/page/views.py", "/page/../views.py", "/page/%2e%2e/app.py"])
def test_no_other_file_is_served(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


def test_the_document_has_no_script_and_no_style_of_its_own() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|style=|<script(?![^>]*\bsrc=)| on\w+=|https?:", text) == []


@pytest.mark.parametrize("name", [*MODULES, "page.css"])
def test_nothing_foreign_is_loaded_and_no_text_becomes_markup_or_code(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8")
    forbidden = (
        r"https?:|@import|url\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|"
        r"new Function|XMLHttpRequest|import\("
    )
    assert re.findall(forbidden, text) == []
    assert len(text.splitlines()) <= 250 and "\t" not in text
    if name.endswith(".js"):
        assert [line for line in text.splitlines() if len(line) > 100] == []


def test_both_languages_have_the_same_strings_and_every_plural() -> None:
    english, russian = STRINGS["en"], STRINGS["ru"]
    assert list(english) == list(russian)
    for key, text in english.items():
        if isinstance(text, str):
            assert text and russian[key], key
            assert set(MARK.findall(text)) == set(MARK.findall(russian[key])), key
            continue
        for language, forms in PLURALS.items():
            assert set(STRINGS[language][key]) == forms, (language, key)
            assert all(MARK.findall(form) == ["n"] for form in STRINGS[language][key].values())


def test_every_string_that_a_module_asks_for_is_there() -> None:
    of_xray = json.loads((XRAY / "en.json").read_text(encoding="utf-8"))
    script = "".join(MODULES.values())
    said = set(re.findall(r'\bsay\("([\w.]+)"', script))
    counted = set(re.findall(r'\bcount\("([\w.]+)"', script))
    assert len(said) > 60 and len(counted) > 2
    assert said - STRINGS["en"].keys() - of_xray.keys() == set()
    assert all(isinstance(STRINGS["en"][key], dict) for key in counted)
    assert STRINGS["en"].keys() & of_xray.keys() == set()  # both stand in one table


def test_runs_are_listed_with_what_the_page_needs(page: TestClient, run: ServedRun) -> None:
    listed = asked(page, "/views/runs")
    assert isinstance(listed, list) and len(listed) == 1
    assert listed[0]["name"] == "world" and listed[0]["world"] == "en"
    assert listed[0]["snapshots"] == list(STEPS)
    assert listed[0]["end_of_text"] == run.tokenizer.end_of_text
    assert listed[0]["has_chat"] is False and listed[0]["has_metrics"] is False


def test_the_vocabulary_says_what_each_token_stands_for(page: TestClient, run: ServedRun) -> None:
    tokens = asked(page, "/views/vocabulary?model=world")
    assert isinstance(tokens, list) and len(tokens) == run.tokenizer.vocab_size
    ids = run.tokenizer.encode("Anna sang: «ёж»!")
    parts = [tokens[id] for id in ids]
    joined = b"".join(bytes.fromhex(it.get("bytes") or it["text"].encode().hex()) for it in parts)
    assert joined.decode() == "Anna sang: «ёж»!"
    assert any(it.get("bytes") for it in parts)  # half a letter has no text


def test_the_curve_is_thinned_and_not_sent_twice(page: TestClient, run: ServedRun) -> None:
    log = MetricsLog(run.folder)
    evaluated = {0, 1501, 3999}
    log._write([
        {"step": i, "train_loss": 1.0, **({"val_loss": 2.0} if i in evaluated else {})}
        for i in range(4000)
    ])  # fmt: skip
    curve = asked(page, "/views/curve?model=world&known=0")
    assert isinstance(curve, dict) and curve["n"] == 4000
    assert MAX_POINTS <= len(curve["lines"]) <= MAX_POINTS + 3
    assert {line["step"] for line in curve["lines"] if "val_loss" in line} == evaluated
    assert asked(page, "/views/curve?model=world&known=4000") == {**curve, "lines": None}
    with log.path.open("a") as file:
        file.write('{"step": 4000}\n{"ste')  # the rest is being written
    curve = asked(page, "/views/curve?model=world&known=4000")
    assert isinstance(curve, dict) and curve["lines"][-1] == {"step": 4000}
    about = asked(page, "/views/about?model=world")
    assert isinstance(about, dict) and about["settings"]["train"]["max_steps"] == 8


def test_the_verdict_names_the_first_impossible_token_and_what_was_possible(
    page: TestClient, run: ServedRun
) -> None:
    story = next(stories(LANGUAGES["tiny-world"], "validation"))
    encode = run.tokenizer.encode
    whole = asked(page, "/views/verdict", model="world", tokens=encode(story.text))
    assert isinstance(whole, dict)
    assert whole["impossible_from"] is None and whole["is_over"] is True
    assert len(whole["events"]) == len(read_story(story.text, LANGUAGES["tiny-world"]).events)
    assert abs(sum(bits for bits in whole["bits"] if bits) - story.bits) < 1e-3
    head, tail = encode(story.text)[:30], encode(" zebra")
    wrong = asked(page, "/views/verdict", model="world", tokens=head + tail)
    assert isinstance(wrong, dict) and wrong["is_over"] is False
    here = wrong["impossible_from"]
    assert here is not None and 30 <= here < 30 + len(tail)
    assert wrong["top"][29] == whole["top"][29] and wrong["top"][here] == []
    assert wrong["kinds"] and abs(sum(p for _, p in wrong["kinds"]) - 1) < 1e-3
    shares = [p for _, p in wrong["sentences"]]
    assert 1 <= len(shares) <= 3 and shares == sorted(shares, reverse=True)
    begun = run.tokenizer.decode(head[wrong["events"][-1]["last"] + 1 :]).strip()
    assert all(text.startswith(begun) for text, _ in wrong["sentences"])
    assert re.search("[а-я]", wrong["events"][-1]["facts"]["ru"])  # what is so there


def test_the_xray_of_a_text_is_that_of_inspect(page: TestClient, run: ServedRun) -> None:
    tokens = run.tokenizer.encode("One fine summer evening Anna was singing.")
    views = ["surprise", "attention", "ideal"]
    data = asked(page, "/views/xray", model="world", tokens=tokens, views=views[:2], language="ru")
    assert isinstance(data, dict)
    assert list(data["views"]) == views[:2] and data["language"] == "ru"
    assert [token["id"] for token in data["tokens"]] == tokens
    body = {"model": "world", "tokens": tokens, "views": views[:2], "language": "ru"}
    saved = page.post("/views/xray", json={**body, "form": "html"})
    assert saved.headers["content-type"].startswith("text/html")
    assert saved.text == html_of(data)


def test_an_xray_does_not_change_the_attention_of_a_served_model(run: ServedRun) -> None:
    tokens = torch.arange(150)[None] % run.model.config.vocab_size
    with torch.inference_mode():
        alone = run.model(tokens)
        with explicit_attention():  # as another thread's X-ray has it
            assert torch.equal(run.model(tokens), alone)
            assert not torch.equal(GPT2Model.load(run.folder)(tokens), alone)


def test_a_snapshot_goes_on_as_its_own_model_does(page: TestClient, run: ServedRun) -> None:
    tokens = run.tokenizer.encode("One fine")
    written = asked(page, "/views/snapshot", model="world", step=STEPS[1], tokens=tokens,
                    max_tokens=9, temperature=0.7, seed=3)  # fmt: skip
    config = SamplingConfig(max_new_tokens=9, temperature=0.7, seed=3)
    config = replace(config, stop_tokens=(run.tokenizer.end_of_text,))
    (row,) = complete(load_snapshot(run.folder, STEPS[1]), [tokens], config)
    assert isinstance(written, dict) and written["tokens"] == row.tokens
    assert written["log_probabilities"] == pytest.approx(row.log_probabilities, abs=1e-6)


REFUSED = [
    ("/views/verdict", 404, {"model": "../etc", "tokens": [1]}, "no model"),
    ("/views/verdict", 400, {"model": "world", "tokens": "abc"}, "list of token ids"),
    ("/views/xray", 400, {"model": "world", "tokens": []}, "empty"),
    ("/views/xray", 400, {"model": "world", "tokens": [1] * 177}, "context_length 176"),
    ("/views/xray", 400, {"model": "world", "tokens": [99_999]}, "token ids"),
    ("/views/xray", 400, {"model": "world", "tokens": [1], "views": ["patching"]}, "not offered"),
    ("/views/snapshot", 404, {"model": "world", "tokens": [1], "step": 5}, "no snapshot"),
    ("/views/snapshot", 400, {"model": "world", "tokens": [1], "step": 2, "top_p": 2.0}, "top_p"),
    ("/views/snapshot", 400, {"model": "world", "tokens": [1], "step": 2, "max_tokens": 0}, "1024"),
]


@pytest.mark.parametrize(("path", "status", "body", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_sentence(
    page: TestClient, path: str, status: int, body: dict[str, object], words: str
) -> None:
    answer = page.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_a_key_guards_the_questions_and_not_the_files(run: ServedRun) -> None:
    app = make_app({"world": run}, Access(key="a key of many letters"))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for path in ("/", "/page/entry.js", "/page/xray/app.js"):
            assert client.get(path).status_code == 200
        for path in ("/views/runs", "/views/vocabulary", "/views/curve", "/views/about"):
            assert client.get(path).status_code == 401
        assert client.post("/views/xray", json={"model": "world"}).status_code == 401
