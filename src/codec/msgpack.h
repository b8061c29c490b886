// MessagePack: a bounded pull decoder over bytes in memory, and an encoder that writes minimal
// widths as msgspec does.
//
// The reader never allocates and never reads past its bytes. A failed read returns false and marks
// the reader failed for good; what it points at afterwards is undefined. Not thread-safe; views
// point into the bytes given.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace warmpath::codec {

enum class MsgpackType {
  kNil,
  kBool,
  kInt,
  kFloat,
  kString,
  kBinary,
  kArray,
  kMap,
  kExt,
  kInvalid
};

class MsgpackReader {
 public:
  // `max_depth` bounds the nesting that Skip passes over.
  explicit MsgpackReader(std::string_view bytes, int max_depth = 32)
      : bytes_(bytes), max_depth_(max_depth) {}

  // Type of the next value; kInvalid at the end, on the reserved byte, or after a failure.
  MsgpackType Peek() const;
  bool failed() const { return failed_; }
  bool at_end() const { return at_ == bytes_.size(); }
  size_t position() const { return at_; }
  // The bytes from an earlier position() to here.
  std::string_view Since(size_t position) const { return bytes_.substr(position, at_ - position); }

  bool ReadNil();
  bool ReadBool(bool& out);
  // Any integer of 0..2^64-1.
  bool ReadUint(uint64_t& out);
  // Any integer; those below zero as two's complement with `negative` set.
  bool ReadInt(uint64_t& bits, bool& negative);
  // A float of either width, or an integer converted.
  bool ReadDouble(double& out);
  bool ReadString(std::string_view& out);
  bool ReadBinary(std::string_view& out);
  // Element count; it never exceeds the bytes left (an element takes at least one), so it is safe
  // to reserve.
  bool ReadArray(uint32_t& count);
  // Pair count, likewise.
  bool ReadMap(uint32_t& pairs);
  // Runs of values of one kind, as many as follow one another, at most `max`; what comes then is
  // left to be read. They return how many and never fail. `out` has room for `max`.
  // Unsigned integers in a form of at most 32 bits (fixint, uint 8, 16, 32).
  size_t ReadUint32Run(uint32_t* out, size_t max);
  // Integers in the form uint 64.
  size_t ReadUint64Run(uint64_t* out, size_t max);
  size_t ReadNilRun(size_t max);
  // Passes over one value of any type.
  bool Skip();
  // Passes over one value and gives its bytes.
  bool ReadRaw(std::string_view& out);

 private:
  bool Fail();
  bool Take(size_t n, const uint8_t*& out);
  bool TakeSized(size_t header, int width, std::string_view& out);
  bool SkipAt(int depth);

  std::string_view bytes_;
  size_t at_ = 0;
  int max_depth_;
  bool failed_ = false;
};

// Appends to a string; counts of arrays and maps are the caller's word.
class MsgpackWriter {
 public:
  explicit MsgpackWriter(std::string& out) : out_(out) {}
  void Nil();
  void Bool(bool value);
  void Uint(uint64_t value);
  void Int(int64_t value);
  void Double(double value);  // always 64 bits
  void String(std::string_view value);
  void Binary(std::string_view value);
  void Array(uint32_t count);
  void Map(uint32_t pairs);

 private:
  void Put(uint8_t tag, uint64_t value, int width);
  std::string& out_;
};

}  // namespace warmpath::codec
