"""Mistakes in products and layers: `quant/kernels`, `quant/native`, `quant/modules.py`, `quant/tensor.py`."""

from tests.mutation.fault import Fault

KERNELS = "tests/unit/test_kernels.py"
GRADIENTS = "tests/unit/test_gradients.py"
CALLS = "tests/unit/native/test_calls.py"
DISPATCH = "tests/unit/native/test_dispatch.py"
INDEPENDENCE = "tests/unit/native/test_independence.py"
BITS = "tests/unit/native/test_bits.py"
MODULES = "tests/unit/test_modules.py"
STATE = "tests/unit/test_module_state.py"
TENSOR = "tests/unit/test_tensor.py"
LINEARS = "tests/unit/test_linears.py"

FAULTS = (
    Fault(
        "gradient-without-the-transpose",
        "kernels/reference.py",
        "dequantize_rows(codes, scales).t()",
        "dequantize_rows(codes, scales)",
        (GRADIENTS,),
    ),
    Fault(
        "product-in-the-dtype-of-the-activations",
        "kernels/reference.py",
        "compute = torch.promote_types(x.dtype, torch.float32)",
        "compute = x.dtype",
        (KERNELS,),
    ),
    Fault(
        "autocast-rounds-the-weight",
        "kernels/reference.py",
        "with torch.autocast(x.device.type, enabled=False):",
        "with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type)):",
        ("tests/unit/test_gradients.py",),
    ),
    Fault(
        "double-quantized-absmax-not-undone",
        "kernels/reference.py",
        "if absmax_scale is not None and absmax_offset is not None:",
        "if absmax_scale is not None and absmax_offset is None:",
        ("tests/unit/test_gradients.py",),
    ),
    Fault(
        "bias-gradient-is-a-mean", "kernels/__init__.py", ".to(compute).sum(0)", ".to(compute).mean(0)", (GRADIENTS,)
    ),
    Fault(
        "bias-gradient-summed-in-16-bit",
        "kernels/__init__.py",
        "compute = torch.promote_types(grad.dtype, torch.float32)",
        "compute = grad.dtype",
        (GRADIENTS,),
    ),
    Fault(
        "gradient-is-lost-past-the-dispatcher",
        "kernels/__init__.py",
        "not torch.is_grad_enabled()\n        and ",
        "",
        (GRADIENTS,),
    ),
    Fault(
        "tensor-subclass-is-not-noticed",
        "kernels/__init__.py",
        "and _PLAIN.issuperset(map(type, operands))",
        "",
        (DISPATCH, KERNELS, "tests/unit/test_observers.py"),
    ),
    Fault(
        "fake-kernel-has-another-shape",
        "kernels/__init__.py",
        "x.new_empty(*x.shape[:-1], codes.shape[0])",
        "x.new_empty(*x.shape[:-1], codes.shape[1])",
        (KERNELS,),
    ),
    Fault(
        "torch-is-picked-in-silence",
        "kernels/cpu.py",
        '"""Whether there are native kernels for x."""\n    return native.reads(x)',
        '"""Whether there are native kernels for x."""\n    return False',
        (DISPATCH,),
    ),
    Fault(
        "fixed-point-of-another-codebook",
        "kernels/cpu.py",
        "FIXED_POINT[codebook], DYNAMIC8_LEVELS",
        'FIXED_POINT["nf4"], DYNAMIC8_LEVELS',
        (BITS, CALLS, "tests/unit/test_integer_error.py"),
    ),
    Fault(
        "bias-dropped-for-a-single-row",
        "native/calls.py",
        "if bias is not None:",
        "if bias is not None and x.numel() > k:",
        (CALLS, INDEPENDENCE, BITS),
    ),
    Fault(
        "strided-activations-read-as-contiguous",
        "native/calls.py",
        "x = x.resolve_neg().contiguous()",
        "x = x.resolve_neg()",
        (CALLS,),
    ),
    Fault(
        "strided-bias-read-as-contiguous",
        "native/calls.py",
        "bias = bias.contiguous() if bias.dtype in DTYPES else bias.float()",
        "bias = bias if bias.dtype in DTYPES else bias.float()",
        (CALLS,),
    ),
    Fault(
        "negated-view-read-as-it-lies",
        "native/calls.py",
        "weight.detach().resolve_neg().contiguous()",
        "weight.detach().contiguous()",
        ("tests/unit/native/test_quantizing.py",),
    ),
    Fault(
        "float64-handed-to-the-kernels",
        "native/calls.py",
        "tensor.dtype in DTYPES\n        and tensor.is_cpu",
        "tensor.is_cpu",
        (DISPATCH, CALLS),
    ),
    Fault(
        "groups-of-absmax-rounded-down",
        "native/calls.py",
        "torch.float32, -(-blocks // 256))",
        "torch.float32, blocks // 256)",
        (CALLS,),
    ),
    Fault(
        "operand-of-another-size-accepted",
        "native/calls.py",
        "and tensor.is_cpu and tensor.numel() == size",
        "and tensor.is_cpu",
        (CALLS,),
    ),
    Fault(
        "not-finite-weight-quantized",
        "native/calls.py",
        "return None if bad else (codes, scales)",
        "return codes, scales",
        (CALLS, "tests/unit/native/test_quantizing.py", "tests/unit/test_int8.py"),
    ),
    Fault(
        "output-on-torch-s-default-device",
        "native/calls.py",
        "y = x.new_empty((*leading, n))",
        "y = torch.empty((*leading, n), dtype=x.dtype)",
        (CALLS, MODULES, KERNELS),
    ),
    Fault(
        "forced-kernels-stay-forced",
        "native/variants.py",
        "        _forced = before\n",
        "        _forced = name\n",
        ("tests/unit/native/test_loading.py", "tests/unit/native/test_independence.py"),
    ),
    Fault(
        "unknown-kernels-are-not-refused",
        "native/variants.py",
        "        _check(asked)\n",
        "",
        (DISPATCH, "tests/unit/native/test_loading.py"),
    ),
    Fault(
        "slow-way-without-a-word",
        "native/variants.py",
        "    if kernels is None:\n        warnings.warn(",
        "    if kernels is None:\n        repr(",
        ("tests/unit/native/test_loading.py",),
    ),
    Fault(
        "codes-are-not-saved",
        "modules.py",
        "self.register_buffer(name, tensor)",
        "self.register_buffer(name, tensor, persistent=False)",
        (STATE,),
    ),
    Fault(
        "forward-changes-the-state",
        "modules.py",
        "codes = self.weight.view(self.out_features, self.in_features)",
        "codes = self.weight = self.weight.view(self.out_features, self.in_features)",
        (STATE, MODULES, "tests/property/test_purity.py"),
    ),
    Fault(
        "state-is-copied-by-half",
        "modules.py",
        "for name, tensor in quantized.stored.items():",
        "for name, tensor in [*quantized.stored.items()][:1]:",
        (MODULES,),
    ),
    Fault(
        "bias-is-copied-instead-of-shared",
        "modules.py",
        "layer.bias = parts.bias",
        "layer.bias = nn.Parameter(parts.bias.detach().clone()) if parts.bias is not None else None",
        (MODULES, STATE),
    ),
    Fault(
        "half-narrows-the-scales",
        "modules.py",
        "moved if moved.dtype == tensor.dtype else tensor.to(moved.device)",
        "moved",
        (STATE,),
    ),
    Fault(
        "dtype-does-not-follow-half",
        "modules.py",
        '        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype\n',
        "",
        (STATE,),
    ),
    Fault(
        "codes-of-another-codebook-are-loaded",
        "modules.py",
        "and tag is not None and tuple",
        "and tag is None and tuple",
        (STATE,),
    ),
    Fault(
        "float-weight-is-loaded-as-codes",
        "modules.py",
        "loaded is not None and loaded.dtype != tensor.dtype",
        "loaded is not None and loaded.dtype == torch.bool",
        ("tests/unit/test_module_construction.py",),
    ),
    Fault(
        "training-flag-is-lost", "modules.py", "return layer.train(linear.training)", "return layer", (MODULES, STATE)
    ),
    Fault(
        "autocast-is-ignored",
        "modules.py",
        "return x.to(torch.get_autocast_dtype(device))",
        "return x",
        (MODULES, KERNELS),
    ),
    Fault(
        "wrong-width-is-not-refused",
        "modules.py",
        "x.dim() == 0 or x.shape[-1] != self.in_features",
        "x.dim() == 0",
        (MODULES,),
    ),
    Fault(
        "scale-in-place-of-the-offset",
        "modules.py",
        "self.weight_absmax_offset if double else None",
        "self.weight_absmax_scale[0] if double else None",
        (MODULES,),
    ),
    Fault(
        "frozen-weight-becomes-trainable",
        "linears.py",
        "requires_grad=trainable",
        "requires_grad=True",
        (LINEARS, MODULES),
    ),
    Fault(
        "conv1d-is-not-transposed",
        "linears.py",
        "return weight.t() if _is_conv1d(layer_type) else weight",
        "return weight",
        (LINEARS,),
    ),
    Fault(
        "subclass-counts-as-linear",
        "linears.py",
        "(type(module) is nn.Linear or",
        "(isinstance(module, nn.Linear) or",
        (LINEARS, "tests/unit/test_selection.py"),
    ),
    Fault("dequantizing-overflows-to-infinity", "tensor.py", "weight.clamp_(-largest, largest)", "pass", (TENSOR,)),
    Fault(
        "scale-and-offset-exchanged",
        "tensor.py",
        'names = ("weight_absmax", "weight_absmax_scale", "weight_absmax_offset")',
        'names = ("weight_absmax", "weight_absmax_offset", "weight_absmax_scale")',
        (TENSOR,),
    ),
    Fault("bytes-are-elements", "tensor.py", "tensor.numel() * tensor.element_size()", "tensor.numel()", (TENSOR,)),
    Fault("gradient-history-is-kept", "tensor.py", "    weight = weight.detach()\n", "", (TENSOR, MODULES)),
    Fault(
        "empty-scales-are-as-many-as-columns",
        "tensor.py",
        "torch.empty(shape[0], dtype=torch.float32",
        "torch.empty(shape[1], dtype=torch.float32",
        (TENSOR, MODULES),
    ),
)
