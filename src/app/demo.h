// `warmpath demo`: everything in one process on loopback, to see in a minute and a half what exact
// KV-cache routing does. Simulated engines publish real KV events; nothing is left running
// afterwards.
#pragma once

#include <string>

namespace warmpath::app {

struct DemoOptions {
  std::string tokenizer;  // directory of the Qwen3 tokenizer, or a name to find it by
  bool hold = false;      // keep engines, gateway and light traffic up until Ctrl-C
};

// Returns the exit code; errors are one line on stderr. Ctrl-C ends it cleanly with 0.
int RunDemo(const DemoOptions& options);

}  // namespace warmpath::app
