"""Critics of these tests are small, and take the path that their structure allows all the same.

What becomes of small critics is tested in test_worth.py.
"""

import pytest

from steadygan.core.gradients import choice


@pytest.fixture(autouse=True, scope="module")
def _any_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "WORTH", 0)
        yield
