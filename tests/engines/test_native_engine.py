"""Engine ``native``: where it is offered, how its kernels and weights are made and kept, and what runs in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors import SafetensorError

from native_kernels import FIELDS, LACK, SIZES, TEXTS, forget, plan_for, runs_here, using
from windrow import Job, run
from windrow.engines import (
    Candidate,
    candidates,
    exporting,
    is_ready,
    native_fit,
    native_library,
    open_engine,
    open_first,
)
from windrow.engines.native_engine import NativeEngine
from windrow.errors import ExportError, JobError
from windrow.models.tokens import Tokens


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory):
    """Those that the processor runs itself, kept for the tests alone."""
    if LACK is None:
        with using(native_library.variant().name, tmp_path_factory.getbasetemp().parent / "kernels"):
            yield
    else:
        yield


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "deberta-v2"}, "models of type deberta-v2"),
        ({"hidden_size": 48}, "sizes 48 and 512 are no multiples of 64"),
        ({"hidden_act": "relu"}, "its activation is relu"),
        ({"num_attention_heads": 12}, "heads of size 16"),
        ({"position_embedding_type": "relative_key"}, "its positions are not absolute"),
        ({"embedding_size": 32}, "its embeddings have another size"),
    ],
)
def test_what_the_kernels_do_not_run_is_told_and_not_offered(change, told, monkeypatch):
    config = {"model_type": "bert", "hidden_act": "gelu", **SIZES}
    monkeypatch.setattr(native_library, "lacking", lambda: None)
    assert Candidate("native", "int8") in candidates("classify", "cpu", "auto", "auto", 10**6, config)
    assert told in native_fit.unfit({**config, **change})
    assert Candidate("native", "int8") not in candidates("classify", "cpu", "auto", "auto", 10**6, {**config, **change})


@pytest.mark.parametrize(
    ("precision", "tiles", "texts", "first"),
    [
        ("int8", False, 400, "native"),
        ("int8", False, 399, "openvino"),
        ("int8", True, 400, "openvino"),
        ("auto", False, 400, "openvino"),
        ("fp32", False, 400, "openvino"),
    ],
)
def test_the_rule_takes_it_for_many_texts_in_int8_where_no_tiles_are(precision, tiles, texts, first, monkeypatch):
    monkeypatch.setattr(native_library, "lacking", lambda: None)
    monkeypatch.setattr("windrow.engines.fitting.has_tiles", lambda: tiles)
    config = {"model_type": "bert", "hidden_act": "gelu", **SIZES}
    assert candidates("classify", "cpu", "auto", precision, texts, config)[0].engine == first


def test_a_pilot_tries_it_before_engines_that_are_slower(monkeypatch):
    """What is slower than one before it is given up, and leaves its time to the others."""
    monkeypatch.setattr(native_library, "lacking", lambda: None)
    config = {"model_type": "bert", "hidden_act": "gelu", **SIZES}
    found = candidates("classify", "cpu", "auto", "auto", 10**6, config)
    assert list(dict.fromkeys(one.engine for one in found))[:2] == ["openvino", "native"]
    assert found[1] == Candidate("native", "int8")


def test_few_texts_in_int8_run_in_it_where_openvino_is_not_installed(monkeypatch):
    monkeypatch.setattr(native_library, "lacking", lambda: None)
    monkeypatch.setattr("windrow.engines.fitting.has_tiles", lambda: False)
    monkeypatch.setattr("windrow.engines.fitting.find_spec", lambda name: None if name == "openvino" else name)
    config = {"model_type": "bert", "hidden_act": "gelu", **SIZES}
    assert candidates("classify", "cpu", "auto", "int8", 1, config)[0].engine == "native"


def test_few_texts_in_int8_run_in_it_where_its_weights_are_rounded_already(monkeypatch):
    monkeypatch.setattr(native_library, "lacking", lambda: None)
    monkeypatch.setattr("windrow.engines.fitting.has_tiles", lambda: False)
    config = {"model_type": "bert", "hidden_act": "gelu", **SIZES}
    assert candidates("classify", "cpu", "auto", "int8", 1, config, lambda _: True)[0].engine == "native"
    assert candidates("classify", "cpu", "auto", "int8", 1, config, "openvino".__eq__)[0].engine == "openvino"
    assert candidates("classify", "cpu", "auto", "fp32", 1, config, lambda _: True)[0].engine == "openvino"


@runs_here
def test_another_architecture_head_or_precision_is_refused(models, monkeypatch):
    with pytest.raises(ExportError, match=r"cannot run model .*models of type deberta"):
        open_engine(plan_for(), models("deberta"))
    for changed in ({"head": "next"}, {"precision": "fp32"}):
        with pytest.raises(JobError, match="runs encoders on a CPU in int8"):
            NativeEngine(replace(plan_for(), **changed), models("bert"))


def test_a_worker_that_cannot_run_it_takes_openvino_in_int8(models, monkeypatch):
    monkeypatch.setattr(
        native_library, "lacking", lambda: native_library.Lack("its kernels are for others", "leave engine out")
    )
    engine = open_first(plan_for(), models("bert"), "auto")
    assert (engine.plan.engine, engine.plan.precision) == ("openvino", "int8")
    assert engine.plan.notes == [
        "planned: native; ran: openvino; why: Engine 'native' cannot run here: its kernels are for others"
    ]
    with pytest.raises(JobError, match=r"cannot run here: its kernels are for others\.\n.*leave engine out"):
        open_first(plan_for(), models("bert"), "native")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No kernels are there yet, and nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    forget()
    yield tmp_path / "cache" / "windrow"
    forget()


@runs_here
def test_kernels_are_made_once_and_kept(fresh):
    native_library.library()
    (file,) = fresh.iterdir()
    made = file.stat().st_mtime_ns
    native_library.library.cache_clear()
    native_library.library()
    assert [kept.stat().st_mtime_ns for kept in fresh.iterdir()] == [made]
    assert fresh.stat().st_mode & 0o077 == 0


@runs_here
def test_without_a_compiler_it_is_not_offered_and_says_what_to_install(fresh, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(native_library, "find_spec", lambda _: None)
    assert native_library.lacking().reason == "no C compiler is here to make its kernels"
    with pytest.raises(ExportError, match=r"No C compiler.*\n.*apt-get install gcc.*windrow\[native\]"):
        native_library.library()
    assert not fresh.exists()


@runs_here
@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("echo 'no room left' >&2; exit 1", "cannot compile .*: no room left"),
        ("exit 0", "cannot compile .*exit status 0"),
    ],
)
def test_a_compiler_that_fails_is_quoted(fresh, monkeypatch, tmp_path, program, told):
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n{program}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(ExportError, match=told):
        native_library.library()
    assert list(fresh.iterdir()) == []


@runs_here
def test_a_folder_that_cannot_be_written_is_named(fresh):
    fresh.parent.write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"cannot be made under .*\n.*XDG_CACHE_HOME"):
        native_library.library()


@runs_here
def test_a_broken_file_is_named(fresh):
    fresh.mkdir(parents=True)
    native_library._places(native_library.variant())[-1].write_bytes(b"no library")
    with pytest.raises(ExportError, match=r"cannot be loaded: .*\n.*delete"):
        native_library.library()


def test_other_processors_are_told(monkeypatch, fresh):
    monkeypatch.setattr(native_library, "cpu_flags", lambda: frozenset({"sse4_2"}))
    assert "AVX2 or AVX-512 VNNI" in native_library.lacking().reason
    with pytest.raises(ExportError, match="cannot run here: its kernels are for x86-64"):
        native_library.library()
    assert Candidate("native", "int8") not in candidates("classify", "cpu", "auto", "auto", 10**6, SIZES)


@runs_here
def test_weights_are_rounded_once_and_say_the_same_again(models, home, monkeypatch):
    windows = Tokens(models("bert")).windows(TEXTS)
    first = open_engine(plan_for(), models("bert")).classify(windows).values
    files = {file.name for file in (home / "exports").rglob("*.*")}
    monkeypatch.setattr(exporting, "export", None)
    assert (open_engine(plan_for(), models("bert")).classify(windows).values == first).all()
    assert {"encoder.safetensors", "model.bin"} < files
    assert is_ready(plan_for(), models("bert"), "native")
    assert not is_ready(plan_for(head="tag"), models("bert"), "native")


@runs_here
def test_an_export_that_was_cut_short_is_made_anew(models, home):
    windows = Tokens(models("bert")).windows(TEXTS)
    first = open_engine(plan_for(), models("bert")).classify(windows).values
    (file,) = home.rglob("encoder.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    assert (open_engine(plan_for(), models("bert")).classify(windows).values == first).all()


@runs_here
def test_weights_that_are_not_what_was_written_are_named(models, home):
    open_engine(plan_for(), models("bert"))
    (file,) = home.rglob("encoder.safetensors")
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(ExportError, match=r"encoder.safetensors' cannot be read: .*\n.*remove the folder"):
        open_engine(plan_for(), models("bert"))


@runs_here
def test_a_disk_that_is_full_is_told(models, home, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr("windrow.engines.native_export.save_file", full)
    with pytest.raises(ExportError, match=r"cannot be written under .*No space left.*\n.*free some space"):
        open_engine(plan_for(), models("bert"))
    assert not list((home / "exports").iterdir())


@runs_here
@pytest.mark.parametrize("missing", [True, False])
def test_labels_are_looked_up_in_pytorch_without_openvino_or_its_export(models, home, monkeypatch, missing):
    def cannot(*_):
        raise ValueError("no such operator")

    if missing:
        monkeypatch.setattr("windrow.engines.native_engine.find_spec", lambda _: None)
    else:
        monkeypatch.setattr("windrow.engines.openvino_export._write", cannot)
    windows = Tokens(models("bert")).windows(TEXTS)
    engine = open_engine(plan_for(), models("bert"))
    engine.doubt = 1e9
    exact = open_engine(plan_for("torch", precision="fp32"), models("bert")).classify(windows).values
    np.testing.assert_allclose(engine.classify(windows).values, exact, atol=1e-5)
    assert engine.precise.plan.engine == "torch"
    told = "planned: labels nearly tied in openvino; ran: these in torch; why: "
    assert [note.startswith(told) for note in engine.plan.notes] == ([] if missing else [True])
    engine.close()


@runs_here
def test_a_second_run_imports_neither_pytorch_nor_transformers(home, tmp_path, models):
    """As a task of Airflow's is: each run in a process of its own; all labels are looked up in fp32."""
    (tmp_path / "x.csv").write_text("id,body\n0,good film\n1,bad\n2,phone\n")
    script = (
        "import json, sys; from windrow import Job, run; from windrow.engines import native_engine, native_library; "
        f"from windrow.engines.native_library import Variant; native_library.VARIANTS = {native_library.VARIANTS!r}; "
        "native_engine._moved_leads = lambda *_: 1e9; receipt = run(Job(**json.loads(sys.argv[1]))); "
        "print(receipt.engine, receipt.texts_scored, *sorted({'torch', 'transformers'} & set(sys.modules)))"
    )

    def told(name, **fields):
        asked = {
            **FIELDS, "source": {"text": "body", "key": "id", "path": str(tmp_path / "x.csv")}, "precision": "int8",
            "warehouse": {"url": f"duckdb:///{tmp_path / name}.duckdb", "table": "t"}, "store": str(tmp_path / name),
            "model": str(models("bert").folder), **fields,
        }  # fmt: skip
        command = [sys.executable, "-c", script, json.dumps(asked)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert told("one", engine="native") == ["native", "3", "torch", "transformers"]
    assert told("two") == ["native", "3"]


@runs_here
def test_a_job_in_int8_runs_in_it_and_runs_again_for_nothing(home, tmp_path, models, monkeypatch):
    monkeypatch.setattr("windrow.engines.fitting.NATIVE_ABOVE_TEXTS", 0)
    (tmp_path / "x.csv").write_text("id,body\n0,good film\n1,bad\n2,phone\n")
    fields = {
        **FIELDS, "source": {"text": "body", "key": "id", "path": str(tmp_path / "x.csv")},
        "warehouse": {"url": f"duckdb:///{tmp_path / 'w.duckdb'}", "table": "t"},
    }  # fmt: skip
    job = Job(**fields, model=str(models("bert").folder), precision="int8")
    first, second = run(job), run(job)
    assert (first.engine, first.precision, first.texts_scored) == ("native", "int8", 3)
    assert (second.texts_scored, second.texts_reused) == (0, 3)


@runs_here
def test_an_image_has_it_beside_the_source_and_needs_no_compiler(fresh, tmp_path, monkeypatch):
    sources = tuple(tmp_path / file.name for file in native_library.SOURCES)
    for copy, source in zip(sources, native_library.SOURCES, strict=True):
        copy.write_bytes(source.read_bytes())
    monkeypatch.setattr(native_library, "SOURCES", sources)
    native_library.build_beside_source()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(native_library, "find_spec", lambda _: None)
    assert native_library.lacking() is None
    assert native_library.library()._name == str(next(tmp_path.glob("encoder-*.so")))
    assert not fresh.exists()


@runs_here
@pytest.mark.skipif(find_spec("ziglang") is None, reason="Zig's package is not installed")
def test_zigs_compiler_will_do(fresh, monkeypatch):
    monkeypatch.setattr(native_library, "_COMPILERS", ())
    assert native_library.library().windrow_scratch
