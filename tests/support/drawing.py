"""Whether MuJoCo can draw here."""

import pytest

from lit_dcem.envs.make import make
from lit_dcem.errors import UsageError


def skip_without_opengl():
    """Skip the test where there is no OpenGL, which the sentence says."""
    envs = make("cheetah-run")
    envs.reset()
    try:
        envs.render(0, 8, 8)
    except UsageError as error:
        pytest.skip(str(error))
