// Internal to k8s: cuts what an API server streams into JSON objects, wherever its pieces were
// split. Only nesting and strings are looked at; what is cut out is parsed, and so checked, by the
// caller.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace warmpath::k8s {

// Follows nesting and strings through text that comes in pieces.
class JsonNesting {
 public:
  // After each byte: how deep it lies. An opening bracket lies inside, a closing one outside.
  void Next(char c);
  size_t depth() const { return depth_; }
  bool in_string() const { return in_string_; }

 private:
  size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

// Objects one after the other, with white space between them: a watch.
class DocumentSplitter {
 public:
  explicit DocumentSplitter(size_t max_bytes) : max_bytes_(max_bytes) {}
  // False from `emit` ends the call; the rest of `bytes` is dropped. Errors: anything but an object
  // (kInvalidArgument), or a longer one than allowed (kOutOfBounds).
  Status Feed(std::string_view bytes, const std::function<bool(std::string_view)>& emit);
  bool idle() const { return document_.empty(); }  // not inside an object

 private:
  const size_t max_bytes_;
  JsonNesting nesting_;
  std::string document_;
};

// One object with a member "items", whose elements are cut out one by one: a list, of which only
// one element is kept in memory.
class ListSplitter {
 public:
  struct Limits {
    size_t max_item_bytes;
    size_t max_items;
    size_t max_frame_bytes;  // all but the items
  };
  explicit ListSplitter(Limits limits) : limits_(limits) {}
  // As DocumentSplitter's.
  Status Feed(std::string_view bytes, const std::function<bool(std::string_view)>& emit);
  // The object without its items; kInvalidArgument while it is not whole.
  Result<std::string_view> Finish() const;
  size_t items() const { return count_; }

 private:
  const Limits limits_;
  JsonNesting nesting_;
  std::string frame_;  // the object, its items left out
  std::string item_;
  size_t key_begin_ = 0;  // in frame_: the newest string of the outer object
  size_t key_end_ = 0;
  size_t count_ = 0;
  bool in_items_ = false;
  bool ended_ = false;
};

}  // namespace warmpath::k8s
