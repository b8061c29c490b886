// Building and taking apart ext_proc messages. Pure functions; nothing here knows of streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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

std::string_view ValueOf(const pb::HeaderValue& header);
// The value of `key` in namespace `space` of `metadata`; null when there is none.
const pb::Value* FindMetadata(const pb::Metadata& metadata, std::string_view space,
                              std::string_view key);

void SetHeader(pb::HeaderMutation& mutation, std::string_view name, std::string_view value);
// The struct under `key`, added when it is not there yet.
pb::Struct& Nested(pb::Struct& parent, std::string_view key);
pb::Value& AddField(pb::Struct& parent, std::string_view key);

enum class Direction { kRequest, kResponse };
// A ProcessingResponse that carries a piece of a body in full duplex mode. Written without a
// message object: the bytes are copied once.
std::string StreamedBody(Direction direction, std::string_view bytes, bool end_of_stream);

std::string Serialize(const pb::ProcessingResponse& response);

// The fields of a HeaderMutation that remove `names`, as they stand on the wire.
std::string RemovedHeaders(const std::vector<std::string_view>& names);
// A reply to request headers that changes headers and clears the route cache. `removed`: more
// fields of `mutation` from RemovedHeaders; `rest`: the reply's other fields.
std::string HeadersReply(const pb::HeaderMutation& mutation, std::string_view removed,
                         const pb::ProcessingResponse& rest);

}  // namespace warmpath::extproc
