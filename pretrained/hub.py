"""The source of the weights: a local folder, or a repository on the Hugging Face hub.

Downloads stay in the cache of huggingface_hub, which draws the progress bars and obeys
HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN. A hub that does not answer at once is taken for
out of reach, and only the cache is used: the library would try again for half a minute.
Previous: folder_chat.py.  Next: import_settings.py.
"""

import http.client
import logging
import os
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cfg_gpt2 import require
from pretrained.read_weights import FORMS, INDEX, read_index
from pretrained.token_settings import SETTINGS_FILES
from run_directory.chat_template import TEMPLATE_FILE
from run_directory.config_file import CONFIG_FILE
from run_directory.generation_config import GENERATION_CONFIG_FILE
from run_directory.paths import user_path
from run_directory.vocabulary import VOCABULARIES

HUB_PREFIX = "hub:"
OWNERS = {  # of the repositories whose names were published without an owner
    "gpt2": "openai-community",
    "gpt2-medium": "openai-community",
    "gpt2-large": "openai-community",
    "gpt2-xl": "openai-community",
    "distilgpt2": "distilbert",
}
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
ANSWER_SECONDS = 5  # within which the hub has to answer at all
Fetch = Callable[[str], Path | None]


def find_folder(source: str, revision: str | None, say: Callable[[str], object]) -> Path:
    """Returns the folder of a source: a path, a name on the hub, or hub: and a name on the hub.

    A plain name that is no folder here is taken for a name on the hub, and say is told so. Raises
    FileNotFoundError where there is none, ValueError where a name could mean both.
    """
    require(source != "", "the source is empty; name a folder, or a repository such as gpt2")
    name = source.removeprefix(HUB_PREFIX)
    is_hub_name = REPOSITORY.fullmatch(name) is not None and not name.startswith(".")
    path = user_path(source, "SOURCE")
    if source.startswith(HUB_PREFIX):
        require(is_hub_name, f"{name} is no name on the hub; write owner/name, such as gpt2")
        return download(name, revision)
    if is_hub_name and path.is_dir():
        raise ValueError(
            f"{source} is a folder here and could be a repository on the hub; "
            f"write .{os.sep}{path} for the folder, {HUB_PREFIX}{source} for the repository"
        )
    if is_hub_name and not path.exists():
        parent = path.parent
        if parent.parts and parent.is_dir():  # owners on the hub have no folder here
            raise FileNotFoundError(
                f"{parent} has no folder {path.name}; name one that it has, or write "
                f"{HUB_PREFIX}{source} for a repository on the hub"
            )
        if source not in OWNERS:
            say(f"hub       {source} is no folder here, so the hub is asked for it")
        return download(name, revision)
    require(revision is None, f"--revision {revision} is for repositories; {source} is a folder")
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "is no folder"
        raise FileNotFoundError(
            f"{source} {what}; name one, or a repository on the hub such as gpt2"
        )
    return path


def download(name: str, revision: str | None) -> Path:
    """Downloads the files that import needs into the cache, and returns their folder."""
    repository = f"{OWNERS[name]}/{name}" if name in OWNERS else name
    fetch = make_fetch(repository, revision)
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
    for file in (*SETTINGS_FILES, GENERATION_CONFIG_FILE, TEMPLATE_FILE):
        fetch(file)
    return config.parent


def fetch_weights(fetch: Fetch) -> bool:
    """Fetches the first form of the weights that exists; tells whether there is one."""
    for form in FORMS:
        file = fetch(form)
        if file and form.endswith(INDEX):
            for shard in sorted(set(read_index(file).values())):
                fetch(shard)
        if file:
            return True
    return False


def make_fetch(repository: str, revision: str | None) -> Fetch:
    """Returns a function from a file's name to its path in the cache, or None if there is none."""
    try:
        from huggingface_hub import constants, hf_hub_download
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

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it raises is told below
    only_cache = constants.HF_HUB_OFFLINE or not answers(constants.ENDPOINT)

    def fetch(file: str) -> Path | None:
        try:
            return Path(
                hf_hub_download(repository, file, revision=revision, local_files_only=only_cache)
            )
        except LocalEntryNotFoundError:
            # the hub is out of reach; a later file may not exist in the repository
            if file == CONFIG_FILE:
                raise FileNotFoundError(explain_offline(repository)) from None
            return None
        except RevisionNotFoundError:
            raise FileNotFoundError(
                f"{repository} has no --revision {revision}; name a branch, tag or commit of it"
            ) from None
        except RepositoryNotFoundError:
            raise FileNotFoundError(
                f"the hub has no repository {repository}, or it is private, and there is no "
                f"folder {repository} here; name a folder that there is, or set HF_TOKEN for what "
                "is private"
            ) from None
        except EntryNotFoundError:
            return None
        except HfHubHTTPError as error:
            raise OSError(f"{repository}: the hub refuses: {str(error).splitlines()[0]}") from None

    return fetch


def answers(address: str) -> bool:
    """Tells whether a server answers within ANSWER_SECONDS, with whatever status below 500.

    It is asked in a thread, because nothing bounds the time in which a name is looked up.
    """
    answered: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
                answered.append(True)
        except urllib.error.HTTPError as error:
            answered.append(error.code < 500)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # a certificate that Python does not know may be one that the hub's library knows
            answered.append(isinstance(getattr(error, "reason", None), ssl.SSLError))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return answered == [True]


def explain_offline(repository: str) -> str:
    """Returns the message for a repository that is not in the cache, without a network."""
    forms, vocabularies = " or ".join(FORMS[::2]), " or ".join("+".join(v) for v in VOCABULARIES)
    return (
        f"{repository} is not in the cache and the hub is out of reach; place {CONFIG_FILE}, "
        f"{forms}, and {vocabularies} into a folder and name it, such as .{os.sep}gpt2"
    )
