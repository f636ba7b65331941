"""The weights at hand against the weights a router was calibrated for."""

import copy

import pytest
import torch

from route.config import Pin
from route.generate import generate
from route.pins import PinMismatch, check_pin, commit_sha, complete, tensor_fingerprint
from route.rules import Router


def test_the_fingerprint_ignores_the_type_and_sees_a_change(aligned):
    print32 = tensor_fingerprint(aligned)
    assert tensor_fingerprint(copy.deepcopy(aligned).bfloat16()) == print32
    assert tensor_fingerprint(copy.deepcopy(aligned).to(torch.float8_e4m3fn)) is None
    changed = copy.deepcopy(aligned)
    with torch.no_grad():
        changed.model.norm.weight[3] += 1
    assert tensor_fingerprint(changed) != print32


def test_it_survives_saving_in_shards(aligned, tmp_path):
    aligned.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert tensor_fingerprint(type(aligned).from_pretrained(tmp_path)) == tensor_fingerprint(
        aligned
    )


def test_half_precision_is_compared_with_itself(base, aligned):
    half, other = copy.deepcopy(aligned).half(), copy.deepcopy(base).half()
    pinned = complete(Pin("tiny/aligned"), half)
    check_pin(pinned, half, "aligned")
    with pytest.raises(PinMismatch, match="its tensors have fingerprint"):
        check_pin(pinned, other, "aligned")


def test_half_precision_and_another_type_settle_what_they_can(aligned):
    """What was rounded to float16 is known in every type; what was not may differ by that."""
    half = copy.deepcopy(aligned).half()
    check_pin(complete(Pin("tiny/aligned"), half), copy.deepcopy(half).float(), "aligned")
    check_pin(complete(Pin("tiny/aligned"), half), copy.deepcopy(half).bfloat16(), "aligned")
    check_pin(complete(Pin("tiny/aligned"), copy.deepcopy(half).float()), half, "aligned")
    small = copy.deepcopy(aligned).bfloat16()
    with torch.no_grad():
        small.model.norm.weight[0] = 1.6e-8  # float16 ends at 6e-8
    known = complete(Pin("tiny/aligned", sha="a" * 40), small)
    check_pin(known, copy.deepcopy(small).float(), "aligned")
    with pytest.warns(UserWarning, match="cannot tell whether the aligned model"):
        check_pin(known, copy.deepcopy(small).half(), "aligned")
    with pytest.raises(PinMismatch, match="loaded from commit b"):
        check_pin(known, loaded_from(copy.deepcopy(small).half(), "b" * 40), "aligned")


def loaded_from(model, sha):
    clone = copy.deepcopy(model)
    clone.config._commit_hash = sha
    return clone


def test_commit_or_tensors_settle_it(base, aligned):
    known = complete(Pin("tiny/aligned", sha="a" * 40), aligned)
    assert known.fingerprint == tensor_fingerprint(aligned)
    check_pin(known, aligned, "aligned")
    check_pin(known, loaded_from(base, "a" * 40), "aligned")  # the commit settles it
    check_pin(known, loaded_from(aligned, "b" * 40), "aligned")  # a later card, the same tensors
    with pytest.raises(PinMismatch, match=r"the aligned model is not the one.*tiny/aligned"):
        check_pin(known, base, "aligned")
    with pytest.raises(PinMismatch, match="loaded from commit b"):
        check_pin(Pin("tiny/aligned", sha="a" * 40), loaded_from(aligned, "b" * 40), "aligned")


def test_a_snapshot_folder_tells_the_commit(aligned, tmp_path):
    folder = tmp_path / "snapshots" / ("c" * 40)
    aligned.save_pretrained(folder)
    assert commit_sha(type(aligned).from_pretrained(folder)) == "c" * 40
    assert commit_sha(aligned) is None


@pytest.mark.parametrize("pinned", [Pin("tiny/base"), Pin("tiny/base", sha="a" * 40)])
def test_nothing_to_compare_is_a_warning(pinned, base):
    with pytest.warns(UserWarning, match="cannot tell whether the base model is tiny/base"):
        check_pin(pinned, base, "base")


def test_swapped_models_are_refused(base, aligned, tokenizer, make_config, batch):
    config = make_config(Router.P, 0.5)
    with pytest.raises(PinMismatch, match="the base model"):
        generate(
            base, **batch, base_model=aligned, tokenizer=tokenizer, config=config, max_new_tokens=1
        )
