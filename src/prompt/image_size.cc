#include "prompt/image_size.h"

#include <string>

namespace warmpath::prompt {
namespace {

constexpr size_t kMaxBytes = 64 << 10;
constexpr size_t kShortHeader = 24;  // PNG and GIF need no more

// Value of a base64 digit, both alphabets; -1 for anything else.
int Digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

// The first bytes of the text, up to `max`; ends early at what is no digit.
std::string DecodeStart(std::string_view base64, size_t max) {
  std::string bytes;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : base64) {
    if (bytes.size() >= max) break;
    const int digit = Digit(c);
    if (digit < 0) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    bytes.push_back(static_cast<char>(bits >> have));
  }
  return bytes;
}

uint32_t Byte(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}
uint32_t Big16(std::string_view bytes, size_t at) {
  return Byte(bytes, at) << 8 | Byte(bytes, at + 1);
}
uint32_t Big32(std::string_view bytes, size_t at) {
  return Big16(bytes, at) << 16 | Big16(bytes, at + 2);
}
uint32_t Little16(std::string_view bytes, size_t at) {
  return Byte(bytes, at) | Byte(bytes, at + 1) << 8;
}

// Start-of-frame markers carry the size; C4, C8 and CC in their range are others.
bool IsFrameMarker(uint32_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

std::optional<ImageSize> SizeOfJpeg(std::string_view bytes) {
  size_t at = 2;
  while (at + 9 <= bytes.size()) {
    if (Byte(bytes, at) != 0xFF) return std::nullopt;
    const uint32_t marker = Byte(bytes, at + 1);
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (IsFrameMarker(marker)) {
      return ImageSize{.width = Big16(bytes, at + 7), .height = Big16(bytes, at + 5)};
    }
    const uint32_t length = Big16(bytes, at + 2);
    if (length < 2) return std::nullopt;
    at += 2 + length;
  }
  return std::nullopt;
}

}  // namespace

std::optional<ImageSize> SizeOfBase64Image(std::string_view base64) {
  const std::string start = DecodeStart(base64, kShortHeader);
  const std::string_view bytes = start;
  std::optional<ImageSize> size;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n") && bytes.size() >= 24) {
    size = ImageSize{.width = Big32(bytes, 16), .height = Big32(bytes, 20)};
  } else if ((bytes.starts_with("GIF87a") || bytes.starts_with("GIF89a")) && bytes.size() >= 10) {
    size = ImageSize{.width = Little16(bytes, 6), .height = Little16(bytes, 8)};
  } else if (bytes.starts_with("\xFF\xD8")) {
    size = SizeOfJpeg(DecodeStart(base64, kMaxBytes));
  }
  if (size && (size->width == 0 || size->height == 0)) return std::nullopt;
  return size;
}

std::optional<ImageSize> SizeOfDataUrl(std::string_view url) {
  if (!url.starts_with("data:")) return std::nullopt;
  const std::string_view head = url.substr(0, url.find(','));
  if (head.size() == url.size() || !head.ends_with(";base64")) return std::nullopt;
  return SizeOfBase64Image(url.substr(head.size() + 1));
}

}  // namespace warmpath::prompt
