"""What a processor computes fast is told by its flags."""

from __future__ import annotations

import pytest

from windrow.engines import device


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("GenuineIntel avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_int8", "bf16"),
        ("GenuineIntel avx512f avx512_bf16 avx512_fp16", "fp32"),
        ("GenuineIntel avx512f avx512_bf16", "bf16"),
        ("AuthenticAMD avx512f avx512_bf16", "bf16"),
        ("AuthenticAMD avx512f avx512_bf16 avx512_fp16", "bf16"),
        ("GenuineIntel avx2 avx512f avx512_vnni", "fp32"),
        ("", "fp32"),
    ],
)
def test_bf16_is_taken_where_its_products_are_faster(flags, precision, monkeypatch):
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags.split()))
    assert device.choose_precision("auto", "cpu") == precision
    assert device.choose_precision("int8", "cpu") == "int8"


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [("sse2 avx2", True), ("sse2 avx2 avx_vnni", False), ("sse2 avx512f avx512_vnni", False), ("asimd", False)],
)
def test_sums_of_bytes_saturate_on_x86_without_vnni(flags, saturates, monkeypatch):
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags.split()))
    assert device.bytes_saturate() == saturates
