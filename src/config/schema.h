// The fields of the documents that this folder reads.
#pragma once

#include "scheduling/parameters.h"

namespace warmpath::config {

// Top-level members; plugin parameters are left open (each type has its own schema).
const scheduling::ParameterList& EndpointPickerSchema();

// Parameters of core-metrics-extractor, engines in full.
const scheduling::ParameterList& MetricsExtractorSchema();

// InferenceObjective, InferenceModelRewrite and List documents.
const scheduling::ParameterList& ObjectiveSchema();
const scheduling::ParameterList& ModelRewriteSchema();
const scheduling::ParameterList& ObjectListSchema();

}  // namespace warmpath::config
