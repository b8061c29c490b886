#include "codec/msgpack.h"

#include <bit>

namespace warmpath::codec {

namespace {

uint64_t BigEndian(const uint8_t* p, int width) {
  uint64_t value = 0;
  for (int i = 0; i < width; ++i) value = value << 8 | p[i];
  return value;
}

}  // namespace

bool MsgpackReader::Fail() {
  failed_ = true;
  return false;
}

bool MsgpackReader::Take(size_t n, const uint8_t*& out) {
  if (failed_ || n > bytes_.size() - at_) return Fail();
  out = reinterpret_cast<const uint8_t*>(bytes_.data()) + at_;
  at_ += n;
  return true;
}

MsgpackType MsgpackReader::Peek() const {
  if (failed_ || at_ >= bytes_.size()) return MsgpackType::kInvalid;
  const auto b = static_cast<uint8_t>(bytes_[at_]);
  if (b < 0x80 || b >= 0xe0) return MsgpackType::kInt;
  if (b < 0x90) return MsgpackType::kMap;
  if (b < 0xa0) return MsgpackType::kArray;
  if (b < 0xc0) return MsgpackType::kString;
  switch (b) {
    case 0xc0:
      return MsgpackType::kNil;
    case 0xc2:
    case 0xc3:
      return MsgpackType::kBool;
    case 0xc4:
    case 0xc5:
    case 0xc6:
      return MsgpackType::kBinary;
    case 0xc7:
    case 0xc8:
    case 0xc9:
      return MsgpackType::kExt;
    case 0xca:
    case 0xcb:
      return MsgpackType::kFloat;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
      return MsgpackType::kInt;
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
      return MsgpackType::kExt;
    case 0xd9:
    case 0xda:
    case 0xdb:
      return MsgpackType::kString;
    case 0xdc:
    case 0xdd:
      return MsgpackType::kArray;
    case 0xde:
    case 0xdf:
      return MsgpackType::kMap;
    default:
      return MsgpackType::kInvalid;
  }
}

bool MsgpackReader::ReadNil() {
  const uint8_t* p = nullptr;
  return Peek() == MsgpackType::kNil ? Take(1, p) : Fail();
}

bool MsgpackReader::ReadBool(bool& out) {
  const uint8_t* p = nullptr;
  if (Peek() != MsgpackType::kBool || !Take(1, p)) return Fail();
  out = *p == 0xc3;
  return true;
}

bool MsgpackReader::ReadInt(uint64_t& bits, bool& negative) {
  const uint8_t* p = nullptr;
  if (Peek() != MsgpackType::kInt || !Take(1, p)) return Fail();
  const uint8_t tag = *p;
  negative = false;
  if (tag < 0x80) {
    bits = tag;
    return true;
  }
  if (tag >= 0xe0) {
    bits = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(tag)));
    negative = true;
    return true;
  }
  const int width = 1 << ((tag - 0xcc) & 3);
  if (!Take(static_cast<size_t>(width), p)) return false;
  bits = BigEndian(p, width);
  if (tag >= 0xd0) {
    const int shift = 64 - 8 * width;
    const int64_t value = static_cast<int64_t>(bits << shift) >> shift;
    bits = static_cast<uint64_t>(value);
    negative = value < 0;
  }
  return true;
}

bool MsgpackReader::ReadUint(uint64_t& out) {
  bool negative = false;
  return ReadInt(out, negative) && !negative ? true : Fail();
}

bool MsgpackReader::ReadDouble(double& out) {
  if (Peek() == MsgpackType::kInt) {
    uint64_t bits = 0;
    bool negative = false;
    if (!ReadInt(bits, negative)) return false;
    out = negative ? static_cast<double>(static_cast<int64_t>(bits)) : static_cast<double>(bits);
    return true;
  }
  const uint8_t* p = nullptr;
  if (Peek() != MsgpackType::kFloat || !Take(1, p)) return Fail();
  const int width = *p == 0xcb ? 8 : 4;
  if (!Take(static_cast<size_t>(width), p)) return false;
  const uint64_t bits = BigEndian(p, width);
  out =
      width == 8 ? std::bit_cast<double>(bits) : std::bit_cast<float>(static_cast<uint32_t>(bits));
  return true;
}

bool MsgpackReader::TakeSized(size_t header, int width, std::string_view& out) {
  const uint8_t* p = nullptr;
  if (!Take(1, p)) return false;
  uint64_t size = header;
  if (width > 0) {
    if (!Take(static_cast<size_t>(width), p)) return false;
    size = BigEndian(p, width);
  }
  if (!Take(size, p)) return false;
  out = {reinterpret_cast<const char*>(p), static_cast<size_t>(size)};
  return true;
}

bool MsgpackReader::ReadString(std::string_view& out) {
  if (Peek() != MsgpackType::kString) return Fail();
  const auto tag = static_cast<uint8_t>(bytes_[at_]);
  return tag < 0xc0 ? TakeSized(tag & 0x1f, 0, out) : TakeSized(0, 1 << (tag - 0xd9), out);
}

bool MsgpackReader::ReadBinary(std::string_view& out) {
  if (Peek() != MsgpackType::kBinary) return Fail();
  return TakeSized(0, 1 << (static_cast<uint8_t>(bytes_[at_]) - 0xc4), out);
}

bool MsgpackReader::ReadArray(uint32_t& count) {
  const uint8_t* p = nullptr;
  if (Peek() != MsgpackType::kArray || !Take(1, p)) return Fail();
  count = *p & 0x0f;
  if (*p >= 0xdc) {
    const int width = *p == 0xdc ? 2 : 4;
    if (!Take(static_cast<size_t>(width), p)) return false;
    count = static_cast<uint32_t>(BigEndian(p, width));
  }
  return count <= bytes_.size() - at_ ? true : Fail();
}

bool MsgpackReader::ReadMap(uint32_t& pairs) {
  const uint8_t* p = nullptr;
  if (Peek() != MsgpackType::kMap || !Take(1, p)) return Fail();
  pairs = *p & 0x0f;
  if (*p >= 0xde) {
    const int width = *p == 0xde ? 2 : 4;
    if (!Take(static_cast<size_t>(width), p)) return false;
    pairs = static_cast<uint32_t>(BigEndian(p, width));
  }
  return pairs <= (bytes_.size() - at_) / 2 ? true : Fail();
}

bool MsgpackReader::SkipAt(int depth) {
  if (depth > max_depth_) return Fail();
  const uint8_t* p = nullptr;
  std::string_view view;
  switch (Peek()) {
    case MsgpackType::kNil:
    case MsgpackType::kBool:
      return Take(1, p);
    case MsgpackType::kInt: {
      uint64_t bits = 0;
      bool negative = false;
      return ReadInt(bits, negative);
    }
    case MsgpackType::kFloat:
      return Take(static_cast<uint8_t>(bytes_[at_]) == 0xcb ? 9 : 5, p);
    case MsgpackType::kString:
      return ReadString(view);
    case MsgpackType::kBinary:
      return ReadBinary(view);
    case MsgpackType::kExt: {
      const auto tag = static_cast<uint8_t>(bytes_[at_]);
      if (tag >= 0xd4) return Take(2 + (size_t{1} << (tag - 0xd4)), p);
      if (!TakeSized(0, 0, view)) return false;
      const int width = 1 << (tag - 0xc7);
      if (!Take(static_cast<size_t>(width), p)) return false;
      return Take(BigEndian(p, width) + 1, p);
    }
    case MsgpackType::kArray: {
      uint32_t count = 0;
      if (!ReadArray(count)) return false;
      // Of arrays that are passed over, one of nothing but nil is the commonest by far.
      uint32_t i = depth < max_depth_ ? static_cast<uint32_t>(ReadNilRun(count)) : 0;
      for (; i < count; ++i) {
        if (!SkipAt(depth + 1)) return false;
      }
      return true;
    }
    case MsgpackType::kMap: {
      uint32_t pairs = 0;
      if (!ReadMap(pairs)) return false;
      for (uint64_t i = 0; i < uint64_t{pairs} * 2; ++i) {
        if (!SkipAt(depth + 1)) return false;
      }
      return true;
    }
    case MsgpackType::kInvalid:
      break;
  }
  return Fail();
}

bool MsgpackReader::Skip() {
  return SkipAt(0);
}

bool MsgpackReader::ReadRaw(std::string_view& out) {
  const size_t start = at_;
  if (!Skip()) return false;
  out = bytes_.substr(start, at_ - start);
  return true;
}

void MsgpackWriter::Put(uint8_t tag, uint64_t value, int width) {
  out_ += static_cast<char>(tag);
  for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
    out_ += static_cast<char>(value >> shift & 0xff);
}

void MsgpackWriter::Nil() {
  Put(0xc0, 0, 0);
}
void MsgpackWriter::Bool(bool value) {
  Put(value ? 0xc3 : 0xc2, 0, 0);
}

void MsgpackWriter::Uint(uint64_t value) {
  if (value < 0x80) {
    Put(static_cast<uint8_t>(value), 0, 0);
  } else if (value <= 0xff) {
    Put(0xcc, value, 1);
  } else if (value <= 0xffff) {
    Put(0xcd, value, 2);
  } else if (value <= 0xffffffff) {
    Put(0xce, value, 4);
  } else {
    Put(0xcf, value, 8);
  }
}

void MsgpackWriter::Int(int64_t value) {
  if (value >= 0) return Uint(static_cast<uint64_t>(value));
  const auto bits = static_cast<uint64_t>(value);
  if (value >= -32) {
    Put(static_cast<uint8_t>(bits & 0xff), 0, 0);
  } else if (value >= -128) {
    Put(0xd0, bits, 1);
  } else if (value >= -32768) {
    Put(0xd1, bits, 2);
  } else if (value >= -2147483648LL) {
    Put(0xd2, bits, 4);
  } else {
    Put(0xd3, bits, 8);
  }
}

void MsgpackWriter::Double(double value) {
  Put(0xcb, std::bit_cast<uint64_t>(value), 8);
}

void MsgpackWriter::String(std::string_view value) {
  if (value.size() < 32) {
    Put(static_cast<uint8_t>(0xa0 | value.size()), 0, 0);
  } else if (value.size() <= 0xff) {
    Put(0xd9, value.size(), 1);
  } else if (value.size() <= 0xffff) {
    Put(0xda, value.size(), 2);
  } else {
    Put(0xdb, value.size(), 4);
  }
  out_ += value;
}

void MsgpackWriter::Binary(std::string_view value) {
  if (value.size() <= 0xff) {
    Put(0xc4, value.size(), 1);
  } else if (value.size() <= 0xffff) {
    Put(0xc5, value.size(), 2);
  } else {
    Put(0xc6, value.size(), 4);
  }
  out_ += value;
}

void MsgpackWriter::Array(uint32_t count) {
  if (count < 16) {
    Put(static_cast<uint8_t>(0x90 | count), 0, 0);
  } else if (count <= 0xffff) {
    Put(0xdc, count, 2);
  } else {
    Put(0xdd, count, 4);
  }
}

void MsgpackWriter::Map(uint32_t pairs) {
  if (pairs < 16) {
    Put(static_cast<uint8_t>(0x80 | pairs), 0, 0);
  } else if (pairs <= 0xffff) {
    Put(0xde, pairs, 2);
  } else {
    Put(0xdf, pairs, 4);
  }
}

}  // namespace warmpath::codec
