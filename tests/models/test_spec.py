"""What the registry lists is what the specs of the architectures hold."""

import pytest

from tests.models.helpers import BUILDABLE, build
from vlx.errors import ConfigError
from vlx.inputs.region_masking import MASKINGS
from vlx.models.create import new_config
from vlx.models.heads import Head
from vlx.models.spec import CAPABILITIES, ModelSpec, all_specs, load_spec, spec_of
from vlx.objectives.pretraining import OBJECTIVES
from vlx.registry import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_registry_lists_the_verbs_of_the_spec(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert ARCHITECTURES[name].verbs == spec.verbs


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_a_spec_names_what_exists(spec: ModelSpec) -> None:
    assert spec.capabilities <= CAPABILITIES.keys()
    assert spec.input in ("regions", "pixels") and spec.heads
    assert set(spec.pretraining) <= OBJECTIVES.keys()
    assert spec.region_masking in MASKINGS
    assert bool(spec.pretraining) == bool(spec.pretraining_config)


def test_every_capability_is_one_of_some_architecture() -> None:
    assert frozenset().union(*(spec.capabilities for spec in all_specs())) == CAPABILITIES.keys()


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"toy: unknown capabilities \['flight'\]"):
        ModelSpec(name="toy", input="regions", heads=frozenset({"classify"}), capabilities=frozenset({"flight"}))


def test_an_unknown_architecture_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match="model=oskar: expected one of oscar, lxmert, .* oscar"):
        load_spec("oskar")


@pytest.mark.parametrize("name", BUILDABLE)
def test_a_built_model_leads_back_to_its_spec(name: str) -> None:
    assert spec_of(build(name)) is load_spec(name)


@pytest.mark.parametrize("name", BUILDABLE)
def test_only_weights_of_the_head_begin_with_its_prefix(name: str) -> None:
    """A head of another size changes the shapes of its weights alone."""
    spec = load_spec(name)
    small, large = ({key: w.shape for key, w in build(name, Head("classify", n)).state_dict().items()} for n in (2, 5))
    changed = {key for key in small if large[key] != small[key]}
    assert all(map(spec.is_head, changed)) and bool(changed) == bool(spec.head_prefix)


def test_an_architecture_for_import_alone_builds_nothing() -> None:
    with pytest.raises(RuntimeError, match="vle builds no new models"):
        new_config(load_spec("vle"), Head("classify", 2), None, 0, 0)
