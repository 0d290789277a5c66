"""Everything the package names at its top level loads from there, and only that."""

import lit_dcem


def test_every_public_name_loads():
    assert sorted(lit_dcem.__all__) == sorted(lit_dcem._HOMES)
    for name in lit_dcem.__all__:
        assert getattr(lit_dcem, name) is not None
        assert name in dir(lit_dcem)


def test_other_names_are_refused():
    assert not hasattr(lit_dcem, "nothing")
