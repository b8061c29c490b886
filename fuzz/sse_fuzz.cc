// Server-sent events: any bytes in any chunking give the same events.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "codec/sse.h"

namespace {

std::vector<std::string> Read(std::string_view stream, size_t chunk) {
  warmpath::codec::SseParser parser(size_t{1} << 16);
  std::vector<std::string> events;
  for (size_t at = 0; at < stream.size(); at += chunk) {
    const auto status =
        parser.Feed(stream.substr(at, chunk), [&](const warmpath::codec::SseEvent& event) {
          events.push_back(std::string(event.event) + '\0' + std::string(event.data) + '\0' +
                           std::string(event.id));
        });
    if (!status) return {};
  }
  return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > (1u << 15)) return 0;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  WP_CHECK(Read(stream, size) == Read(stream, 1 + data[0] % 16));
  return 0;
}
