// The API's answers as text for a terminal: `warmpath endpoints`, `warmpath explain`. Pure
// functions; what is missing shows as "-".
#pragma once

#include <string>

#include "codec/json.h"

namespace warmpath::admin {

// Of GET /api/v1/endpoints: one line per engine, then what to change, per engine that has notes.
std::string RenderEndpoints(const codec::Json& answer);

// Of POST /api/v1/explain or GET /api/v1/requests/{id}: the decision in one sentence, then one line
// per endpoint.
std::string RenderExplain(const codec::Json& answer);

}  // namespace warmpath::admin
