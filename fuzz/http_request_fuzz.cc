// Request heads and bodies against http1_differential.h.
#include "http1_differential.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using warmpath::net::Http1Parser;
  warmpath::fuzz::CompareWholeAndCut(
      {reinterpret_cast<const char*>(data), size},
      [] { return Http1Parser::ForRequests(warmpath::fuzz::kHttp1Limits); },
      [](Http1Parser& parser) { return parser.method() + ' ' + parser.target(); });
  return 0;
}
