"""`pack`, `unpack` and `info`: the interface of this package for programs, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from shcodec.netpack.packing.file import MAX_WEIGHTS, split
from shcodec.netpack.packing.layout import Trellis
from shcodec.netpack.packing.packer import DEFAULT, pack_tensors
from shcodec.netpack.packing.plan import PackConfig
from shcodec.netpack.packing.report import PackReport, worst_of
from shcodec.netpack.packing.targets import Target
from shcodec.netpack.packing.tensors import from_value, read_safetensors, to_array, write_safetensors
from shcodec.netpack.packing.unpacker import unpack_tensors
from shcodec.pictures.arguments import File, read_bytes
from shcodec.support.progress import Report, unheard

Source = Mapping[str, Any] | File
"""Tensors by name (numpy arrays, or torch tensors such as a state dictionary's), or a safetensors file: its bytes, its
path, or a binary file object."""


def pack(
    source: Source,
    *,
    bits: float | None = None,
    size: int | None = None,
    sqnr: float | None = None,
    config: PackConfig | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Compress tensors; at most one target is given.

    Args:
        source: Tensors by name (numpy arrays, or torch tensors such as a state dictionary's), or a safetensors file:
            its bytes, its path, or a binary file object.
        bits: Mean bits of a quantised weight, never exceeded; 4 by default.
        size: Bytes of the file, never exceeded.
        sqnr: Ratio of the quantised weights' energy to that of their error in dB, met within 0.1. With the weighting
            "mse", tensors of another order of magnitude than the rest have at most 3 dB less.
        config: How; see `PackConfig`.
        metadata: Texts to keep; by default those of a safetensors file.

    Returns:
        The bytes of an ``.shcn`` file.

    Raises:
        UsageError: If a target makes no sense or a dtype cannot be packed.
        LimitError: If the tensors cannot be made as small as that.
        ShcError: If the bytes are not a safetensors file.
    """
    return pack_report(source, target=make_target(bits, size, sqnr), config=config, metadata=metadata)[0]


def pack_report(
    source: Source,
    *,
    target: Target = DEFAULT,
    config: PackConfig | None = None,
    metadata: Mapping[str, str] | None = None,
    report: Report = unheard,
) -> tuple[bytes, PackReport]:
    """Do as `pack`, and tell what became of every tensor."""
    if isinstance(source, Mapping):
        tensors, found = [from_value(name, value) for name, value in source.items()], dict[str, str]()
    else:
        tensors, found = read_safetensors(read_bytes(source))
    return pack_tensors(tensors, found if metadata is None else metadata, target=target, config=config, report=report)


def make_target(bits: float | None, size: int | None, sqnr: float | None) -> Target:
    """Return the target that is given, or 4 bits per weight."""
    return DEFAULT if bits is None and size is None and sqnr is None else Target(bits, size, sqnr)


def unpack(data: File, *, max_weights: int = MAX_WEIGHTS) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file as numpy arrays in their order.

    numpy has no bfloat16: such tensors come as float32 of the same values. Floats of 8 bits and fewer, and dtypes that
    are not known, come as bytes, in a row where they are not one for each element. `unpack_safetensors` keeps every
    dtype.

    Args:
        data: An ``.shcn`` file: its bytes, its path, or a binary file object.
        max_weights: The most elements to accept.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If it holds too many elements.
    """
    return {tensor.name: to_array(tensor) for tensor in unpack_tensors(read_bytes(data), max_weights=max_weights)[0]}


def unpack_safetensors(data: File, *, max_weights: int = MAX_WEIGHTS) -> bytes:
    """Return the tensors of a file as a safetensors file, with the metadata of the one it was made of; see `unpack`."""
    tensors, metadata = unpack_tensors(read_bytes(data), max_weights=max_weights)
    return write_safetensors(tensors, metadata)


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor.

    Attributes:
        name: Its name.
        dtype: Its dtype.
        shape: Its shape.
        coding: "trellis", "codebook" or "kept".
        step: That of a trellis, where rows and columns do not have larger ones.
        sqnr: Energy over error in dB, in halves of one, 63.5 for all that is more; None for what is not quantised, or
            where a file of version 1 does not tell.
        gone: Whether nearly all of its elements became 0.
        exact: Elements of a quantised tensor that are kept exactly.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    step: float | None
    sqnr: float | None
    gone: bool
    exact: int


@dataclass(frozen=True)
class NetInfo:
    """What a file holds.

    Attributes:
        version: Of the format.
        total: Bytes of the file.
        unpacked: Bytes of all tensors.
        weights: Elements of all tensors.
        quantised: Elements of those that are not kept as they are.
        bits: Mean bits of a quantised element, with all of the file but the kept tensors; None without any.
        states: States of the trellis; 0 without one.
        sizes: Bytes by part of the file.
        metadata: The texts kept with the tensors.
        worst: Name of the quantised tensor that has lost most; None where none is, or a file of version 1 does not
            tell.
        tensors: Each of them.
    """

    version: int
    total: int
    unpacked: int
    weights: int
    quantised: int
    bits: float | None
    states: int
    sizes: dict[str, int]
    metadata: dict[str, str]
    worst: str | None
    tensors: tuple[TensorInfo, ...]


def info(data: File) -> NetInfo:
    """Return what a file says of its tensors; none is decoded, so their number is not limited.

    Raises:
        CorruptFileError: If the bytes are not a valid file.
        LimitError: If something exceeds what the format allows.
    """
    data = read_bytes(data)
    parts = split(data, max_weights=1 << 62)
    directory, machine = parts.directory, parts.directory.machine
    told = iter(directory.told)
    tensors = []
    for entry in directory.entries:
        coding, step, sqnr, gone, exact = "kept" if entry.coding is None else "codebook", None, None, False, 0
        if isinstance(entry.coding, Trellis):
            coding, exact = "trellis", entry.coding.exact.positions.size
            step = machine.step * 2 ** (entry.coding.octaves / 8) if machine else None
            if (own := next(told, None)) is not None:
                sqnr, gone = own.sqnr, own.gone
        tensors.append(TensorInfo(entry.name, entry.dtype, entry.shape, coding, step, sqnr, gone, exact))
    coded = directory.coded
    return NetInfo(
        version=parts.version,
        total=len(data),
        unpacked=sum(entry.nbytes for entry in directory.entries),
        weights=directory.elements,
        quantised=coded,
        bits=8 * (len(data) - len(parts.plain)) / coded if coded else None,
        states=1 << machine.memory if machine else 0,
        sizes=parts.sizes,
        metadata=dict(directory.metadata),
        worst=worst_of(tensors),
        tensors=tuple(tensors),
    )
