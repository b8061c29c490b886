// A request body of which only the beginning has arrived, made complete: so that what it says so
// far can be read, and its texts be turned into tokens, while the rest is on its way. Pure; any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "prompt/request.h"

namespace warmpath::prompt {

// The longest beginning of `begun` that says something, closed as JSON. A prompt or a message's
// text that goes on ends behind its last whole character; a message whose role has not come is the
// user's; what else is not complete is left out. Where the body would be plain (plain_body.h) this
// is plain too, and its texts are those of the body, the last one perhaps cut short. Empty: no text
// has begun, or the API is none of chat completions and completions. Of what is no JSON nothing is
// promised. Time and memory are linear in the bytes.
std::string CompleteBody(Api api, std::string_view begun);

}  // namespace warmpath::prompt
