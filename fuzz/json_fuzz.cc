// JSON: what parses is written and parsed again to the same text, and the field reader agrees that
// it is an object.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "codec/json.h"
#include "codec/json_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = codec::ParseJson(text);
  const auto status =
      codec::ReadJsonObject(text, [&](std::string_view, codec::JsonCursor& cursor) -> Status {
        const auto raw = cursor.Raw();
        if (raw)
          WP_CHECK(raw->data() >= text.data() &&
                   raw->data() + raw->size() <= text.data() + text.size());
        return {};
      });
  if (!value) return 0;
  const std::string dumped = codec::DumpJson(*value);
  const auto again = codec::ParseJson(dumped);
  WP_CHECK(again.has_value());
  WP_CHECK(codec::DumpJson(*again) == dumped);
  if (value->is_object()) WP_CHECK(status.has_value());
  return 0;
}
