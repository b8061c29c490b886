// What is known of the tokenizer, as the cards show it: plain data.
#pragma once

#include <string>
#include <string_view>

namespace warmpath::admin {

struct TokenizerInfo {
  std::string_view state = "waiting";  // waiting, loading, loaded or failed (and being tried again)
  std::string name{};                  // directory or model name it was asked for by
  std::string_view source{};           // directory, cache or hub; "" unless loaded
  std::string directory{};             // where it lies; "" unless loaded
  std::string reason{};                // why it failed the last time; "" unless failed
};

}  // namespace warmpath::admin
