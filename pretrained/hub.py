"""Where the weights come from: a folder here, or a repository on the Hugging Face hub.

What is downloaded stays in the cache of huggingface_hub, which draws the progress bars and heeds
HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN.
Previous: read_weights.py.  Next: import_command.py.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from cfg_gpt2 import require
from pretrained.read_weights import FORMS, INDEX, read_index
from run_directory.config_file import CONFIG_FILE
from tokenizer import VOCABULARIES

HUB = "hub:"
OWNERS = {  # of the repositories that once had no owner
    "gpt2": "openai-community",
    "gpt2-medium": "openai-community",
    "gpt2-large": "openai-community",
    "gpt2-xl": "openai-community",
    "distilgpt2": "distilbert",
}
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
Fetch = Callable[[str], Path | None]


def find_folder(source: str, revision: str | None) -> Path:
    """The folder with the files of `source`: a path, a hub name, or hub: and a hub name.

    Raises FileNotFoundError where there is none, ValueError where a name could mean both.
    """
    name = source.removeprefix(HUB)
    could_be_hub = REPOSITORY.fullmatch(name) is not None and not name.startswith(".")
    path = Path(source).expanduser()
    if source.startswith(HUB):
        require(could_be_hub, f"{name} is no name on the hub; write owner/name, such as gpt2")
        return download(name, revision)
    if could_be_hub and path.is_dir():
        raise ValueError(
            f"{source} is a folder here and could be a repository on the hub; "
            f"write .{os.sep}{path} for the folder, {HUB}{source} for the repository"
        )
    if could_be_hub and not path.exists():
        return download(name, revision)
    require(revision is None, f"--revision {revision} is for repositories; {source} is a folder")
    if not path.is_dir():
        raise FileNotFoundError(
            f"{source} is no folder; name one, or a repository on the hub such as gpt2"
        )
    return path


def download(name: str, revision: str | None) -> Path:
    """Puts what import needs of a repository into the cache -> the folder it lies in."""
    repository = f"{OWNERS[name]}/{name}" if name in OWNERS else name
    fetch = fetch_from(repository, revision)
    config = fetch(CONFIG_FILE)
    if config is None:
        raise FileNotFoundError(f"{repository} has no {CONFIG_FILE}; it is no transformers model")
    if not fetch_weights(fetch):
        raise FileNotFoundError(
            f"{repository} has no weights within reach; import reads {', '.join(FORMS)}"
        )
    for files in VOCABULARIES:
        if all([fetch(file) for file in files]):
            break
    return config.parent


def fetch_weights(fetch: Fetch) -> bool:
    """The first form of the weights that there is, an index with its shards -> whether any is."""
    for form in FORMS:
        found = fetch(form)
        if found and form.endswith(INDEX):
            for shard in sorted(set(read_index(found).values())):
                fetch(shard)
        if found:
            return True
    return False


def fetch_from(repository: str, revision: str | None) -> Fetch:
    """-> a function: file name -> the file in the cache, None where the repository has none."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise ValueError(
            'the hub needs the package huggingface_hub; pip install -e ".[hub]", '
            "or name a folder with the files"
        ) from None

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:
            # out of reach; of the later files it may be that the repository has none
            if file == CONFIG_FILE:
                raise FileNotFoundError(out_of_reach(repository)) from None
            return None
        except RevisionNotFoundError:
            raise FileNotFoundError(
                f"{repository} has no --revision {revision}; name a branch, tag or commit of it"
            ) from None
        except RepositoryNotFoundError:
            raise FileNotFoundError(
                f"the hub has no repository {repository}, or it is private; "
                f"write .{os.sep}{repository} for a folder, and set HF_TOKEN for what is private"
            ) from None
        except EntryNotFoundError:
            return None
        except HfHubHTTPError as error:
            raise OSError(f"{repository}: the hub refuses: {str(error).splitlines()[0]}") from None

    return fetch


def out_of_reach(repository: str) -> str:
    """What to do without a network."""
    forms, vocabularies = " or ".join(FORMS[::2]), " or ".join("+".join(v) for v in VOCABULARIES)
    return (
        f"{repository} is not in the cache and the hub is out of reach; place {CONFIG_FILE}, "
        f"{forms}, and {vocabularies} into a folder and name it, such as .{os.sep}gpt2"
    )
