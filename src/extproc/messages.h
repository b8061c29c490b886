// Building and taking apart ext_proc messages. Pure functions; nothing here knows of streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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

}  // namespace warmpath::extproc
