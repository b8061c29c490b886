// Usage in answers: a JSON body and a stream of events, whole and in any pieces, give the same.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

#include "base/check.h"
#include "routing/usage_scanner.h"

namespace {

using warmpath::routing::UsageScanner;

auto Read(UsageScanner::Kind kind, std::string_view answer, size_t piece, size_t rest) {
  UsageScanner scanner(kind);
  while (answer.size() > rest) {
    const std::string_view next = answer.substr(0, std::min(piece, answer.size() - rest));
    scanner.Feed(next);
    answer.remove_prefix(next.size());
  }
  const auto usage = scanner.Finish(answer);
  return usage ? std::optional(
                     std::tuple(usage->prompt_tokens, usage->cached_tokens, usage->output_tokens))
               : std::nullopt;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3 || size > (1u << 15)) return 0;
  const std::string_view answer(reinterpret_cast<const char*>(data) + 2, size - 2);
  for (const auto kind : {UsageScanner::Kind::kJson, UsageScanner::Kind::kEvents}) {
    const auto whole = Read(kind, answer, answer.size(), answer.size());
    WP_CHECK(Read(kind, answer, 1 + data[0] % 32, data[1]) == whole);
  }
  return 0;
}
