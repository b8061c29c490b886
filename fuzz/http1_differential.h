// What both HTTP/1 fuzz targets check: fed whole or cut into pieces, a parser tells the same and
// stays inside its limits. Aborts otherwise.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http1_parser.h"

namespace warmpath::fuzz {

inline constexpr net::Http1Limits kHttp1Limits{
    .max_head_bytes = 2048, .max_headers = 16, .max_target_bytes = 256, .max_body_bytes = 4096};

struct Told {
  std::string text;
  bool error = false;
};

// `first_line` renders what a head's first line said.
template <typename FirstLine>
void Feed(net::Http1Parser& parser, std::string_view input, FirstLine first_line, Told& told) {
  using Event = net::Http1Parser::Event;
  size_t body = 0;
  while (!told.error) {
    switch (parser.Next(input)) {
      case Event::kNeedMore:
        return;
      case Event::kHead:
        told.text += first_line(parser);
        for (const auto& [name, value] : parser.headers())
          told.text.append("\n").append(name).append(":").append(value);
        body = 0;
        break;
      case Event::kBody:
        body += parser.body().size();
        if (body > kHttp1Limits.max_body_bytes) std::abort();
        told.text += parser.body();
        break;
      case Event::kEnd:
        told.text += '|';
        parser.Reset();
        if (input.empty()) return;
        break;
      case Event::kError:
        told.error = true;
        break;
    }
  }
}

// `make` gives a fresh parser with kHttp1Limits.
template <typename Make, typename FirstLine>
void CompareWholeAndCut(std::string_view bytes, Make make, FirstLine first_line) {
  Told whole;
  net::Http1Parser parser = make();
  Feed(parser, bytes, first_line, whole);

  Told cut;
  net::Http1Parser again = make();
  for (size_t at = 0; at < bytes.size();) {
    const size_t step = 1 + (at * 7 + bytes.size()) % 13;
    Feed(again, bytes.substr(at, step), first_line, cut);
    at += step;
  }
  if (whole.text != cut.text || whole.error != cut.error) std::abort();
}

}  // namespace warmpath::fuzz
