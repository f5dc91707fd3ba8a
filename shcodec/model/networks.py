"""A loaded model, numpy only: ONNX Runtime sessions over its networks, and its symbol tables."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shcodec.model.card import DECODER, ENCODER, QUICK, pins, read_card, read_pinned
from shcodec.model.tensors import Tensors, model_id, read_tensors
from shcodec.support.errors import ModelError, UsageError
from shcodec.support.progress import Report, unheard
from shcodec.symbols.bands import Floats
from shcodec.symbols.grid import HYPER, PATCH, Grid
from shcodec.symbols.knots import interpolate
from shcodec.symbols.tables import SymbolTables

if TYPE_CHECKING:
    from types import ModuleType

    import onnxruntime

WINDOW = 96  # latent rows and columns that the networks see at once (1536 pixels); smaller pictures in one piece
# latents around a window, at least each network's receptive field, for models whose card has none
HALOS = {"analysis": 16, "hyper": 4, "refine": 2, "synthesis": 8, "quick": 8}
MAX_HALO = 256
PREFIXES = {
    "analysis": ("g_a.", "h_a."),
    "hyper": ("h_s.",),
    "refine": ("refine.",),
    "synthesis": ("g_s.",),
    "quick": ("g_s.",),
}

_TELEMETRY = "ORT_DISABLE_TELEMETRY"

GUARDED = 3  # channels whose second-pass means stay between their neighbours: brightness and two colours


def load_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, with its telemetry switched off unless ORT_DISABLE_TELEMETRY in the environment says 0.

    Its official builds report to their maker: from the import on they keep a device id and a queue of events in the
    user's cache. The environment alone prevents that; the call is for a process that has imported it before.
    """
    decided = bool(os.environ.get(_TELEMETRY))
    if not decided:
        os.environ[_TELEMETRY] = "1"
    import onnxruntime

    if not decided:
        onnxruntime.disable_telemetry_events()
    return onnxruntime  # type: ignore[no-any-return]


def threads_wanted() -> int:
    """Return the threads of a network that SHC_THREADS asks for; 0, the default, leaves it to ONNX Runtime."""
    text = os.environ.get("SHC_THREADS", "0")
    if not text.isdecimal():
        raise UsageError(f"SHC_THREADS must be a number of threads, not '{text}'")
    return int(text)


class Model:
    """One model folder. Networks are loaded when they are first needed.

    Attributes:
        name: the card's name.
        id: 4 bytes that name the decoder in files.
        tables: the symbol path.
        card: the card.
        halos: latents around a window, by graph.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        """Load the decoder's tensors; raises ModelError if they are damaged or not what the card says."""
        self.folder = folder
        self.card = read_card(folder)
        self.name = str(self.card.get("name", folder.name))
        self.threads = threads_wanted() if threads is None else threads
        self._decoder = read_tensors(folder / DECODER)
        self.id = model_id(self._decoder)
        if self.card.get("id") != self.id.hex():
            raise ModelError(f"{folder}: the weights have id {self.id.hex()}, the card says {self.card.get('id')}")
        self.tables = SymbolTables(self._decoder)
        self.halos = _halos(self.card, folder)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    @cached_property
    def _encoder(self) -> Tensors:
        read_pinned(self.folder, self.card, ENCODER)  # the decoder's tensors have their id instead
        return read_tensors(self.folder / ENCODER)

    @cached_property
    def has_quick(self) -> bool:
        """Whether the model has a second, quicker synthesis network."""
        return QUICK in pins(self.folder, self.card)

    @cached_property
    def _quick(self) -> Tensors:
        read_pinned(self.folder, self.card, QUICK)
        return read_tensors(self.folder / QUICK)

    def _tensors(self, graph: str) -> Tensors:
        """Return the tensors that hold a graph's weights."""
        if graph == "analysis":
            return self._encoder
        return self._quick if graph == "quick" else self._decoder

    def open_networks(self) -> None:
        """Load every network that the model should have; raises ModelError for the first that is damaged."""
        hyper = ("hyper", "refine") if self.tables.has_hyper else ()
        quick = ("quick",) if self.has_quick else ()
        for graph in ("analysis", *hyper, "synthesis", *quick):
            self._session(graph)

    # -- networks ---------------------------------------------------------------------------------

    def _session(self, graph: str) -> onnxruntime.InferenceSession:
        """Return the session of a graph, with its weights fed from the safetensors files."""
        if graph not in self._sessions:
            onnxruntime = load_onnxruntime()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.enable_cpu_mem_arena = False
            options.log_severity_level = 3
            # a model has several sessions with threads of their own: those that wait must not hold the cores
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            weights = {
                name: onnxruntime.OrtValue.ortvalue_from_numpy(array.astype(np.float32))
                for name, array in self._tensors(graph).items()
                if name.startswith(PREFIXES[graph]) and not name.endswith("knots")
            }
            # pinned, as a graph can name any file of the machine as one that holds weights
            data = read_pinned(self.folder, self.card, f"{graph}.onnx")
            try:
                options.add_external_initializers(list(weights), list(weights.values()))
                self._sessions[graph] = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own exceptions share no base class but this one
                what = str(error).partition("\n")[0]
                raise ModelError(f"{self.folder / graph}.onnx: not a usable graph ({what})") from None
        return self._sessions[graph]

    def _gain(self, tensors: Tensors, network: str, beta_byte: int) -> Floats:
        """Return the scales and biases of a network at a rate: (1, G) float32, linear between the knots."""
        parts = [tensors[f"{network}.{name}"] for name in ("knots", "step_knots") if f"{network}.{name}" in tensors]
        if not parts:
            raise ModelError(f"{self.folder}: the model lacks the tensor {network}.knots")
        knots = np.concatenate([part.astype(np.float32) for part in parts], 1)
        return interpolate(knots, beta_byte)[None]

    def _run(self, graph: str, **inputs: Floats) -> list[Any]:
        return self._session(graph).run(None, inputs)  # type: ignore[no-any-return]

    # -- encoder ----------------------------------------------------------------------------------

    def analyse(
        self, rgb: npt.NDArray[np.uint8], beta_byte: int, grid: Grid, report: Report = unheard
    ) -> tuple[Floats, npt.NDArray[np.int8] | None]:
        """Return latent and hyper indices of a picture, which is seen padded to whole positions of z (see `padding`).

        Args:
            rgb: (H, W, 3) uint8.
            beta_byte: rate step.
            grid: sizes.
            report: told how many windows are done.

        Returns:
            y of the coded positions (M, h, w) float32, and z (C_z, hz, wz) int8 or None without hyper path.
        """
        tables = self.tables.hyper
        gains = {"gain": self._gain(self._encoder, "g_a", beta_byte)}
        if tables:
            gains["hyper_gain"] = self._gain(self._encoder, "h_a", beta_byte)
        channels, limit = (tables.channels, tables.limit) if tables else (0, 0)
        y = np.empty((self.tables.latent, grid.height, grid.width), np.float32)
        z = np.empty((channels, grid.hyper_height, grid.hyper_width), np.int8)
        # without hyper path nothing needs whole positions of z: the picture ends where its latents do
        sides = grid.padded if tables else y.shape[1:]
        parts = list(itertools.product(*(windows(side, self.halos["analysis"]) for side in sides)))
        for done, (rows, columns) in enumerate(parts, 1):
            (top, bottom, first_row, last_row), (left, right, first_column, last_column) = rows, columns
            x = _padded(rgb, slice(PATCH * top, PATCH * bottom), slice(PATCH * left, PATCH * right))
            part, *hyper = self._run("analysis", x=x.transpose(2, 0, 1)[None].astype(np.float32), **gains)
            into = y[:, first_row:last_row, first_column:last_column]
            into[:] = part[0, :, first_row - top :, first_column - left :][:, : into.shape[1], : into.shape[2]]
            if hyper:
                indices = z[:, first_row // HYPER : last_row // HYPER, first_column // HYPER : last_column // HYPER]
                part = np.rint(hyper[0][0, :, (first_row - top) // HYPER :, (first_column - left) // HYPER :])
                part = part[:, : indices.shape[1], : indices.shape[2]]
                indices[:] = np.clip(part, -limit, limit)
            report("analysing", done, len(parts))
        return y, z if tables else None

    @property
    def encoder_rate_weight(self) -> Floats:
        """(17,) lambda of the index choice at every beta knot."""
        if "rate_weight" not in self._encoder:
            raise ModelError(f"{self.folder}: the model lacks the tensor rate_weight")
        return self._encoder["rate_weight"].astype(np.float32)

    # -- decoder ----------------------------------------------------------------------------------

    def describe(self, z: npt.NDArray[np.int8] | None, beta_byte: int, shape: tuple[int, ...]) -> tuple[Floats, ...]:
        """Return what z says of the latent: means and steps (M, h, w), and features (F, h, w) for `refine`.

        Args:
            z: (C_z, h/4, w/4) int8, or None without hyper path.
            beta_byte: rate step.
            shape: (M, h, w), padded to whole positions of z.
        """
        if z is None:
            step = np.exp(interpolate(self._decoder["step_knots"].astype(np.float32), beta_byte))
            return np.zeros(shape, np.float32), np.broadcast_to(step[:, None, None], shape)
        gain = self._gain(self._decoder, "h_s", beta_byte)
        features, mean, step = self._run("hyper", z=z[None].astype(np.float32), gain=gain)
        return mean[0], step[0], features[0]

    def refine(self, first: Floats, features: Floats, beta_byte: int) -> Floats:
        """Return the shift of the second half's means: (M, h, w), from the first half decoded and the features."""
        gain = self._gain(self._decoder, "refine", beta_byte)
        shift: Floats = self._run("refine", first=first[None], features=features[None], gain=gain)[0][0]
        return shift

    def synthesise(self, y_hat: Floats, beta_byte: int, *, quick: bool = False) -> npt.NDArray[np.uint8]:
        """Return the pixels (16 h, 16 w, 3) uint8 of a latent (M, h, w), as the quick network shows it if `quick`."""
        graph = "quick" if quick else "synthesis"
        gain = self._gain(self._tensors(graph), "g_s", beta_byte)
        pixels: npt.NDArray[np.uint8] = self._run(graph, y=y_hat[None], gain=gain)[0][0]
        return pixels


def _halos(card: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Return the latents around a window by graph: the card's, else `HALOS`; raises ModelError for bad values."""
    told = card.get("halos", {})
    halos = HALOS | told if isinstance(told, dict) else {}
    valid = all(type(halo) is int and 0 <= halo <= MAX_HALO for halo in halos.values())
    if halos.keys() == HALOS.keys() and "quick" not in told:
        halos["quick"] = halos["synthesis"]
    if halos.keys() != HALOS.keys() or not valid or halos["analysis"] % HYPER or halos["hyper"] % HYPER:
        raise ModelError(f"{folder}: the card's table [halos] is not valid")
    return halos


def windows(length: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Return the windows along one side of the latent grid: start and stop with halo, then without.

    Networks run over one at a time, so that memory stays bounded. A side of little more than a window is one.
    """
    if length <= WINDOW + 2 * halo:
        yield 0, length, 0, length
        return
    for start in range(0, length, WINDOW):
        stop = min(start + WINDOW, length)
        yield max(start - halo, 0), min(stop + halo, length), start, stop


def padding(side: int, length: int) -> npt.NDArray[np.int64]:
    """Return the row (or column) of the picture that stands in every row of the padded one.

    The last latent is filled with the last row, which costs least. What lies beyond is mirrored: it is not coded, but
    it tells z, whose positions are wider, what the last latents look like; plain colour there makes them coarse.

    Args:
        side: rows in all.
        length: rows of the picture.
    """
    coded = -(-length // PATCH) * PATCH
    index = np.arange(side) % (2 * coded)
    return np.minimum(np.minimum(index, 2 * coded - 1 - index), length - 1)


def _padded(rgb: npt.NDArray[np.uint8], rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
    """Return a part of a picture that is padded where it ends before the part does."""
    height, width = rgb.shape[:2]
    if rows.stop <= height and columns.stop <= width:
        return rgb[rows, columns]
    return rgb[padding(rows.stop, height)[rows, None], padding(columns.stop, width)[columns]]
