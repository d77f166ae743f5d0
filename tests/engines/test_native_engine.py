"""Our own eight-bit kernels say about what PyTorch says in fp32, family by family, and the same in any company."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from conftest import WORDS
from windrow import Job, run
from windrow.engines import (
    Candidate,
    EnginePlan,
    candidates,
    exporting,
    is_ready,
    native_fit,
    native_library,
    native_weights,
    open_engine,
    open_first,
)
from windrow.engines.device import cpu_flags
from windrow.engines.native_encoder import NativeEncoder
from windrow.engines.native_engine import NativeEngine
from windrow.engines.pooling import POOLINGS
from windrow.engines.probing import probe_windows
from windrow.errors import ExportError, JobError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_tagger

FAMILIES = ["bert", "distilbert", "electra", "roberta", "xlm-roberta"]
SIZES = {"hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 512, "initializer_range": 0.1}
DISTILBERT = {"dim": 192, "n_heads": 6, "hidden_dim": 512, "initializer_range": 0.1}
TEXTS = [
    "good film",
    "the battery was awful and the plot is not lovely " * 9,
    "bad",
    "it was not great, it was awful",
    "the plot " * 130,
    " ".join(WORDS),
] * 3
FIELDS = {
    "name": "native", "source": {"text": "body", "key": "id", "path": "x.csv"}, "task": "sentiment",
    "warehouse": {"url": "duckdb:///w", "table": "t"},
}  # fmt: skip
LACK = native_library.lacking()
EMULATED = Path(__file__).with_name("emulated")
HEADER = zlib.crc32(EMULATED.joinpath("immintrin.h").read_bytes())
EMULATING = ("-O1", "-mavx2", "-mfma", "-I", str(EMULATED), "-Wno-psabi", f"-DEMULATED_BY={HEADER}")
AVX512, AVX2 = native_library.VARIANTS
HERE = {kind.name: replace(kind, unneeded="") for kind in native_library.VARIANTS if {*kind.needed} <= cpu_flags()}
"""The kernels that this machine can run. Without AVX-512, its instructions are carried out one by one, by SIMDe."""
if "avx512" not in HERE and "avx2" in HERE and Path("/usr/include/simde").is_dir():
    HERE["avx512"] = replace(AVX512, needed=AVX2.needed, options=EMULATING)
runs_here = pytest.mark.skipif(LACK is not None, reason=LACK.reason if LACK else "")


@pytest.fixture(scope="module", autouse=True, params=["avx512", "avx2"])
def kernels(request, tmp_path_factory):
    """All tests are run with each of the kernels."""
    if request.param not in HERE and LACK is None:
        pytest.skip(f"neither {request.param} nor SIMDe is here")
    with pytest.MonkeyPatch.context() as patch:
        if request.param in HERE:
            patch.setattr(native_library, "VARIANTS", (HERE[request.param],))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp().parent / "kernels"))
        forget()
        yield request.param
    forget()


def forget():
    """Let what is known of processor, compiler and kernels be found anew."""
    for known in (native_library.library, native_library.lacking, native_library.variant):
        known.cache_clear()


@pytest.fixture(scope="module")
def models(families):
    """Families of sizes that the kernels run."""

    def get(kind, **settings):
        sizes = {**(DISTILBERT if kind == "distilbert" else SIZES), **settings}
        return families(kind, **sizes, **({"embedding_size": 192} if kind == "electra" else {}))

    return get


def plan_for(name="native", head="classify", precision="int8", **more):
    return EnginePlan(name, head, "cpu", precision, 2, **more)


def both(model, head, *given):
    """Return what the kernels and PyTorch make of `TEXTS`."""
    windows = Tokens(model).windows(TEXTS)
    plans = plan_for(head=head), plan_for("torch", head, "fp32")
    return [getattr(open_engine(plan, model), head)(windows, *given) for plan in plans]


def near(found, expected):
    """Hold numbers against those in fp32: about as near as eight bits are, or seven, and nearer than other rows'."""
    error, spread = np.abs(found - expected).mean(), np.abs(np.roll(expected, 1, axis=0) - expected).mean()
    assert found.dtype == np.float32
    assert 0 < error < 0.08 * spread * coarser()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 1 - 0.002 * coarser() ** 2


def coarser():
    """Return by how much steps are wider than those of eight bits."""
    return 127 / native_library.variant().largest


def arrays_of(model, head):
    """Return what the kernels take of a model of Transformers."""
    return native_weights.rounded_model(model, head, native_library.variant().largest)


@runs_here
@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_are_about_those_of_pytorch(models, kind):
    found, expected = both(models(kind), "classify")
    near(found.values, expected.values)
    assert not found.failed


@runs_here
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_two_sentences_are_told_apart(models, kind):
    model = models(kind)
    windows = Tokens(model).pairs(TEXTS[:4], ["a good film", "the battery is bad"], types=True)
    plans = plan_for(head="pairs"), plan_for("torch", "pairs", "fp32")
    found, expected = (open_engine(plan, model).classify(windows).values for plan in plans)
    alike = open_engine(plan_for(head="pairs"), model).classify(replace(windows, types=None)).values
    near(found, expected)
    assert np.abs(alike - expected).mean() > 3 * np.abs(found - expected).mean()


@runs_here
def test_labels_that_are_nearly_tied_are_those_in_fp32(models):
    model = models("bert")
    windows = Tokens(model).windows(TEXTS)
    exact = open_engine(plan_for("torch", precision="fp32"), model).classify(windows).values
    engine = open_engine(plan_for(), model)
    rounding = engine.doubt
    engine.doubt = 0.0
    rounded = engine.classify(windows).values
    leads = np.abs(rounded[:, 0] - rounded[:, 1])
    engine.doubt = float(np.median(leads))
    both_ways, is_near = engine.classify(windows).values, leads < np.median(leads)
    assert 0.2 < rounding / np.sqrt(np.square(np.diff(rounded - exact)).mean()) < 8
    assert 0 < is_near.sum() < len(leads)
    np.testing.assert_array_equal(both_ways[~is_near], rounded[~is_near])
    np.testing.assert_allclose(both_ways[is_near], exact[is_near], atol=1e-5)
    assert (rounded[is_near] != both_ways[is_near]).all()


@runs_here
def test_a_second_look_that_fails_leaves_the_first(models, monkeypatch):
    engine = open_engine(plan_for(), models("bert"))
    windows = Tokens(models("bert")).windows(TEXTS)
    engine.doubt = 0.0
    rounded = engine.classify(windows)
    engine.doubt = 1e9

    look = engine.precise.run

    def fails(ids, mask):
        if ids.shape[1] > 100:
            raise MemoryError
        return look(ids, mask)

    monkeypatch.setattr(engine.precise, "run", fails)
    again, long = engine.classify(windows), windows.lengths > 100
    assert 0 < long.sum() < len(long)
    np.testing.assert_array_equal(again.values[long], rounded.values[long])
    assert (again.values[~long] != rounded.values[~long]).any()
    assert not again.failed


@runs_here
@pytest.mark.parametrize(
    ("head", "settings"), [("embed", {}), ("classify", {"problem_type": "multi_label_classification"})]
)
def test_what_is_no_choice_of_one_label_is_not_looked_at_again(models, head, settings):
    engine = open_engine(plan_for(head=head), models("bert", **settings))
    engine_looks = vars(engine)
    getattr(engine, head)(Tokens(models("bert")).windows(TEXTS))
    assert not engine.doubt
    assert "precise" not in engine_looks


@runs_here
@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_heads_of_one_and_of_several_panels(models, heads):
    found, expected = both(models("bert", num_attention_heads=heads), "classify")
    near(found.values, expected.values)


@runs_here
def test_sizes_of_a_base_model(models):
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "initializer_range": 0.05}
    found, expected = both(models("roberta", **sizes), "classify")
    near(found.values, expected.values)


@runs_here
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_is_about_that_of_pytorch(models, pooling, unit):
    found, expected = both(models("bert"), "embed", pooling, unit)
    near(found.values, expected.values)


@runs_here
def test_logits_of_tokens_are_about_those_of_pytorch(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, **SIZES)
    model = resolve(Job(**{**FIELDS, "task": "entities"}, model=str(folder)))
    windows = Tokens(model).windows(TEXTS)
    plans = [replace(plan, labels=None) for plan in (plan_for(head="tag"), plan_for("torch", "tag", "fp32"))]
    found, expected = (open_engine(plan, model).tag(windows).values for plan in plans)
    assert [len(row) for row in found] == windows.lengths.tolist()
    near(np.concatenate(found), np.concatenate(expected))


@runs_here
@pytest.mark.parametrize("head", ["classify", "embed"])
def test_a_row_says_the_same_in_any_company(models, head):
    model = models("bert")
    engine = open_engine(plan_for(head=head), model)
    together = getattr(engine, head)(Tokens(model).windows(TEXTS)).values
    turned = getattr(engine, head)(Tokens(model).windows(TEXTS[::-1])).values[::-1]
    np.testing.assert_allclose(turned, together, rtol=0, atol=1e-5)  # the head is PyTorch's, in fp32
    for place in range(6):
        alone = getattr(engine, head)(Tokens(model).windows([TEXTS[place]])).values[0]
        np.testing.assert_allclose(alone, together[place], rtol=0, atol=1e-5)


@runs_here
def test_a_rows_states_have_the_same_bits_in_any_company(models):
    encoder = open_engine(plan_for(head="tag"), models("bert")).encoder
    windows = probe_windows(encoder.vocabulary, 300)
    rows = list(range(len(windows.rows)))
    packed = encoder.packed(windows, rows)
    together = np.split(encoder.states(packed), packed.bounds[1:-1].tolist())
    for row in rows:
        assert np.array_equal(encoder.states(encoder.packed(windows, [row])), together[row])


@runs_here
def test_the_last_layer_is_run_for_first_tokens_alone_and_says_the_same(models):
    model = open_engine(plan_for("torch", precision="fp32"), models("bert")).model
    arrays = arrays_of(model, "classify")
    short, whole = (NativeEncoder(arrays, "bert", first_only) for first_only in (True, False))
    windows = probe_windows(short.vocabulary, 300)
    rows = list(range(len(windows.rows)))
    packed = short.packed(windows, rows)
    found, expected = short.states(packed), whole.states(packed)[packed.bounds[:-1]]
    assert found.shape == (len(rows), 192)
    near(found, expected)


@runs_here
def test_queries_of_zeros_attend_to_all_tokens_of_their_row_and_to_no_others(models):
    model = open_engine(plan_for("torch", head="embed", precision="fp32"), models("bert")).model
    for layer in model.encoder.layer:
        for part in layer.attention.self.query.parameters():
            part.data.zero_()
    encoder = NativeEncoder(arrays_of(model, "embed"), "bert", first_only=False)
    windows = probe_windows(encoder.vocabulary, 300)
    for row in range(len(windows.rows)):
        with torch.inference_mode():
            exact = model(torch.from_numpy(windows.window(row))[None].long()).last_hidden_state[0].numpy()
        found = encoder.states(encoder.packed(windows, [row]))
        assert np.abs(found - exact).mean() < 0.03 * coarser() * np.abs(exact).mean()


@runs_here
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [12], [13, 11], [64, 65], [96, 1], [511, 3, 2]])
def test_nothing_is_written_beyond_what_was_asked_for(models, lengths):
    model = open_engine(plan_for("torch", precision="fp32"), models("bert")).model
    made = NativeEncoder(arrays_of(model, "classify"), "bert", first_only=False)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = np.arange(bounds[-1], dtype=np.int64) % made.vocabulary
    positions = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    encoder = ctypes.byref(made.encoder)
    needed = made.kernels.windrow_scratch(encoder, int(bounds[-1]), len(lengths), max(lengths))
    scratch, states = np.full(needed + 4096, 77, np.uint8), np.full((bounds[-1] + 9, 192), 7, np.float32)
    given = [ctypes.c_void_p(part.ctypes.data) for part in (bounds, ids, positions)]
    made.kernels.windrow_encode(
        encoder, len(lengths), *given, 0, *(ctypes.c_void_p(part.ctypes.data) for part in (states, scratch))
    )
    assert (scratch[needed:] == 77).all()
    assert (states[bounds[-1] :] == 7).all()
    assert np.isfinite(states).all()
    np.testing.assert_allclose(states[: bounds[-1]].mean(axis=1), 0, atol=0.5)


@runs_here
def test_weights_that_are_no_numbers_reject_rows_and_a_row_that_is_too_long_says_so(models):
    engine = open_engine(plan_for(), models("bert"))
    windows = Tokens(models("bert")).windows(TEXTS)
    engine.doubt, engine.encoder.positions = 0.0, 100
    made = engine.classify(windows)
    long = set(np.flatnonzero(windows.lengths > 100).tolist())
    assert set(made.failed) == long
    assert all("longer than the model's positions reach" in made.failed[row][1] for row in long)
    engine.encoder.positions = 512
    engine.encoder.head[-1][0][:] = float("nan")
    assert {reason for reason, _ in engine.classify(windows).failed.values()} == {"not_finite"}


@runs_here
def test_kernels_that_give_nonsense_are_refused(models, home, monkeypatch):
    monkeypatch.setattr(native_weights, "balance", lambda states, _: np.where(np.arange(len(states)) % 2, 1e4, 1e-4))
    with pytest.raises(ExportError, match="other outputs in int8 than in fp32 with Windrow's kernels"):
        open_engine(plan_for(), models("bert"))


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
def test_tokens_that_the_model_does_not_know_reject_their_row_alone(models):
    windows = Tokens(models("bert")).windows(TEXTS[:3])
    windows.ids[0] = 10**6
    made = open_engine(plan_for(), models("bert")).classify(windows)
    assert list(made.failed) == [0]
    assert "not in the model's vocabulary" in made.failed[0][1]


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
    with pytest.raises(ExportError, match="do not run on this processor"):
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
