#include "codec/cbor.h"

#include <gtest/gtest.h>

#include <limits>
#include <span>

#include "base/hash.h"

namespace warmpath::codec {
namespace {

std::string HexOf(const std::string& bytes) {
  return Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

TEST(Cbor, WritesShortestIntegers) {
  std::string out;
  CborWriter cbor(out);
  cbor.Array(8);
  for (const uint64_t token : {0, 23, 24, 255, 256, 65535, 65536, 151643}) cbor.Uint(token);
  EXPECT_EQ(HexOf(out), "880017181818ff19010019ffff1a000100001a0002505b");
  out.clear();
  cbor.Uint(std::numeric_limits<uint64_t>::max());
  for (const int64_t value : {int64_t{-1}, int64_t{-24}, int64_t{-25}, int64_t{-256}, int64_t{5}})
    cbor.Int(value);
  cbor.Int(std::numeric_limits<int64_t>::min());
  EXPECT_EQ(HexOf(out),
            "1bffffffffffffffff"
            "20"
            "37"
            "3818"
            "38ff"
            "05"
            "3b7fffffffffffffff");
}

TEST(Cbor, WritesBytesTextAndNull) {
  std::string out;
  CborWriter cbor(out);
  cbor.Text("42");
  cbor.Bytes(std::string(32, '\1'));
  cbor.Null();
  EXPECT_EQ(HexOf(out),
            "623432"
            "5820" +
                HexOf(std::string(32, '\1')) + "f6");
}

}  // namespace
}  // namespace warmpath::codec
