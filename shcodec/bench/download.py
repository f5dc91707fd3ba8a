"""Fetches the benchmark sets from their public homes, once, into the user's cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shcodec.bench.checksums import Pin
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError, ShcError
from shcodec.support.progress import counting_bar

if TYPE_CHECKING:
    from pooch import Pooch

_TIMEOUT = 30.0
_RETRIES = 2


def cache_folder() -> Path:
    """Return the folder of the user's cache that holds the sets, one folder each."""
    from platformdirs import user_cache_path

    return user_cache_path("shcodec", appauthor=False) / "pictures"


def download(folder: Path, url: str, pins: Iterable[tuple[str, Pin]], *, progress: bool = False) -> None:
    """Fetch the pictures that a folder lacks; each is compared with its pin, and a wrong one is not kept.

    Args:
        folder: where the pictures go, named as the set names them; made if it does not exist.
        url: address of a picture, with `{image}` in the place of its name.
        pins: names and pins of all pictures of the set.
        progress: draw a progress bar on stderr.

    Raises:
        ShcError: if a picture cannot be fetched, or is not that of the set.
        OSError: if the folder cannot be written.
    """
    import pooch

    suffix = Path(url).suffix
    missing = [(name, pin) for name, pin in pins if not (folder / f"{name}{suffix}").exists()]
    store = pooch.create(
        path=folder,
        base_url="",
        registry={f"{name}{suffix}": None for name, _ in missing},
        urls={f"{name}{suffix}": url.format(image=name) for name, _ in missing},
        retry_if_failed=_RETRIES,
    )
    with counting_bar(len(missing), "downloading", shown=progress) as advance:
        for name, pin in missing:
            _fetch(store, f"{name}{suffix}", pin)
            advance()


def _fetch(store: Pooch, file: str, pin: Pin) -> None:
    import pooch
    import requests

    # pooch tells of every file; here a progress bar does.
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        path = Path(store.fetch(file, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT)))
    except requests.RequestException as error:
        raise ShcError(f"{store.get_url(file)}: {_reason(error)}") from error
    try:
        pin.check(read_picture(path).rgb)
    except PictureError as error:
        path.unlink()
        raise ShcError(f"{store.get_url(file)}: {error}") from error


def _reason(error: Exception) -> str:
    """Say in a few words why nothing came; the full text of these errors fills a screen."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
