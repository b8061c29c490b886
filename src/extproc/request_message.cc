#include "extproc/request_message.h"

#include <utility>

namespace warmpath::extproc {
namespace {

constexpr size_t kKeptHeaders = 256;
// Of one thread's messages, for the next one.
thread_local std::vector<RequestMessage::Header> spare_headers;

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr uint32_t Tag(int field, WireType type) {
  return static_cast<uint32_t>(field) << 3 | type;
}

// The fields of one message, in order.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  // False at the end, and where what follows is no field.
  bool Next() {
    if (at_ == end_) return false;
    uint64_t tag = 0;
    if (!ReadVarint(tag) || tag > UINT32_MAX || tag >> 3 == 0) return Fail();
    tag_ = static_cast<uint32_t>(tag);
    switch (tag_ & 7) {
      case kVarint:
        return ReadVarint(number_) || Fail();
      case kFixed64:
        return Take(8);
      case kBytes: {
        uint64_t size = 0;
        return (ReadVarint(size) || Fail()) && Take(size);
      }
      case kFixed32:
        return Take(4);
      default:
        return Fail();
    }
  }
  bool failed() const { return failed_; }
  uint32_t tag() const { return tag_; }
  uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }

 private:
  bool Fail() {
    failed_ = true;
    return false;
  }
  bool Take(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) return Fail();
    bytes_ = {at_, static_cast<size_t>(size)};
    at_ += size;
    return true;
  }
  bool ReadVarint(uint64_t& value) {
    if (at_ != end_ && static_cast<signed char>(*at_) >= 0) {
      value = static_cast<unsigned char>(*at_++);
      return true;
    }
    value = 0;
    for (int shift = 0; shift < 70 && at_ != end_; shift += 7) {
      const auto byte = static_cast<unsigned char>(*at_++);
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const char* at_;
  const char* const end_;
  uint32_t tag_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
  bool failed_ = false;
};

}  // namespace

RequestMessage::RequestMessage() : headers_(std::exchange(spare_headers, {})) {}

RequestMessage::~RequestMessage() {
  if (headers_.capacity() > kKeptHeaders) return;
  headers_.clear();
  spare_headers = std::move(headers_);
}

// Of several contents the last counts, but those of one kind are read as one.
void RequestMessage::Begin(Kind kind) {
  if (kind_ == kind) return;
  kind_ = kind;
  end_of_stream_ = false;
  body_ = {};
  headers_.clear();
}

bool RequestMessage::Read(std::string_view bytes) {
  using Request = pb::ProcessingRequest;
  Fields fields(bytes);
  while (fields.Next()) {
    bool good = true;
    switch (fields.tag()) {
      case Tag(Request::kRequestHeadersFieldNumber, kBytes):
        Begin(Kind::kRequestHeaders);
        good = ReadHeaders(fields.bytes());
        break;
      case Tag(Request::kResponseHeadersFieldNumber, kBytes):
        Begin(Kind::kResponseHeaders);
        good = ReadHeaders(fields.bytes());
        break;
      case Tag(Request::kRequestBodyFieldNumber, kBytes):
        Begin(Kind::kRequestBody);
        good = ReadBody(fields.bytes());
        break;
      case Tag(Request::kResponseBodyFieldNumber, kBytes):
        Begin(Kind::kResponseBody);
        good = ReadBody(fields.bytes());
        break;
      case Tag(Request::kRequestTrailersFieldNumber, kBytes):
        Begin(Kind::kRequestTrailers);
        break;
      case Tag(Request::kResponseTrailersFieldNumber, kBytes):
        Begin(Kind::kResponseTrailers);
        break;
      case Tag(Request::kMetadataContextFieldNumber, kBytes):
        good = ReadMetadata(fields.bytes());
        break;
      case Tag(Request::kObservabilityModeFieldNumber, kVarint):
        observability_mode_ = fields.number() != 0;
        break;
      case Tag(Request::kProtocolConfigFieldNumber, kBytes):
        good = ReadModes(fields.bytes());
        break;
      default:
        break;
    }
    if (!good) return false;
  }
  return !fields.failed();
}

bool RequestMessage::ReadHeaders(std::string_view bytes) {
  Fields fields(bytes);
  while (fields.Next()) {
    if (fields.tag() == Tag(pb::HttpHeaders::kHeadersFieldNumber, kBytes)) {
      if (!ReadHeaderMap(fields.bytes())) return false;
    } else if (fields.tag() == Tag(pb::HttpHeaders::kEndOfStreamFieldNumber, kVarint)) {
      end_of_stream_ = fields.number() != 0;
    }
  }
  return !fields.failed();
}

bool RequestMessage::ReadHeaderMap(std::string_view bytes) {
  Fields fields(bytes);
  while (fields.Next()) {
    if (fields.tag() != Tag(pb::HeaderMap::kHeadersFieldNumber, kBytes)) continue;
    Header& header = headers_.emplace_back();
    std::string_view raw;
    Fields parts(fields.bytes());
    while (parts.Next()) {
      if (parts.tag() == Tag(pb::HeaderValue::kKeyFieldNumber, kBytes)) {
        header.name = parts.bytes();
      } else if (parts.tag() == Tag(pb::HeaderValue::kValueFieldNumber, kBytes)) {
        header.value = parts.bytes();
      } else if (parts.tag() == Tag(pb::HeaderValue::kRawValueFieldNumber, kBytes)) {
        raw = parts.bytes();
      }
    }
    if (parts.failed()) return false;
    if (!raw.empty()) header.value = raw;
  }
  return !fields.failed();
}

bool RequestMessage::ReadBody(std::string_view bytes) {
  Fields fields(bytes);
  while (fields.Next()) {
    if (fields.tag() == Tag(pb::HttpBody::kBodyFieldNumber, kBytes)) {
      body_ = fields.bytes();
    } else if (fields.tag() == Tag(pb::HttpBody::kEndOfStreamFieldNumber, kVarint)) {
      end_of_stream_ = fields.number() != 0;
    }
  }
  return !fields.failed();
}

bool RequestMessage::ReadModes(std::string_view bytes) {
  using Configuration = pb::ProtocolConfiguration;
  if (!modes_) modes_ = Modes{pb::NONE, pb::NONE};
  Fields fields(bytes);
  while (fields.Next()) {
    if (fields.tag() == Tag(Configuration::kRequestBodyModeFieldNumber, kVarint)) {
      modes_->request = static_cast<int>(fields.number());
    } else if (fields.tag() == Tag(Configuration::kResponseBodyModeFieldNumber, kVarint)) {
      modes_->response = static_cast<int>(fields.number());
    }
  }
  return !fields.failed();
}

bool RequestMessage::ReadMetadata(std::string_view bytes) {
  if (metadata_ == nullptr && bytes.find(kMetadataKeys) == std::string_view::npos) return true;
  if (metadata_ == nullptr) metadata_ = scratch_.emplace().Make<pb::Metadata>();
  return metadata_->MergeFromString(std::string(bytes));
}

const pb::Value* RequestMessage::FindMetadata(std::string_view space, std::string_view key) const {
  if (metadata_ == nullptr) return nullptr;
  // Of a map's entries with equal keys the last counts.
  const pb::Value* found = nullptr;
  for (const pb::Metadata::Entry& entry : metadata_->filter_metadata()) {
    if (entry.key() != space) continue;
    found = nullptr;
    for (const pb::Struct::Entry& field : entry.value().fields()) {
      if (field.key() == key) found = &field.value();
    }
  }
  return found;
}

}  // namespace warmpath::extproc
