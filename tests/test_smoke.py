import json

from windrow import __version__


def test_a_job_scores_every_row_once(windrow, write_job):
    result = windrow("run", write_job(), "--json")
    assert result.returncode == 0, result.stderr
    receipt = json.loads(result.stdout)
    assert (receipt["rows_in"], receipt["rows_published"], receipt["rows_rejected"]) == (5, 5, 0)
    assert sum(receipt["labels"].values()) == 5


def test_the_version_is_told(windrow):
    result = windrow("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"windrow {__version__}\n", "")
