// Response heads and bodies: whole and cut, the parser must tell the same, stay inside its limits,
// and end.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http1_parser.h"

namespace {

using warmpath::net::Http1Parser;

constexpr warmpath::net::Http1Limits kLimits{
    .max_head_bytes = 2048, .max_headers = 16, .max_target_bytes = 256, .max_body_bytes = 4096};

struct Told {
  std::string text;
  bool error = false;
};

void Feed(Http1Parser& parser, std::string_view input, Told& told) {
  size_t body = 0;
  while (!told.error) {
    switch (parser.Next(input)) {
      case Http1Parser::Event::kNeedMore:
        return;
      case Http1Parser::Event::kHead:
        told.text += std::to_string(parser.status());
        for (const auto& [name, value] : parser.headers()) told.text += '\n' + name + ':' + value;
        body = 0;
        break;
      case Http1Parser::Event::kBody:
        body += parser.body().size();
        if (body > kLimits.max_body_bytes) std::abort();
        told.text += parser.body();
        break;
      case Http1Parser::Event::kEnd:
        told.text += '|';
        parser.Reset();
        if (input.empty()) return;
        break;
      case Http1Parser::Event::kError:
        told.error = true;
        break;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Told whole;
  Http1Parser parser = Http1Parser::ForResponses(kLimits);
  Feed(parser, bytes, whole);

  Told cut;
  Http1Parser again = Http1Parser::ForResponses(kLimits);
  for (size_t at = 0; at < size;) {
    const size_t step = 1 + (at * 7 + size) % 13;
    Feed(again, bytes.substr(at, step), cut);
    at += step;
  }
  if (whole.text != cut.text || whole.error != cut.error) std::abort();
  return 0;
}
