"""`python main.py inspect`: what it prints and writes, and what it refuses."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from oracles.random_model import random_model

import main
from cfg_gpt2 import DataConfig, GPT2Config, RunConfig
from gpt2 import GPT2Model
from run_directory.config_file import read_config, write_config
from run_directory.weights import WEIGHTS_FILE
from tokenizer import Tokenizer
from training.snapshots import Snapshots
from visualization.command import open_inspection, write
from visualization.page import joined_modules
from visualization.settings import InspectCommand
from visualization.views import VIEWS, load_view

CONTEXT = 24
TEXT = "Anna went to the garden. In the garden she saw the red ball."


def make_run(folder: Path, tokenizer: Tokenizer, data: DataConfig, seed: int = 1) -> Path:
    """Makes a run with random weights."""
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=2, n_embd=16
    )
    torch.manual_seed(seed)
    write_config(folder, RunConfig(model=sizes, data=data))
    GPT2Model(sizes).save(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the built-in world, with random weights."""
    tokenizer = Tokenizer.train([TEXT * 3], 270)
    data = DataConfig(stories=100)
    folder = tmp_path_factory.mktemp("runs") / "мир 1"
    folder.mkdir()
    return make_run(folder, tokenizer, data)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one's own text, by characters."""
    folder = tmp_path_factory.mktemp("letters")
    data = DataConfig(path=("verse.txt",), tokenizer="char")
    return make_run(folder, Tokenizer.characters([TEXT]), data)


def inspect(run: Path, *flags: str) -> int:
    return main.main(["inspect", str(run), *flags])


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    [found] = re.findall(r'id="xray-data">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(found)


def test_the_page_and_the_summary_of_a_story(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(world, "--story", "3") == 0
    said = capsys.readouterr().out
    assert "story 3, 24 tokens" in said and "xray.html" in said
    data = data_of(world / "xray.html")
    assert list(data["views"]) == [name for name in VIEWS if name in data["views"]]
    assert len(data["tokens"]) == CONTEXT and data["text_source"]["cut"] > 0
    assert data["tokens"][0]["text"] == "<|endoftext|>"
    named = {id for row in data["views"]["alternatives"]["top"] for id, _ in row}
    own = {token["id"] for token in data["tokens"]}
    assert named <= own | set(map(int, data["vocabulary"]))
    json.dumps(data, allow_nan=False)


@pytest.mark.parametrize("name", VIEWS)
def test_each_view_prints_itself_and_writes_nothing(
    name: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.iterdir()}
    if load_view(name).is_default:
        status, said = inspect(world, "--view", name), capsys.readouterr()
        if status == 0:
            assert f"\n{name}\n" in said.out
        else:
            assert f"--view {name} does not apply" in said.err
    assert {path: path.stat().st_mtime_ns for path in world.iterdir()} == before


def test_json_holds_what_the_page_holds(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    views = ("--view", "surprise", "attention", "lens", "attribution")
    assert inspect(world, "--story", "3", "--out", str(file), *views) == 0
    assert inspect(world, "--story", "3", "--format", "html", *views) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == data_of(world / "xray.html")


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_pictures_of_a_text_with_every_kind_of_letter(
    file_format: str, world: Path, tmp_path: Path
) -> None:
    first, second = (tmp_path / f"{name}.{file_format}" for name in ("one", "two"))
    views = ["surprise", "attention", "lens", "attribution"]
    for file, more in ((first, ["heads"]), (second, [])):
        flags = ("--out", str(file), "--language", "ru", "--view", *views, *more)
        assert inspect(world, "--prompt", "$x_1$ Я <b>\n&日", *flags) == 0
    assert first.stat().st_size > second.stat().st_size
    if file_format == "png":
        assert first.read_bytes().startswith(b"\x89PNG")
    else:
        tree = ElementTree.fromstring(first.read_text(encoding="utf-8"))
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_view_without_a_picture_is_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.png"
    assert inspect(world, "--view", "alternatives", "--out", str(file)) == 2
    assert "--view alternatives has no picture; choose among surprise" in capsys.readouterr().err
    assert not file.exists()


def test_the_browser_is_told_to_run_this_script_and_nothing_else(world: Path) -> None:
    text = "</script><img src=x>"
    assert inspect(world, "--prompt", text) == 0
    page = (world / "xray.html").read_text(encoding="utf-8")
    [script] = re.findall(r'<script type="module">(.*?)</script>', page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none'; ") and f"'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
    assert "".join(t["text"] for t in data_of(world / "xray.html")["tokens"]) == text
    markup = re.sub(r"(<script[^>]*>).*?(?=</script>)", r"\1", page, flags=re.DOTALL)
    assert "<img" not in markup and not re.search(r"(?:src|href)=[\"'](?!data:|#)", markup)
    assert not re.search("^(import|export) ", joined_modules(), flags=re.MULTILINE)


def test_half_characters_are_bytes_and_no_replacement_character(world: Path) -> None:
    assert inspect(world, "--prompt", "Анна 日\ufffd") == 0
    page = (world / "xray.html").read_text(encoding="utf-8")
    assert "\ufffd" not in page and "\\ufffd" not in page
    tokens = data_of(world / "xray.html")["tokens"]
    joined = [bytes.fromhex(t["bytes"]) if t["bytes"] else t["text"].encode() for t in tokens]
    assert b"".join(joined).decode() == "Анна 日\ufffd"
    assert all(token["bytes"] is None or token["text"] == "" for token in tokens)


@pytest.mark.parametrize("n_tokens", [0, 1, CONTEXT])
def test_a_prompt_of_any_length_that_fits(n_tokens: int, letters: Path, tmp_path: Path) -> None:
    for name in ("page.html", "numbers.json"):
        assert inspect(letters, "--prompt", "a" * n_tokens, "--out", str(tmp_path / name)) == 0
    data = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert len(data["tokens"]) == max(1, n_tokens)  # an empty prompt is a new document


WRONG = {
    "--prompt " + "a" * (CONTEXT + 1): "--prompt has 25 tokens, the model reads 24 at most",
    "--prompt aяa": "'я' (U+044F) at position 1 of",
    "--story 3": "was not trained on a built-in world",
    "": "give a text by --prompt",
    "--prompt a --story 3": "--prompt and --story exclude each other",
    "--prompt a --heads 2": "--heads 2 does not exist: the model has 2, from 0 to 1",
    "--prompt a --layers -1": "--layers -1 does not exist",
    "--prompt a --layers": "--layers is followed by nothing",
    "--prompt a --view dreams": "--view dreams is unknown; choose among surprise",
    "--prompt anna --position 4": "--position 4 is behind the text, whose 4 tokens are 0 to 3",
    "--prompt anna --position -1": "--position -1 must be at least 0",
    "--prompt a --top 0": "--top 0 must be 1 or more",
    "--prompt a --temperature -1": "--temperature -1.0 must be 0",
    "--prompt a --top-p 2": "--top-p 2.0 must be above 0 and at most 1",
    "--prompt a --limit-mb 0": "--limit-mb 0 must be 1 or more",
    "--prompt a --out page.pdf": "page.pdf ends in none of html, png, svg, json",
    "--prompt a --best": "has no checkpoint with a validation loss",
    "--prompt a --checkpoint 5": "--checkpoint 5 was not kept in",
    "--prompt a --best --checkpoint 5": "--best and --checkpoint exclude each other",
}


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_input_is_one_sentence_and_status_2(
    flags: str, letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(letters.iterdir())
    assert inspect(letters, *flags.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert WRONG[flags] in said.err
    assert sorted(letters.iterdir()) == before


def test_a_page_that_is_too_large_is_not_written(letters: Path, tmp_path: Path) -> None:
    command = InspectCommand(run=letters, prompt="Anna", out=tmp_path / "page.html", limit_mb=1)
    inspection = open_inspection(command)
    write(command, inspection, {})
    command.file.unlink()
    with pytest.raises(ValueError, match=r"the page would have 0\.\d MB, and --limit-mb is 1;"):
        write(command, replace(inspection, limit_bytes=500), {})
    assert list(tmp_path.iterdir()) == []


def test_a_story_that_there_is_not(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(world, "--story", "5") == 2
    assert "--story 5 is none of the 5 validation stories" in capsys.readouterr().err


def test_the_weights_of_a_step_that_was_kept(world: Path, tmp_path: Path) -> None:
    run, other = shutil.copytree(world, tmp_path / "run"), random_model(read_config(world).model)
    for step, model in ((1, GPT2Model.load(world)), (4, other)):
        Snapshots(run, 4, 8).write(step, dict(model.named_parameters()))
    views = []
    for step in (None, 1, 4):
        flags = [] if step is None else ["--checkpoint", str(step)]
        flags = [*flags, "--view", "surprise", "--out", str(tmp_path / "a.json")]
        assert inspect(run, "--story", "3", *flags) == 0
        data = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
        assert data["run"]["step"] == step
        views.append(data["views"])
    assert views[0] == views[1] != views[2]
    (run / "checkpoints/step-000004").mkdir(parents=True)  # the newest weights come with each
    assert open_inspection(InspectCommand(run=run, story=3)).step == 4


def test_a_folder_without_weights(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((world / name).read_bytes())
    assert inspect(tmp_path, "--prompt", "Anna") == 2
    assert f"{WEIGHTS_FILE} does not exist; train first" in capsys.readouterr().err
    assert inspect(tmp_path / "no", "--prompt", "Anna") == 2
    assert "does not exist; name a run directory" in capsys.readouterr().err
