// Objectives and model rewrites from a file: the YAML of InferenceObjective and
// InferenceModelRewrite objects, one document each or a List, with the CRDs' meaning. Pure
// functions.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "routing/policies.h"

namespace warmpath::config {

// Both API groups; strict: errors read "source:LINE: field.path: what".
Result<routing::Policies> LoadPolicyText(std::string_view text, std::string_view source_name);
Result<routing::Policies> LoadPolicyFile(const std::string& path);

}  // namespace warmpath::config
