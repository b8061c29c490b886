// Width and height of a PNG, GIF or JPEG image from the first bytes of its base64 text. Pure
// functions, thread-safe; they look at 64 KiB at most.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace warmpath::prompt {

struct ImageSize {
  uint32_t width = 0, height = 0;  // pixels
};

// nullopt: not base64, no format known here, or the size stands too far inside.
std::optional<ImageSize> SizeOfBase64Image(std::string_view base64);
// Of "data:...;base64,..."; nullopt for any other link.
std::optional<ImageSize> SizeOfDataUrl(std::string_view url);

}  // namespace warmpath::prompt
