"""What a processor computes fast is told by its flags."""

from __future__ import annotations

import os
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4), ("800000 100000", 4), ("300000 100000", 3), ("50000 100000", 1), (None, 4)]
)
def test_the_cores_granted_are_those_of_quota_and_affinity_together(quota, cores, monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert device.granted_cores.__wrapped__() == cores


def test_a_process_held_to_one_core_uses_one():
    words = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    words += "from windrow.engines.device import granted_cores; print(granted_cores())"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout == "1\n"
