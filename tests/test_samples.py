"""Building the samples anew: an archive that is missing or altered is told with its fix."""

from __future__ import annotations

import pytest

from windrow.samples import build

FIRST = "product_reviews/product_reviews_1.zip"


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot be read"), (b"other", "is not the file")])
def test_an_archive_that_is_missing_or_altered_is_told(tmp_path, monkeypatch, capsys, content, problem):
    if content:
        (tmp_path / FIRST).parent.mkdir()
        (tmp_path / FIRST).write_bytes(content)
    monkeypatch.setattr("sys.argv", ["build", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        build.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert (FIRST in told, problem in told, "Fix:" in told) == (True, True, True)
