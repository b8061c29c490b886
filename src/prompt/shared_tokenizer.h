// Tokenizers in use, one per directory: routers and simulated engines of one process share what
// takes seconds to load.
#pragma once

#include <memory>
#include <string>

#include "prompt/tokenizer.h"

namespace warmpath::prompt {

// As Tokenizer::Load, but returns the tokenizer of `dir` that is still in use somewhere in this
// process, if there is one. Thread-safe; a second caller waits for the first one's load.
Result<std::shared_ptr<const Tokenizer>> LoadSharedTokenizer(const std::string& dir);

}  // namespace warmpath::prompt
