// The fields of an EndpointPickerConfig document, for endpoint_picker_config.cc.
#pragma once

#include "scheduling/parameters.h"

namespace warmpath::config {

// Top-level members; plugin parameters are left open (each type has its own schema).
const scheduling::ParameterList& EndpointPickerSchema();

}  // namespace warmpath::config
