#include "extproc/messages.h"

#include <google/protobuf/io/coded_stream.h>

#include <bit>
#include <utility>

namespace warmpath::extproc {
namespace {

using google::protobuf::io::CodedOutputStream;

constexpr size_t kBlock = 16 << 10;
constexpr size_t kKeptChanges = 16 << 10;

struct ThreadBlock {
  bool taken = false;
  alignas(16) char bytes[kBlock];
};
thread_local ThreadBlock thread_block;

constexpr uint8_t Tag(uint32_t field, uint32_t wire_type) {
  return static_cast<uint8_t>(field << 3 | wire_type);
}
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kLength = 2;

// Size of a length-delimited field with a one-byte tag.
uint32_t FieldSize(uint32_t payload) {
  return 1 + static_cast<uint32_t>(CodedOutputStream::VarintSize32(payload)) + payload;
}
uint32_t StringSize(std::string_view text) {
  return FieldSize(static_cast<uint32_t>(text.size()));
}

// The beginning of a field of so many bytes: at most kOpening of its own. Returns its end.
constexpr size_t kOpening = 6;
char* Open(char* at, uint32_t field, uint32_t payload) {
  *at = static_cast<char>(Tag(field, kLength));
  return reinterpret_cast<char*>(
      CodedOutputStream::WriteVarint32ToArray(payload, reinterpret_cast<uint8_t*>(at + 1)));
}
void Open(std::string& out, uint32_t field, uint32_t payload) {
  char bytes[kOpening];
  out.append(bytes, Open(bytes, field, payload));
}
void PutString(std::string& out, uint32_t field, std::string_view text) {
  Open(out, field, static_cast<uint32_t>(text.size()));
  out.append(text);
}

// An entry of a Struct's map whose Value takes so many bytes.
uint32_t EntrySize(std::string_view key, uint32_t value) {
  return FieldSize(StringSize(key) + FieldSize(value));
}
// All of it but the Value.
void OpenEntry(std::string& out, std::string_view key, uint32_t value) {
  Open(out, pb::Struct::kFieldsFieldNumber, StringSize(key) + FieldSize(value));
  PutString(out, pb::Struct::Entry::kKeyFieldNumber, key);
  Open(out, pb::Struct::Entry::kValueFieldNumber, value);
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

void SetHeader(pb::HeaderMutation& mutation, std::string_view name, std::string_view value) {
  pb::HeaderValueOption* const option = mutation.add_set_headers();
  option->set_append_action(pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  pb::HeaderValue* const header = option->mutable_header();
  header->mutable_key()->assign(name);
  header->mutable_raw_value()->assign(value);
}

StreamedBodyFrame::StreamedBodyFrame(Direction direction, size_t body_size, bool end_of_stream)
    : end_of_stream_(end_of_stream) {
  const auto length = static_cast<uint32_t>(body_size);
  const uint32_t streamed = (length == 0 ? 0 : FieldSize(length)) + (end_of_stream ? 2 : 0);
  const uint32_t mutation = FieldSize(streamed);
  const uint32_t common = FieldSize(mutation);
  char* at =
      Open(head_,
           direction == Direction::kRequest ? pb::ProcessingResponse::kRequestBodyFieldNumber
                                            : pb::ProcessingResponse::kResponseBodyFieldNumber,
           FieldSize(common));
  at = Open(at, pb::BodyResponse::kResponseFieldNumber, common);
  at = Open(at, pb::CommonResponse::kBodyMutationFieldNumber, mutation);
  at = Open(at, pb::BodyMutation::kStreamedResponseFieldNumber, streamed);
  if (length > 0) at = Open(at, pb::StreamedBodyResponse::kBodyFieldNumber, length);
  head_size_ = static_cast<size_t>(at - head_);
}

std::string_view StreamedBodyFrame::tail() const {
  static constexpr char kEnd[] = {
      static_cast<char>(Tag(pb::StreamedBodyResponse::kEndOfStreamFieldNumber, kVarint)), 1};
  return end_of_stream_ ? std::string_view(kEnd, sizeof kEnd) : std::string_view();
}

std::string_view EmptyReply(Phase phase) {
  static constexpr char kReplies[] = {Tag(1, kLength), 0, Tag(2, kLength), 0, Tag(3, kLength), 0,
                                      Tag(4, kLength), 0, Tag(5, kLength), 0, Tag(6, kLength), 0};
  return {kReplies + 2 * (static_cast<size_t>(phase) - 1), 2};
}

void HeaderChanges::Clear() {
  if (bytes_.capacity() > kKeptChanges) bytes_ = std::string();
  bytes_.clear();
  set_.clear();
}

void HeaderChanges::Set(std::string_view name, std::string_view value) {
  constexpr uint32_t kAction = 2;  // its field's size
  const uint32_t header = StringSize(name) + StringSize(value);
  Open(bytes_, pb::HeaderMutation::kSetHeadersFieldNumber, FieldSize(header) + kAction);
  Open(bytes_, pb::HeaderValueOption::kHeaderFieldNumber, header);
  Open(bytes_, pb::HeaderValue::kKeyFieldNumber, static_cast<uint32_t>(name.size()));
  set_.emplace_back(bytes_.size(), name.size());
  bytes_.append(name);
  PutString(bytes_, pb::HeaderValue::kRawValueFieldNumber, value);
  bytes_.push_back(
      static_cast<char>(Tag(pb::HeaderValueOption::kAppendActionFieldNumber, kVarint)));
  bytes_.push_back(static_cast<char>(pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD));
}

void HeaderChanges::Remove(std::string_view name) {
  for (const auto& [at, size] : set_) {
    if (std::string_view(bytes_).substr(at, size) == name) return;
  }
  PutString(bytes_, pb::HeaderMutation::kRemoveHeadersFieldNumber, name);
}

std::string RemovedHeaders(const std::vector<std::string_view>& names) {
  HeaderChanges changes;
  for (const std::string_view name : names) changes.Remove(name);
  return std::string(changes.bytes());
}

void AppendDestination(std::string& out, std::string_view destination, const Scores* scores) {
  constexpr std::string_view kSpace = "envoy.lb";
  std::string fields;
  if (scores != nullptr) {
    std::string numbers;
    for (const auto& [name, score] : *scores) {
      constexpr uint32_t kNumber = 1 + sizeof(uint64_t);
      OpenEntry(numbers, name, kNumber);
      numbers.push_back(static_cast<char>(Tag(pb::Value::kNumberValueFieldNumber, kFixed64)));
      uint8_t bytes[sizeof(uint64_t)];
      CodedOutputStream::WriteLittleEndian64ToArray(std::bit_cast<uint64_t>(score), bytes);
      numbers.append(reinterpret_cast<const char*>(bytes), sizeof bytes);
    }
    OpenEntry(fields, "x-gateway-destination-endpoint-scores", StringSize(numbers));
    PutString(fields, pb::Value::kStructValueFieldNumber, numbers);
  }
  const auto payload =
      static_cast<uint32_t>(EntrySize(kDestinationHeader, StringSize(destination)) + fields.size());
  OpenEntry(out, kSpace, FieldSize(payload));
  Open(out, pb::Value::kStructValueFieldNumber, payload);
  OpenEntry(out, kDestinationHeader, StringSize(destination));
  PutString(out, pb::Value::kStringValueFieldNumber, destination);
  out.append(fields);
}

HeadersReplyFrame::HeadersReplyFrame(size_t changes_size, size_t metadata_size) {
  constexpr uint32_t kClearRouteCache = 2;  // its field's size
  const auto changes = static_cast<uint32_t>(changes_size);
  const uint32_t common = FieldSize(changes) + kClearRouteCache;
  char* at = head_;
  at = Open(at, pb::ProcessingResponse::kRequestHeadersFieldNumber, FieldSize(common));
  at = Open(at, pb::HeadersResponse::kResponseFieldNumber, common);
  at = Open(at, pb::CommonResponse::kHeaderMutationFieldNumber, changes);
  head_size_ = static_cast<size_t>(at - head_);
  at = middle_;
  *at++ = static_cast<char>(Tag(pb::CommonResponse::kClearRouteCacheFieldNumber, kVarint));
  *at++ = 1;
  at = Open(at, pb::ProcessingResponse::kDynamicMetadataFieldNumber,
            static_cast<uint32_t>(metadata_size));
  middle_size_ = static_cast<size_t>(at - middle_);
}

std::string Serialize(const pb::ProcessingResponse& response) {
  std::string out;
  response.SerializeToString(&out);
  return out;
}

}  // namespace warmpath::extproc
