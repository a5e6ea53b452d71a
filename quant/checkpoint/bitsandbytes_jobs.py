"""A checkpoint of bitsandbytes into one of ours and back, as jobs for `quant.checkpoint.run`.

Planning reads the small parts of every layer and checks them, one layer after the other; the codes, nine tenths of the
bytes, are only looked at when they are copied. Whatever is no part of a 4-bit layer is copied as it is. The parts of a
layer may be spread over shards; in the output they are all in the shard of its codes, and a shard that held nothing
else is not written.

The layers are those that the model has (`layers`), so that a checkpoint of another model is refused instead of being
converted into something that no model can load, or that one loads with rows and columns exchanged.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.checkpoint.bitsandbytes_layout import SAME_BYTES, from_bitsandbytes, to_bitsandbytes
from quant.checkpoint.plan import Job, OutputTensor
from quant.checkpoint.reading import Inputs
from quant.checkpoint.tensor_jobs import cast_job
from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.schemes import Blockwise
from quant.tensor import QuantizedTensor, empty_stored

THEIR_PART = re.compile(r"(.+)\.(?:weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)|SCB)")
"""Name of a tensor that only bitsandbytes' layers have; the group is the layer's. SCB is of LLM.int8, to be refused."""
OUR_PART = re.compile(r"(.+)\.weight_(?:absmax|absmax_scale|absmax_offset|format)")
"""Name of a tensor that only our 4-bit layers have; the group is the layer's."""


@dataclass(frozen=True)
class Converted:
    """What a checkpoint becomes.

    Attributes:
        jobs: for all of its tensors.
        scheme, dtype: of the quantized layers; dtype of their weights before quantization.
        layers: names of the quantized layers, in model order.
    """

    jobs: tuple[Job, ...]
    scheme: Blockwise
    dtype: torch.dtype
    layers: tuple[str, ...]


def jobs_from_bitsandbytes(inputs: Inputs, layers: Mapping[str, torch.Size]) -> Converted:
    """Jobs that make a checkpoint of ours.

    Args:
        inputs: of bitsandbytes' checkpoint.
        layers: name -> [out, in] of every linear layer of the model, in model order.

    Raises:
        QuantError: no 4-bit layers, layers that the model does not have in this shape or that differ in scheme or
            dtype, and what `from_bitsandbytes` refuses.
    """
    parts = _parts_by_layer(inputs, THEIR_PART)
    if not parts:
        raise QuantError(f"{inputs.checkpoint.folder} has no layers that bitsandbytes quantized: nothing to convert")
    unknown = [name for name in parts if name not in layers]
    if unknown:
        raise QuantError(
            f"{inputs.checkpoint.folder}: {unknown[0]} is no linear layer of the model that its config.json describes: "
            "where an older layout has other names, quantize the float checkpoint instead"
        )
    jobs: dict[str, Job] = {}
    kinds: dict[tuple[Blockwise, torch.dtype], str] = {}
    chosen = tuple(name for name in layers if name in parts)
    for name in chosen:
        with _naming(inputs):
            weight = from_bitsandbytes(name, _read_parts(inputs, name, parts[name]))
        if weight.shape != layers[name]:
            raise QuantError(
                f"{inputs.checkpoint.folder}: {name} has a weight {list(weight.shape)}, the model's is "
                f"{list(layers[name])}: the checkpoint and its config.json do not belong together"
            )
        assert isinstance(weight.scheme, Blockwise)
        kinds.setdefault((weight.scheme, weight.dtype), name)
        copied = {ours: theirs for ours, theirs in SAME_BYTES.items() if ours in weight.stored}
        jobs[f"{name}.weight"] = _layer_job(inputs, name, weight.stored, copied)
    if len(kinds) > 1:
        found = ", ".join(f"{name}: {scheme} of {dtype_name(dtype)}" for (scheme, dtype), name in kinds.items())
        raise QuantError(
            f"{inputs.checkpoint.folder} has layers of several kinds ({found}), a conversion has one: "
            "quantize the float checkpoint"
        )
    ((scheme, dtype),) = kinds
    return Converted(_with_copies(inputs, jobs, parts), scheme, dtype, chosen)


def jobs_to_bitsandbytes(
    inputs: Inputs, layers: Mapping[str, torch.Size], scheme: Blockwise, dtype: torch.dtype
) -> Converted:
    """Jobs that make a checkpoint of bitsandbytes.

    Args:
        inputs: of a checkpoint of ours.
        layers: name -> [out, in] of its quantized layers, in model order.
        scheme, dtype: of all of them; dtype of the weights before quantization.

    Raises:
        QuantError: no quantized layers, others than `layers`, and what `to_bitsandbytes` refuses.
    """
    parts = _parts_by_layer(inputs, OUR_PART)
    if not parts:
        raise QuantError(f"{inputs.checkpoint.folder} has no layers that this library quantized: nothing to convert")
    unknown = [name for name in parts if name not in layers]
    if unknown:
        raise QuantError(
            f"{inputs.checkpoint.folder}: {unknown[0]} is quantized, but not one of the quantized_modules of its "
            "config.json: the two do not belong together"
        )
    jobs: dict[str, Job] = {}
    for name, shape in layers.items():
        if name not in parts:
            raise QuantError(
                f"{inputs.checkpoint.folder}: {name} is one of the quantized_modules of its config.json, but not "
                "quantized: the two do not belong together"
            )
        stored = _read_parts(inputs, name, parts[name])
        with _naming(inputs):
            theirs = to_bitsandbytes(name, QuantizedTensor(scheme, shape, dtype, stored))
        copied = {SAME_BYTES[ours]: ours for ours in empty_stored(scheme, shape, "meta") if ours in SAME_BYTES}
        jobs[f"{name}.weight"] = _layer_job(inputs, name, theirs, copied)
    return Converted(_with_copies(inputs, jobs, parts), scheme, dtype, tuple(layers))


@contextmanager
def _naming(inputs: Inputs) -> Iterator[None]:
    """Errors about a tensor say of which checkpoint it is."""
    try:
        yield
    except QuantError as error:
        raise QuantError(f"{inputs.checkpoint.folder}: {error}") from error


def _parts_by_layer(inputs: Inputs, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Layer -> names of its tensors behind the layer's, for the layers that have a part whose name fits `pattern`."""
    tensors = inputs.checkpoint.tensors
    parts: dict[str, list[str]] = {}
    for tensor in tensors:
        match = pattern.fullmatch(tensor)
        if match:
            parts.setdefault(match[1], []).append(tensor.removeprefix(f"{match[1]}."))
    for name, found in parts.items():
        if f"{name}.weight" in tensors:
            found.append("weight")
    return parts


def _read_parts(inputs: Inputs, name: str, parts: list[str]) -> dict[str, Tensor]:
    """The parts by their names behind the layer's, the codes on the meta device."""
    read = {}
    for part in parts:
        stored = inputs[f"{name}.{part}"]
        if part == "weight":
            read[part] = torch.empty(stored.shape, dtype=stored.dtype, device="meta")
        else:
            read[part] = inputs.read(stored.name).view(stored.shape)
    return read


def _layer_job(inputs: Inputs, name: str, made: Mapping[str, Tensor], copied: Mapping[str, str]) -> Job:
    """Write `made` (part -> tensor), into the file that has the layer's codes. copied: those of its parts that are read
    again from the input -> what they are called there.
    """
    file = inputs[f"{name}.weight"].path.name
    outputs = {part: OutputTensor(file, f"{name}.{part}", t.dtype, tuple(t.shape)) for part, t in made.items()}
    constant = {part: tensor for part, tensor in made.items() if part not in copied}

    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        for part, source in copied.items():
            for chunk in inputs.chunks(f"{name}.{source}"):
                yield outputs[part].name, chunk.view(outputs[part].dtype)
        for part, tensor in constant.items():
            yield outputs[part].name, tensor.view(-1)

    return Job(tuple(outputs.values()), produce)


def _with_copies(inputs: Inputs, jobs: Mapping[str, Job], parts: Mapping[str, list[str]]) -> tuple[Job, ...]:
    """The jobs of layers, by the names of their codes, and those that copy what is no part of a layer, in the order of
    the input's bytes.
    """
    spent = {f"{name}.{part}" for name, found in parts.items() for part in found} - jobs.keys()
    tensors = inputs.checkpoint.tensors
    return tuple(
        jobs.get(name) or cast_job(stored, stored.dtype) for name, stored in tensors.items() if name not in spent
    )
