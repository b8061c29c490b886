// Building and taking apart ext_proc messages. Pure functions; nothing here knows of streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ext_proc.pb.h"
#include "google/protobuf/arena.h"

namespace warmpath::extproc {

namespace pb = envoy::service::ext_proc::v3;

inline constexpr std::string_view kDestinationHeader = "x-gateway-destination-endpoint";
// What one streamed body response carries at most.
inline constexpr size_t kMaxChunk = 62'000;

// An arena for one message and its answer. Begins with a block that its thread keeps for this
// purpose, so that small messages cost no allocation. May be nested (the inner ones allocate).
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <typename Message>
  Message* Make() {
    return google::protobuf::Arena::CreateMessage<Message>(&arena_);
  }

 private:
  static google::protobuf::ArenaOptions Options(bool& owns_block);
  bool owns_block_ = false;  // first: set while the arena is made
  google::protobuf::Arena arena_;
};

void SetHeader(pb::HeaderMutation& mutation, std::string_view name, std::string_view value);
// What follows writes answers without message objects, as protobuf would.

enum class Direction { kRequest, kResponse };
// What stands around a piece of a body in full duplex mode to make it a ProcessingResponse.
class StreamedBodyFrame {
 public:
  StreamedBodyFrame(Direction direction, size_t body_size, bool end_of_stream);
  std::string_view head() const { return {head_, head_size_}; }
  std::string_view tail() const;

 private:
  char head_[32];
  size_t head_size_ = 0;
  bool end_of_stream_;
};

// ProcessingResponses that change nothing.
enum class Phase : uint8_t {
  kRequestHeaders = 1,
  kResponseHeaders,
  kRequestBody,
  kResponseBody,
  kRequestTrailers,
  kResponseTrailers,
};
std::string_view EmptyReply(Phase phase);

// A HeaderMutation. Used again after Clear.
class HeaderChanges {
 public:
  void Clear();
  void Set(std::string_view name, std::string_view value);
  void Remove(std::string_view name);  // unless it is set
  // As written by RemovedHeaders.
  void Append(std::string_view removed) { bytes_.append(removed); }
  std::string_view bytes() const { return bytes_; }

 private:
  std::string bytes_;
  std::vector<std::pair<size_t, size_t>> set_;  // names in bytes_: place, size
};
// The fields of a HeaderMutation that remove `names`.
std::string RemovedHeaders(const std::vector<std::string_view>& names);

// The dynamic metadata that name the destination: a Struct, appended. `scores` may be null.
using Scores = std::vector<std::pair<std::string, double>>;
void AppendDestination(std::string& out, std::string_view destination, const Scores* scores);

// What stands before the changes and between them and the metadata in a reply to request headers
// that changes headers and clears the route cache.
class HeadersReplyFrame {
 public:
  HeadersReplyFrame(size_t changes_size, size_t metadata_size);
  std::string_view head() const { return {head_, head_size_}; }
  std::string_view middle() const { return {middle_, middle_size_}; }

 private:
  char head_[24];
  char middle_[8];
  size_t head_size_ = 0;
  size_t middle_size_ = 0;
};

std::string Serialize(const pb::ProcessingResponse& response);

}  // namespace warmpath::extproc
