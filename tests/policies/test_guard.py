"""What a user's policy returns or raises: taken with an exact meaning, or refused in one line that names it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from esd.config.tables import parse
from esd.errors import EsdError, RunError, UsageError
from esd.lockstep.policies import make_batch_policy
from esd.policies.base import Interface, LoadsPieces, Traceable
from esd.policies.guard import unguarded
from esd.policies.registry import make_policy

BAD = "tests.helpers.bad_policies"
SEEN = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
BOX = Interface(4, 6, True, "Box(6,)")
CHOICE = Interface(4, 2, False, "Discrete(2)")


def policy(name: str, interface: Interface = BOX, version: int = 2, /, **kwargs: Any) -> Any:
    """A user's policy, ready for its first step."""
    table = {"policy": {"kind": f"{BAD}:{name}", "kwargs": kwargs}}
    made = make_policy(parse(table, "test").policy, interface, version)
    made.load(made.initial_parameters(0))
    made.reset(0)
    return made


def refused(*words: str) -> Any:
    """One line, not too long, with these words."""

    class Refused:
        def __enter__(self) -> None:
            self.raises = pytest.raises(EsdError)
            self.info = self.raises.__enter__()

        def __exit__(self, *error: Any) -> bool:
            done = bool(self.raises.__exit__(*error))
            text = str(self.info.value)
            assert "\n" not in text
            assert len(text) <= 1000
            assert text.startswith("policy.kind = 'tests.helpers.bad_policies:")
            for word in words:
                assert word in text, text
            return done

    return Refused()


def test_a_right_policy_is_left_alone_and_its_names_can_be_reached() -> None:
    made = policy("Linear")
    for _ in range(3):
        np.testing.assert_array_equal(made.act(SEEN), SEEN @ unguarded(made).w)
    assert made.sizes == (4, 6)


WRONG_OUTPUTS = {
    "np.zeros(3, np.float32)": "act returned 3 numbers, but the environment's actions need 6 (Box(6,))",
    "np.zeros(20_000, np.float32)": "act returned 20000 numbers, but the environment's actions need 6",
    "np.zeros(0, np.float32)": "act returned 0 numbers",
    "np.float32(1)": "act returned a float32, expected float32 [6] as a numpy array",
    "np.zeros((1, n), np.float32)": "act returned float32 [1, 6], expected float32 [6]; end it with .reshape(-1)",
    "np.zeros(n)": "act returned float64 [6], expected float32 [6]; end it with .astype(np.float32)",
    "np.zeros(n, int)": "act returned int64 [6]",
    "np.zeros(n, bool)": "act returned bool [6]",
    "np.zeros(n, complex)": "act returned complex128 [6], expected float32 [6]",
    "np.zeros(n, '>f4')": "act returned >f4 [6]",
    "np.zeros(n, object)": "act returned object [6]",
    "np.ma.masked_array(np.zeros(n, np.float32))": "act returned a masked array of shape (6,)",
    "[0.0] * n": "act returned a list of 6",
    "None": "act returned None (is a return missing?)",
    "{'a': 1}": "act returned a dict",
    "'left'": "act returned 'left' (str)",
    "10 ** 5000": "act returned a int",
    "1j": "act returned 1j (complex)",
    "decimal.Decimal(1)": "act returned a Decimal",
    "torch.zeros(n)": "act returned a torch.Tensor (end it with .numpy())",
    "np.full(n, np.nan, np.float32)": "act returned nan for the first observation, which is finite",
    "np.full(n, -np.inf, np.float32)": "act returned -inf for the first observation",
}


@pytest.mark.parametrize("what", WRONG_OUTPUTS)
def test_outputs_that_are_not_what_was_asked_for_are_named(what: str) -> None:
    made = policy("Returns", what=what)
    with refused(WRONG_OUTPUTS[what]):
        made.act(SEEN)


@pytest.mark.parametrize(
    ("interface", "what", "message"),
    [
        (CHOICE, "np.zeros(1, np.float32)", "1 number, but the environment's actions need 2 (Disc"),
        (CHOICE, "np.zeros(1, np.float32)", "(Discrete(2), one output for each choice)"),
        (
            Interface(4, 5, False, "MultiDiscrete([2, 3])"),
            "np.zeros(2, np.float32)",
            "2 numbers, but the environment's actions need 5 (MultiDiscrete([2, 3]), one output for each choice of "
            "each action)",
        ),
    ],
)
def test_a_single_logit_for_two_choices_has_its_own_hint(
    interface: Interface, what: str, message: str
) -> None:
    made = policy("Returns", interface, what=what)
    with refused(message):
        made.act(SEEN)


def test_every_step_is_looked_at_not_only_the_first() -> None:
    """Whoever kept hold of ``act`` before the first step is guarded as well."""
    made = policy("Returns", what="np.zeros(n, np.float32)")
    act = made.act
    for take in (act, made.act):
        unguarded(made).what = lambda: np.zeros(6, np.float32)
        take(SEEN)
        unguarded(made).what = lambda: np.zeros(5, np.float32)
        with pytest.raises(RunError, match=r"act returned 5 numbers"):
            take(SEEN)


def test_a_member_whose_outputs_are_not_finite_later_fails_alone() -> None:
    made = policy("Returns", what="np.zeros(n, np.float32)")
    made.act(SEEN)
    unguarded(made).what = lambda: np.full(6, np.nan, np.float32)
    assert np.isnan(made.act(SEEN)).all()


def test_the_observation_is_not_blamed_on_the_policy() -> None:
    made = policy("Linear")
    assert np.isnan(made.act(np.full(4, np.nan, np.float32))).all()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("np.zeros(size)", "returned float64 [24], expected float32 [24], as many as layout has; end it with .astype"),
        ("np.zeros(size + 1, np.float32)", "returned float32 [25], expected float32 [24]"),
        ("np.zeros((1, size), np.float32)", "returned float32 [1, 24]"),
        ("[0.0] * size", "returned a list of 24"),
        ("None", "returned None (is a return missing?)"),
        ("np.full(size, np.nan, np.float32)", "returned nan among its numbers"),
        ("np.full(size, 1e39).astype(np.float32)", "returned inf among its numbers"),
        ("np.random.default_rng().random(size, np.float32)", "gave two results for the seed 0"),
        ("1 / 0", "initial_parameters raised ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_initial_parameters_that_no_run_can_start_from_are_named(what: str, message: str) -> None:
    with refused(message):
        policy("Starts", what=what)


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("layout", "{'w': (4, 6)}", "layout is a dict, expected an esd.evolution.layout.Layout"),
        ("layout", "None", "layout is None"),
        ("layout", "Layout({})", "it has no parameters to evolve"),
        ("layout", "Layout({'w': (0, 3)})", "it has no parameters"),
        ("layout", "Layout({'w': (4.0, 6)})", "layout has the shapes {'w': (4.0, 6)}"),
        ("layout", "Layout({'w': 24})", "layout has the shapes {'w': 24}"),
        ("squashed", "'no'", "squashed is 'no' (str), expected True"),
        ("squashed", "lambda: True", "squashed is a function"),
    ],
)
def test_attributes_that_are_not_what_they_must_be_are_named(
    name: str, what: str, message: str
) -> None:
    with refused(message):
        policy("Has", name=name, what=what)


ERRORS = {
    "ValueError('a\\nb')": "ValueError: a b",
    "KeyError('gain')": "KeyError: 'gain'",
    "AssertionError()": "AssertionError",
    "SystemExit(3)": "SystemExit: 3",
    "GeneratorExit()": "GeneratorExit",
    "StopIteration()": "StopIteration",
    "RecursionError('x' * 10_000)": "RecursionError: xxx",
    "OSError(28, 'No space left on device')": "OSError: [Errno 28] No space left on device",
    "OddError()": "OddError: its message can't be formatted: RuntimeError",
    "UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'invalid start byte')": "UnicodeDecodeError",
    "ValueError('\\x1b[31mred\\x00')": "ValueError: \\x1b[31mred\\x00",
    "ExceptionGroup('two', [ValueError(1), KeyError(2)])": "ExceptionGroup: two (2 sub-exceptions)",
}


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("where", ["__init__", "initial_parameters", "load", "reset", "act"])
def test_whatever_a_policy_raises_becomes_one_line_with_its_place(where: str, what: str) -> None:
    call = "building it" if where == "__init__" else where
    with refused(f"{call} raised {ERRORS[what]}", "(bad_policies.py, line "):
        policy("Raises", where=where, what=what).act(SEEN)


def test_the_users_error_is_kept_as_the_cause() -> None:
    with pytest.raises(UsageError) as caught:
        policy("Raises", where="act", what="ZeroDivisionError('mine')").act(SEEN)
    assert repr(caught.value.__cause__) == "ZeroDivisionError('mine')"


def test_a_later_failure_is_one_of_the_run() -> None:
    made = policy("Raises", where="act", what="ValueError(1)", after=1)
    made.act(SEEN)
    with pytest.raises(RunError, match=r"act raised ValueError: 1 \(bad_policies.py, line"):
        made.act(SEEN)


@pytest.mark.parametrize("where", ["__init__", "initial_parameters", "load", "reset", "act"])
def test_ctrl_c_is_not_swallowed(where: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        policy("Raises", where=where, what="KeyboardInterrupt()").act(SEEN)


def test_a_run_of_the_first_format_goes_on_with_what_it_could_do() -> None:
    outputs = policy("Returns", BOX, 1, what="np.ones(n)").act(SEEN)
    assert outputs.dtype == np.float64
    starts = policy("Starts", BOX, 1, what="np.zeros(size)")
    assert starts.initial_parameters(0).dtype == np.float64
    with refused("act returned 3 numbers"):
        policy("Returns", BOX, 1, what="np.zeros(3)").act(SEEN)


def test_a_compiled_step_of_the_wrong_size_never_runs() -> None:
    with refused("its compiled step returned 2 numbers, but the environment's actions need 6"):
        policy("ShortStep")


def test_settings_that_check_themselves_are_heard() -> None:
    table = {"policy": {"kind": f"{BAD}:Picky", "keep": 3}}
    with refused("reading its settings PickySettings raised ValueError: keep is a share (bad_"):
        make_policy(parse(table, "test").policy, BOX)


RIGHT = {"activities": "[np.zeros(4), np.zeros(6)]", "weights": "[np.zeros((4, 6))]"}


def test_the_inside_of_a_policy_is_recorded_as_it_is() -> None:
    made = policy_with_inside(**RIGHT)
    assert isinstance(made, Traceable)
    assert [layer.shape for layer in made.activities()] == [(4,), (6,)]
    assert [layer.shape for layer in made.weights()] == [(4, 6)]


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("activities", "None", "activities returned None (is a return missing?), expected a list"),
        (
            "activities",
            "np.zeros(3)",
            "activities returned float64 [3], expected a list of float32",
        ),
        (
            "activities",
            "[[1.0]]",
            "activities returned a list of 1, expected a list of float32 arra",
        ),
        ("activities", "[np.zeros((1, 3))]", "arrays with 1 axis"),
        ("weights", "[np.zeros(3)]", "arrays with 2 axes"),
        ("weights", "1 / 0", "weights raised ZeroDivisionError: division by zero"),
        ("weights", "[np.zeros((2, np.random.randint(10**9) % 1000))]", "they must stay the same"),
    ],
)
def test_an_inside_that_cannot_be_recorded_is_named(name: str, what: str, message: str) -> None:
    made = policy_with_inside(**{**RIGHT, name: what})
    with refused(message):
        for _ in range(4):
            getattr(made, name)()


def test_a_piece_that_is_not_taken_is_named() -> None:
    made = policy_with_inside(**RIGHT)
    assert isinstance(made, LoadsPieces)
    made.load_piece(0, np.zeros(4, np.float32))
    with refused("load_piece raised IndexError: too far (bad_policies.py, line "):
        made.load_piece(4, np.zeros(4, np.float32))


def policy_with_inside(**kwargs: str) -> Any:
    return policy("Inside", **kwargs)


# torch modules


@pytest.mark.parametrize(
    "what",
    ["y", "y[None]", "y[:, None]", "y.reshape(2, 3)", "torch.nn.Parameter(y.clone(), False)"],
)
def test_a_tensor_of_the_right_number_is_taken_in_its_order(what: str) -> None:
    made = policy("Module", what=what)
    module = unguarded(made).module
    expected = module.linear(torch.from_numpy(SEEN)).detach().numpy()
    for _ in range(5):
        np.testing.assert_array_equal(made.act(SEEN), expected)


def test_a_scalar_is_one_output() -> None:
    made = policy("Module", Interface(4, 1, False, "Box(1,)"), what="y.sum()")
    assert made.act(SEEN).shape == (1,)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("y[:3]", "forward returned 3 numbers, but the environment's actions need 6 (Box(6,))"),
        ("torch.zeros(20_000)", "forward returned 20000 numbers"),
        ("y.sum()", "forward returned 1 number,"),
        ("(y, None)", "forward returned a tuple of 2, expected a float32 tensor; return the outputs alone, and keep"),
        ("[y]", "forward returned a list of 1"),
        ("{'action': y}", "forward returned a dict"),
        ("None", "forward returned None (is a return missing?)"),
        ("1.5", "forward returned 1.5 (float)"),
        ("y.numpy()", "forward returned float32 [6], expected a float32 tensor; leave out .numpy()"),
        ("torch.distributions.Normal(y, 1.0)", "forward returned a torch Normal, expected a float32 tensor; return"),
        ("torch.distributions.Categorical(logits=y)", "return its logits or its mean"),
        ("y.long()", "forward returned int64 [6], expected float32; end it with .float()"),
        ("y > 0", "forward returned bool [6]"),
        ("y.double()", "forward returned float64 [6]"),
        ("y.half()", "forward returned float16 [6]"),
        ("y.bfloat16()", "forward returned bfloat16 [6]"),
        ("y + 1j", "forward returned complex64 [6], expected float32"),
        ("y.to('meta')", "forward returned a tensor on meta, expected an ordinary one on the cpu"),
        ("y.to_sparse()", "forward returned a tensor on torch.sparse_coo"),
        ("y * float('nan')", "forward returned nan for the first observation"),
        ("y @ y[:3]", "forward, given an observation of shape [4], raised RuntimeError: "),
        ("self.nothing", "raised AttributeError: 'Module' object has no attribute 'nothing'"),
    ],
)  # fmt: skip
def test_what_forward_returns_is_taken_exactly_or_refused(what: str, message: str) -> None:
    made = policy("Module", what=what)
    with refused(message):
        made.act(SEEN)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nn.Conv2d(1, n, 3)", "forward, given an observation of shape [4], raised RuntimeError: Expected 3D"),
        ("nn.Conv2d(1, n, 3)", "layers that need a batch axis or the shape of a picture can reshape it first"),
        ("nn.Sequential(nn.BatchNorm1d(seen), nn.Linear(seen, n))", "expected 2D or 3D input (got 1D input)"),
        ("nn.LSTM(seen, n)", "forward, given an observation of shape [4], raised"),
        ("nn.Linear(seen + 1, n)", "mat1 and mat2 shapes cannot be multiplied"),
        ("Differentiated(seen, n)", "forward runs without autograd: compute gradients with torch.func.grad"),
    ],
)  # fmt: skip
def test_an_error_of_torchs_comes_with_the_shape_of_the_observation(
    what: str, message: str
) -> None:
    made = policy("Built", what=what)
    with refused(message):
        made.act(SEEN)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        (
            "KeptInLists",
            {"what": "layers"},
            "kept is a plain list with a Linear in it, which would not evolve; use a torch.nn.ModuleList",
        ),
        (
            "KeptInLists",
            {"what": "parameters"},
            "plain dict with a Parameter in it, which would not evolve; use a torch.nn.ParameterDict",
        ),
        ("Built", {"what": "nn.ReLU()"}, "it has no parameters to evolve"),
        ("Frozen", {"which": ""}, "all its parameters are frozen (requires_grad=False)"),
        ("Built", {"what": "nn.LazyLinear(n)"}, "its parameter layers.weight has no shape before the first forward"),
        ("Built", {"what": "nn.Linear(seen, n).half()"}, "layers.weight is float16, but h is float32"),
        ("Built", {"what": "nn.Linear(seen, n).bfloat16()"}, "layers.weight is bfloat16"),
        ("Built", {"what": "nn.Linear(seen, n, dtype=torch.complex64)"}, "layers.weight is complex64"),
        ("Built", {"what": "nn.Linear(seen, n, device='meta')"}, "layers.weight is on meta, expected an ordinary"),
        (
            "Built",
            {"what": "nn.BatchNorm1d(seen, track_running_stats=False)"},
            "BatchNorm1d 'layers' has track_running_stats=False",
        ),
        ("Built", {"what": "nn.Linear(seen)"}, "can't be built with policy.kwargs = {'what': 'nn.Linear(seen)'} ("),
        ("Built", {"what": "1 / 0"}, "building it raised ZeroDivisionError: division by zero (bad_policies.py, line "),
        ("Module", {"size": 3}, "got an unexpected keyword argument 'size'"),
        ("make_module", {}, "returned a torch.nn.Module; name the module's class itself"),
        ("READY", {}, "is an object of Module, expected the class"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_evolved_is_refused_when_it_is_built(
    name: str, kwargs: dict[str, Any], message: str
) -> None:
    with refused(message):
        policy(name, **kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Remembers", {}, "forward gives two outputs for the same observation (it keeps state), so it has a memory"),
        ("Rewrites", {"what": "parameter"}, "forward changes its parameter linear.bias"),
        ("Rewrites", {"what": "buffer"}, "forward changes its buffer calls"),
        ("Rewrites", {"what": "other buffer"}, "forward changes its buffer calls"),
        ("AlwaysTraining", {}, "BatchNorm1d 'norm' is in training mode"),
    ],
)  # fmt: skip
def test_a_memory_that_would_outlive_the_episode_is_refused(
    name: str, kwargs: dict[str, Any], message: str
) -> None:
    made = policy(name, **kwargs)
    with refused(message):
        made.act(SEEN)


def test_reset_may_clear_a_buffer_in_place() -> None:
    """What forward has made is an inference tensor, which torch lets nobody change outside of its inference mode."""
    made = policy("ClearsInPlace")
    made.reset(0)
    first, second = made.act(SEEN).copy(), made.act(SEEN).copy()
    assert not np.array_equal(first, second)
    for _ in range(6):  # also after the first steps, which are checked
        made.act(SEEN)
    made.reset(1)
    np.testing.assert_array_equal(made.act(SEEN), first)


def test_a_list_of_what_is_registered_elsewhere_is_allowed() -> None:
    assert policy("KeptInLists", what="nothing").act(SEEN).size


@pytest.mark.parametrize("what", ["torch.rand_like(y)", "torch.dropout(y, 0.5, True)"])
def test_numbers_that_torch_draws_are_those_of_the_episodes_seed(what: str) -> None:
    """Also in the first steps, in which a module is asked twice."""
    made, again = (policy("Module", what=what) for _ in range(2))
    steps = [made.act(SEEN).copy() for _ in range(6)]
    for _ in range(9):
        again.act(SEEN)
    again.reset(0)
    for expected in steps:
        np.testing.assert_array_equal(again.act(SEEN), expected)
    assert not np.array_equal(steps[0], steps[1])


def test_what_a_module_keeps_for_others_to_see_is_no_memory() -> None:
    made = policy("Keeps")
    for _ in range(5):
        made.act(SEEN)


def test_an_observation_that_is_changed_in_place_harms_nobody() -> None:
    made = policy("Scribbles")
    linear = unguarded(made).module.linear
    expected = linear(torch.from_numpy(2.0 * SEEN)).detach().numpy()
    for _ in range(5):
        np.testing.assert_array_equal(made.act(SEEN.copy()), expected)


def test_frozen_parameters_do_not_evolve_and_keep_their_value() -> None:
    made = policy("Frozen", which="linear")
    assert dict(made.layout.shapes) == {"scale": (6,)}
    weight = unguarded(made).module.linear.weight.clone()
    made.load(np.full(6, 2.0, np.float32))
    assert torch.equal(unguarded(made).module.linear.weight, weight)
    once = made.act(SEEN).copy()
    made.load(np.full(6, 4.0, np.float32))
    np.testing.assert_array_equal(made.act(SEEN), 2.0 * once)


def test_in_a_run_of_the_first_format_frozen_parameters_evolve_as_before() -> None:
    made = policy("Frozen", BOX, 1, which="linear")
    assert list(made.layout.shapes) == ["scale", "counts", "linear.weight", "linear.bias"]


def test_tied_parameters_are_evolved_once_and_used_twice() -> None:
    made = policy("Tied")
    assert list(made.layout.shapes) == ["one.weight", "one.bias", "other.bias"]
    h = np.zeros(made.layout.size, np.float32)
    h[:24] = np.arange(24)
    made.load(h)
    np.testing.assert_allclose(made.act(SEEN), -(h[:24].reshape(6, 4) @ SEEN), rtol=1e-6)


def test_batch_norm_in_evaluation_mode_is_a_fixed_scale() -> None:
    what = "nn.Sequential(nn.Unflatten(0, (1, seen)), nn.BatchNorm1d(seen), nn.Linear(seen, n))"
    made = policy("Built", what=what)
    plain = policy("Built", what=what.replace("nn.BatchNorm1d(seen)", "nn.Identity()"))
    made.load(np.concatenate([np.ones(4), np.zeros(4), np.linspace(0, 1, 30)]).astype(np.float32))
    plain.load(np.linspace(0, 1, 30).astype(np.float32))
    for _ in range(4):
        np.testing.assert_allclose(made.act(SEEN), plain.act(SEEN), rtol=1e-4)


def test_a_layer_of_dropout_does_nothing_because_modules_are_in_evaluation_mode() -> None:
    what = "nn.Sequential(nn.Linear(seen, n), nn.Dropout(0.5))"
    made = policy("Built", what=what)
    plain = policy("Built", what=what.replace("nn.Dropout(0.5)", "nn.Identity()"))
    for each in (made, plain):
        each.load(np.linspace(1, 2, 30).astype(np.float32))
    for _ in range(6):
        np.testing.assert_array_equal(made.act(SEEN), plain.act(SEEN))


# in lock-step


def batch(name: str, **kwargs: Any) -> Any:
    table = {"policy": {"kind": f"{BAD}:{name}", "kwargs": kwargs}, "batch_members": 3}
    config = parse(table, "test")
    alone = make_policy(config.policy, BOX, config.format)
    return make_batch_policy(config, alone, BOX, torch.device("cpu"))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("(y, y)", "forward returned a tuple of 2, expected a float32 tensor"),
        ("y.double()", "forward returned float64 [64, 6], expected float32"),
        ("None", "forward returned None"),
    ],
)
def test_in_lock_step_a_module_is_held_to_the_same(what: str, message: str) -> None:
    with refused(message):
        batch("Module", what=what)


def test_in_lock_step_outputs_of_another_size_are_named() -> None:
    made = batch("Module", what="y[:3]")
    with refused(
        "in lock-step: act returned 3 numbers, but the environment's actions need 6 (Box("
    ):
        made.act(np.zeros((64, 4), np.float32))


def test_in_lock_step_frozen_and_tied_parameters_give_what_they_give_alone() -> None:
    for name, kwargs in (("Frozen", {"which": "linear"}), ("Tied", {})):
        alone, many = policy(name, **kwargs), batch(name, **kwargs)
        h = alone.initial_parameters(3)
        alone.load(h)
        many.load([1], torch.from_numpy(h)[None])
        found = many.act(np.tile(SEEN, (64, 1)))[1]
        np.testing.assert_allclose(found, alone.act(SEEN), rtol=1e-6, atol=1e-7)


def test_the_message_of_a_missing_part_names_it() -> None:
    with pytest.raises(
        UsageError, match=re.escape("lacks layout, initial_parameters, load, reset, act")
    ):
        make_policy(
            parse({"policy": {"kind": "tests.helpers.user_code:LackingPolicy"}}, "test").policy,
            BOX,
        )
