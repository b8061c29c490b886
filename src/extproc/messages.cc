#include "extproc/messages.h"

#include <google/protobuf/io/coded_stream.h>

#include <utility>

namespace warmpath::extproc {
namespace {

using google::protobuf::io::CodedOutputStream;

constexpr size_t kBlock = 16 << 10;

struct ThreadBlock {
  bool taken = false;
  alignas(16) char bytes[kBlock];
};
thread_local ThreadBlock thread_block;

constexpr uint8_t Tag(uint32_t field, uint32_t wire_type) {
  return static_cast<uint8_t>(field << 3 | wire_type);
}
constexpr uint32_t kVarint = 0;
constexpr uint32_t kLength = 2;

void PutVarint(std::string& out, uint32_t value) {
  uint8_t bytes[5];
  const uint8_t* const end = CodedOutputStream::WriteVarint32ToArray(value, bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes));
}

// Size of a length-delimited field with a one-byte tag.
uint32_t FieldSize(uint32_t payload) {
  return 1 + static_cast<uint32_t>(CodedOutputStream::VarintSize32(payload)) + payload;
}

}  // namespace

google::protobuf::ArenaOptions Scratch::Options(bool& owns_block) {
  google::protobuf::ArenaOptions options;
  if (!std::exchange(thread_block.taken, true)) {
    owns_block = true;
    options.initial_block = thread_block.bytes;
    options.initial_block_size = kBlock;
  }
  return options;
}

Scratch::Scratch() : arena_(Options(owns_block_)) {}

Scratch::~Scratch() {
  arena_.Reset();
  if (owns_block_) thread_block.taken = false;
}

std::string_view ValueOf(const pb::HeaderValue& header) {
  return header.raw_value().empty() ? header.value() : header.raw_value();
}

const pb::Value* FindMetadata(const pb::Metadata& metadata, std::string_view space,
                              std::string_view key) {
  // Of a map's entries with equal keys the last counts.
  const pb::Value* found = nullptr;
  for (const pb::Metadata::Entry& entry : metadata.filter_metadata()) {
    if (entry.key() != space) continue;
    found = nullptr;
    for (const pb::Struct::Entry& field : entry.value().fields()) {
      if (field.key() == key) found = &field.value();
    }
  }
  return found;
}

void SetHeader(pb::HeaderMutation& mutation, std::string_view name, std::string_view value) {
  pb::HeaderValueOption* const option = mutation.add_set_headers();
  option->set_append_action(pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  pb::HeaderValue* const header = option->mutable_header();
  header->mutable_key()->assign(name);
  header->mutable_raw_value()->assign(value);
}

pb::Value& AddField(pb::Struct& parent, std::string_view key) {
  pb::Struct::Entry* const entry = parent.add_fields();
  entry->mutable_key()->assign(key);
  return *entry->mutable_value();
}

pb::Struct& Nested(pb::Struct& parent, std::string_view key) {
  for (pb::Struct::Entry& entry : *parent.mutable_fields()) {
    if (entry.key() == key) return *entry.mutable_value()->mutable_struct_value();
  }
  return *AddField(parent, key).mutable_struct_value();
}

std::string StreamedBody(Direction direction, std::string_view bytes, bool end_of_stream) {
  const auto length = static_cast<uint32_t>(bytes.size());
  const uint32_t streamed = (bytes.empty() ? 0 : FieldSize(length)) + (end_of_stream ? 2 : 0);
  const uint32_t mutation = FieldSize(streamed);
  const uint32_t common = FieldSize(mutation);
  const uint32_t body_response = FieldSize(common);
  std::string out;
  out.reserve(FieldSize(body_response));
  const auto open = [&out](uint32_t field, uint32_t payload) {
    out.push_back(static_cast<char>(Tag(field, kLength)));
    PutVarint(out, payload);
  };
  open(direction == Direction::kRequest ? pb::ProcessingResponse::kRequestBodyFieldNumber
                                        : pb::ProcessingResponse::kResponseBodyFieldNumber,
       body_response);
  open(pb::BodyResponse::kResponseFieldNumber, common);
  open(pb::CommonResponse::kBodyMutationFieldNumber, mutation);
  open(pb::BodyMutation::kStreamedResponseFieldNumber, streamed);
  if (!bytes.empty()) {
    open(pb::StreamedBodyResponse::kBodyFieldNumber, length);
    out.append(bytes);
  }
  if (end_of_stream) {
    out.push_back(
        static_cast<char>(Tag(pb::StreamedBodyResponse::kEndOfStreamFieldNumber, kVarint)));
    out.push_back(1);
  }
  return out;
}

std::string RemovedHeaders(const std::vector<std::string_view>& names) {
  pb::HeaderMutation mutation;
  for (const std::string_view name : names) mutation.add_remove_headers()->assign(name);
  return mutation.SerializeAsString();
}

std::string HeadersReply(const pb::HeaderMutation& mutation, std::string_view removed,
                         const pb::ProcessingResponse& rest) {
  constexpr uint32_t kClearRouteCache = 2;  // its field's size
  const size_t own = mutation.ByteSizeLong();
  const auto changes = static_cast<uint32_t>(own + removed.size());
  const uint32_t common = FieldSize(changes) + kClearRouteCache;
  const uint32_t headers = FieldSize(common);
  std::string out;
  out.reserve(FieldSize(headers) + rest.ByteSizeLong());
  const auto open = [&out](uint32_t field, uint32_t payload) {
    out.push_back(static_cast<char>(Tag(field, kLength)));
    PutVarint(out, payload);
  };
  open(pb::ProcessingResponse::kRequestHeadersFieldNumber, headers);
  open(pb::HeadersResponse::kResponseFieldNumber, common);
  open(pb::CommonResponse::kHeaderMutationFieldNumber, changes);
  mutation.AppendToString(&out);
  out.append(removed);
  out.push_back(static_cast<char>(Tag(pb::CommonResponse::kClearRouteCacheFieldNumber, kVarint)));
  out.push_back(1);
  rest.AppendToString(&out);
  return out;
}

std::string Serialize(const pb::ProcessingResponse& response) {
  std::string out;
  response.SerializeToString(&out);
  return out;
}

}  // namespace warmpath::extproc
