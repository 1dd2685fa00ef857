"""What XLA makes with the settings that users have; other tests have it compile plainly."""

CODE = """
import os
import test_act, test_conformance, test_losses

assert "fusion" not in os.environ["XLA_FLAGS"]
test_act.test_equals_the_equations_under_xla("lstm")
test_act.test_equals_the_equations_in_float32("own", "xla")
for loss in test_losses.ALIGNMENTS:
    test_losses.test_every_way_of_computing_has_the_value_and_gradient_of_float64(loss)
for layer in test_conformance.SEQUENCE_LAYERS:
    test_conformance.check_masked(layer, "xla")
"""


def test_loops_and_losses_have_the_value_and_gradient_of_float64(fresh):
    fresh(CODE, plain=False)
