"""A loaded model, numpy only: ONNX Runtime sessions over its networks, and its symbol tables."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shcodec.errors import ModelError, UsageError
from shcodec.symbols import Floats, SymbolTables

if TYPE_CHECKING:
    import onnxruntime

CARD, DECODER, ENCODER, TRAINING = "model.toml", "decoder.safetensors", "encoder.safetensors", "training.safetensors"
WINDOW = 96  # latent rows and columns that the networks see at once (1536 pixels); smaller pictures in one piece
# latents around a window, at least each network's receptive field, of models whose card does not tell theirs
HALOS = {"analysis": 16, "hyper": 4, "refine": 2, "synthesis": 8}
MAX_HALO = 256
PREFIXES = {"analysis": ("g_a.", "h_a."), "hyper": ("h_s.",), "refine": ("refine.",), "synthesis": ("g_s.",)}

GUARDED = 3  # channels whose second-pass means stay between their neighbours: brightness and two colours

Tensors = dict[str, npt.NDArray[Any]]


def model_id(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """First 4 bytes of the SHA-256 over a decoder's tensors: name, type, shape, bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        shape = ",".join(map(str, array.shape))
        digest.update(f"{name}\0{array.dtype.str[1:]}\0{shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:4]


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Writes a safetensors file that everybody may read."""
    from safetensors.numpy import save_file

    save_file(tensors, path)
    path.chmod(0o644)  # the library leaves it to the owner alone


def read_tensors(path: Path) -> Tensors:
    """All tensors of a safetensors file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: missing model file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable model file ({error})") from None


def read_card(folder: Path) -> dict[str, Any]:
    """The card (model.toml) of a model folder.

    Raises:
        ModelError: it is missing or not TOML.
    """
    path = folder / CARD
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path}: missing model file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from None


def _threads_wanted() -> int:
    """Threads of a network that SHC_THREADS asks for; 0, the default, leaves it to ONNX Runtime."""
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
        """Loads the decoder's tensors; raises ModelError if they are damaged or not what the card says."""
        self.folder = folder
        self.card = read_card(folder)
        self.name = str(self.card.get("name", folder.name))
        self.threads = threads or _threads_wanted()
        self._decoder = read_tensors(folder / DECODER)
        self.id = model_id(self._decoder)
        if self.card.get("id") != self.id.hex():
            raise ModelError(f"{folder}: the weights have id {self.id.hex()}, the card says {self.card.get('id')}")
        self.tables = SymbolTables(self._decoder)
        self.halos = _halos(self.card, folder)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    @cached_property
    def _encoder(self) -> Tensors:
        return read_tensors(self.folder / ENCODER)

    def open_networks(self) -> None:
        """Loads every network that the model should have; raises ModelError for the first that is damaged."""
        hyper = ("hyper", "refine") if self.tables.has_hyper else ()
        for graph in ("analysis", *hyper, "synthesis"):
            self._session(graph)

    # -- networks ---------------------------------------------------------------------------------

    def _session(self, graph: str) -> onnxruntime.InferenceSession:
        """The session of a graph, with its weights fed from the safetensors files."""
        if graph not in self._sessions:
            import onnxruntime

            tensors = self._encoder if graph == "analysis" else self._decoder
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.enable_cpu_mem_arena = False
            options.log_severity_level = 3
            # a model has several sessions with threads of their own: those that wait must not hold the cores
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            weights = {
                name: onnxruntime.OrtValue.ortvalue_from_numpy(array.astype(np.float32))
                for name, array in tensors.items()
                if name.startswith(PREFIXES[graph]) and not name.endswith("knots")
            }
            try:
                options.add_external_initializers(list(weights), list(weights.values()))
                path = self.folder / f"{graph}.onnx"
                self._sessions[graph] = onnxruntime.InferenceSession(
                    path.read_bytes(), options, providers=["CPUExecutionProvider"]
                )
            except OSError:
                raise ModelError(f"{path}: missing model file") from None
            except Exception as error:  # onnxruntime's own exceptions share no base class but this one
                raise ModelError(f"{path}: not a usable graph ({str(error).splitlines()[0]})") from None
        return self._sessions[graph]

    def _gain(self, tensors: Tensors, network: str, beta_byte: int) -> Floats:
        """Scales and biases of a network at a rate: (1, G) float32, linear between the knots."""
        parts = [tensors[f"{network}.{name}"] for name in ("knots", "step_knots") if f"{network}.{name}" in tensors]
        if not parts:
            raise ModelError(f"{self.folder}: the model lacks the tensor {network}.knots")
        knots = np.concatenate([part.astype(np.float32) for part in parts], 1)
        return interpolate(knots, beta_byte)[None]

    def _run(self, graph: str, **inputs: Floats) -> list[Any]:
        return self._session(graph).run(None, inputs)  # type: ignore[no-any-return]

    # -- encoder ----------------------------------------------------------------------------------

    def analyse(self, pixels: npt.NDArray[np.uint8], beta_byte: int) -> tuple[Floats, npt.NDArray[np.int8] | None]:
        """Latent and hyper indices of a picture.

        Args:
            pixels: (H, W, 3) uint8, sides multiples of 64.
            beta_byte: rate step.

        Returns:
            y (M, H/16, W/16) float32 and z (C_z, H/64, W/64) int8, or None without hyper path.
        """
        gains = {"gain": self._gain(self._encoder, "g_a", beta_byte)}
        if self.tables.has_hyper:
            gains["hyper_gain"] = self._gain(self._encoder, "h_a", beta_byte)

        def network(window: tuple[slice, slice]) -> list[Floats]:
            rows, columns = (slice(16 * s.start, 16 * s.stop) for s in window)
            x = pixels[rows, columns].transpose(2, 0, 1)[None].astype(np.float32)
            return self._run("analysis", x=x, **gains)

        grid = (pixels.shape[0] // 16, pixels.shape[1] // 16)
        y, *hyper = _windowed(network, grid, self.halos["analysis"], (1, 0.25))
        if not hyper:
            return y, None
        limit = self.tables.limit
        return y, np.clip(np.rint(hyper[0]), -limit, limit).astype(np.int8)

    @property
    def encoder_rate_weight(self) -> Floats:
        """(17,) lambda of the index choice at every beta knot."""
        if "rate_weight" not in self._encoder:
            raise ModelError(f"{self.folder}: the model lacks the tensor rate_weight")
        return self._encoder["rate_weight"].astype(np.float32)

    # -- decoder ----------------------------------------------------------------------------------

    def describe(self, z: npt.NDArray[np.int8] | None, beta_byte: int, shape: tuple[int, ...]) -> tuple[Floats, ...]:
        """What z says of the latent: means and steps (M, h, w), and features (F, h, w) for `refine`.

        Args:
            z: (C_z, h/4, w/4) int8, or None without hyper path.
            beta_byte: rate step.
            shape: (M, h, w), padded to whole positions of z.
        """
        if z is None:
            step = np.exp(interpolate(self._decoder["step_knots"].astype(np.float32), beta_byte))
            return np.zeros(shape, np.float32), np.broadcast_to(step[:, None, None], shape)
        gain = self._gain(self._decoder, "h_s", beta_byte)

        def network(window: tuple[slice, slice]) -> list[Floats]:
            rows, columns = (slice(s.start // 4, s.stop // 4) for s in window)
            features, mean, step = self._run("hyper", z=z[None, :, rows, columns].astype(np.float32), gain=gain)
            return [mean, step, features]

        return tuple(_windowed(network, shape[1:], self.halos["hyper"], (1, 1, 1)))

    def refine(self, first: Floats, features: Floats, beta_byte: int) -> Floats:
        """Shift of the second half's means: (M, h, w), from the first half decoded and the features."""
        gain = self._gain(self._decoder, "refine", beta_byte)

        def network(window: tuple[slice, slice]) -> list[Floats]:
            part = (None, slice(None), *window)
            return self._run("refine", first=first[part], features=features[part], gain=gain)

        shift: Floats = _windowed(network, first.shape[1:], self.halos["refine"], (1,))[0]
        return shift

    def synthesise(self, y_hat: Floats, beta_byte: int) -> npt.NDArray[np.uint8]:
        """Pixels (16 h, 16 w, 3) uint8 of a latent (M, h, w)."""
        gain = self._gain(self._decoder, "g_s", beta_byte)

        def network(window: tuple[slice, slice]) -> list[npt.NDArray[np.uint8]]:
            pixels = self._run("synthesis", y=y_hat[(None, slice(None), *window)], gain=gain)[0]
            return [pixels.transpose(0, 3, 1, 2)]

        planes: npt.NDArray[np.uint8] = _windowed(network, y_hat.shape[1:], self.halos["synthesis"], (16,))[0]
        return planes.transpose(1, 2, 0)


def _halos(card: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Latents around a window by graph: the card's, else `HALOS`; raises ModelError for values that make no sense."""
    told = card.get("halos", {})
    halos = HALOS | told if isinstance(told, dict) else {}
    valid = all(type(halo) is int and 0 <= halo <= MAX_HALO for halo in halos.values())
    if halos.keys() != HALOS.keys() or not valid or halos["analysis"] % 4 or halos["hyper"] % 4:
        raise ModelError(f"{folder}: the card's table [halos] is not valid")
    return halos


def interpolate(knots: Floats, beta_byte: int) -> Floats:
    """Linear interpolation between 17 knots: (17, ...) -> (...)."""
    knot, fraction = beta_byte >> 4, (beta_byte & 15) / 16
    value: Floats = knots[knot] * np.float32(1 - fraction) + knots[knot + 1] * np.float32(fraction)
    return value


def _windows(length: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows along one side of the latent grid: start and stop with halo, then without."""
    if length <= WINDOW + 2 * halo:
        yield 0, length, 0, length
        return
    for start in range(0, length, WINDOW):
        stop = min(start + WINDOW, length)
        yield max(start - halo, 0), min(stop + halo, length), start, stop


def _windowed(
    network: Callable[[tuple[slice, slice]], list[Any]], grid: tuple[int, ...], halo: int, scales: tuple[float, ...]
) -> list[Any]:
    """Runs a network window by window and puts its outputs together: memory stays bounded, no seams.

    Args:
        network: window (slices of the latent grid) -> outputs (1, C, h', w').
        grid: rows and columns of the latent grid, multiples of 4.
        halo: latents around each window, a multiple of 4 where z is involved.
        scales: size of every output relative to the latent grid.

    Returns:
        Outputs (C, H', W').
    """
    outputs: list[Any] = []
    for top, bottom, first_row, last_row in _windows(grid[0], halo):
        for left, right, first_column, last_column in _windows(grid[1], halo):
            parts = network((slice(top, bottom), slice(left, right)))
            if (bottom - top, right - left) == tuple(grid):
                return [part[0] for part in parts]
            if not outputs:
                sizes = [(int(grid[0] * s), int(grid[1] * s)) for s in scales]
                outputs = [np.empty((p.shape[1], *size), p.dtype) for p, size in zip(parts, sizes, strict=False)]
            for part, scale, output in zip(parts, scales, outputs, strict=False):
                rows, columns = (
                    slice(int(a * scale), int(b * scale))
                    for a, b in ((first_row, last_row), (first_column, last_column))
                )
                inner_rows = slice(int((first_row - top) * scale), int((last_row - top) * scale))
                inner_columns = slice(int((first_column - left) * scale), int((last_column - left) * scale))
                output[:, rows, columns] = part[0, :, inner_rows, inner_columns]
    return outputs
