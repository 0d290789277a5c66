"""Files of the Hugging Face Hub: fetched once, and compared with their hash."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

from torch.hub import download_url_to_file

from lit_dcem.errors import UsageError, require
from lit_dcem.files.replacing import writing

START = "hf://"
FORM = f"{START}USER/REPOSITORY/FILE@REVISION"
ADDRESS = re.compile(rf"{START}([\w.-]+)/([\w.-]+)/([\w./-]+)@([\w.-]+)", re.ASCII)
ENDPOINT = "https://huggingface.co"


def fetch(address: str, sha256: str | None) -> Path:
    """The local copy of a file of the Hub, which is downloaded if it is not there yet.

    Copies lie in ``$XDG_CACHE_HOME/lit-dcem``, by default ``~/.cache/lit-dcem``, under their hash. The environment
    variable ``HF_ENDPOINT`` names another server than huggingface.co. Repositories must be public.

    Args:
        address: ``hf://USER/REPOSITORY/FILE@REVISION``, where the revision is best a commit, which never changes.
        sha256: what the file must have, in hexadecimal.

    Raises:
        UsageError: an address or hash of another form, a file that cannot be downloaded or stored, or one with another
            hash.
    """
    parts = ADDRESS.fullmatch(address)
    if parts is None or ".." in address:
        raise UsageError(f"A file of the Hub must be given as {FORM}, got {address}.")
    whole = sha256 is not None and re.fullmatch("[0-9a-f]{64}", sha256) is not None
    require(whole, f"sha256 of {address} must be 64 hexadecimal digits", sha256)
    user, repository, file, revision = parts.groups()
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lit-dcem", str(sha256), Path(file).name)
    if not (path.is_file() and sha256_of(path) == sha256):
        endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
        _download(f"{endpoint}/{user}/{repository}/resolve/{quote(revision)}/{quote(file)}", path, str(sha256))
    return path


def _download(url: str, path: Path, sha256: str) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:  # it compares the hash, and swaps the file in when it is whole
        download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except RuntimeError as error:
        raise UsageError(f"The file at {url} must have the sha256 {sha256}, got another: {error}.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # the connection
        raise UsageError(f"A file of the Hub must be there to download, got {url} ({error}).") from error


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
