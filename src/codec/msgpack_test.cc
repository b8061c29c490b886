#include "codec/msgpack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace warmpath::codec {
namespace {

TEST(Msgpack, RoundTripsIntegersInMinimalWidth) {
  const std::vector<std::pair<int64_t, size_t>> cases = {{0, 1},
                                                         {127, 1},
                                                         {128, 2},
                                                         {255, 2},
                                                         {256, 3},
                                                         {65535, 3},
                                                         {65536, 5},
                                                         {4294967295, 5},
                                                         {4294967296, 9},
                                                         {-1, 1},
                                                         {-32, 1},
                                                         {-33, 2},
                                                         {-128, 2},
                                                         {-129, 3},
                                                         {-32768, 3},
                                                         {-32769, 5},
                                                         {-2147483648LL, 5},
                                                         {-2147483649LL, 9},
                                                         {std::numeric_limits<int64_t>::min(), 9}};
  for (const auto& [value, size] : cases) {
    std::string out;
    MsgpackWriter(out).Int(value);
    EXPECT_EQ(out.size(), size) << value;
    MsgpackReader reader(out);
    uint64_t bits = 0;
    bool negative = false;
    ASSERT_TRUE(reader.ReadInt(bits, negative)) << value;
    EXPECT_EQ(static_cast<int64_t>(bits), value);
    EXPECT_EQ(negative, value < 0);
    EXPECT_TRUE(reader.at_end());
  }
  std::string out;
  MsgpackWriter(out).Uint(std::numeric_limits<uint64_t>::max());
  uint64_t value = 0;
  EXPECT_TRUE(MsgpackReader(out).ReadUint(value));
  EXPECT_EQ(value, std::numeric_limits<uint64_t>::max());
}

TEST(Msgpack, ReadsIntegersOfAnyWidth) {
  for (const std::string_view bytes :
       {std::string_view("\xd3\0\0\0\0\0\0\0\5", 9), std::string_view("\xcf\0\0\0\0\0\0\0\5", 9),
        std::string_view("\xd0\5", 2), std::string_view("\xce\0\0\0\5", 5)}) {
    uint64_t value = 0;
    MsgpackReader reader(bytes);
    EXPECT_TRUE(reader.ReadUint(value));
    EXPECT_EQ(value, 5u);
  }
  uint64_t value = 0;
  MsgpackReader negative("\xff");
  EXPECT_FALSE(negative.ReadUint(value));
  EXPECT_TRUE(negative.failed());
}

TEST(Msgpack, RoundTripsSizedTypesAtTheirEdges) {
  for (const size_t size : {0, 31, 32, 255, 256, 65535, 65536}) {
    std::string out;
    MsgpackWriter writer(out);
    writer.String(std::string(size, 's'));
    writer.Binary(std::string(size, 'b'));
    writer.Array(static_cast<uint32_t>(size));
    for (size_t i = 0; i < size; ++i) writer.Nil();
    writer.Map(static_cast<uint32_t>(size));
    for (size_t i = 0; i < 2 * size; ++i) writer.Bool(true);
    MsgpackReader reader(out);
    std::string_view text;
    std::string_view bytes;
    uint32_t count = 0;
    ASSERT_TRUE(reader.ReadString(text) && reader.ReadBinary(bytes) && reader.ReadArray(count));
    EXPECT_EQ(text.size(), size);
    EXPECT_EQ(bytes.size(), size);
    EXPECT_EQ(count, size);
    for (size_t i = 0; i < size; ++i) ASSERT_TRUE(reader.ReadNil());
    ASSERT_TRUE(reader.ReadMap(count));
    EXPECT_EQ(count, size);
    for (size_t i = 0; i < 2 * size; ++i) ASSERT_TRUE(reader.Skip());
    EXPECT_TRUE(reader.at_end());
  }
}

TEST(Msgpack, ReadsFloatsOfBothWidths) {
  std::string out;
  MsgpackWriter(out).Double(1.5);
  double value = 0;
  EXPECT_TRUE(MsgpackReader(out).ReadDouble(value));
  EXPECT_EQ(value, 1.5);
  EXPECT_TRUE(MsgpackReader(std::string_view("\xca\x3f\xc0\0\0", 5)).ReadDouble(value));
  EXPECT_EQ(value, 1.5);
  EXPECT_TRUE(MsgpackReader("\xfe").ReadDouble(value));
  EXPECT_EQ(value, -2);
}

TEST(Msgpack, SkipsExtensionsAndNesting) {
  const std::string bytes(
      "\xd4\1x"
      "\xd8\1"
      "0123456789abcdef"
      "\xc7\3\1abc"
      "\xc8\0\1\1z"
      "\x92\x81\xa1k\xc4\1v\xca\0\0\0\0",
      44);
  MsgpackReader reader(bytes);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(reader.Skip()) << i;
  EXPECT_TRUE(reader.at_end());
}

TEST(Msgpack, NeverReadsPastTheEnd) {
  std::string whole;
  MsgpackWriter writer(whole);
  writer.Array(3);
  writer.String(std::string(40, 'x'));
  writer.Uint(1'000'000);
  writer.Map(1);
  writer.Binary("k");
  writer.Double(2);
  EXPECT_TRUE(MsgpackReader(whole).Skip());
  for (size_t n = 0; n < whole.size(); ++n) {
    MsgpackReader reader(std::string_view(whole).substr(0, n));
    EXPECT_FALSE(reader.Skip()) << n;
    EXPECT_TRUE(reader.failed());
    EXPECT_EQ(reader.Peek(), MsgpackType::kInvalid);
  }
}

TEST(Msgpack, RefusesCountsBeyondTheBytes) {
  uint32_t count = 0;
  EXPECT_FALSE(MsgpackReader("\xdd\xff\xff\xff\xff").ReadArray(count));
  EXPECT_FALSE(MsgpackReader("\xdf\xff\xff\xff\xff").ReadMap(count));
  EXPECT_FALSE(MsgpackReader("\xc9\xff\xff\xff\xff\1").Skip());
  EXPECT_FALSE(MsgpackReader("\xc1").Skip());
}

TEST(Msgpack, BoundsDepth) {
  EXPECT_TRUE(MsgpackReader(std::string(32, '\x91') + '\xc0').Skip());
  EXPECT_FALSE(MsgpackReader(std::string(33, '\x91') + '\xc0').Skip());
  EXPECT_FALSE(MsgpackReader(std::string(1'000'000, '\x91')).Skip());
}

// What follows one another in a form of at most 32 bits, one by one.
std::vector<uint32_t> OneByOne(MsgpackReader& reader, std::string_view bytes, size_t max) {
  std::vector<uint32_t> values;
  while (values.size() < max && !reader.at_end()) {
    const auto tag = static_cast<uint8_t>(bytes[reader.position()]);
    uint64_t value = 0;
    MsgpackReader start = reader;
    if ((tag >= 0x80 && (tag < 0xcc || tag > 0xce)) || !reader.ReadUint(value)) {
      reader = start;
      break;
    }
    values.push_back(static_cast<uint32_t>(value));
  }
  return values;
}

TEST(Msgpack, RunsOfIntegersAreWhatTheyAreOneByOne) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    MsgpackWriter pack(bytes);
    const size_t count = random() % 60;
    for (size_t i = 0; i < count; ++i) {
      if (random() % 40 == 0) {
        pack.Int(-1 - static_cast<int64_t>(random() % 100));
      } else if (random() % 40 == 0) {
        pack.Uint(uint64_t{random()} << 20);
      } else {
        pack.Uint(random() >> (random() % 4 * 8));
      }
    }
    bytes.resize(bytes.size() - std::min<size_t>(bytes.size(), random() % 8));
    const size_t max = random() % 70;
    MsgpackReader single(bytes);
    const auto expected = OneByOne(single, bytes, max);
    // The run ends with the memory, so that a sanitizer sees a read beyond it.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    MsgpackReader reader(std::string_view(exact.data(), exact.size()));
    std::vector<uint32_t> values(max);
    values.resize(reader.ReadUint32Run(values.data(), max));
    ASSERT_EQ(values, expected);
    ASSERT_EQ(reader.position(), single.position());
  }
}

TEST(Msgpack, RunsEndBeforeAnotherKind) {
  const std::string_view bytes("\xcf\0\0\0\0\0\0\0\5\xcf\xff\0\0\0\0\0\0\0\xc0\xc0\5", 21);
  MsgpackReader reader(bytes);
  uint64_t wide[3] = {};
  EXPECT_EQ(reader.ReadUint64Run(wide, 3), 2u);
  EXPECT_EQ(wide[0], 5u);
  EXPECT_EQ(wide[1], 0xff00000000000000u);
  EXPECT_EQ(reader.ReadUint64Run(wide, 3), 0u);
  EXPECT_EQ(reader.ReadNilRun(1), 1u);
  EXPECT_EQ(reader.ReadNilRun(9), 1u);
  uint32_t narrow[3] = {};
  EXPECT_EQ(reader.ReadUint32Run(narrow, 0), 0u);
  EXPECT_EQ(reader.ReadUint32Run(narrow, 3), 1u);
  EXPECT_TRUE(reader.at_end());
  EXPECT_EQ(reader.ReadNilRun(1), 0u);
  MsgpackReader cut(bytes.substr(0, 8));
  EXPECT_EQ(cut.ReadUint64Run(wide, 3), 0u);
}

TEST(Msgpack, NilsCountAsNesting) {
  const std::string_view bytes("\x91\x91\xc0", 3);
  EXPECT_TRUE(MsgpackReader(bytes, 2).Skip());
  EXPECT_FALSE(MsgpackReader(bytes, 1).Skip());
}

}  // namespace
}  // namespace warmpath::codec
