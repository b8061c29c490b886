#include "k8s/json_stream.h"

#include <fmt/format.h>

namespace warmpath::k8s {
namespace {

bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

void JsonNesting::Next(char c) {
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
    return;
  }
  switch (c) {
    case '"':
      in_string_ = true;
      break;
    case '{':
    case '[':
      ++depth_;
      break;
    case '}':
    case ']':
      if (depth_ > 0) --depth_;
      break;
    default:
      break;
  }
}

Status DocumentSplitter::Feed(std::string_view bytes,
                              const std::function<bool(std::string_view)>& emit) {
  size_t begin = 0;  // of what is not in document_ yet
  for (size_t at = 0; at < bytes.size(); ++at) {
    const char c = bytes[at];
    if (nesting_.depth() == 0) {
      if (IsSpace(c)) {
        begin = at + 1;
        continue;
      }
      if (c != '{') return Fail(Code::kInvalidArgument, "the stream is not one of JSON objects");
    }
    nesting_.Next(c);
    if (nesting_.depth() != 0) continue;
    const std::string_view last = bytes.substr(begin, at + 1 - begin);
    if (document_.size() + last.size() > max_bytes_) break;
    begin = at + 1;
    bool go_on = false;
    if (document_.empty()) {
      go_on = emit(last);
    } else {
      document_ += last;
      go_on = emit(document_);
      document_.clear();
    }
    if (!go_on) return {};
  }
  if (document_.size() + (bytes.size() - begin) > max_bytes_) {
    return Fail(Code::kOutOfBounds, fmt::format("an object exceeds {} bytes", max_bytes_));
  }
  document_ += bytes.substr(begin);
  return {};
}

Status ListSplitter::Feed(std::string_view bytes,
                          const std::function<bool(std::string_view)>& emit) {
  for (const char c : bytes) {
    const size_t before = nesting_.depth();
    const bool was_string = nesting_.in_string();
    if (before == 0 && !was_string) {
      if (IsSpace(c)) continue;
      if (ended_ || c != '{') return Fail(Code::kInvalidArgument, "the list is not a JSON object");
    }
    nesting_.Next(c);
    const size_t depth = nesting_.depth();
    if (in_items_ && depth >= 2 && (before > 2 || depth > 2)) {
      // An element, or a byte of it.
      if (item_.empty() && c != '{') {
        return Fail(Code::kInvalidArgument, "an item of the list is not an object");
      }
      if (item_.size() >= limits_.max_item_bytes) {
        return Fail(Code::kOutOfBounds,
                    fmt::format("an item of the list exceeds {} bytes", limits_.max_item_bytes));
      }
      item_ += c;
      if (depth > 2) continue;
      if (++count_ > limits_.max_items) {
        return Fail(Code::kOutOfBounds,
                    fmt::format("the list has more than {} items", limits_.max_items));
      }
      const bool go_on = emit(item_);
      item_.clear();
      if (!go_on) return {};
      continue;
    }
    if (in_items_ && depth == 2) {
      if (IsSpace(c) || c == ',') continue;
      return Fail(Code::kInvalidArgument, "an item of the list is not an object");
    }
    if (frame_.size() >= limits_.max_frame_bytes) {
      return Fail(Code::kOutOfBounds,
                  fmt::format("the list's frame exceeds {} bytes", limits_.max_frame_bytes));
    }
    if (before == 1 && depth == 1) {
      if (!was_string && nesting_.in_string()) key_begin_ = frame_.size() + 1;
      if (was_string && !nesting_.in_string()) key_end_ = frame_.size();
    } else if (before == 1 && depth == 2 && c == '[') {
      in_items_ = std::string_view(frame_).substr(key_begin_, key_end_ - key_begin_) == "items";
    } else if (depth == 1) {
      in_items_ = false;
    }
    frame_ += c;
    if (depth == 0) ended_ = true;
  }
  return {};
}

Result<std::string_view> ListSplitter::Finish() const {
  if (!ended_) return Fail(Code::kInvalidArgument, "the list is cut short");
  return std::string_view(frame_);
}

}  // namespace warmpath::k8s
