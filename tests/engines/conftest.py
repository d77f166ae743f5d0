"""What tests of engines share."""

import pytest

from native_kernels import DISTILBERT, SIZES


@pytest.fixture(scope="module")
def models(families):
    """Families of sizes that the kernels run."""

    def get(kind, **settings):
        sizes = {**(DISTILBERT if kind == "distilbert" else SIZES), **settings}
        return families(kind, **sizes, **({"embedding_size": 192} if kind == "electra" else {}))

    return get
