// MessagePack: a value that can be skipped can be walked, and ends at the same byte; runs of
// integers are what reading them one by one gives.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "codec/msgpack.h"

namespace {

using warmpath::codec::MsgpackReader;
using warmpath::codec::MsgpackType;

bool Walk(MsgpackReader& reader, int depth) {
  uint64_t bits = 0;
  uint32_t count = 0;
  bool flag = false;
  double number = 0;
  std::string_view text;
  switch (reader.Peek()) {
    case MsgpackType::kNil:
      return reader.ReadNil();
    case MsgpackType::kBool:
      return reader.ReadBool(flag);
    case MsgpackType::kInt:
      return reader.ReadInt(bits, flag);
    case MsgpackType::kFloat:
      return reader.ReadDouble(number);
    case MsgpackType::kString:
      return reader.ReadString(text);
    case MsgpackType::kBinary:
      return reader.ReadBinary(text);
    case MsgpackType::kExt:
      return reader.ReadRaw(text);
    case MsgpackType::kInvalid:
      return false;
    case MsgpackType::kArray:
      if (depth > 32 || !reader.ReadArray(count)) return false;
      break;
    case MsgpackType::kMap:
      if (depth > 32 || !reader.ReadMap(count)) return false;
      count *= 2;
      break;
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (!Walk(reader, depth + 1)) return false;
  }
  return true;
}

// From every place where bytes look like an integer.
void CheckRun(std::string_view bytes) {
  constexpr size_t kMax = 64;
  uint32_t run[kMax];
  MsgpackReader runner(bytes);
  MsgpackReader single(bytes);
  const size_t count = runner.ReadUint32Run(run, kMax);
  for (size_t i = 0; i < count; ++i) {
    uint64_t value = 0;
    WP_CHECK(single.ReadUint(value));
    WP_CHECK(value == run[i]);
  }
  WP_CHECK(single.position() == runner.position());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (size_t i = 0; i < size && i < 256; ++i) CheckRun(bytes.substr(i));
  MsgpackReader skipper(bytes);
  MsgpackReader walker(bytes);
  if (!skipper.Skip()) return 0;
  WP_CHECK(Walk(walker, 0));
  WP_CHECK(walker.position() == skipper.position());
  return 0;
}
