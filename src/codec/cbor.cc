#include "codec/cbor.h"

namespace warmpath::codec {

void CborWriter::Head(uint8_t major, uint64_t value) {
  const auto top = static_cast<uint8_t>(major << 5);
  int width = 0;
  if (value < 24) {
    out_ += static_cast<char>(top | value);
    return;
  }
  if (value <= 0xff) {
    out_ += static_cast<char>(top | 24);
    width = 1;
  } else if (value <= 0xffff) {
    out_ += static_cast<char>(top | 25);
    width = 2;
  } else if (value <= 0xffffffff) {
    out_ += static_cast<char>(top | 26);
    width = 4;
  } else {
    out_ += static_cast<char>(top | 27);
    width = 8;
  }
  for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
    out_ += static_cast<char>(value >> shift & 0xff);
}

void CborWriter::Int(int64_t value) {
  if (value >= 0) {
    Head(0, static_cast<uint64_t>(value));
  } else {
    Head(1, ~static_cast<uint64_t>(value));
  }
}

void CborWriter::Bytes(std::string_view value) {
  Head(2, value.size());
  out_ += value;
}

void CborWriter::Text(std::string_view value) {
  Head(3, value.size());
  out_ += value;
}

}  // namespace warmpath::codec
