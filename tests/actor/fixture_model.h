/* fixture_model.h: the fixture with a small model named "small", for tests that link dw_test_make_model. */
#ifndef DW_TESTS_ACTOR_FIXTURE_MODEL_H
#define DW_TESTS_ACTOR_FIXTURE_MODEL_H

#include "actor/fixture.h"
#include "model/kit/make_model.h"

static inline int fixture_setup_with_model(void **state) {
    dw_error err = {0};
    if (fixture_setup(state) != 0) return -1;
    fixture *f = *state;
    assert_ok(dw_runtime_add_model(f->runtime, "small", made_model_path(made_model_named("tied_f16")), &err), err);
    return 0;
}

#endif
